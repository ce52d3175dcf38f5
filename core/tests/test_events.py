"""Event codes and classes: values that other programs rely on."""

import pickle
from datetime import UTC, datetime
from typing import Any

import pytest

from apscheduler import events
from apscheduler.events import (
    JobEvent,
    JobExecutionEvent,
    JobRangeEvent,
    JobstoreFailureEvent,
    JobSubmissionEvent,
    JobUnavailableEvent,
    SchedulerEvent,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)

BITS = [
    "EVENT_SCHEDULER_STARTED",
    "EVENT_SCHEDULER_SHUTDOWN",
    "EVENT_SCHEDULER_PAUSED",
    "EVENT_SCHEDULER_RESUMED",
    "EVENT_EXECUTOR_ADDED",
    "EVENT_EXECUTOR_REMOVED",
    "EVENT_JOBSTORE_ADDED",
    "EVENT_JOBSTORE_REMOVED",
    "EVENT_ALL_JOBS_REMOVED",
    "EVENT_JOB_ADDED",
    "EVENT_JOB_REMOVED",
    "EVENT_JOB_MODIFIED",
    "EVENT_JOB_EXECUTED",
    "EVENT_JOB_ERROR",
    "EVENT_JOB_MISSED",
    "EVENT_JOB_SUBMITTED",
    "EVENT_JOB_MAX_INSTANCES",
]


@pytest.mark.parametrize(("bit", "name"), list(enumerate(BITS)), ids=BITS)
def test_codes_are_those_of_version_3(bit: int, name: str) -> None:
    assert getattr(events, name) == 1 << bit
    assert name in events.__all__


def test_started_has_a_second_name() -> None:
    assert events.EVENT_SCHEDULER_START == events.EVENT_SCHEDULER_STARTED
    assert "EVENT_SCHEDULER_START" not in events.__all__


def test_event_all_is_every_code_and_nothing_else() -> None:
    codes = [
        getattr(events, name)
        for name in events.__all__
        if name.startswith("EVENT_") and name != "EVENT_ALL"
    ]

    assert sum(codes) == events.EVENT_ALL
    assert len(codes) == len(set(codes))
    assert events.EVENT_ALL & 131071 == 131071
    assert all(code >= 1 << 17 for code in codes if code > 131071)


@pytest.mark.parametrize(
    "name", ["SchedulerEvent", "JobEvent", "JobSubmissionEvent", "JobExecutionEvent"]
)
def test_classes_are_exported(name: str) -> None:
    assert name in events.__all__


CASES: list[tuple[Any, dict[str, Any], type]] = [
    (SchedulerEvent(1), {"code": 1, "alias": None}, object),
    (SchedulerEvent(16, "x"), {"code": 16, "alias": "x"}, object),
    (
        JobEvent(512, "j", "s"),
        {"code": 512, "alias": None, "job_id": "j", "jobstore": "s"},
        SchedulerEvent,
    ),
    (
        JobSubmissionEvent(32768, "j", "s", [NOW]),
        {"alias": None, "job_id": "j", "jobstore": "s", "scheduled_run_times": [NOW]},
        JobEvent,
    ),
    (
        JobExecutionEvent(4096, "j", "s", NOW, retval=5),
        {
            "code": 4096,
            "alias": None,
            "job_id": "j",
            "jobstore": "s",
            "scheduled_run_time": NOW,
            "retval": 5,
            "exception": None,
            "traceback": None,
        },
        JobEvent,
    ),
    (
        JobRangeEvent(16384, "j", "s", NOW, NOW, 3),
        {"first_run_time": NOW, "scheduled_run_time": NOW, "count": 3, "retval": None},
        JobExecutionEvent,
    ),
    (JobUnavailableEvent(1 << 19, "j", "s", KeyError("x")), {"job_id": "j"}, JobEvent),
    (
        JobstoreFailureEvent(1 << 20, "s", KeyError("x")),
        {"alias": "s"},
        SchedulerEvent,
    ),
]


@pytest.mark.parametrize(
    ("event", "attributes", "base"), CASES, ids=[type(c[0]).__name__ for c in CASES]
)
def test_attributes_repr_and_pickling(
    event: Any, attributes: dict[str, Any], base: type
) -> None:
    copy = pickle.loads(pickle.dumps(event))

    code = event.code
    assert isinstance(event, base)
    assert {name: getattr(event, name) for name in attributes} == attributes
    assert {name: getattr(copy, name) for name in attributes} == attributes
    assert repr(event) == f"<{type(event).__name__} (code={code})>"


def test_an_outcome_travels_with_its_identity() -> None:
    event = JobExecutionEvent(8192, "j", "s", NOW, None, ValueError("bad"), "frames")
    event.run_id, event.attempt, event.duration = "r", 2, 0.5

    copy = pickle.loads(pickle.dumps(event))

    assert (copy.run_id, copy.attempt, copy.duration) == ("r", 2, 0.5)
    assert (str(copy.exception), copy.traceback) == ("bad", "frames")


def test_events_take_further_attributes() -> None:
    event = JobExecutionEvent(4096, "j", "s", NOW)

    event.anything = 1  # type: ignore[attr-defined]  # what this is about

    assert vars(event)["anything"] == 1
