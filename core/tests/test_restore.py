"""Promises about jobs that are restored from what is known of their states."""

import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from apscheduler.job import Job
from apscheduler.jobstores.restore import Restorer
from apscheduler.triggers.base import COPIERS, BaseTrigger

TIME = datetime(2026, 6, 1, 12, tzinfo=UTC)


class NoonTrigger(BaseTrigger):
    """A trigger that can be copied."""

    def __init__(self, hour: int = 12):
        self.hour = hour

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        return None


COPIERS[NoonTrigger] = lambda trigger: NoonTrigger(trigger.hour)


class DerivedTrigger(NoonTrigger):
    """A trigger that may keep more than what the class that it derives from knows how to copy."""


def work(*args: object, **kwargs: object) -> None:
    pass


def make_job(trigger: BaseTrigger, **kwargs: Any) -> Job:
    return Job(
        None,
        "work",
        func=work,
        args=(1,),
        kwargs=kwargs,
        trigger=trigger,
        executor="default",
        misfire_grace_time=None,
        coalesce=True,
        max_instances=1,
        next_run_time=TIME,
    )


class Reader:
    """Reads states, and counts that."""

    def __init__(self) -> None:
        self.count = 0

    def loads(self, data: bytes) -> dict[str, Any]:
        self.count += 1
        state: dict[str, Any] = pickle.loads(data)
        return state

    def load(self, data: bytes) -> Job:
        job = Job.__new__(Job)
        job.__setstate__(self.loads(data))
        return job


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def make_restorer(reader: Reader) -> Callable[..., Restorer]:
    def make(is_exact: bool = True) -> Restorer:
        return Restorer(reader.load, reader.loads, lambda job: None, lambda: is_exact)

    return make


def test_what_was_just_written_is_restored_without_being_read(
    make_restorer: Callable[..., Restorer], reader: Reader
) -> None:
    restorer, job = make_restorer(), make_job(NoonTrigger(11), name="Ann")
    data = pickle.dumps(job.__getstate__())

    restorer.learn(job, data)
    restored = restorer.restore("work", data, TIME.timestamp())

    assert reader.count == 0
    assert restored.__getstate__().keys() == job.__getstate__().keys()
    assert (restored.args, restored.kwargs) == ((1,), {"name": "Ann"})
    assert isinstance(restored.trigger, NoonTrigger)
    assert restored.trigger.hour == 11


def test_restored_jobs_share_nothing_that_can_be_changed(
    make_restorer: Callable[..., Restorer],
) -> None:
    restorer, job = make_restorer(), make_job(NoonTrigger(), name="Ann")
    data = pickle.dumps(job.__getstate__())
    restorer.learn(job, data)
    due = restorer.restore_due("work", data, TIME.timestamp())
    first = restorer.restore("work", data, TIME.timestamp())

    for changed in (job, due, first):
        assert changed is not None
        assert isinstance(changed.trigger, NoonTrigger)
        changed.kwargs["name"] = "Bob"
    for changed in (job, first):  # what is due may share its trigger with its likes
        changed.trigger.hour = 13  # type: ignore[attr-defined]  # it is a NoonTrigger
    second = restorer.restore("work", data, TIME.timestamp())
    due_later = restorer.restore_due("work", data, TIME.timestamp())

    for other in (second, due_later):
        assert other is not None
        assert isinstance(other.trigger, NoonTrigger)
        assert (other.kwargs, other.trigger.hour) == ({"name": "Ann"}, 12)


def test_the_function_of_a_known_job_is_what_its_name_leads_to_now(
    make_restorer: Callable[..., Restorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    restorer, job = make_restorer(), make_job(NoonTrigger())
    data = pickle.dumps(job.__getstate__())
    restorer.learn(job, data)

    monkeypatch.setattr(f"{__name__}.work", print)
    restored = restorer.restore("work", data, None)
    due = restorer.restore_due("work", data, TIME.timestamp())

    assert due is not None
    assert restored.func is due.func is print


def test_jobs_whose_triggers_do_not_say_how_they_are_copied_are_read_each_time(
    make_restorer: Callable[..., Restorer], reader: Reader
) -> None:
    restorer, job = make_restorer(), make_job(DerivedTrigger())
    data = pickle.dumps(job.__getstate__())
    restorer.learn(job, data)
    reader.count = 0

    jobs = [restorer.restore("work", data, None) for _ in range(2)]

    assert reader.count == 2
    assert jobs[0].trigger is not jobs[1].trigger


def test_what_somebody_has_looked_at_is_read_once(
    make_restorer: Callable[..., Restorer], reader: Reader
) -> None:
    restorer, job = make_restorer(), make_job(NoonTrigger(11), name="Ann")
    data = pickle.dumps(job.__getstate__())

    first = restorer.restore("work", data, None)
    first.kwargs["name"] = "Bob"
    first.trigger.hour = 13  # type: ignore[attr-defined]  # it is a NoonTrigger
    second = restorer.restore("work", data, TIME.timestamp())

    assert reader.count == 1
    assert isinstance(second.trigger, NoonTrigger)
    assert (second.kwargs, second.trigger.hour) == ({"name": "Ann"}, 11)
    assert second.next_run_time == TIME


def test_looking_at_many_jobs_does_not_crowd_out_those_that_are_known(
    make_restorer: Callable[..., Restorer],
    reader: Reader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("apscheduler.jobstores.restore.CACHE_SIZE", 2)
    restorer = make_restorer()
    states = {}
    for job_id in ("first", "second", "third"):
        job = make_job(NoonTrigger())
        job.id = job_id
        states[job_id] = pickle.dumps(job.__getstate__())
    restorer.restore_due("first", states["first"], TIME.timestamp())

    for job_id, data in states.items():
        restorer.restore(job_id, data, None)
    reader.count = 0
    restorer.restore_due("first", states["first"], TIME.timestamp())

    assert reader.count == 0


def test_formats_that_may_change_what_they_write_are_read_once(
    make_restorer: Callable[..., Restorer], reader: Reader
) -> None:
    restorer, job = make_restorer(is_exact=False), make_job(NoonTrigger())
    data = pickle.dumps(job.__getstate__())

    restorer.learn(job, data)
    for _ in range(2):
        restorer.restore("work", data, None)

    assert reader.count == 1


def test_other_bytes_are_read(
    make_restorer: Callable[..., Restorer], reader: Reader
) -> None:
    restorer, job = make_restorer(), make_job(NoonTrigger())
    restorer.learn(job, pickle.dumps(job.__getstate__()))
    changed = make_job(NoonTrigger(15))

    restored = restorer.restore("work", pickle.dumps(changed.__getstate__()), None)

    assert reader.count == 1
    assert isinstance(restored.trigger, NoonTrigger)
    assert restored.trigger.hour == 15
