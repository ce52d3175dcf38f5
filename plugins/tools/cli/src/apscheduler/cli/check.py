"""``apscheduler check``: everything that is wrong in a configuration, before it runs."""

import logging

import click
from rich.console import Console
from rich.text import Text

from apscheduler.cli.shared import FAILURE, IMPORT_HELP, format_time, make_importable
from apscheduler.config import ConfigurationError, Examination, Problem, check_config
from apscheduler.job import Job


@click.command(
    help=f"""Say what is wrong in CONFIG, an INI or TOML file, and when the jobs that it declares would run.

    Nothing is started and no job store is touched, but plugins and the functions of jobs are imported. {IMPORT_HELP}

    Exit codes: 0 nothing is wrong, 1 there are problems, 2 the command line is wrong."""
)
@click.argument("config", type=click.Path())
def check(config: str) -> None:
    """Check a configuration."""
    make_importable(config)
    console = Console()
    notes = _Notes()
    logger = logging.getLogger("apscheduler")
    logger.addHandler(notes)
    try:
        found = check_config(config)
    except ConfigurationError as exc:
        _print_problems(console, exc.problems)
        raise SystemExit(FAILURE) from exc
    finally:
        logger.removeHandler(notes)
    problems = found.problems.problems
    _print_components(console, found)
    for name, (job, _) in found.jobs.items():
        line = f"{job.func_ref}, {job.trigger}; {_describe_times(found, name)}"
        _print(console, "ok", "green", f"job {job.id!r}: {line}")
    for text in notes.texts:
        _print(console, "note", "yellow", text)
    _print_problems(console, problems)
    if problems:
        raise SystemExit(FAILURE)
    _print(console, "", "", f"{config} is fine.")


class _Notes(logging.Handler):
    """Keeps what triggers warn about when they are made."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a warning, unless it is a problem that is listed anyway."""
        text = record.getMessage()
        if "will never fire" not in text and text not in self.texts:
            self.texts.append(text)


def _print(console: Console, word: str, style: str, text: str) -> None:
    line = Text(f"{word:<7}  " if word else "", style)
    line.append(text, "default")
    console.print(line, soft_wrap=True, highlight=False)


def _print_components(console: Console, found: Examination) -> None:
    if found.scheduler_class is not None:
        _print(console, "ok", "green", f"scheduler: {found.scheduler_class.__name__}")
    wrong = " ".join(problem.place for problem in found.problems.problems)
    for branch, word in (("jobstores", "job store"), ("executors", "executor")):
        settings = found.config.get(branch)
        for alias, value in settings.items() if isinstance(settings, dict) else ():
            if f"apscheduler.{branch}.{alias}" not in wrong and isinstance(value, dict):
                kind = value.get("type") or value.get("class")
                _print(console, "ok", "green", f"{word} {alias!r}: {kind}")


def _describe_times(found: Examination, name: str) -> str:
    job: Job
    job, times = found.jobs[name]
    if times:
        zone = times[0].tzinfo
        now = times[0].now(zone)
        return "next " + ", ".join(
            format_time(time.astimezone(zone), now) for time in times
        )
    return "paused" if hasattr(job, "next_run_time") else "never"


def _print_problems(console: Console, problems: list[Problem]) -> None:
    for problem in problems:
        _print(console, "problem", "bold red", str(problem))
    if problems:
        count = len(problems)
        _print(console, "", "", f"{count} problem{'' if count == 1 else 's'}.")
