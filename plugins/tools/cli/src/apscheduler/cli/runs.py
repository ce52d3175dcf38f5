"""``apscheduler runs``: the history of a store, and what goes on in it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click
from rich.text import Text

from apscheduler.cli.errors import CommandError
from apscheduler.cli.jobs.showing import run_document
from apscheduler.cli.output import Cell, Output, output_options
from apscheduler.cli.shared import (
    Duration,
    Past,
    format_seconds,
    format_time,
    in_zone,
)
from apscheduler.cli.sources import (
    Source,
    complete_ids,
    jobstore_option,
    source_options,
)
from apscheduler.cli.watching import Watch, moment
from apscheduler.runs import Run, RunState

LIMIT = 20
STYLES: Mapping[RunState, str] = {
    RunState.READY: "cyan",
    RunState.RUNNING: "cyan",
    RunState.SUCCEEDED: "green",
    RunState.FAILED: "red",
    RunState.LOST: "red",
}


@click.group(
    help="""Look at the runs of jobs: their history, and what goes on.

    Nothing is run and nothing claimed; the code of the jobs need not be importable here.

    \b
    apscheduler runs list --store sqlite:///jobs.db
    apscheduler runs list --state failed --since 2h --config jobs.ini
    apscheduler runs show 5f0c2b1d9a7e4c38-1 --config jobs.ini
    """
)
def runs() -> None:
    """Hold the commands."""


@runs.command(
    "list",
    help="""List runs, latest scheduled time first.

    TIME is written like 2h (before now), 2030-01-31 or '2030-01-31 18:00'. With --follow the latest runs come first in
    the order of time, and then every run again when it begins to wait, starts and ends, until Ctrl+C.

    \b
    apscheduler runs list --store sqlite:///jobs.db
    apscheduler runs list --job report --state failed --state lost --since 2h --config jobs.ini
    apscheduler runs list --limit 50 --offset 50 --until 2030-01-31 --config jobs.ini --json
    apscheduler runs list --follow --interval 5s --config jobs.ini
    """,
)
@click.option(
    "--job",
    "job_id",
    metavar="ID",
    shell_complete=complete_ids,
    help="Only runs of this job.",
)
@click.option(
    "--state",
    "states",
    type=click.Choice([state.value for state in RunState]),
    multiple=True,
    help="Only runs in this state. May be repeated.",
)
@click.option("--node", metavar="ID", help="Only runs of this scheduler.")
@click.option(
    "--since",
    metavar="TIME",
    type=Past(),
    help="Only runs scheduled then or later.",
)
@click.option(
    "--until", metavar="TIME", type=Past(), help="Only runs scheduled before then."
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=LIMIT,
    show_default=True,
    help="At most so many.",
)
@click.option(
    "--offset",
    type=click.IntRange(min=0),
    default=0,
    help="Leave out so many of the latest.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on as runs start and end.")
@click.option(
    "--interval",
    type=Duration(),
    default="1s",
    show_default=True,
    help="How often to look, with --follow.",
)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    help="End after so many lines, with --follow.",
)
@source_options
@jobstore_option
@output_options
def list_runs(
    states: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    limit: int,
    offset: int,
    follow: bool,
    interval: float,
    count: int | None,
    source: Source,
    jobstore: str | None,
    output: Output,
    **which: str | None,
) -> None:
    """List runs."""
    _check_options(follow, interval, count, until, offset)
    with source.open(jobstore) as client:
        filters: dict[str, Any] = {
            **which,
            "since": in_zone(since, client.timezone),
            "until": in_zone(until, client.timezone),
        }
        if follow:
            watch = Watch(client, filters, states)
            _follow(watch, output, limit, interval, count)
            return
        filters["states"] = states or None
        found = client.get_runs(**filters, limit=limit, offset=offset)
        if output.is_json:
            output.document([run_document(run) for run in found])
            return
        _print_table(output, found, client._now())
        total = client.count_runs(**filters)
        if len(found) < total:
            output.say(f"{len(found)} of {total} runs.", "dim")


def _check_options(
    follow: bool,
    interval: float,
    count: int | None,
    until: datetime | None,
    offset: int,
) -> None:
    if interval <= 0:
        raise click.UsageError("--interval must be more than 0, such as 1s")
    if not follow and count is not None:
        raise click.UsageError("--count goes with --follow; write --limit")
    if follow and (until is not None or offset):
        name = "--offset" if offset else "--until"
        raise click.UsageError(
            f"{name} does not go with --follow, which shows what is new"
        )


@runs.command(
    help="""Show everything that is known of a run, with the traceback of one that failed.

    \b
    apscheduler runs show 5f0c2b1d9a7e4c38-1 --config jobs.ini
    apscheduler runs show 5f0c2b1d9a7e4c38-1 --store sqlite:///jobs.db --json
    """
)
@click.argument("run_id", metavar="ID")
@source_options
@jobstore_option
@output_options
def show(run_id: str, source: Source, jobstore: str | None, output: Output) -> None:
    """Show a run."""
    with source.open(jobstore) as client:
        run = client.get_run(run_id)
        now = client._now()
    if run is None:
        raise CommandError(
            f"There is no run {run_id!r}, or it is not kept any more; 'apscheduler runs list' lists runs"
        )
    if output.is_json:
        output.document(run_document(run))
        return
    took = run.duration
    output.fields(
        {
            "id": run.id,
            "job": run.job_id,
            "store": run.jobstore,
            "state": _state(run),
            "scheduled": _local(run.scheduled_time, now),
            "first": _local(run.first_time, now),
            "fire times": "unknown" if run.count is None else str(run.count),
            "attempt": str(run.attempt),
            "node": run.node,
            "claim": run.claim_id,
            "available": _local(run.available_at, now),
            "started": _local(run.started_at, now),
            "finished": _local(run.finished_at, now),
            "took": None if took is None else format_seconds(took),
            "exception": run.exception,
        }
    )
    if run.traceback:
        output.say("")
        output.say(run.traceback.rstrip())


def _follow(
    watch: Watch, output: Output, limit: int, interval: float, count: int | None
) -> None:
    """Print what happens until there were so many lines, or Ctrl+C."""
    try:
        for index, run in enumerate(watch.follow(limit, interval), 1):
            _print_line(output, run, watch.client._now())
            if index == count:
                return
    except KeyboardInterrupt:  # the way to end it
        return


# For people


def _print_table(output: Output, found: Sequence[Run], now: datetime) -> None:
    has_many = len({run.jobstore for run in found}) > 1
    rows: list[list[Cell]] = [
        [
            *(run.id, run.job_id, _local(run.scheduled_time, now), _state(run)),
            None if run.duration is None else format_seconds(run.duration),
            *(run.node, _error(run)),
            *([run.jobstore] if has_many else []),
        ]
        for run in found
    ]
    columns = ["id", "job", "scheduled", "state", "took", "node", "error"]
    output.table(columns + (["store"] if has_many else []), rows, empty="No runs.")


def _print_line(output: Output, run: Run, now: datetime) -> None:
    if output.is_json:
        output.json_line(run_document(run))
        return
    line = Text(f"{_local(moment(run), now)}  ")
    state = _state(run)
    state.pad_right(max(0, 9 - len(state)))
    line.append_text(state)
    line.append(f"  {run.id}  {run.job_id}")
    if run.duration is not None:
        line.append(f"  took {format_seconds(run.duration)}")
    if run.exception:
        line.append(f"  {_error(run)}")
    output.say(line)


def _local(time: datetime | None, now: datetime) -> str | None:
    return None if time is None else format_time(time.astimezone(now.tzinfo), now)


def _state(run: Run) -> Text:
    text = run.state.value
    if run.count != 1:
        text += f" ({run.count or 'unknown'} times)"
    if run.attempt > 1:
        text += f" (attempt {run.attempt})"
    return Text(text, STYLES.get(run.state, "yellow"))


def _error(run: Run) -> str | None:
    lines = (run.exception or "").strip().splitlines()
    return lines[0] if lines else None
