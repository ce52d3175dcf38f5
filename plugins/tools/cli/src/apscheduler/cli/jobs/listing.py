"""``apscheduler jobs list``."""

import re
from collections.abc import Iterator
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

import click
from rich.text import Text

from apscheduler.cli.availability import find_obstacle
from apscheduler.cli.client import Client
from apscheduler.cli.output import Cell, Output, output_options
from apscheduler.cli.shared import Moment, format_time, in_zone
from apscheduler.cli.sources import Source, jobstore_option, source_options
from apscheduler.jobstores.contract import JobRecord

STATES = ("active", "paused", "due", "unavailable")


@click.command(
    "list",
    help="""List jobs, those that run next first and paused ones last.

    PATTERN selects by id: backup, 'report-*'. Nothing of the jobs is imported, unless they are asked for by --state
    unavailable: those whose function or arguments cannot be restored here, or whose executor is not configured.

    \b
    apscheduler jobs list --store sqlite:///jobs.db
    apscheduler jobs list 'report-*' --state paused --config jobs.ini
    apscheduler jobs list --before +1h --trigger cron --config jobs.ini --json
    """,
)
@click.argument("patterns", metavar="[PATTERN]...", nargs=-1)
@click.option("--state", type=click.Choice(STATES), help="Only jobs in this state.")
@click.option(
    "--trigger", metavar="NAME", help="Only jobs with this kind of trigger: cron."
)
@click.option("--after", type=Moment(), help="Only jobs that run next then or later.")
@click.option("--before", type=Moment(), help="Only jobs that run next before then.")
@source_options
@jobstore_option
@output_options
def list_jobs(
    patterns: tuple[str, ...],
    state: str | None,
    trigger: str | None,
    after: datetime | None,
    before: datetime | None,
    source: Source,
    jobstore: str | None,
    output: Output,
) -> None:
    """List jobs."""
    with source.open(jobstore) as client:
        zone, now = client.timezone, client._now()
        since, until = in_zone(after, zone), in_zone(before, zone)
        found = [
            (alias, record)
            for alias, record in read_records(client)
            if (not patterns or any(fnmatchcase(record.id, p) for p in patterns))
            and (trigger is None or kind_of(record) == trigger)
            and _is_between(record.next_run_time, since, until)
            and (state is None or has_state(client, record, state))
        ]
    if output.is_json:
        output.document([as_document(alias, record) for alias, record in found])
        return
    has_many = len({alias for alias, _ in found}) > 1
    columns = ["id", "next run", "trigger", "function"]
    rows: list[list[Cell]] = [
        [
            *(record.id, when(record, now)),
            *(record.trigger, describe_function(record)),
            *([alias] if has_many else []),
        ]
        for alias, record in found
    ]
    output.table(columns + (["store"] if has_many else []), rows, empty="No jobs.")


def read_records(client: Client) -> Iterator[tuple[str, JobRecord]]:
    """Give every job with the alias of its store, in the order of listings."""
    found = [
        (alias, record)
        for alias in client._matching_stores(None)
        for record in client._native_store(alias).get_job_records()
    ]
    found.sort(key=lambda pair: _order(pair[1]))
    yield from found


def _order(record: JobRecord) -> tuple[bool, float, str]:
    time = record.next_run_time
    return time is None, 0.0 if time is None else time.timestamp(), record.id


def _is_between(
    time: datetime | None, since: datetime | None, until: datetime | None
) -> bool:
    if time is None:
        return since is None and until is None
    return (since is None or time >= since) and (until is None or time < until)


def has_state(client: Client, record: JobRecord, state: str) -> bool:
    """Return whether a job is in one of ``STATES``."""
    time, now = record.next_run_time, client._now()
    if state == "paused":
        return time is None
    if state == "due":
        return time is not None and time <= now
    if state == "unavailable":
        return find_obstacle(client, record) is not None
    return time is not None


def kind_of(record: JobRecord) -> str | None:
    """Return the name of the kind of trigger: what its text begins with."""
    if record.trigger is None:
        return None
    return re.split(r"[\[( ]", record.trigger)[0].removesuffix("Trigger").lower()


def when(record: JobRecord, now: datetime) -> Text:
    """Return when a job runs next, for people."""
    time = record.next_run_time
    if time is None:
        return Text("paused", "yellow")
    text = format_time(time.astimezone(now.tzinfo), now)
    return Text(f"{text} (due)", "bold") if time <= now else Text(text)


def describe_function(record: JobRecord) -> Text:
    """Return the function of a job, or what is wrong with it."""
    if record.error is not None:
        return Text(f"{record.func or '?'} ({record.error})", "red")
    return Text(str(record.func))


def as_document(alias: str, record: JobRecord) -> dict[str, Any]:
    """Return a job for machines."""
    details = {k: v for k, v in record.details.items() if k != "trigger"}
    return {
        "id": record.id,
        "jobstore": alias,
        "next_run_time": record.next_run_time,
        "state": "paused" if record.next_run_time is None else "active",
        "name": record.name,
        "func": record.func,
        "trigger": record.trigger,
        "origin": record.origin,
        "error": record.error,
        **details,
    }
