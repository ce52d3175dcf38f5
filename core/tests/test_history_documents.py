"""Runs as documents, and what stores do to them in the same way."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from apscheduler.jobstores.claiming import group_ready
from apscheduler.jobstores.history import (
    decode_run,
    encode_outcome,
    encode_run,
    end_or_retry,
    find_surplus,
    is_owner,
)
from apscheduler.records import replace
from apscheduler.runs import Completion, Run, RunState

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)

RUNNING = Run(
    "run-1",
    "job",
    "default",
    RunState.RUNNING,
    NOON,
    claim_id="run-1",
    node="node",
    attempt=2,
    started_at=NOON + SECOND,
)
COMPLETION = Completion(
    "run-1", "job", "node", 2, RunState.FAILED, NOON + 2 * SECOND, NOON + SECOND, 1.0
)


def test_a_run_comes_back_from_its_document() -> None:
    run = replace(
        RUNNING,
        state=RunState.FAILED,
        first_time=NOON - SECOND,
        count=7,
        finished_at=NOON + SECOND,
        duration=0.25,
        exception="ValueError: bad",
        traceback="Traceback ...",
    )

    document = json.loads(json.dumps(encode_run(run)))

    assert decode_run(document, "default") == run


def test_what_is_not_known_of_a_run_takes_no_place_in_its_document() -> None:
    document = encode_run(RUNNING)

    assert "finished_at" not in document
    assert "exception" not in document


def test_the_outcome_is_what_changes_in_the_document() -> None:
    document = encode_run(RUNNING) | encode_outcome(COMPLETION)

    run = decode_run(document, "default")

    assert run.state is RunState.FAILED
    assert (run.started_at, run.finished_at) == (NOON + SECOND, NOON + 2 * SECOND)
    assert run.duration == 1.0


@pytest.mark.parametrize(
    "change",
    [
        {"node": "other"},
        {"attempt": 3},
        {"state": RunState.LOST},
        {"node": None, "state": RunState.READY},
    ],
    ids=["another node", "another attempt", "taken over", "handed back"],
)
def test_only_who_runs_it_reports_the_outcome_of_a_run(
    change: dict[str, object],
) -> None:
    assert is_owner(encode_run(RUNNING), COMPLETION)
    assert not is_owner(encode_run(replace(RUNNING, **change)), COMPLETION)


@pytest.mark.parametrize("max_attempts", [None, 1, 2])
def test_a_run_that_may_not_be_started_again_is_lost(max_attempts: int | None) -> None:
    run = replace(RUNNING)

    assert not end_or_retry(run, max_attempts, NOON + SECOND)

    assert (run.state, run.finished_at) == (RunState.LOST, NOON + SECOND)
    assert run.node == "node"


def test_a_run_that_may_be_started_again_is_ready_for_another_attempt() -> None:
    run = replace(RUNNING)

    assert end_or_retry(run, 3, NOON + SECOND)

    assert (run.state, run.node, run.attempt) == (RunState.READY, None, 3)
    assert run.available_at == NOON + SECOND


@pytest.mark.parametrize(
    ("max_age", "max_count", "surplus"),
    [
        (None, None, []),
        (None, 2, ["c", "d"]),
        (None, 0, ["a", "b", "c", "d"]),
        (timedelta(seconds=25), None, ["d"]),
        (timedelta(seconds=15), 3, ["b", "d"]),
    ],
)
def test_runs_beyond_age_or_number_are_surplus(
    max_age: timedelta | None, max_count: int | None, surplus: list[str]
) -> None:
    now = NOON.timestamp()
    finished = [("a", now - 10), ("b", now - 20), ("c", None), ("d", now - 30)]

    assert find_surplus(finished, max_age, max_count, NOON) == surplus


def ready(run_id: str, claim_id: str | None, second: int, attempt: int = 1) -> Run:
    time = NOON + second * SECOND
    return Run(
        run_id,
        "job",
        "default",
        RunState.READY,
        time,
        claim_id=claim_id,
        attempt=attempt,
        available_at=NOON,
    )


def test_runs_that_were_claimed_together_start_together_in_order() -> None:
    runs = [
        ready("b", "a", 2),
        ready("alone", None, 0),
        ready("a", "a", 1),
        ready("again", "a", 3, attempt=2),
    ]

    groups = group_ready([(run, b"", 0, run.id.upper()) for run in runs])

    ids = [[run.id for run in group.runs] for group in groups]
    assert ids == [["a", "b"], ["alone"], ["again"]]
    assert groups[0].token == ["A", "B"]
    assert groups[0].timestamp == NOON.timestamp()
