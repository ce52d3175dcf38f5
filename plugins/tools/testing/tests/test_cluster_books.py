"""The books of a cluster show what is wrong: each fault that there could be is found."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apscheduler.runs import Run, RunState
from apscheduler.testing.cluster.books import Books

T0 = datetime(2026, 6, 1, 12, tzinfo=UTC)
TIMES = [T0.timestamp() + n for n in range(3)]


def run(number: int, state: RunState = RunState.SUCCEEDED, **details: Any) -> Run:
    time = T0 + timedelta(seconds=number)
    return Run(f"run-{number}", "job", "default", state, time, **details)


def entry(what: str, number: int, at: float, pid: int = 1, **details: Any) -> Any:
    found = {"what": what, "at": at, "pid": pid, "run": f"run-{number}", "job": "job"}
    return {**found, "attempt": 1, "fire": TIMES[0] + number, **details}


def both(number: int, **details: Any) -> list[Any]:
    at = 10.0 * number
    return [
        entry("start", number, at, **details),
        entry("end", number, at + 1, **details),
    ]


GOOD = [*both(0), *both(1), *both(2)]
RUNS = [run(0), run(1), run(2)]


def complaints(entries: list[Any], runs: list[Run], **options: Any) -> list[str]:
    books = Books(entries, runs, {"job": TIMES}, {"job": 1}, **options)
    return list(books.complaints())


def test_books_without_a_fault_balance() -> None:
    Books(GOOD, RUNS, {"job": TIMES}, {"job": 1}).balance()


def test_a_range_stands_for_all_its_fires() -> None:
    skipped = run(2, RunState.SKIPPED, first_time=T0 + timedelta(seconds=1), count=2)

    assert complaints(both(0), [run(0), skipped]) == []


FAULTS = {
    "a fire is lost": (both(0) + both(2), [RUNS[0], RUNS[2]], "recorded 0 times"),
    "a fire is recorded twice": (
        GOOD,
        [*RUNS, run(1, RunState.LOST)],
        "recorded 2 times",
    ),
    "nobody knows the fire": (GOOD, [*RUNS, run(7, RunState.LOST)], "0 known"),
    "a range is miscounted": (
        both(0) + both(1),
        [*RUNS[:2], run(2, RunState.MISSED, count=2)],
        "1 known",
    ),
    "a run starts twice": (
        [*GOOD, entry("start", 2, 40, pid=2), entry("end", 2, 41, pid=2)],
        RUNS,
        "started twice",
    ),
    "a run is retried that is not to be": (
        GOOD + both(2, attempt=2),
        RUNS,
        "too often",
    ),
    "a start is not recorded": (GOOD + both(9), RUNS, "not recorded"),
    "a run is left open": (GOOD, [*RUNS[:2], run(2, RunState.RUNNING)], "left open"),
    "a success is made up": (GOOD[:4], RUNS, "has not been running"),
    "what ran is recorded as skipped": (
        GOOD,
        [*RUNS[:2], run(2, RunState.SKIPPED)],
        "has been running",
    ),
    "too many instances run at once": (
        [*both(0), *both(1)[:1], *both(2)],
        [run(0), run(1, RunState.LOST), run(2)],
        "2 instances",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str) -> None:
    entries, runs, complaint = FAULTS[fault]

    assert any(complaint in each for each in complaints(entries, runs))


def test_what_the_dead_have_begun_does_not_count_as_running() -> None:
    dead = [*both(0), entry("start", 1, 10, pid=2), *both(2)]
    killed = {"what": "killed", "at": 15, "victim": 2}

    runs = [run(0), run(1, RunState.LOST), run(2)]
    assert complaints([*dead, killed], runs) == []


@pytest.mark.parametrize(
    ("history", "runs", "is_right"),
    [
        (["adding"], 0, True),
        (["adding"], 1, True),
        (["adding", "added"], 0, False),
        (["adding", "added"], 1, True),
        (["adding", "added"], 2, False),
        (["adding", "added", "removing"], 0, True),
        (["adding", "added", "removing", "removed"], 0, True),
        (["adding", "added", "removing", "removed"], 1, False),
    ],
)
def test_a_single_job_runs_once_unless_it_is_removed(
    history: list[str], runs: int, is_right: bool
) -> None:
    entries = [{"what": what, "at": 0, "pid": 1, "job": "once"} for what in history]
    records = [
        Run(f"{n}", "once", None, RunState.LOST, T0 + timedelta(seconds=n))
        for n in range(runs)
    ]

    found = list(Books(entries, records, {}, {}).complaints())

    assert (not found) is is_right


def test_the_whole_story_of_a_job_is_told() -> None:
    with pytest.raises(AssertionError, match=r"(?s)recorded 0 times.*run-0.*run-2"):
        Books(GOOD, [RUNS[0], RUNS[2]], {"job": TIMES}, {"job": 1}).balance()
