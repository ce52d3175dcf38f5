"""``apscheduler jobs show``."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from apscheduler.cli.availability import Obstacle, find_obstacle
from apscheduler.cli.client import Client
from apscheduler.cli.errors import CommandError, explained
from apscheduler.cli.jobs.listing import as_document, read_records
from apscheduler.cli.output import Output, output_options
from apscheduler.cli.shared import format_seconds, format_time
from apscheduler.cli.sources import (
    Source,
    complete_ids,
    jobstore_option,
    source_options,
)
from apscheduler.jobstores.contract import JobRecord
from apscheduler.records import values_of
from apscheduler.runs import Run
from apscheduler.triggers.base import BaseTrigger

RUNS, TIMES = 5, 3


@click.command(
    help="""Show everything that is known of jobs: options, arguments, next and last runs.

    Whether a job could run here is found out by importing its function.

    \b
    apscheduler jobs show report --config jobs.ini
    apscheduler jobs show report backup --store sqlite:///jobs.db --json
    """
)
@click.argument(
    "ids", metavar="ID...", nargs=-1, required=True, shell_complete=complete_ids
)
@source_options
@jobstore_option
@output_options
def show(
    ids: tuple[str, ...], source: Source, jobstore: str | None, output: Output
) -> None:
    """Show jobs."""
    with source.open(jobstore) as client:
        found = [pair for pair in read_records(client) if pair[1].id in ids]
        missing = [each for each in ids if each not in {r.id for _, r in found}]
        obstacles = [find_obstacle(client, record) for _, record in found]
        documents = [
            _document(client, alias, record, obstacle)
            for (alias, record), obstacle in zip(found, obstacles, strict=True)
        ]
        now = client._now()
    if output.is_json:
        output.document(documents)
    for index, (_, record) in enumerate(found):
        if index:
            output.say("")
        _print(output, record, documents[index], obstacles[index], now)
    if missing:
        raise CommandError(f"There is no job {', '.join(map(repr, missing))}")


def _document(
    client: Client, alias: str, record: JobRecord, obstacle: Obstacle | None
) -> dict[str, Any]:
    with explained(f"The runs of job {record.id!r} cannot be read"):
        runs = client.get_runs(record.id, jobstore=alias, limit=RUNS)
    return {
        **as_document(alias, record),
        "unavailable": None if obstacle is None else obstacle.reason,
        "remedy": None if obstacle is None else obstacle.remedy,
        "next_run_times": _next_times(record),
        "last_runs": [run_document(run) for run in runs],
    }


def run_document(run: Run) -> dict[str, Any]:
    """Return the record of a run for machines."""
    return values_of(run)


def _next_times(record: JobRecord) -> list[datetime]:
    trigger, time = record.details.get("trigger"), record.next_run_time
    times = [] if time is None else [time]
    if not isinstance(trigger, BaseTrigger):
        return times
    while times and len(times) < TIMES:
        try:
            following = trigger.get_next_fire_time(times[-1], times[-1])
        except Exception:  # somebody else's, or one inside that is not there
            break
        if following is None or following.timestamp() <= times[-1].timestamp():
            break
        times.append(following)
    return times


def _print(
    output: Output,
    record: JobRecord,
    document: Mapping[str, Any],
    obstacle: Obstacle | None,
    now: datetime,
) -> None:
    def local(time: datetime) -> str:
        return format_time(time.astimezone(now.tzinfo), now)

    times = ", ".join(map(local, document["next_run_times"])) or "paused"
    grace = document.get("misfire_grace_time")
    output.fields(
        {
            "id": record.id,
            "store": document["jobstore"],
            "name": record.name,
            "function": None if record.func is None else str(record.func),
            "arguments": describe_arguments(document),
            "trigger": record.trigger,
            "next runs": times,
            "executor": document.get("executor"),
            "grace time": "any" if grace is None else format_seconds(grace),
            "coalesce": _yes(document.get("coalesce")),
            "instances": _text(document.get("max_instances")),
            "when lost": _text(document.get("on_lost")),
            "attempts": _text(document.get("max_attempts")),
            "history": _text(document.get("history")) or "default",
            "declared in": describe_origin(record.origin, now),
            "can run here": "yes"
            if obstacle is None
            else f"no: {obstacle.reason}. {obstacle.remedy}",
        }
    )
    for run in document["last_runs"]:
        time = local(run["started_at"] or run["scheduled_time"])
        took = run["duration"]
        text = "" if took is None else f"  took {format_seconds(took)}"
        error = f"  {run['exception']}".rstrip().splitlines()[0]
        output.say(
            f"{'run':<12}  {time}  {run['state'].value}{text}"
            + (error if run["exception"] else "")
        )


def describe_origin(origin: str | None, now: datetime) -> str | None:
    """Return which configuration declares a job, and as of when, for people."""
    if origin is None:
        return None
    name, _, stamp = origin.rpartition("@")
    kind, _, value = stamp.partition(" ")
    if kind == "modified":
        time = datetime.fromtimestamp(float(value), now.tzinfo)
        stamp = f"modified {format_time(time, now)}"
    return f"{name}, {stamp}" if stamp else name


def describe_arguments(document: Mapping[str, Any]) -> str:
    """Return the arguments of a job as in a call."""
    words = [repr(value) for value in document.get("args") or ()]
    kwargs = document.get("kwargs") or {}
    words += [f"{key}={value!r}" for key, value in kwargs.items()]
    return f"({', '.join(words)})"


def _yes(value: object) -> str | None:
    return None if value is None else ("yes" if value else "no")


def _text(value: object) -> str | None:
    return None if value is None else str(value)
