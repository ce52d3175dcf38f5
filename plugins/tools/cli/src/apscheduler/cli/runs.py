"""``apscheduler runs``: the history of a store, and what goes on in it."""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import click
from rich.text import Text

from apscheduler.cli.client import Client
from apscheduler.cli.errors import CommandError
from apscheduler.cli.jobs.showing import run_document
from apscheduler.cli.output import Cell, Output, output_options
from apscheduler.cli.shared import (
    Duration,
    Moment,
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
from apscheduler.runs import Run, RunState

LIMIT = 20
STYLES: Mapping[RunState, str] = {
    RunState.READY: "cyan",
    RunState.RUNNING: "cyan",
    RunState.SUCCEEDED: "green",
    RunState.FAILED: "red",
    RunState.LOST: "red",
}
OPEN = tuple(state for state in RunState if not state.is_final)

# How many of the latest runs are looked at each time, and at most when all of them are new.
LOOKED_AT, MAX_LOOKED_AT = 200, 12_800
REMEMBERED = 2 * MAX_LOOKED_AT

# Runs that ended so long before the first look are no news when they come into view, since others were forgotten.
# The clocks of those who ran them may be wrong by less.
OLD = timedelta(minutes=1)

wait: Callable[[float], None] = time.sleep


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


class Past(Moment):
    """A time as everywhere, where a bare span is one before now: ``2h``."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the time."""
        if isinstance(value, str) and re.fullmatch(
            r"\d[\d.dhms]*[dhms]", value.strip(), re.IGNORECASE
        ):
            value = f"-{value.strip()}"
        return super().convert(value, param, ctx)


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


# Following


class Watch:
    """Sees what is new among the runs of a store by looking at it again and again.

    :param filters: which runs, as for ``get_runs``, but for their states
    :param states: which states to tell of; empty: all
    """

    def __init__(
        self, client: Client, filters: Mapping[str, Any], states: Sequence[str]
    ):
        self.client = client
        self._filters = filters
        self._states = states
        self._seen: dict[str, tuple[RunState, int]] = {}  # longest unseen first
        self._open: set[str] = set()
        self._oldest = client._now() - OLD

    def latest(self, limit: int) -> list[Run]:
        """Take everything that there is as known; return the latest of it, in the order of time."""
        for run in self._look():
            self._is_news(run)
        found = self.client.get_runs(
            **self._filters, states=self._states or None, limit=limit
        )
        for run in found:  # some may have begun or ended since the look
            self._is_news(run)
            if not run.state.is_final:
                self._open.add(run.id)
        return found[::-1]

    def news(self) -> list[Run]:
        """Return the runs that are new or in another state than before, in the order of time."""
        found = [run for run in self._look() if self._is_news(run)]
        return [run for run in found if not self._states or run.state in self._states]

    def _look(self) -> list[Run]:
        current = {run.id: run for run in [*self._read_latest(), *self._read_open()]}
        for run_id in self._open - current.keys():
            run = self.client.get_run(run_id)
            if run is not None:  # else nobody keeps it
                current[run_id] = run
        self._open = {run.id for run in current.values() if not run.state.is_final}
        return sorted(current.values(), key=lambda run: (_moment(run), run.id))

    def _read_latest(self) -> list[Run]:
        limit = LOOKED_AT
        while True:
            found = self.client.get_runs(**self._filters, limit=limit)
            if len(found) < limit or limit >= MAX_LOOKED_AT:
                return found
            if found[-1].id in self._seen or _moment(found[-1]) < self._oldest:
                return found
            limit *= 4

    def _read_open(self) -> list[Run]:
        """Return what goes on, however long ago it was scheduled; read last, so that nothing is older than before."""
        return self.client.get_runs(**self._filters, states=OPEN, limit=MAX_LOOKED_AT)

    def _is_news(self, run: Run) -> bool:
        """Return whether nothing was known of a run, or something else, and take note of it."""
        stands, known = (run.state, run.attempt), self._seen.pop(run.id, None)
        self._seen[run.id] = stands
        while len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        if known is None and run.state.is_final:
            return _moment(run) >= self._oldest
        return stands != known


def _follow(
    watch: Watch, output: Output, limit: int, interval: float, count: int | None
) -> None:
    """Print what happens until there were so many lines, or Ctrl+C."""
    try:
        for index, run in enumerate(_watched(watch, limit, interval), 1):
            _print_line(output, run, watch.client._now())
            if index == count:
                return
    except KeyboardInterrupt:  # the way to end it
        return


def _watched(watch: Watch, limit: int, interval: float) -> Iterator[Run]:
    yield from watch.latest(limit)
    while True:
        wait(interval)
        yield from watch.news()


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
    line = Text(f"{_local(_moment(run), now)}  ")
    state = _state(run)
    state.pad_right(max(0, 9 - len(state)))
    line.append_text(state)
    line.append(f"  {run.id}  {run.job_id}")
    if run.duration is not None:
        line.append(f"  took {format_seconds(run.duration)}")
    if run.exception:
        line.append(f"  {_error(run)}")
    output.say(line)


def _moment(run: Run) -> datetime:
    """Return when a run came to stand where it stands."""
    return run.finished_at or run.started_at or run.available_at or run.scheduled_time


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
