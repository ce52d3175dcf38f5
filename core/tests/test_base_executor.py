import asyncio
import logging
import pickle
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import apscheduler.executors.base
from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_LOST,
    EVENT_JOB_MISSED,
    JobExecutionEvent,
)
from apscheduler.executors.base import (
    MAX_LOOKAHEAD,
    BaseExecutor,
    MaxInstancesReachedError,
    UnawaitedJobError,
    run_coroutine_job,
    run_job,
)
from apscheduler.hooks import get_hooks, hookimpl
from apscheduler.job import Job
from apscheduler.runs import RunTimes, current_run
from apscheduler.triggers.base import BaseTrigger

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
TIMES = [NOON, NOON + timedelta(seconds=1), NOON + timedelta(seconds=2)]


class Never(BaseTrigger):
    def get_next_fire_time(self, previous_fire_time: Any, now: Any) -> None:
        return None


class Scheduler:
    def __init__(self) -> None:
        self.events: list[JobExecutionEvent] = []

    def _create_lock(self) -> Any:
        return OwnedLock()

    def _dispatch_event(self, event: Any) -> None:
        self.events.append(event)


class OwnedLock:
    is_held = False

    def __enter__(self) -> None:
        assert not self.is_held
        self.is_held = True

    def __exit__(self, *exc_info: object) -> None:
        self.is_held = False


class Executor(BaseExecutor):
    def __init__(self, slots: int | None = None) -> None:
        super().__init__()
        self.slots = slots
        self.submitted: list[Any] = []

    def _do_submit_job(self, job: Job, run_times: Any) -> None:
        assert not self._lock.is_held
        self.submitted.append((job, run_times))


def make_job(
    func: Any = lambda: None,
    *args: Any,
    id: str = "job",
    max_instances: int = 1,
    grace: int | None = None,
) -> Job:
    job = Job(
        None,
        id=id,
        func=func,
        args=args,
        kwargs={},
        trigger=Never(),
        executor="default",
        misfire_grace_time=grace,
        max_instances=max_instances,
        coalesce=False,
        next_run_time=None,
    )
    job._jobstore_alias = "store"
    return job


def make_executor(slots: int | None = None) -> Any:
    executor: Any = Executor(slots)
    executor.start(Scheduler(), "main")
    return executor


def ended(*durations: float) -> list[JobExecutionEvent]:
    events = []
    for duration in durations:
        event = JobExecutionEvent(EVENT_JOB_EXECUTED, "job", "store", NOON)
        event.duration = duration
        events.append(event)
    return events


def run(job: Job, run_times: Any = (NOON,), **options: Any) -> list[JobExecutionEvent]:
    return run_job(
        job, "store", list(run_times), "apscheduler.executors.main", **options
    )


def run_async(
    job: Job, run_times: Any = (NOON,), **options: Any
) -> list[JobExecutionEvent]:
    name = "apscheduler.executors.main"
    return asyncio.run(run_coroutine_job(job, "store", run_times, name, **options))


class TestCounting:
    def test_a_batch_counts_as_one_instance(self) -> None:
        executor = make_executor()

        executor.submit_job(make_job(), TIMES)

        assert dict(executor._instances) == {"job": 1}

    def test_limit_is_per_job(self) -> None:
        executor = make_executor()
        executor.submit_job(make_job(id="a"), [NOON])

        with pytest.raises(MaxInstancesReachedError, match=r"'a'.*\(1\)"):
            executor.submit_job(make_job(id="a"), [NOON])
        executor.submit_job(make_job(id="b"), [NOON])

        assert dict(executor._instances) == {"a": 1, "b": 1}

    def test_refused_job_leaves_no_entry(self) -> None:
        executor = make_executor()
        job = make_job(max_instances=1)
        job.max_instances = 0

        with pytest.raises(MaxInstancesReachedError):
            executor.submit_job(job, [NOON])

        assert dict(executor._instances) == {}

    def test_success_is_uncounted_and_dispatched_in_order_without_the_lock(
        self,
    ) -> None:
        executor = make_executor()
        executor.submit_job(make_job(), TIMES)
        events = ended(1, 2)

        executor._run_job_success("job", events)

        assert executor._scheduler.events == events
        assert dict(executor._instances) == {}

    def test_failure_without_a_job_is_only_logged(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        executor = make_executor()
        executor.submit_job(make_job(), [NOON])

        executor._run_job_error("job", RuntimeError("jam"))

        assert executor._scheduler.events == []
        assert dict(executor._instances) == {}
        (record,) = caplog.records
        assert record.name == "apscheduler.executors.main"
        assert record.levelno == logging.ERROR
        assert "job" in record.message
        assert "RuntimeError: jam" in caplog.text

    def test_failure_with_a_job_is_reported_for_each_run_time(self) -> None:
        executor = make_executor()
        job = make_job()
        run_times = RunTimes(TIMES, ("a", "b", "c"), attempt=2)
        executor.submit_job(job, run_times)
        error = RuntimeError("jam")

        executor._run_job_error("job", error, None, job, run_times)

        events = executor._scheduler.events
        assert [event.code for event in events] == [EVENT_JOB_ERROR] * 3
        assert [event.scheduled_run_time for event in events] == TIMES
        assert [(event.run_id, event.attempt) for event in events] == [
            ("a", 2),
            ("b", 2),
            ("c", 2),
        ]
        assert {event.exception for event in events} == {error}

    def test_lost_runs_follow_those_whose_outcome_is_known(self) -> None:
        executor = make_executor()
        job = make_job()
        executor.submit_job(job, TIMES)
        known = ended(1)

        executor._run_job_lost(job, TIMES, known)

        events = executor._scheduler.events
        assert events[0] is known[0]
        assert [(e.code, e.scheduled_run_time, e.started_at) for e in events[1:]] == [
            (EVENT_JOB_LOST, TIMES[1], None),
            (EVENT_JOB_LOST, TIMES[2], None),
        ]
        assert dict(executor._instances) == {}


class TestCapacity:
    def test_without_slots_any_number_is_accepted(self) -> None:
        executor = make_executor()

        assert executor.capacity() is None

    def test_slots_that_are_free_when_nothing_was_measured(self) -> None:
        executor = make_executor(slots=3)
        executor.submit_job(make_job(), [NOON])

        assert executor.capacity() == 2

    @pytest.mark.parametrize(
        ("durations", "capacity"),
        [
            pytest.param([1.0], 4, id="long runs: one per slot"),
            pytest.param([0.01], 20, id="short runs: what starts within 50 ms"),
            pytest.param([0.005, 0.005], 20, id="a batch is as long as its runs"),
            pytest.param([0.0], MAX_LOOKAHEAD, id="no time at all: the maximum"),
        ],
    )
    def test_capacity_follows_from_measured_durations(
        self, durations: list[float], capacity: int
    ) -> None:
        executor = make_executor(slots=4)
        executor.submit_job(make_job(), [NOON])

        executor._run_job_success("job", ended(*durations))

        assert executor.capacity() == capacity

    def test_one_long_run_ends_the_look_ahead_at_once(self) -> None:
        executor = make_executor(slots=1)
        for duration in (0.0001, 2.0):
            executor.submit_job(make_job(), [NOON])
            executor._run_job_success("job", ended(duration))

        assert executor.capacity() == 1

    def test_capacity_is_never_negative(self) -> None:
        executor = make_executor(slots=1)
        for number in range(3):
            executor.submit_job(make_job(id=str(number)), [NOON])

        assert executor.capacity() == 0

    def test_what_a_restart_left_behind_does_not_free_a_slot_when_it_ends(self) -> None:
        executor = make_executor(slots=4)
        job = make_job(max_instances=3)
        executor.submit_job(job, [NOON])
        executor.submit_job(make_job(id="other"), [NOON])

        executor._leave_behind()
        capacities = [executor.capacity()]
        for _ in range(2):
            executor.submit_job(job, [NOON])
        capacities.append(executor.capacity())
        for job_id in ("other", "job", "job", "job"):
            executor._run_job_success(job_id, ended(1.0))
            capacities.append(executor.capacity())

        assert capacities == [4, 2, 2, 3, 4, 4]
        assert dict(executor._instances) == {}

    def test_more_short_runs_are_taken_only_when_few_are_left(self) -> None:
        executor = make_executor(slots=1)
        executor.submit_job(make_job(), [NOON])
        executor._run_job_success("job", ended(0.005))  # ten of them in 50 ms
        capacities = []

        for number in range(4):
            executor.submit_job(make_job(id=str(number)), [NOON])
            capacities.append(executor.capacity())

        assert capacities == [9, 8, 7, 0]


class TestRunJob:
    def test_each_run_time_gives_one_event_in_order(self) -> None:
        outcomes = iter([1, 2, 3])

        events = run(make_job(lambda: next(outcomes)), TIMES)

        assert [event.retval for event in events] == [1, 2, 3]
        assert [event.scheduled_run_time for event in events] == TIMES

    def test_a_failure_does_not_end_the_batch(self) -> None:
        outcomes = iter([0, 1])

        events = run(make_job(lambda: 1 / next(outcomes)), TIMES[:2])

        assert [event.code for event in events] == [EVENT_JOB_ERROR, EVENT_JOB_EXECUTED]

    @pytest.mark.parametrize(
        ("late_seconds", "code"),
        [
            (59.9, EVENT_JOB_EXECUTED),
            (60, EVENT_JOB_EXECUTED),
            (60.1, EVENT_JOB_MISSED),
        ],
    )
    def test_only_what_is_later_than_the_grace_time_is_missed(
        self, late_seconds: float, code: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Frozen(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return NOON + timedelta(seconds=late_seconds)

        monkeypatch.setattr(apscheduler.executors.base, "datetime", Frozen)

        (event,) = run(make_job(grace=60))

        assert event.code == code

    def test_steps_are_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)

        run(make_job(lambda: 1 / 0))
        run(make_job())

        messages = [(r.levelname, r.message.split(" (")[0]) for r in caplog.records]
        name = 'job "TestRunJob.test_steps_are_logged.<locals>.<lambda>'
        assert messages[0] == ("INFO", f"Running {name}")
        assert [level for level, _ in messages] == ["INFO", "ERROR", "INFO", "INFO"]
        assert caplog.records[3].message.endswith("executed successfully")

    def test_failure_keeps_no_locals_of_the_job_alive(self) -> None:
        class Big:
            pass

        alive = []

        def fail() -> None:
            big = Big()
            alive.append(weakref.ref(big))
            raise RuntimeError

        (event,) = run(make_job(fail))

        assert event.exception is not None
        assert alive[0]() is None

    def test_current_run_is_known_inside_and_not_afterwards(self) -> None:
        (event,) = run(make_job(lambda: getattr(current_run(), "job_id", None)))

        assert event.retval == "job"
        assert current_run() is None

    def test_coroutine_is_a_failure_that_names_the_job(self) -> None:
        async def work() -> Any:
            pass

        (event,) = run(make_job(work))

        assert event.code == EVENT_JOB_ERROR
        assert "work" in str(event.exception)
        assert str(pickle.loads(pickle.dumps(event.exception))) == str(event.exception)
        assert isinstance(event.exception, UnawaitedJobError)

    def test_call_goes_through_the_wrappers_of_plugins(self) -> None:
        seen = []

        class Plugin:
            @hookimpl
            def apscheduler_wrap_call(self, run: Any) -> Any:
                @contextmanager
                def wrap() -> Iterator[None]:
                    seen.append(run.job_id)
                    yield
                    seen.append("after")

                return wrap()

        plugin = Plugin()
        get_hooks().register(plugin)
        try:
            run(make_job(lambda: seen.append("call")))
            run_async(make_job(lambda: asyncio.sleep(0)))
        finally:
            get_hooks().unregister(plugin)

        assert seen == ["job", "call", "after", "job", "after"]

    def test_propagated_exceptions_end_the_batch_and_tell_how_far_it_came(self) -> None:
        outcomes = iter([None, KeyboardInterrupt()])

        def work() -> Any:
            if exc := next(outcomes):
                raise exc

        events: list[JobExecutionEvent] = []
        with pytest.raises(KeyboardInterrupt):
            run(make_job(work), TIMES, propagate=(KeyboardInterrupt,), events=events)

        assert [event.code for event in events] == [EVENT_JOB_EXECUTED, EVENT_JOB_LOST]
        assert events[1].started_at is not None
        assert current_run() is None


class TestRunCoroutineJob:
    def test_result_is_awaited(self) -> None:
        async def work() -> Any:
            return 5

        assert [event.retval for event in run_async(make_job(work))] == [5]

    def test_plain_results_are_taken_as_they_are(self) -> None:
        assert [event.retval for event in run_async(make_job(lambda: 6))] == [6]

    def test_failure_is_reported_with_frames(self) -> None:
        async def work() -> Any:
            raise LookupError("nothing")

        (event,) = run_async(make_job(work))

        assert event.code == EVENT_JOB_ERROR
        assert "in work" in str(event.traceback)

    def test_missed_run_is_not_called(self) -> None:
        late = datetime.now(UTC) - timedelta(minutes=5)

        (event,) = run_async(make_job(lambda: 1 / 0, grace=60), [late])

        assert event.code == EVENT_JOB_MISSED

    def test_cancellation_is_reported_unless_it_is_to_be_propagated(self) -> None:
        async def work() -> Any:
            raise asyncio.CancelledError

        (event,) = run_async(make_job(work))
        events: list[JobExecutionEvent] = []
        with pytest.raises(asyncio.CancelledError):
            run_async(
                make_job(work), propagate=(asyncio.CancelledError,), events=events
            )

        assert event.code == EVENT_JOB_ERROR
        assert [event.code for event in events] == [EVENT_JOB_LOST]

    def test_cancellation_that_does_not_come_from_outside_fails_only_its_run(
        self,
    ) -> None:
        outcomes = iter([asyncio.CancelledError(), None])

        async def work() -> Any:
            if exc := next(outcomes):
                raise exc

        events = run_async(
            make_job(work),
            [NOON, NOON],
            propagate=(asyncio.CancelledError,),
            is_being_cancelled=lambda: False,
        )

        assert [event.code for event in events] == [EVENT_JOB_ERROR, EVENT_JOB_EXECUTED]
