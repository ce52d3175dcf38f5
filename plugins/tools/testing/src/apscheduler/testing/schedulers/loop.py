"""What the loop of a scheduler does, and what it survives."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import pytest

from apscheduler.clock import CallableClock
from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_MISSED,
    EVENT_JOBSTORE_FAILED,
    EVENT_JOBSTORE_RECOVERED,
)
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.testing import jobs
from apscheduler.testing.clock import ManualClock
from apscheduler.testing.contracts import only_if
from apscheduler.testing.schedulers.common import ContractBase
from apscheduler.testing.schedulers.harness import EventLog, SchedulerHarness
from apscheduler.triggers.base import BaseTrigger


class BrokenTrigger(BaseTrigger):
    """Gives a first time and then fails."""

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        if previous_fire_time is None:
            return now
        raise ArithmeticError("the calendar has no such day")


def fail_once(func: Callable[..., Any], exc: Exception) -> Callable[..., Any]:
    """Return a function that fails at its first call."""
    failures = [exc]

    def call(*args: Any, **kwargs: Any) -> Any:
        if failures:
            raise failures.pop()
        return func(*args, **kwargs)

    return call


class LoopContract(ContractBase):
    runs_coroutines = False  # True: the default executor runs coroutine functions
    # Where the loop keeps SLICE_SECONDS, how long it trusts a clock; None: it does not look at the clock by itself.
    slice_module: ModuleType | None = None

    def test_job_added_to_a_running_scheduler_runs_at_once(
        self, harness: SchedulerHarness, scheduler: BaseScheduler, log: EventLog
    ) -> None:
        harness.start(scheduler)

        scheduler.add_job(jobs.add, args=(1, 2))
        harness.settle(scheduler)

        assert log.results == [3]

    def test_job_runs_when_its_time_has_come_without_being_woken(
        self, harness: SchedulerHarness
    ) -> None:
        scheduler, log = harness.make(), EventLog()  # by the system's clock
        scheduler.add_listener(log, EVENT_JOB_EXECUTED)
        harness.start(scheduler)

        for number in range(3):
            due = datetime.now(UTC) + timedelta(milliseconds=10 * (number + 1))
            scheduler.add_job(datetime.now, "date", [UTC], run_date=due)
        harness.wait_until(lambda: len(log.events) == 3, "three jobs have run")

        for event in log.events:
            assert event.retval >= event.scheduled_run_time

    def test_repeated_job_runs_again_and_again(self, harness: SchedulerHarness) -> None:
        scheduler, log = harness.make(), EventLog()
        scheduler.add_listener(log, EVENT_JOB_EXECUTED)
        harness.start(scheduler)

        scheduler.add_job(int, "interval", seconds=0.01)
        harness.wait_until(lambda: len(log.events) >= 5, "the job has run five times")

        times = [event.scheduled_run_time for event in log.events]
        assert times == sorted(set(times))

    def test_jobs_added_by_many_threads_all_run(
        self, harness: SchedulerHarness, scheduler: BaseScheduler, log: EventLog
    ) -> None:
        harness.start(scheduler)

        def add_some() -> None:
            for _ in range(25):
                scheduler.add_job(int)

        threads = [threading.Thread(target=add_some) for _ in range(4)]
        for thread in threads:
            thread.start()
        harness.wait_until(
            lambda: log.count(EVENT_JOB_EXECUTED) == 100, "a hundred jobs have run"
        )
        for thread in threads:
            thread.join()

    def test_job_can_add_change_and_remove_jobs(
        self, harness: SchedulerHarness, scheduler: BaseScheduler, log: EventLog
    ) -> None:
        harness.start(scheduler)
        scheduler.add_job(int, "interval", hours=1, id="removed")
        scheduler.add_job(int, "interval", hours=1, id="changed")

        def work() -> None:
            scheduler.remove_job("removed")
            scheduler.pause_job("changed")
            scheduler.add_job(jobs.add, args=(1, 2), id="added")

        scheduler.add_job(work)
        harness.settle(scheduler)

        assert [job.id for job in scheduler.get_jobs()] == ["changed"]
        assert {*log.results} == {None, 3}  # the two may overlap

    def test_changing_the_time_of_a_job_is_noticed(
        self,
        harness: SchedulerHarness,
        scheduler: BaseScheduler,
        log: EventLog,
        clock: ManualClock,
    ) -> None:
        harness.start(scheduler)
        scheduler.add_job(int, "interval", hours=1, id="hourly")
        harness.settle(scheduler)

        scheduler.modify_job("hourly", next_run_time=clock.now())
        harness.settle(scheduler)

        assert log.count(EVENT_JOB_EXECUTED) == 1

    def test_paused_scheduler_starts_nothing_until_it_is_resumed(
        self,
        harness: SchedulerHarness,
        scheduler: BaseScheduler,
        log: EventLog,
        clock: ManualClock,
    ) -> None:
        passes = self.watch_passes(scheduler)
        harness.start(scheduler, paused=True)
        scheduler.add_job(int)
        count = len(passes)
        scheduler.wakeup()
        harness.wait_until(lambda: len(passes) > count, "a pass has been made")
        assert passes[-1] is None
        assert log.count(EVENT_JOB_EXECUTED) == 0

        clock.advance(hours=1)
        harness.call(scheduler.resume)
        harness.settle(scheduler)

        assert log.count(EVENT_JOB_EXECUTED) == 1

    def watch_passes(self, scheduler: BaseScheduler) -> list[float | None]:
        """Return a list to which every pass appends what it returns."""
        passes: list[float | None] = []
        real_process = scheduler._process_jobs

        def process() -> float | None:
            wait_seconds = real_process()
            passes.append(wait_seconds)
            return wait_seconds

        scheduler._process_jobs = process  # type: ignore[method-assign]  # as tests of APScheduler 3 do
        return passes

    def test_runs_that_are_too_late_are_missed_and_others_happen_once(
        self,
        harness: SchedulerHarness,
        scheduler: BaseScheduler,
        log: EventLog,
        clock: ManualClock,
    ) -> None:
        harness.start(scheduler)
        scheduler.add_job(int, "interval", minutes=10, id="patient")
        scheduler.add_job(
            int, "date", run_date=clock.now(), id="now", next_run_time=clock.now()
        )
        due = clock.now() + timedelta(minutes=5)
        scheduler.add_job(
            int, "date", run_date=due, id="impatient", misfire_grace_time=60
        )
        harness.settle(scheduler)
        log.events.clear()

        clock.advance(minutes=35)
        harness.settle(scheduler)

        outcomes = EVENT_JOB_EXECUTED | EVENT_JOB_MISSED
        told = [(e.code, e.job_id) for e in log.events if e.code & outcomes]
        assert sorted(told) == [
            (EVENT_JOB_EXECUTED, "patient"),
            (EVENT_JOB_MISSED, "impatient"),
        ]

    @only_if(lambda suite: suite.slice_module)
    def test_clock_that_was_set_is_noticed_without_being_told(
        self, harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(self.slice_module, "SLICE_SECONDS", 0.001)
        times = [datetime(2030, 1, 1, tzinfo=UTC)]
        scheduler, log = (
            harness.make(clock=CallableClock(lambda: times[-1])),
            EventLog(),
        )
        passes = self.watch_passes(scheduler)
        scheduler.add_listener(log, EVENT_JOB_EXECUTED)
        run_date = times[-1] + timedelta(hours=1)
        scheduler.add_job(int, "date", run_date=run_date)
        harness.start(scheduler)
        harness.wait_until(lambda: 3600 in passes, "the loop waits for the job")

        times.append(run_date)
        harness.wait_until(lambda: log.events, "the job has run")

        assert log.events[0].scheduled_run_time == run_date

    def test_store_that_fails_is_tried_again_and_does_not_hold_up_others(
        self,
        harness: SchedulerHarness,
        scheduler: BaseScheduler,
        log: EventLog,
        clock: ManualClock,
    ) -> None:
        store = self.add_store(scheduler, "flaky")
        store.claim = fail_once(store.claim, OSError("connection lost"))
        scheduler.add_job(int, id="delayed", jobstore="flaky")
        scheduler.add_job(int, id="punctual")
        harness.start(scheduler)
        harness.wait_until(
            lambda: log.count(EVENT_JOB_EXECUTED) == 1, "the other store is served"
        )
        harness.wait_until(
            lambda: log.count(EVENT_JOBSTORE_FAILED), "the failure is told"
        )
        clock.advance(seconds=scheduler.jobstore_retry_interval)
        harness.settle(scheduler)

        executed = [e.job_id for e in log.events if e.code == EVENT_JOB_EXECUTED]
        assert executed == ["punctual", "delayed"]
        assert log.count(EVENT_JOBSTORE_FAILED) == 1
        assert log.count(EVENT_JOBSTORE_RECOVERED) == 1

    def test_listener_that_fails_does_not_stop_the_loop(
        self, harness: SchedulerHarness, scheduler: BaseScheduler, log: EventLog
    ) -> None:
        def fail(event: object) -> None:
            raise SystemExit("a listener wants to end it all")

        scheduler.add_listener(fail)
        harness.start(scheduler)
        for number in range(1, 4):
            scheduler.add_job(int)
            harness.settle(scheduler)

            assert log.count(EVENT_JOB_EXECUTED) == number

    def test_trigger_that_fails_does_not_stop_the_loop(
        self, harness: SchedulerHarness, scheduler: BaseScheduler, log: EventLog
    ) -> None:
        harness.start(scheduler)
        scheduler.add_job(int, BrokenTrigger(), id="broken")
        harness.settle(scheduler)

        scheduler.add_job(int)
        harness.settle(scheduler)

        assert log.count(EVENT_JOB_EXECUTED) == 1
        assert [job.id for job in scheduler.get_jobs()] == ["broken"]

    def test_pass_that_fails_does_not_stop_the_loop(
        self, harness: SchedulerHarness
    ) -> None:
        scheduler, log = harness.make(), EventLog()  # by the system's clock
        scheduler.add_listener(log, EVENT_JOB_EXECUTED)
        failing = fail_once(scheduler._process_jobs, ValueError("a subclass failed"))
        scheduler._process_jobs = failing  # type: ignore[method-assign]  # stands in for a subclass
        scheduler.jobstore_retry_interval = 0.01
        harness.start(scheduler)

        scheduler.add_job(int)
        harness.settle(scheduler)

        assert log.count(EVENT_JOB_EXECUTED) == 1

    def test_job_that_fails_does_not_stop_the_loop(
        self, harness: SchedulerHarness, scheduler: BaseScheduler, log: EventLog
    ) -> None:
        harness.start(scheduler)
        scheduler.add_job(jobs.fail, args=("no paper",))
        harness.settle(scheduler)

        scheduler.add_job(int)
        harness.settle(scheduler)

        assert log.count(EVENT_JOB_ERROR) == 1
        assert log.count(EVENT_JOB_EXECUTED) == 1

    @only_if(lambda suite: suite.runs_coroutines)
    def test_coroutine_functions_run(
        self, harness: SchedulerHarness, scheduler: BaseScheduler, log: EventLog
    ) -> None:
        harness.start(scheduler)
        for func in (jobs.add_async, jobs.start_adding, jobs.async_adder):
            scheduler.add_job(func, args=(1, 2))
        harness.settle(scheduler)

        assert log.results == [3, 3, 3]
