"""``apscheduler jobs add`` and ``reschedule``."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from apscheduler.cli.errors import CommandError, explained
from apscheduler.cli.jobs.changing import locate
from apscheduler.cli.output import Output, output_options
from apscheduler.cli.schedules import Schedule, schedule_options
from apscheduler.cli.shared import Duration, format_time
from apscheduler.cli.sources import (
    Source,
    complete_ids,
    jobstore_option,
    source_options,
)
from apscheduler.job import Job
from apscheduler.jobstores.base import ConflictingIdError
from apscheduler.planning import is_missed

KINDS: Mapping[type, str] = {list: "list", dict: "object"}

# What is past by less was meant: '--date now' is past as well, once the store is open.
LATE_SECONDS = 60


class Json(click.ParamType):  # type: ignore[type-arg]  # not generic in click 8.1
    """A value in JSON of one kind."""

    def __init__(self, kind: type, example: str):
        self.name = "json"
        self._kind, self._example = kind, example

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """Return the value."""
        if isinstance(value, self._kind):
            return value
        try:
            read = json.loads(value)
        except ValueError:
            read = None
        if not isinstance(read, self._kind):
            self.fail(
                f"{value!r} must be a JSON {KINDS[self._kind]} such as {self._example}; mind the quotes of the shell",
                param,
                ctx,
            )
        return read


class GraceTime(Duration):
    """A grace time: a duration, or ``any``."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """Return whole seconds, or ``any``."""
        if value in ("any", "none"):
            return "any"
        seconds = super().convert(value, param, ctx)
        if seconds < 1 or seconds % 1:
            self.fail(
                f"{value!r} must be whole seconds, at least one, or 'any'", param, ctx
            )
        return int(seconds)


class History(click.IntRange):
    """How many runs to keep: a number, or ``default``."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """Return the number, or ``default``."""
        return value if value == "default" else super().convert(value, param, ctx)


JOB_OPTIONS = (
    click.option(
        "--grace-time",
        "misfire_grace_time",
        type=GraceTime(),
        metavar="DURATION",
        help="How late a run may be and still happen; 'any' for any lateness.",
    ),
    click.option(
        "--coalesce/--no-coalesce",
        default=None,
        help="Whether several late runs become one.",
    ),
    click.option(
        "--max-instances",
        type=click.IntRange(1),
        help="How many runs may go on at once.",
    ),
    click.option(
        "--on-lost",
        type=click.Choice(["mark", "retry"]),
        help="What to do about a run whose scheduler died.",
    ),
    click.option(
        "--max-attempts",
        type=click.IntRange(1),
        help="How often one run is started at most, with --on-lost retry.",
    ),
    click.option(
        "--history",
        type=History(0),
        metavar="NUMBER",
        help="How many finished runs to keep; 'default' for what the store keeps.",
    ),
    click.option("--executor", metavar="ALIAS", help="The executor that runs it."),
)


def job_options(command: Any) -> Any:
    """Give a command the options of jobs; what is not given is None."""
    for option in reversed(JOB_OPTIONS):
        command = option(command)
    return command


# What is written for an option whose value is None.
WORDS_FOR_NONE = {"misfire_grace_time": "any", "history": "default"}


def given_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a job that were given."""
    return {
        name: None if value == WORDS_FOR_NONE.get(name) else value
        for name, value in options.items()
        if value is not None
    }


def describe_options(given: dict[str, Any]) -> str:
    """Return the options of a job as they are written on the command line."""
    return ", ".join(
        f"{name}={WORDS_FOR_NONE[name] if value is None else value}"
        for name, value in given.items()
    )


@click.command(
    help="""Add a job. Its function must be importable here: the current directory and that of the configuration are
    looked at first.

    \b
    apscheduler jobs add --func tasks:report --cron '0 9 * * mon-fri' --id report --config jobs.ini
    apscheduler jobs add --func tasks:poll --interval 5m --args '["https://example.org"]' --store sqlite:///jobs.db
    apscheduler jobs add --func tasks:report --date +10m --config jobs.ini
    apscheduler jobs add --func tasks:bill --trigger calendarinterval months=1 hour=4 --config jobs.ini
    """
)
@click.option(
    "--func", metavar="MODULE:NAME", required=True, help="The function to run."
)
@click.option("--id", "job_id", metavar="ID", help="Its id; default: a random one.")
@click.option("--name", help="What logs and listings call it.")
@click.option(
    "--args", type=Json(list, '["text", 5]'), help="Positional arguments, in JSON."
)
@click.option(
    "--kwargs", type=Json(dict, '{"size": 5}'), help="Keyword arguments, in JSON."
)
@click.option("--paused", is_flag=True, help="Do not run it before it is resumed.")
@click.option("--replace", is_flag=True, help="Replace a job with the same id.")
@job_options
@schedule_options
@source_options
@jobstore_option
@output_options
def add(
    func: str,
    job_id: str | None,
    name: str | None,
    args: list[Any] | None,
    kwargs: dict[str, Any] | None,
    paused: bool,
    replace: bool,
    schedule: Schedule,
    source: Source,
    jobstore: str | None,
    output: Output,
    **options: Any,
) -> None:
    """Add a job."""
    if replace and job_id is None:
        raise click.UsageError("--replace needs the --id of the job to replace")
    given = given_options(options)
    if paused:
        given["next_run_time"] = None
    with source.prepare(jobstore) as client:
        trigger = schedule.make(client.timezone)
        with explained("The job cannot be added"):
            alias = jobstore or _only(client._matching_stores(None))
            client._lookup_jobstore(alias)
            # What cannot be added must not leave an empty store behind: the job is tried before that is created.
            Job(
                client,
                func=func,
                trigger=trigger,
                args=args or (),
                kwargs=kwargs or {},
                executor="default",
                name=name,
                **given,
            )
        with source.opened(client, creates=True):
            with explained("The job cannot be added"), _conflict_explained(job_id):
                job = client.add_job(
                    func,
                    trigger,
                    args,
                    kwargs,
                    job_id,
                    name,
                    jobstore=alias,
                    replace_existing=replace,
                    **given,
                )
            _tell(output, "added", job, client._now())


@contextmanager
def _conflict_explained(job_id: str | None) -> Iterator[None]:
    try:
        yield
    except ConflictingIdError as exc:
        raise CommandError(
            f"There is a job {job_id!r} already: choose another --id, or replace it with --replace"
        ) from exc


def _only(aliases: list[str]) -> str:
    return aliases[0] if len(aliases) == 1 else "default"


@click.command(
    help="""Give a job another schedule. A paused job becomes active.

    \b
    apscheduler jobs reschedule report --cron '0 10 * * mon-fri' --config jobs.ini
    apscheduler jobs reschedule poll --interval 10m --store sqlite:///jobs.db
    """
)
@click.argument("job_id", metavar="ID", shell_complete=complete_ids)
@schedule_options
@source_options
@jobstore_option
@output_options
def reschedule(
    job_id: str,
    schedule: Schedule,
    source: Source,
    jobstore: str | None,
    output: Output,
) -> None:
    """Reschedule a job."""
    with source.open(jobstore) as client:
        trigger = schedule.make(client.timezone)
        with explained(f"Job {job_id!r} cannot be rescheduled"):
            alias, _ = locate(client, jobstore, job_id)
            job = client.reschedule_job(job_id, alias, trigger)
        _tell(output, "rescheduled", job, client._now())


def _tell(output: Output, word: str, job: Job, now: Any) -> None:
    if output.is_json:
        output.document(
            {
                "id": job.id,
                "jobstore": job._jobstore_alias,
                "name": job.name,
                "func": job.func_ref,
                "trigger": str(job.trigger),
                "next_run_time": job.next_run_time,
            }
        )
    time = job.next_run_time
    text = "paused" if time is None else format_time(time.astimezone(now.tzinfo), now)
    output.line("ok", "green", f"{job.id}: {word}, {job.trigger}, next run {text}")
    if time is not None and now.timestamp() - time.timestamp() > LATE_SECONDS:
        what = "the job runs at once"
        if is_missed(job, time, now):
            what = f"the job does not run, since its grace time is {job.misfire_grace_time} seconds"
        click.echo(f"warning: {text} is past: {what}", err=True)
