"""``apscheduler check``: everything that is wrong in a configuration, before it runs."""

import logging
from typing import Any

import click

from apscheduler.cli.errors import FAILURE
from apscheduler.cli.output import Output, output_options
from apscheduler.cli.shared import IMPORT_HELP, format_time
from apscheduler.cli.sources import Source, file_or_source_options
from apscheduler.config import ConfigurationError, Examination, Problem, check_config


@click.command(
    help=f"""Say what is wrong in CONFIG, an INI or TOML file, and when the jobs that it declares would run.

    Nothing is started and no job store is touched, but plugins and the functions of jobs are imported. {IMPORT_HELP}

    \b
    apscheduler check jobs.ini
    apscheduler check jobs.ini --json

    Exit codes: 0 nothing is wrong, 1 there are problems, 2 the command line is wrong."""
)
@file_or_source_options
@output_options
def check(source: Source, output: Output) -> None:
    """Check a configuration."""
    source.make_importable()
    notes = _Notes()
    logger = logging.getLogger("apscheduler")
    logger.addHandler(notes)
    found = None
    try:
        found = check_config(source.path or source.config)
        problems = found.problems.problems
    except ConfigurationError as exc:
        problems = exc.problems
    finally:
        logger.removeHandler(notes)
    if output.is_json:
        output.document(_as_document(found, problems, notes.texts))
    else:
        _print(output, found, problems, notes.texts)
        if not problems:
            output.say(f"{source} is fine.")
    if problems:
        raise SystemExit(FAILURE)


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


def _print(
    output: Output, found: Examination | None, problems: list[Problem], notes: list[str]
) -> None:
    if found is not None:
        for text in _describe_components(found):
            output.line("ok", "green", text)
        for name, (job, _) in found.jobs.items():
            line = f"{job.func_ref}, {job.trigger}; {_describe_times(found, name)}"
            output.line("ok", "green", f"job {job.id!r}: {line}")
    for text in notes:
        output.line("note", "yellow", text)
    for problem in problems:
        output.line("problem", "bold red", str(problem))
    if problems:
        count = len(problems)
        output.say(f"{count} problem{'' if count == 1 else 's'}.")


def _describe_components(found: Examination) -> list[str]:
    texts = []
    if found.scheduler_class is not None:
        texts.append(f"scheduler: {found.scheduler_class.__name__}")
    wrong = " ".join(problem.place for problem in found.problems.problems)
    for branch, word in (("jobstores", "job store"), ("executors", "executor")):
        settings = found.config.get(branch)
        for alias, value in settings.items() if isinstance(settings, dict) else ():
            if f"apscheduler.{branch}.{alias}" not in wrong and isinstance(value, dict):
                kind = value.get("type") or value.get("class")
                texts.append(f"{word} {alias!r}: {kind}")
    return texts


def _describe_times(found: Examination, name: str) -> str:
    job, times = found.jobs[name]
    if times:
        zone = times[0].tzinfo
        now = times[0].now(zone)
        return "next " + ", ".join(
            format_time(time.astimezone(zone), now) for time in times
        )
    return "paused" if hasattr(job, "next_run_time") else "never"


def _as_document(
    found: Examination | None, problems: list[Problem], notes: list[str]
) -> dict[str, Any]:
    jobs = [] if found is None else found.jobs.values()
    return {
        "ok": not problems,
        "problems": [
            {"place": problem.place, "text": problem.text, "fatal": problem.fatal}
            for problem in problems
        ],
        "notes": notes,
        "jobs": [
            {
                "id": job.id,
                "func": job.func_ref,
                "trigger": str(job.trigger),
                "next_run_times": times,
            }
            for job, times in jobs
        ],
    }
