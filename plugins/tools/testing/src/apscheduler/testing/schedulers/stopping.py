"""What shutting down waits for, and what it leaves alone."""

from datetime import timedelta
from typing import Any

import pytest

from apscheduler.events import (
    EVENT_JOB_EXECUTED,
    EVENT_JOB_SUBMITTED,
    EVENT_SCHEDULER_SHUTDOWN,
)
from apscheduler.schedulers.base import STATE_STOPPED, BaseScheduler
from apscheduler.testing.clock import ManualClock
from apscheduler.testing.jobs import PATIENCE
from apscheduler.testing.schedulers.common import ContractBase
from apscheduler.testing.schedulers.harness import EventLog, SchedulerHarness

ENDS = EVENT_JOB_EXECUTED | EVENT_SCHEDULER_SHUTDOWN


class Work:
    """A job that begins, and goes on when the test says so."""

    def __init__(self, harness: SchedulerHarness):
        self.has_begun = harness.make_event()
        self.may_end = harness.make_event()
        self.has_ended = False

    def __call__(self) -> None:
        self.has_begun.set()
        assert self.may_end.wait(PATIENCE)
        self.has_ended = True


class StoppingContract(ContractBase):
    @pytest.fixture
    def work(self, harness: SchedulerHarness, scheduler: BaseScheduler) -> Work:
        """A job that is running in the scheduler."""
        work = Work(harness)
        harness.start(scheduler)
        scheduler.add_job(work, id="work")
        harness.wait_until(work.has_begun.is_set, "the job has begun")
        return work

    def test_shutdown_waits_for_running_jobs(
        self,
        harness: SchedulerHarness,
        scheduler: BaseScheduler,
        log: EventLog,
        work: Work,
    ) -> None:
        thread = harness.spawn(harness.shutdown, scheduler)
        harness.wait_until(lambda: not scheduler.running, "shutting down has begun")
        assert log.count(EVENT_SCHEDULER_SHUTDOWN) == 0

        work.may_end.set()
        harness.wait_until(lambda: not thread.is_alive(), "shutdown() has returned")

        assert work.has_ended
        assert log.codes_among(ENDS) == [EVENT_JOB_EXECUTED, EVENT_SCHEDULER_SHUTDOWN]

    def test_shutdown_without_waiting_leaves_running_jobs_alone(
        self,
        harness: SchedulerHarness,
        scheduler: BaseScheduler,
        log: EventLog,
        work: Work,
    ) -> None:
        harness.shutdown(scheduler, wait=False)
        harness.wait_until(
            lambda: log.count(EVENT_SCHEDULER_SHUTDOWN), "the shutdown is told"
        )
        assert log.count(EVENT_JOB_EXECUTED) == 0

        work.may_end.set()
        harness.wait_until(
            lambda: log.count(EVENT_JOB_EXECUTED), "the job is told to have ended"
        )

        assert work.has_ended

    def test_shutdown_waits_no_longer_than_it_is_told(
        self,
        harness: SchedulerHarness,
        scheduler: BaseScheduler,
        log: EventLog,
        work: Work,
    ) -> None:
        harness.shutdown(scheduler, wait=0.01)
        assert not work.has_ended
        assert log.count(EVENT_SCHEDULER_SHUTDOWN) == 1

        work.may_end.set()
        harness.wait_until(
            lambda: log.count(EVENT_JOB_EXECUTED), "the job is told to have ended"
        )

    def test_shutdown_returns_early_when_jobs_end_within_the_time(
        self,
        harness: SchedulerHarness,
        scheduler: BaseScheduler,
        log: EventLog,
        work: Work,
    ) -> None:
        thread = harness.spawn(harness.shutdown, scheduler, 10 * PATIENCE)
        harness.wait_until(lambda: not scheduler.running, "shutting down has begun")

        work.may_end.set()
        harness.wait_until(lambda: not thread.is_alive(), "shutdown() has returned")

        assert log.codes_among(ENDS) == [EVENT_JOB_EXECUTED, EVENT_SCHEDULER_SHUTDOWN]

    @pytest.mark.parametrize("wait", [True, False, 60], ids=str)
    def test_job_can_shut_its_scheduler_down(
        self,
        harness: SchedulerHarness,
        scheduler: BaseScheduler,
        log: EventLog,
        wait: bool | float,
    ) -> None:
        harness.start(scheduler)

        scheduler.add_job(scheduler.shutdown, args=(wait,))
        harness.wait_until(
            lambda: (
                len(log.events) >= 2
                and {EVENT_SCHEDULER_SHUTDOWN, EVENT_JOB_EXECUTED} <= {*log.codes}
            ),
            "the job has ended and the scheduler been shut down",
        )

        assert not scheduler.running

    def test_running_jobs_can_use_a_scheduler_that_waits_for_them(
        self, harness: SchedulerHarness, scheduler: BaseScheduler, log: EventLog
    ) -> None:
        has_begun, may_go_on = harness.make_event(), harness.make_event()

        def job() -> list[Any]:
            has_begun.set()
            assert may_go_on.wait(PATIENCE)
            return scheduler.get_jobs()

        harness.start(scheduler)
        scheduler.add_job(job)
        harness.wait_until(has_begun.is_set, "the job has begun")
        thread = harness.spawn(harness.shutdown, scheduler)
        harness.wait_until(lambda: not scheduler.running, "shutting down has begun")

        may_go_on.set()
        harness.wait_until(lambda: not thread.is_alive(), "shutdown() has returned")

        assert log.results == [[]]

    def test_nothing_is_claimed_once_shutting_down_has_begun(
        self,
        harness: SchedulerHarness,
        scheduler: BaseScheduler,
        log: EventLog,
        clock: ManualClock,
    ) -> None:
        store = self.add_store(scheduler)
        states = []
        real_claim = store.claim

        def claim(request: Any) -> Any:
            states.append(scheduler.state)
            return real_claim(request)

        store.claim = claim
        work = Work(harness)
        harness.start(scheduler)
        due = clock.now() + timedelta(hours=1)
        scheduler.add_job(int, "date", run_date=due, id="victim")
        scheduler.add_job(work, id="work")
        harness.wait_until(work.has_begun.is_set, "the job has begun")
        thread = harness.spawn(harness.shutdown, scheduler)
        harness.wait_until(lambda: not scheduler.running, "shutting down has begun")

        clock.advance(hours=2)
        scheduler.wakeup()
        victim = store.lookup_job("victim")
        work.may_end.set()
        harness.wait_until(lambda: not thread.is_alive(), "shutdown() has returned")

        assert victim.next_run_time == due
        assert STATE_STOPPED not in states
        assert log.count(EVENT_JOB_EXECUTED) == 1

    def test_what_a_pass_has_claimed_is_handed_back_when_it_meets_a_shutdown(
        self, harness: SchedulerHarness, scheduler: BaseScheduler, log: EventLog
    ) -> None:
        store = self.add_store(scheduler)
        store.performs_io = True  # it may be slow, so it must not hold up an event loop
        store.keeps_runs = True  # what is handed back is not lost
        is_claiming, may_go_on = harness.make_event(), harness.make_event()
        handed_back: list[Any] = []
        real_claim = store.claim

        def claim(request: Any) -> Any:
            batch = real_claim(request)
            if batch.claims:
                is_claiming.set()
                assert may_go_on.wait(PATIENCE)
            return batch

        store.claim, store.hand_back = claim, handed_back.extend
        harness.start(scheduler)
        scheduler.add_job(int, id="late")
        harness.wait_until(is_claiming.is_set, "the job has been claimed")
        thread = harness.spawn(harness.shutdown, scheduler)
        harness.wait_until(lambda: not scheduler.running, "shutting down has begun")

        may_go_on.set()
        harness.wait_until(lambda: not thread.is_alive(), "shutdown() has returned")

        assert [given.job.id for given in handed_back] == ["late"]
        assert log.count(EVENT_JOB_SUBMITTED) == 0
        assert log.count(EVENT_SCHEDULER_SHUTDOWN) == 1

    def test_shutdown_goes_on_when_a_component_fails_in_it(
        self, harness: SchedulerHarness, scheduler: BaseScheduler, log: EventLog
    ) -> None:
        store = self.add_store(scheduler, "stubborn")
        real_shutdown = store.shutdown

        def shutdown() -> None:
            real_shutdown()
            raise OSError("connection lost")

        store.shutdown = shutdown
        harness.start(scheduler)

        harness.shutdown(scheduler)

        assert log.count(EVENT_SCHEDULER_SHUTDOWN) == 1
        assert not scheduler.running
