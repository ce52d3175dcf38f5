"""What schedulers on an event loop promise besides: the loop goes on, and any thread may use the scheduler."""

import threading
import time
from typing import Any

from apscheduler.events import (
    EVENT_JOB_ADDED,
    EVENT_JOB_EXECUTED,
    EVENT_SCHEDULER_SHUTDOWN,
)
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.testing.clock import ManualClock
from apscheduler.testing.jobs import PATIENCE
from apscheduler.testing.schedulers.harness import EventLog, EventLoopHarness
from apscheduler.testing.schedulers.life_cycle import LifeCycleContract
from apscheduler.testing.schedulers.listening import ListeningContract
from apscheduler.testing.schedulers.loop import LoopContract
from apscheduler.testing.schedulers.stopping import ENDS, StoppingContract, Work
from apscheduler.testing.schedulers.ticking import (
    TICKS_PER_STORE_CALL,
    SlowCalls,
    Ticker,
)
from apscheduler.threads import PassThread


class EventLoopContract(
    LifeCycleContract, LoopContract, StoppingContract, ListeningContract
):
    """What every scheduler on an event loop promises, all that every scheduler promises included.

    A subclass has a fixture ``harness``, which yields an :class:`EventLoopHarness`.
    """

    runs_coroutines = True

    def test_loop_goes_on_during_every_call_of_a_slow_store(
        self,
        harness: EventLoopHarness,
        scheduler: BaseScheduler,
        log: EventLog,
        ticker: Ticker,
    ) -> None:
        store = self.add_store(scheduler)
        store.performs_io = True
        harness.start(scheduler, paused=True)
        scheduler.add_job(int, "interval", hours=1, next_run_time=scheduler._now())
        scheduler.add_job(int)
        calls = SlowCalls(store, ticker)

        harness.call(scheduler.resume)
        harness.wait_until(
            lambda: log.count(EVENT_JOB_EXECUTED) == 2, "both jobs have run"
        )
        harness.shutdown(scheduler)

        assert {"claim", "complete", "shutdown"} <= {*calls.names}
        assert calls.on_loop == []
        assert calls.held_up == []

    def test_loop_goes_on_while_shutdown_waits_for_a_job(
        self,
        harness: EventLoopHarness,
        scheduler: BaseScheduler,
        log: EventLog,
        ticker: Ticker,
        work: Work,
    ) -> None:
        thread = harness.spawn(harness.call, scheduler.shutdown)
        harness.wait_until(lambda: not scheduler.running, "shutting down has begun")

        goal = ticker.count + TICKS_PER_STORE_CALL
        harness.wait_until(lambda: ticker.count >= goal, "the loop goes on")
        assert log.count(EVENT_SCHEDULER_SHUTDOWN) == 0
        work.may_end.set()
        harness.wait_until(
            lambda: log.count(EVENT_SCHEDULER_SHUTDOWN), "the shutdown is told"
        )
        harness.wait_until(lambda: not thread.is_alive(), "shutdown() has returned")

        assert log.codes_among(ENDS) == [EVENT_JOB_EXECUTED, EVENT_SCHEDULER_SHUTDOWN]

    def test_wakeups_from_many_threads_are_each_followed_by_a_pass(
        self,
        harness: EventLoopHarness,
        scheduler: BaseScheduler,
        ticker: Ticker,
        store: Any,
    ) -> None:
        passes: list[int] = []
        under_way: list[int] = []
        overlaps: list[int] = []
        unheard: list[int] = []
        real_process = scheduler._process_jobs

        def process() -> float | None:
            overlaps.extend(under_way)
            under_way.append(len(passes))
            passes.append(threading.get_ident())
            try:
                return real_process()
            finally:
                under_way.pop()

        def wake() -> None:
            for _ in range(25):
                count, deadline = len(passes), time.monotonic() + PATIENCE
                scheduler.wakeup()
                while len(passes) == count:
                    if time.monotonic() > deadline:
                        unheard.append(count)
                        return
                    time.sleep(0.0001)

        scheduler._process_jobs = process  # type: ignore[method-assign]  # as tests of APScheduler 3 do
        harness.start(scheduler)
        threads = [threading.Thread(target=wake) for _ in range(8)]
        for thread in threads:
            thread.start()
        harness.wait_until(
            lambda: not any(thread.is_alive() for thread in threads), "all have woken"
        )
        harness.settle(scheduler)

        assert unheard == overlaps == []
        assert len({*passes}) == 1, "passes come from one thread"
        assert (ticker.ident in passes) != store.performs_io

    # Shutting down, and starting again

    def test_shutdown_in_another_thread_returns_when_all_jobs_have_ended(
        self,
        harness: EventLoopHarness,
        scheduler: BaseScheduler,
        log: EventLog,
        work: Work,
    ) -> None:
        ended_before: list[bool] = []

        def shut_down() -> None:
            scheduler.shutdown()
            ended_before.append(work.has_ended)

        thread = threading.Thread(target=shut_down)
        thread.start()
        harness.wait_until(lambda: not scheduler.running, "shutting down has begun")
        work.may_end.set()
        harness.wait_until(lambda: not thread.is_alive(), "shutdown() has returned")

        assert ended_before == [True]
        assert log.codes_among(ENDS) == [EVENT_JOB_EXECUTED, EVENT_SCHEDULER_SHUTDOWN]

    def test_shutdown_in_a_job_waits_for_other_jobs(
        self,
        harness: EventLoopHarness,
        scheduler: BaseScheduler,
        log: EventLog,
        work: Work,
    ) -> None:
        def shut_down() -> bool:
            scheduler.shutdown()
            return work.has_ended

        scheduler.add_job(shut_down, id="shuts down")
        harness.wait_until(lambda: not scheduler.running, "shutting down has begun")
        assert log.count(EVENT_SCHEDULER_SHUTDOWN) == 0
        work.may_end.set()
        harness.wait_until(
            lambda: log.count(EVENT_JOB_EXECUTED) == 2, "both jobs have ended"
        )
        harness.wait_until(
            lambda: log.count(EVENT_SCHEDULER_SHUTDOWN), "the shutdown is told"
        )

        assert log.results == [None, True]

    def test_job_that_outlives_its_scheduler_does_not_disturb_the_next_start(
        self,
        harness: EventLoopHarness,
        scheduler: BaseScheduler,
        log: EventLog,
        work: Work,
    ) -> None:
        harness.shutdown(scheduler, wait=False)
        harness.wait_until(
            lambda: log.count(EVENT_SCHEDULER_SHUTDOWN), "the shutdown is told"
        )

        harness.start(scheduler)
        scheduler.add_job(int, id="new")
        harness.wait_until(
            lambda: log.count(EVENT_JOB_EXECUTED) == 1, "the new job has run"
        )
        work.may_end.set()
        harness.wait_until(
            lambda: log.count(EVENT_JOB_EXECUTED) == 2, "the old one has ended"
        )
        harness.shutdown(scheduler)

        executed = [e.job_id for e in log.events if e.code == EVENT_JOB_EXECUTED]
        assert executed == ["new", "work"]

    def test_nothing_is_left_of_many_starts(
        self,
        harness: EventLoopHarness,
        scheduler: BaseScheduler,
        log: EventLog,
        clock: ManualClock,
        store: Any,
    ) -> None:
        for number in range(1, 6):
            harness.start(scheduler)
            scheduler.add_job(int, "interval", hours=1)
            clock.advance(hours=1)
            harness.wait_until(
                lambda number=number: log.count(EVENT_JOB_EXECUTED) >= number,  # type: ignore[misc]
                "the job has run",
            )
            harness.shutdown(scheduler)

        assert log.count(EVENT_JOB_ADDED) == log.count(EVENT_SCHEDULER_SHUTDOWN) == 5
        harness.wait_until(
            lambda: not any(isinstance(t, PassThread) for t in threading.enumerate()),
            "threads that made passes have ended",
        )
