"""``apscheduler jobs pause``, ``resume``, ``run-now`` and ``remove``: the same for one job and for many."""

import functools
import sys
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import click

from apscheduler.cli.client import Client
from apscheduler.cli.errors import FAILURE, describe_error
from apscheduler.cli.jobs.listing import read_records
from apscheduler.cli.output import Output, output_options, progress
from apscheduler.cli.shared import format_time
from apscheduler.cli.sources import (
    Source,
    complete_ids,
    jobstore_option,
    source_options,
)
from apscheduler.jobstores.base import JobLookupError

F = TypeVar("F", bound=Callable[..., Any])

# What is done to a job: returns what to tell machines of it, and people.
Action = Callable[[Client, str, str], tuple[dict[str, Any], str]]


def selecting(command: F) -> F:
    """Give a command the ids of jobs, or patterns, and what else is needed to change them."""
    decorators: tuple[Callable[[Any], Any], ...] = (
        output_options,
        jobstore_option,
        source_options,
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--all", "every", is_flag=True, help="All jobs."),
        click.option(
            "--match",
            metavar="PATTERN",
            multiple=True,
            help="All jobs with such ids: 'report-*'. May be repeated.",
        ),
        click.argument("ids", metavar="[ID]...", nargs=-1, shell_complete=complete_ids),
    )
    decorated: Any = command
    for decorate in decorators:
        decorated = decorate(decorated)
    return decorated  # type: ignore[no-any-return]  # click has made it a command


def _command(name: str, help: str) -> Callable[[Action], click.Command]:
    def decorate(action: Action) -> click.Command:
        @click.command(name, help=help)
        @selecting
        @functools.wraps(action)
        def command(
            ids: tuple[str, ...],
            match: tuple[str, ...],
            every: bool,
            yes: bool,
            source: Source,
            jobstore: str | None,
            output: Output,
        ) -> None:
            with source.open(jobstore) as client:
                chosen = choose(client, ids, match, every)
                if match or every:
                    confirm(name, len(chosen), yes, output)
                carry_out(client, chosen, action, name, output)

        return command

    return decorate


def choose(
    client: Client, ids: Sequence[str], match: Sequence[str], every: bool
) -> list[tuple[str | None, str]]:
    """Return stores and ids of the jobs that are meant; the store is None where it is not known yet.

    :raises click.UsageError: if none are named
    """
    if sum((bool(ids), bool(match), every)) != 1:
        raise click.UsageError(
            "Name jobs by their ids, or give --match PATTERN, or --all"
        )
    if ids:
        return [(None, each) for each in dict.fromkeys(ids)]
    return [
        (alias, record.id)
        for alias, record in read_records(client)
        if every or any(fnmatchcase(record.id, pattern) for pattern in match)
    ]


def confirm(name: str, count: int, yes: bool, output: Output) -> None:
    """Ask before many jobs are changed.

    :raises click.UsageError: if nobody can be asked
    """
    if yes or not count:
        return
    jobs = f"{count} job{'' if count == 1 else 's'}"
    if output.is_json or not sys.stdin.isatty():
        raise click.UsageError(f"This would {name} {jobs}: give --yes if that is meant")
    click.confirm(f"{name.capitalize()} {jobs}?", abort=True, err=True)


def carry_out(
    client: Client,
    chosen: Sequence[tuple[str | None, str]],
    action: Action,
    name: str,
    output: Output,
) -> None:
    """Do something to each of the jobs, whatever becomes of the others, and tell what was done.

    :raises SystemExit: if it failed for any
    """
    done, failed = [], []
    for alias, job_id in progress(chosen, name.capitalize()):
        try:
            document, text = action(client, *locate(client, alias, job_id))
        except Exception as exc:
            failed.append({"id": job_id, "error": describe_error(exc)})
            output.line("failed", "bold red", f"{job_id}: {describe_error(exc)}")
        else:
            done.append({"id": job_id, **document})
            output.line("ok", "green", f"{job_id}: {text}")
    if output.is_json:
        output.document({"done": done, "failed": failed})
    elif not chosen:
        output.say("No jobs.")
    if failed:
        raise SystemExit(FAILURE)


def locate(client: Client, alias: str | None, job_id: str) -> tuple[str, str]:
    """Return the store that a job is in, and its id."""
    if alias is not None:
        return alias, job_id
    aliases = client._matching_stores(None)
    if len(aliases) == 1:
        return aliases[0], job_id
    found = [where for where, record in read_records(client) if record.id == job_id]
    if len(found) > 1:
        raise LookupError(
            f"it is in the stores {', '.join(map(repr, found))}; choose one by --jobstore"
        )
    if not found:
        raise JobLookupError(job_id)
    return found[0], job_id


def _next(client: Client, job: Any) -> tuple[dict[str, Any], str]:
    time = job.next_run_time
    if time is None:
        return {"next_run_time": None}, "paused"
    zone = client.timezone
    text = format_time(time.astimezone(zone), client._now())
    return {"next_run_time": time}, f"runs next at {text}"


@_command(
    "pause",
    """Have jobs not run until they are resumed.

    \b
    apscheduler jobs pause report --config jobs.ini
    apscheduler jobs pause --match 'report-*' --yes --store sqlite:///jobs.db
    """,
)
def pause(client: Client, alias: str, job_id: str) -> tuple[dict[str, Any], str]:
    """Pause a job."""
    return _next(client, client.pause_job(job_id, alias))


@_command(
    "resume",
    """Schedule paused jobs again, from now on. A job whose schedule is over is removed.

    \b
    apscheduler jobs resume report --config jobs.ini
    apscheduler jobs resume --all --yes --store sqlite:///jobs.db
    """,
)
def resume(client: Client, alias: str, job_id: str) -> tuple[dict[str, Any], str]:
    """Resume a job."""
    job = client.resume_job(job_id, alias)
    if job is None:
        return {"removed": True}, "removed, since its schedule is over"
    return _next(client, job)


@_command(
    "run-now",
    """Have jobs run as soon as a scheduler is there to do it, besides their schedules, which do not change.

    \b
    apscheduler jobs run-now report --config jobs.ini
    apscheduler jobs run-now report backup --store sqlite:///jobs.db --json
    """,
)
def run_now(client: Client, alias: str, job_id: str) -> tuple[dict[str, Any], str]:
    """Run a job now."""
    run = client.run_job(job_id, alias)
    return {"run_id": run.id}, f"waits for a scheduler (run {run.id})"


@_command(
    "remove",
    """Remove jobs. Runs that are going on are not affected.

    \b
    apscheduler jobs remove report --config jobs.ini
    apscheduler jobs remove --match 'old-*' --yes --store sqlite:///jobs.db
    """,
)
def remove(client: Client, alias: str, job_id: str) -> tuple[dict[str, Any], str]:
    """Remove a job."""
    client.remove_job(job_id, alias)
    return {"removed": True}, "removed"
