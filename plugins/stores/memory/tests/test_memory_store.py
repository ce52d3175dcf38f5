"""The memory store: the contract, and what only it promises."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apscheduler.job import Job
from apscheduler.jobstores.contract import ClaimRequest
from apscheduler.jobstores.memory import MIN_STALE, MemoryJobStore
from apscheduler.nodes import Identity
from apscheduler.runs import Plan
from apscheduler.testing.jobs import make_stored_job
from apscheduler.testing.jobstores import NativeJobStoreContract

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class TestMemoryJobStore(NativeJobStoreContract):
    serializes = False  # the job objects themselves are kept
    shareable = False

    @pytest.fixture
    def store(self) -> Iterator[MemoryJobStore]:
        store = MemoryJobStore()
        store.start(None, "memory")
        yield store
        store.shutdown()


@pytest.fixture
def store() -> MemoryJobStore:
    store = MemoryJobStore()
    store.start(None, "memory")
    return store


def job(job_id: str, minutes: float | None = 0, **options: Any) -> Job:
    time = None if minutes is None else NOON + timedelta(minutes=minutes)
    return make_stored_job(job_id, next_run_time=time, **options)


def test_the_job_that_was_added_is_the_one_that_is_found(store: MemoryJobStore) -> None:
    added = job("a")
    store.add_job(added)

    assert store.lookup_job("a") is added


def test_jobs_with_equal_times_are_ordered_by_id(store: MemoryJobStore) -> None:
    store.add_jobs([job("c"), job("a"), job("b")])

    assert [found.id for found in store.get_all_jobs()] == ["a", "b", "c"]


def test_subclasses_can_read_jobs_and_timestamps_as_in_3_x(
    store: MemoryJobStore,
) -> None:
    paused, soon = job("paused", None), job("soon")
    store.add_jobs([paused, soon])

    assert store._jobs == [(soon, NOON.timestamp()), (paused, None)]
    assert store._jobs_index["soon"] == (soon, NOON.timestamp())


def test_shutdown_forgets_everything(store: MemoryJobStore) -> None:
    store.add_job(job("a"))

    store.shutdown()

    assert store.get_all_jobs() == []
    assert store.get_next_run_time() is None


def test_the_heap_does_not_grow_with_changes_of_the_same_jobs(
    store: MemoryJobStore,
) -> None:
    changed = job("a")
    store.add_jobs([changed, job("b", 1)])

    for minute in range(10 * MIN_STALE):
        changed.next_run_time = NOON + timedelta(minutes=minute)
        store.update_job(changed)

    assert len(store._heap) <= 2 * 2 + MIN_STALE + 1
    assert store.get_next_run_time() == NOON + timedelta(minutes=1)


def test_a_plan_that_raises_leaves_every_job_in_place(store: MemoryJobStore) -> None:
    store.add_jobs([job("a"), job("b", 1)])

    def plan(due: Job) -> Plan | None:
        if due.id == "b":
            raise RuntimeError("not to be")
        return None

    request = ClaimRequest(NOON + timedelta(minutes=5), 10, plan, Identity())
    with pytest.raises(RuntimeError, match="not to be"):
        store.claim(request)

    due = store.get_due_jobs(NOON + timedelta(minutes=5))
    assert [found.id for found in due] == ["a", "b"]
    assert store.get_next_run_time() == NOON
