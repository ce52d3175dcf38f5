"""The report of a soak: one page."""

from collections.abc import Sequence

from apscheduler.runs import RunState
from apscheduler.testing.cluster.soak import Result

PAGE = """\
# Report of the last soak

Made by `make soak` on {date}: {nodes} nodes on each store for {seconds:g} seconds, on {machine}; seed {seed}.
{verdict}

| store | nodes killed | frozen | servers killed | connections cut | fires | starts |
|---|---|---|---|---|---|---|
{troubles}
| all | {kills} | {pauses} | {restarts} | {cuts} | {fires} | {starts} |

| store | succeeded | failed | skipped | coalesced | missed | lost |
|---|---|---|---|---|---|---|
{outcomes}

*Lost* are runs whose node was killed or frozen, and that are not to be retried: each is recorded once.

| store | start after the fire time, p50 | p99 | take-over after the death, p50 | longest |
|---|---|---|---|---|
{times}

Nodes were killed all the time, so that a fire may have had to wait for one that lived.
Some jobs take longer than the time between their fires, and leave none of them out: where they are behind, their runs are late.
"""

STATES = (
    RunState.SUCCEEDED,
    RunState.FAILED,
    RunState.SKIPPED,
    RunState.COALESCED,
    RunState.MISSED,
    RunState.LOST,
)


BALANCED = "No fire was lost, none started twice, and no run was left open."
FAILED = "**The books did not balance, or the nodes did not come to an end: {stores}.**"


def write(results: Sequence[Result], failed: Sequence[str], **facts: object) -> str:
    return PAGE.format(
        verdict=FAILED.format(stores=", ".join(failed)) if failed else BALANCED,
        troubles="\n".join(map(describe_troubles, results)),
        outcomes="\n".join(map(describe_outcomes, results)),
        times="\n".join(map(describe_times, results)),
        kills=f"{sum(each.kills for each in results):,}",
        pauses=sum(each.pauses for each in results),
        restarts=sum(each.restarts for each in results),
        cuts=f"{sum(each.cuts for each in results):,}",
        fires=f"{sum(each.fires for each in results):,}",
        starts=f"{sum(each.starts for each in results):,}",
        **facts,
    )


def describe_troubles(result: Result) -> str:
    troubles = result.kills, result.pauses, result.restarts, result.cuts
    counts = *troubles, result.fires, result.starts
    return row(result.store, *(f"{number:,}" for number in counts))


def describe_outcomes(result: Result) -> str:
    return row(result.store, *(f"{result.outcomes[state]:,}" for state in STATES))


def describe_times(result: Result) -> str:
    return row(
        result.store,
        milliseconds(percentile(result.lateness, 0.5)),
        milliseconds(percentile(result.lateness, 0.99)),
        seconds(percentile(result.takeovers, 0.5)),
        seconds(percentile(result.takeovers, 1)),
    )


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return a percentile of sorted values."""
    return values[min(int(len(values) * share), len(values) - 1)] if values else None


def milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value * 1000:,.0f} ms"


def seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"
