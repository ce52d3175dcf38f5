"""Starting, pausing, resuming, shutting down: what each call does in each state."""

from collections.abc import Callable
from typing import Any

import pytest

from apscheduler.events import (
    EVENT_EXECUTOR_ADDED,
    EVENT_JOB_ADDED,
    EVENT_JOB_EXECUTED,
    EVENT_JOBSTORE_ADDED,
    EVENT_SCHEDULER_PAUSED,
    EVENT_SCHEDULER_RESUMED,
    EVENT_SCHEDULER_SHUTDOWN,
    EVENT_SCHEDULER_STARTED,
)
from apscheduler.schedulers.base import (
    STATE_PAUSED,
    STATE_RUNNING,
    STATE_STOPPED,
    BaseScheduler,
    SchedulerAlreadyRunningError,
    SchedulerNotRunningError,
)
from apscheduler.testing.clock import ManualClock
from apscheduler.testing.schedulers.common import ContractBase
from apscheduler.testing.schedulers.harness import EventLog, SchedulerHarness

TRANSITIONS = [
    (STATE_STOPPED, "start", STATE_RUNNING),
    (STATE_STOPPED, "start paused", STATE_PAUSED),
    (STATE_STOPPED, "shutdown", SchedulerNotRunningError),
    (STATE_STOPPED, "pause", SchedulerNotRunningError),
    (STATE_STOPPED, "resume", SchedulerNotRunningError),
    (STATE_STOPPED, "configure", STATE_STOPPED),
    (STATE_RUNNING, "start", SchedulerAlreadyRunningError),
    (STATE_RUNNING, "start paused", SchedulerAlreadyRunningError),
    (STATE_RUNNING, "shutdown", STATE_STOPPED),
    (STATE_RUNNING, "pause", STATE_PAUSED),
    (STATE_RUNNING, "resume", STATE_RUNNING),
    (STATE_RUNNING, "configure", SchedulerAlreadyRunningError),
    (STATE_PAUSED, "start", SchedulerAlreadyRunningError),
    (STATE_PAUSED, "start paused", SchedulerAlreadyRunningError),
    (STATE_PAUSED, "shutdown", STATE_STOPPED),
    (STATE_PAUSED, "pause", STATE_PAUSED),
    (STATE_PAUSED, "resume", STATE_RUNNING),
    (STATE_PAUSED, "configure", SchedulerAlreadyRunningError),
]
STATE_NAMES = {
    STATE_STOPPED: "stopped",
    STATE_RUNNING: "running",
    STATE_PAUSED: "paused",
}


def _name(value: Any) -> str:
    if isinstance(value, type):
        return value.__name__
    return str(STATE_NAMES.get(value, value))


class LifeCycleContract(ContractBase):
    def bring_to(
        self, harness: SchedulerHarness, scheduler: BaseScheduler, state: int
    ) -> None:
        if state != STATE_STOPPED:
            harness.start(scheduler, paused=state == STATE_PAUSED)

    @pytest.mark.parametrize(("state", "call", "outcome"), TRANSITIONS, ids=_name)
    def test_each_call_does_in_each_state_what_the_table_says(
        self,
        harness: SchedulerHarness,
        scheduler: BaseScheduler,
        state: int,
        call: str,
        outcome: Any,
    ) -> None:
        self.bring_to(harness, scheduler, state)
        calls: dict[str, Callable[[], object]] = {
            "start": lambda: harness.start(scheduler),
            "start paused": lambda: harness.start(scheduler, paused=True),
            "shutdown": lambda: harness.shutdown(scheduler),
            "pause": lambda: harness.call(scheduler.pause),
            "resume": lambda: harness.call(scheduler.resume),
            "configure": lambda: harness.call(scheduler.configure, {}),
        }

        if isinstance(outcome, int):
            calls[call]()
            assert scheduler.state == outcome
        else:
            with pytest.raises(outcome):
                calls[call]()
            assert scheduler.state == state
        assert scheduler.running == (scheduler.state != STATE_STOPPED)

    def test_events_of_a_start_come_in_order(
        self, harness: SchedulerHarness, scheduler: BaseScheduler, log: EventLog
    ) -> None:
        for job_id in "ab":
            scheduler.add_job(int, "interval", hours=1, id=job_id)

        harness.start(scheduler)

        assert log.codes == [
            EVENT_EXECUTOR_ADDED,
            EVENT_JOBSTORE_ADDED,
            EVENT_JOB_ADDED,
            EVENT_JOB_ADDED,
            EVENT_SCHEDULER_STARTED,
        ]
        assert [event.job_id for event in log.events[2:4]] == ["a", "b"]

    def test_shutdown_is_told_last(
        self, harness: SchedulerHarness, scheduler: BaseScheduler, log: EventLog
    ) -> None:
        harness.start(scheduler)
        scheduler.add_job(int)
        harness.settle(scheduler)

        harness.shutdown(scheduler)

        assert log.codes[-1] == EVENT_SCHEDULER_SHUTDOWN
        assert log.count(EVENT_SCHEDULER_SHUTDOWN) == 1

    def test_pausing_and_resuming_are_told_when_they_change_something(
        self, harness: SchedulerHarness, scheduler: BaseScheduler, log: EventLog
    ) -> None:
        harness.start(scheduler)
        for name in ("resume", "pause", "pause", "resume", "resume"):
            harness.call(getattr(scheduler, name))

        after_start = log.codes[log.codes.index(EVENT_SCHEDULER_STARTED) + 1 :]
        assert after_start == [EVENT_SCHEDULER_PAUSED, EVENT_SCHEDULER_RESUMED]

    def test_wakeup_of_a_stopped_scheduler_does_nothing(
        self, harness: SchedulerHarness, scheduler: BaseScheduler
    ) -> None:
        scheduler.wakeup()
        harness.start(scheduler)
        harness.shutdown(scheduler)
        scheduler.wakeup()

        assert not scheduler.running

    def test_jobs_added_before_the_start_are_pending_and_then_run(
        self, harness: SchedulerHarness, scheduler: BaseScheduler, log: EventLog
    ) -> None:
        job = scheduler.add_job(int, id="early")
        assert (job.pending, log.codes) == (True, [])

        harness.start(scheduler)
        harness.settle(scheduler)

        assert not job.pending
        assert log.count(EVENT_JOB_EXECUTED) == 1

    def test_second_start_disturbs_neither_the_loop_nor_the_shutdown(
        self, harness: SchedulerHarness, scheduler: BaseScheduler, log: EventLog
    ) -> None:
        harness.start(scheduler)
        for _ in range(3):
            with pytest.raises(SchedulerAlreadyRunningError):
                harness.start(scheduler)

        scheduler.add_job(int)
        harness.settle(scheduler)
        harness.shutdown(scheduler)

        assert log.count(EVENT_JOB_EXECUTED) == 1
        assert log.count(EVENT_SCHEDULER_STARTED) == 1

    def test_scheduler_can_be_started_again_and_again(
        self,
        harness: SchedulerHarness,
        scheduler: BaseScheduler,
        log: EventLog,
        clock: ManualClock,
    ) -> None:
        for number in range(1, 4):
            harness.start(scheduler)
            assert scheduler.get_jobs() == []  # memory is forgotten
            scheduler.add_job(int, "interval", hours=1)
            clock.advance(hours=1)
            harness.settle(scheduler)
            harness.shutdown(scheduler)

            assert log.count(EVENT_JOB_EXECUTED) == number

    def test_start_that_fails_leaves_everything_as_it_was(
        self, harness: SchedulerHarness, scheduler: BaseScheduler, log: EventLog
    ) -> None:
        scheduler.add_job(int, id="fine")
        scheduler.add_job(int, id="lost", jobstore="elsewhere")
        for _ in range(2):
            with pytest.raises(KeyError, match="elsewhere"):
                harness.start(scheduler)
            assert scheduler.state == STATE_STOPPED
            assert [job.id for job in scheduler.get_jobs()] == ["fine", "lost"]

        self.add_store(scheduler, "elsewhere")
        harness.start(scheduler)
        harness.settle(scheduler)

        assert log.count(EVENT_JOB_EXECUTED) == 2

    def test_start_can_be_repeated_after_a_store_has_failed_to_start(
        self, harness: SchedulerHarness, scheduler: BaseScheduler, log: EventLog
    ) -> None:
        store = self.add_store(scheduler, "other")
        real_start, broken = store.start, [True]

        def start(*args: Any) -> None:
            if broken:
                raise OSError("no route to host")
            real_start(*args)

        store.start = start
        scheduler.add_job(int)
        with pytest.raises(OSError, match="no route"):
            harness.start(scheduler)
        assert not scheduler.running

        broken.clear()
        harness.start(scheduler)
        harness.settle(scheduler)

        assert log.count(EVENT_JOB_EXECUTED) == 1

    def test_of_several_starts_at_once_one_succeeds(
        self, harness: SchedulerHarness, scheduler: BaseScheduler, log: EventLog
    ) -> None:
        store = self.add_store(scheduler)
        real_start, refused = store.start, []

        def start(*args: Any) -> None:
            # Another one, in the middle of this start.
            harness.spawn(start_again).join()
            real_start(*args)

        def start_again() -> None:
            try:
                scheduler.start()
            except SchedulerAlreadyRunningError:
                refused.append(True)

        store.start = start
        harness.start(scheduler)

        assert refused == [True]
        assert log.count(EVENT_SCHEDULER_STARTED) == 1
