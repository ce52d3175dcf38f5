"""On an event loop, listeners are told on its thread, in order, and may do as they like."""

from typing import Any

from apscheduler.events import (
    EVENT_JOB_EXECUTED,
    EVENT_JOB_REMOVED,
    EVENT_JOB_SUBMITTED,
    EVENT_SCHEDULER_SHUTDOWN,
    EVENT_SCHEDULER_STARTED,
    SchedulerEvent,
)
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.testing.schedulers.harness import EventLog, EventLoopHarness
from apscheduler.testing.schedulers.ticking import Ticker, TickingContract


class ListeningContract(TickingContract):
    def test_what_a_pass_has_to_tell_is_told_on_the_loop_in_order(
        self,
        harness: EventLoopHarness,
        scheduler: BaseScheduler,
        log: EventLog,
        ticker: Ticker,
        store: Any,
    ) -> None:
        harness.start(scheduler, paused=True)
        for number in range(20):
            scheduler.add_job(int, id=f"{number:02}")
        harness.call(scheduler.resume)
        harness.wait_until(
            lambda: log.count(EVENT_JOB_EXECUTED) == 20, "all jobs have run"
        )
        harness.settle(scheduler)
        harness.shutdown(scheduler)

        ours = EVENT_JOB_SUBMITTED | EVENT_JOB_REMOVED | EVENT_SCHEDULER_SHUTDOWN
        told = zip(log.events, log.threads, strict=True)
        threads = {thread.ident for event, thread in told if event.code & ours}
        assert threads == {ticker.ident}
        submitted = [e.job_id for e in log.events if e.code == EVENT_JOB_SUBMITTED]
        assert submitted == sorted(submitted)
        assert len(submitted) == log.count(EVENT_JOB_REMOVED) == 20
        assert log.codes[-1] == EVENT_SCHEDULER_SHUTDOWN

    def test_listener_that_fails_keeps_nothing_from_others_nor_from_the_loop(
        self,
        harness: EventLoopHarness,
        scheduler: BaseScheduler,
        ticker: Ticker,
        store: Any,
    ) -> None:
        def fail(event: SchedulerEvent) -> None:
            raise SystemExit("a listener wants to end it all")

        log = EventLog()
        scheduler.add_listener(fail)
        scheduler.add_listener(log)
        harness.start(scheduler)
        for number in range(1, 4):
            scheduler.add_job(int)
            harness.settle(scheduler)
            assert log.count(EVENT_JOB_SUBMITTED) == number
        harness.shutdown(scheduler)

        assert log.count(EVENT_SCHEDULER_SHUTDOWN) == 1
        goal = ticker.count + 1
        harness.wait_until(lambda: ticker.count >= goal, "the loop goes on")

    def test_listener_can_shut_the_scheduler_down(
        self,
        harness: EventLoopHarness,
        scheduler: BaseScheduler,
        log: EventLog,
        store: Any,
    ) -> None:
        scheduler.add_listener(lambda _: scheduler.shutdown(), EVENT_JOB_REMOVED)
        harness.start(scheduler)

        scheduler.add_job(int)
        harness.wait_until(
            lambda: log.count(EVENT_SCHEDULER_SHUTDOWN), "the shutdown is told"
        )

        assert not scheduler.running
        assert log.count(EVENT_SCHEDULER_SHUTDOWN) == 1

    def test_listener_that_hears_of_the_shutdown_can_start_the_scheduler_again(
        self,
        harness: EventLoopHarness,
        scheduler: BaseScheduler,
        log: EventLog,
        store: Any,
    ) -> None:
        starts = iter(range(3))

        def start_again(event: SchedulerEvent) -> None:
            if next(starts, None) is not None:
                scheduler.start()

        scheduler.add_listener(start_again, EVENT_SCHEDULER_SHUTDOWN)
        harness.start(scheduler)
        for number in range(1, 5):
            harness.wait_until(
                lambda number=number: log.count(EVENT_SCHEDULER_STARTED) == number,  # type: ignore[misc]
                "the scheduler has been started again",
            )
            scheduler.add_job(int)
            harness.wait_until(
                lambda number=number: log.count(EVENT_JOB_EXECUTED) == number,  # type: ignore[misc]
                "a job has run",
            )
            harness.call(scheduler.shutdown)
        harness.wait_until(
            lambda: log.count(EVENT_SCHEDULER_SHUTDOWN) == 4, "all shutdowns are told"
        )

        assert not scheduler.running
