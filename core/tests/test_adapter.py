"""Stores written for APScheduler 3 are driven by the calls they know, in the order they know."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import MagicMock, call

import pytest

from apscheduler.clock import CallableClock
from apscheduler.events import (
    EVENT_JOB_EXECUTED,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_REMOVED,
    EVENT_JOB_SUBMITTED,
    EVENT_JOBSTORE_FAILED,
    EVENT_JOBSTORE_RECOVERED,
)
from apscheduler.executors.base import BaseExecutor, MaxInstancesReachedError, run_job
from apscheduler.job import Job
from apscheduler.jobstores.base import (
    BaseJobStore,
    ConflictingIdError,
    JobLookupError,
)
from apscheduler.schedulers.base import STATE_RUNNING, BaseScheduler
from apscheduler.triggers.base import BaseTrigger

START = datetime(2030, 1, 1, tzinfo=UTC)
S = timedelta(seconds=1)


class Every(BaseTrigger):
    """Fires every so often."""

    def __init__(self, step: timedelta = S, timezone: Any = None):
        self.step = step

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        return previous_fire_time + self.step if previous_fire_time else now


class Once(Every):
    """Fires once."""

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        return None if previous_fire_time else now


class StateStore(BaseJobStore):
    """A store that keeps states, as third parties write it."""

    def __init__(self) -> None:
        self.states: dict[str, dict[str, Any]] = {}
        self.failing: set[str] = set()

    def _check(self, name: str) -> None:
        if name in self.failing:
            raise OSError(f"{name} failed")

    def _restore(self, state: dict[str, Any]) -> Job:
        job = Job.__new__(Job)
        job.__setstate__(dict(state))
        job._scheduler = self._scheduler
        job._jobstore_alias = self._alias
        return job

    def lookup_job(self, job_id: str) -> Job | None:
        self._check("lookup_job")
        state = self.states.get(job_id)
        return self._restore(state) if state else None

    def get_all_jobs(self) -> list[Job]:
        jobs = [self._restore(state) for state in self.states.values()]
        jobs.sort(key=lambda j: (j.next_run_time is None, j.next_run_time or START))
        return jobs

    def get_due_jobs(self, now: datetime) -> list[Job]:
        self._check("get_due_jobs")
        jobs = self.get_all_jobs()
        return [j for j in jobs if j.next_run_time and j.next_run_time <= now]

    def get_next_run_time(self) -> datetime | None:
        self._check("get_next_run_time")
        times = [state["next_run_time"] for state in self.states.values()]
        return min(filter(None, times), default=None)

    def add_job(self, job: Job) -> None:
        if job.id in self.states:
            raise ConflictingIdError(job.id)
        self.states[job.id] = job.__getstate__()

    def update_job(self, job: Job) -> None:
        self._check("update_job")
        self._check(f"update_job {job.id}")
        if job.id not in self.states:
            raise JobLookupError(job.id)
        self.states[job.id] = job.__getstate__()

    def remove_job(self, job_id: str) -> None:
        if self.states.pop(job_id, None) is None:
            raise JobLookupError(job_id)

    def remove_all_jobs(self) -> None:
        self.states.clear()


class InlineExecutor(BaseExecutor):
    """Runs jobs at once."""

    def _do_submit_job(self, job: Job, run_times: list[datetime]) -> None:
        assert job._jobstore_alias is not None
        self._run_job_success(
            job.id, run_job(job, job._jobstore_alias, run_times, self._logger.name)
        )


class Scheduler(BaseScheduler):
    """A scheduler whose passes and time are the test's."""

    current = START
    wakeups = 0

    def start(self, paused: bool = False) -> None:
        super().start(paused)

    def shutdown(self, wait: bool | float = True) -> None:
        super().shutdown(wait)

    def wakeup(self) -> None:
        self.wakeups += 1


calls: list[Any] = []


def work(*args: Any) -> None:
    calls.append(args)


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.clear()


@pytest.fixture
def make_scheduler() -> Iterator[Any]:
    made: list[Scheduler] = []

    def make(store: Any = None, executor: Any = None) -> Scheduler:
        scheduler = Scheduler(timezone=UTC)
        scheduler._clock = CallableClock(lambda: scheduler.current)
        scheduler.add_executor(executor or InlineExecutor())
        scheduler.add_jobstore(store or StateStore())
        scheduler.start(paused=True)
        made.append(scheduler)
        return scheduler

    yield make
    for scheduler in made:
        if scheduler.running:
            scheduler.shutdown()


def collect(scheduler: Any, mask: int) -> list[Any]:
    events: list[Any] = []
    scheduler.add_listener(events.append, mask)
    return events


def run_pass(scheduler: Scheduler, seconds: float = 0) -> float | None:
    scheduler.state = STATE_RUNNING
    scheduler.current += timedelta(seconds=seconds)
    return scheduler._process_jobs()


# A third-party store, as it is


def test_a_store_of_version_3_runs_its_jobs(make_scheduler: Any) -> None:
    store = StateStore()
    scheduler = make_scheduler(store)
    scheduler.add_job(work, Every(), id="a", args=[1])

    assert run_pass(scheduler) == 1.0
    assert run_pass(scheduler, 0.5) == 0.5
    assert run_pass(scheduler, 0.5) == 1.0

    assert calls == [(1,), (1,)]
    assert store.states["a"]["next_run_time"] == START + 2 * S


def test_a_finished_job_is_removed_before_it_is_submitted(make_scheduler: Any) -> None:
    store = StateStore()
    scheduler = make_scheduler(store)
    seen = []
    events = collect(scheduler, EVENT_JOB_REMOVED | EVENT_JOB_EXECUTED)
    scheduler.add_job(lambda: None, Once(), id="a") if False else scheduler.add_job(
        work, Once(), id="a"
    )
    scheduler._executors["default"]._do_submit_job = lambda job, run_times: seen.append(
        dict(store.states)
    )

    run_pass(scheduler)

    assert seen == [{}]
    assert [event.code for event in events] == [EVENT_JOB_REMOVED]


def test_the_store_is_started_and_shut_down_with_positional_arguments(
    make_scheduler: Any,
) -> None:
    store = MagicMock(BaseJobStore)

    scheduler = make_scheduler(store)
    scheduler.shutdown()

    store.start.assert_called_once_with(scheduler, "default")
    store.shutdown.assert_called_once_with()


# Mocks


class Sliceable:
    """Run times that are no list."""

    def __init__(self, times: list[datetime]):
        self.times = times

    def __len__(self) -> int:
        return len(self.times)

    def __getitem__(self, index: Any) -> Any:
        return self.times[index]


def mock_job(**attributes: Any) -> Any:
    job = MagicMock(
        Job,
        id="a",
        coalesce=False,
        executor="default",
        max_instances=1,
        next_run_time=START,
        misfire_grace_time=None,
        history=None,
        trigger=MagicMock(get_next_fire_time=MagicMock(return_value=START + 9 * S)),
        _jobstore_alias="default",
        _get_run_times=MagicMock(return_value=[START]),
        **attributes,
    )
    return job


@pytest.fixture
def mocked(make_scheduler: Any) -> Any:
    store = MagicMock(BaseJobStore, get_next_run_time=MagicMock(return_value=None))
    executor = MagicMock(BaseExecutor)
    job = mock_job()
    store.get_due_jobs.return_value = [job]
    log = MagicMock()
    log.attach_mock(store, "store")
    log.attach_mock(executor, "executor")
    log.attach_mock(job, "job")
    scheduler = make_scheduler(store, executor)
    log.reset_mock()
    return scheduler, log


def names(log: Any, *wanted: str) -> list[str]:
    return [name for name, _, _ in log.mock_calls if name in wanted]


def test_a_pass_makes_the_calls_of_version_3(mocked: Any) -> None:
    scheduler, log = mocked

    run_pass(scheduler)

    log.store.get_due_jobs.assert_called_once_with(START)
    log.job._get_run_times.assert_called_once_with(START)
    log.executor.submit_job.assert_called_once_with(log.job, [START])
    log.job.trigger.get_next_fire_time.assert_called_once_with(START, START)
    log.job._modify.assert_called_once_with(next_run_time=START + 9 * S)
    log.store.update_job.assert_called_once_with(log.job)
    log.store.get_next_run_time.assert_called_once_with()


def test_a_job_is_claimed_and_then_submitted(mocked: Any) -> None:
    scheduler, log = mocked

    run_pass(scheduler)

    assert names(log, "job._modify", "store.update_job", "executor.submit_job") == [
        "job._modify",
        "store.update_job",
        "executor.submit_job",
    ]


def test_a_schedule_that_is_over_goes_through_remove_job_of_the_scheduler(
    mocked: Any,
) -> None:
    scheduler, log = mocked
    log.job.trigger.get_next_fire_time.return_value = None
    original = scheduler.remove_job
    scheduler.remove_job = MagicMock(side_effect=original)

    run_pass(scheduler)

    scheduler.remove_job.assert_called_once_with("a", "default")
    log.store.remove_job.assert_called_once_with("a")
    log.store.update_job.assert_not_called()
    log.executor.submit_job.assert_called_once_with(log.job, [START])


@pytest.mark.parametrize(
    ("coalesce", "submitted"),
    [(False, [START, START + S]), (True, [START + S])],
)
def test_run_times_may_be_anything_that_can_be_sliced(
    mocked: Any, coalesce: bool, submitted: list[datetime]
) -> None:
    scheduler, log = mocked
    log.job.coalesce = coalesce
    log.job._get_run_times.return_value = Sliceable([START, START + S])

    run_pass(scheduler)

    (_, run_times), _ = log.executor.submit_job.call_args
    assert list(run_times) == submitted
    log.job.trigger.get_next_fire_time.assert_called_once_with(START + S, START)


def test_a_job_without_run_times_is_left_alone(mocked: Any) -> None:
    scheduler, log = mocked
    log.job._get_run_times.return_value = []

    run_pass(scheduler)

    log.executor.submit_job.assert_not_called()
    log.store.update_job.assert_not_called()
    log.store.remove_job.assert_not_called()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, EVENT_JOB_SUBMITTED),
        (MaxInstancesReachedError, EVENT_JOB_MAX_INSTANCES),
    ],
)
def test_what_the_executor_says_becomes_an_event(
    mocked: Any, error: Any, code: int
) -> None:
    scheduler, log = mocked
    if error is not None:
        log.executor.submit_job.side_effect = error(log.job)
    events = collect(scheduler, EVENT_JOB_SUBMITTED | EVENT_JOB_MAX_INSTANCES)

    run_pass(scheduler)

    assert [event.code for event in events] == [code]
    assert events[0].scheduled_run_times == [START]
    assert (events[0].job_id, events[0].jobstore) == ("a", "default")


def test_the_executor_is_looked_up_through_the_scheduler(mocked: Any) -> None:
    scheduler, log = mocked
    other = MagicMock(BaseExecutor)
    scheduler._lookup_executor = MagicMock(return_value=other)

    run_pass(scheduler)

    assert call("default") in scheduler._lookup_executor.mock_calls
    other.submit_job.assert_called_once_with(log.job, [START])


def test_the_next_run_time_of_the_store_is_the_next_wakeup(mocked: Any) -> None:
    scheduler, log = mocked
    log.store.get_next_run_time.return_value = START + 9 * S

    assert run_pass(scheduler) == 9.0


def test_jobs_are_looked_up_and_changed_by_the_calls_of_version_3(
    mocked: Any,
) -> None:
    scheduler, log = mocked
    log.store.lookup_job.return_value = log.job

    scheduler.modify_job("a", name="n")

    log.store.lookup_job.assert_called_with("a")
    log.job._modify.assert_called_once_with(name="n")
    log.store.update_job.assert_called_once_with(log.job)


# Failures


def test_what_was_claimed_runs_although_the_next_update_fails(
    make_scheduler: Any,
) -> None:
    store = StateStore()
    scheduler = make_scheduler(store)
    scheduler.add_job(work, Every(), id="a", args=["a"])
    scheduler.add_job(work, Every(), id="b", args=["b"])
    store.failing = {"update_job b"}

    run_pass(scheduler)
    assert calls == [("a",)]

    store.failing.clear()
    run_pass(scheduler, 60)

    assert sorted(calls) == [("a",), ("a",), ("b",)]


def test_what_was_claimed_runs_although_the_next_run_time_cannot_be_read(
    make_scheduler: Any,
) -> None:
    store = StateStore()
    scheduler = make_scheduler(store)
    scheduler.add_job(work, Once(), id="a")
    store.failing = {"get_next_run_time"}

    run_pass(scheduler)

    assert calls == [()]


@pytest.mark.parametrize("method", ["get_due_jobs", "get_next_run_time", "update_job"])
def test_a_failing_store_is_reported_once_and_tried_again(
    make_scheduler: Any, method: str
) -> None:
    store = StateStore()
    scheduler = make_scheduler(store)
    events = collect(scheduler, EVENT_JOBSTORE_FAILED | EVENT_JOBSTORE_RECOVERED)
    scheduler.add_job(work, Every(), id="a")
    store.failing = {method}

    assert run_pass(scheduler) == pytest.approx(10)
    assert run_pass(scheduler, 10) == pytest.approx(10)
    store.failing.clear()
    assert run_pass(scheduler, 10) == pytest.approx(1)

    assert [event.code for event in events] == [
        EVENT_JOBSTORE_FAILED,
        EVENT_JOBSTORE_RECOVERED,
    ]
    assert calls[-1] == ()


def test_a_job_that_is_gone_at_its_update_is_not_run(make_scheduler: Any) -> None:
    class Vanishing(StateStore):
        def update_job(self, job: Job) -> None:
            raise JobLookupError(job.id)

    scheduler = make_scheduler(Vanishing())
    scheduler.add_job(work, Every(), id="a")

    run_pass(scheduler)

    assert calls == []


def test_a_store_that_claims_something_is_due_and_gives_no_job_does_not_spin(
    make_scheduler: Any,
) -> None:
    class Confused(StateStore):
        def get_next_run_time(self) -> datetime:
            return START - S

    wait = run_pass(make_scheduler(Confused()))

    assert wait is not None
    assert wait >= 0.5


# Changes while jobs are claimed


def test_a_change_that_was_computed_from_an_older_record_does_not_undo_a_claim(
    make_scheduler: Any,
) -> None:
    store = StateStore()
    scheduler = make_scheduler(store)
    scheduler.add_job(work, Every(), id="a")
    looked_up, claimed = threading.Event(), threading.Event()
    original = scheduler._lookup_job

    def slow_lookup(*args: Any) -> Any:
        result = original(*args)
        looked_up.set()
        assert claimed.wait(10)
        return result

    scheduler._lookup_job = slow_lookup
    thread = threading.Thread(
        target=lambda: scheduler.modify_job("a", name="renamed"), daemon=True
    )
    thread.start()
    assert looked_up.wait(10)
    run_pass(scheduler)
    claimed.set()
    thread.join(10)

    assert store.states["a"]["name"] == "renamed"
    assert store.states["a"]["next_run_time"] == START + S


def test_an_explicit_run_time_wins_over_a_claim_in_between(make_scheduler: Any) -> None:
    store = StateStore()
    scheduler = make_scheduler(store)
    scheduler.add_job(work, Every(), id="a")
    run_pass(scheduler)

    scheduler.pause_job("a")

    assert store.states["a"]["next_run_time"] is None
    assert run_pass(scheduler, 10) is None
    assert len(calls) == 1


def test_calls_of_the_store_do_not_overlap(make_scheduler: Any) -> None:
    class Exclusive(StateStore):
        inside = 0
        overlaps = 0

        def _check(self, name: str) -> None:
            type(self).inside += 1
            if self.inside > 1:
                type(self).overlaps += 1
            threading.Event().wait(0.001)
            type(self).inside -= 1

    scheduler = make_scheduler(Exclusive())
    scheduler.add_job(work, Every(), id="a")

    def change() -> None:
        for number in range(10):
            scheduler.modify_job("a", name=f"n{number}")
            scheduler.get_job("a")

    threads = [threading.Thread(target=change) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        run_pass(scheduler, 1)
    for thread in threads:
        thread.join(30)

    assert Exclusive.overlaps == 0


def test_the_adapter_looks_like_the_store_it_drives(make_scheduler: Any) -> None:
    store = StateStore()
    scheduler = make_scheduler(store)

    assert scheduler._jobstores["default"] is store
    assert scheduler._lookup_jobstore("default") is store
    assert (store._scheduler, store._alias) == (scheduler, "default")
    assert repr(scheduler._native_store("default")) == "<StateStore>"
