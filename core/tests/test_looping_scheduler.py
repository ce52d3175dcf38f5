"""The base of schedulers on event loops, with a loop that the tests turn by hand."""

import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from apscheduler.clock import CallableClock
from apscheduler.events import (
    EVENT_SCHEDULER_PAUSED,
    EVENT_SCHEDULER_RESUMED,
    EVENT_SCHEDULER_SHUTDOWN,
    EVENT_SCHEDULER_STARTED,
    SchedulerEvent,
)
from apscheduler.executors.base import BaseExecutor
from apscheduler.job import Job
from apscheduler.jobstores.base import BaseJobStore
from apscheduler.schedulers import SchedulerAlreadyRunningError, looping
from apscheduler.schedulers.looping import EventLoop, LoopScheduler, run_on_loop
from apscheduler.schedulers.passes import EARLY_SECONDS
from apscheduler.threads import PassThread

START = datetime(2030, 1, 1, tzinfo=UTC)
PATIENCE = 20


class HandTimer:
    def __init__(self, seconds: float, func: Callable[[], object]):
        self.seconds = seconds
        self.func = func
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class HandLoop(EventLoop):
    """Does nothing before the test turns it; belongs to the thread that makes it."""

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self.calls: deque[Callable[[], object]] = deque()
        self.timers: list[HandTimer] = []
        self.is_turning = False
        self.has_ended = False
        self.closed = 0

    def call_soon(self, func: Callable[..., object], *args: Any) -> bool:
        if not self.has_ended:
            self.calls.append(partial(func, *args))
        return not self.has_ended

    def call_later(
        self, seconds: float, func: Callable[..., object], *args: Any
    ) -> HandTimer:
        assert self.is_current()
        timer = HandTimer(seconds, partial(func, *args))
        self.timers.append(timer)
        return timer

    def is_current(self) -> bool:
        return threading.current_thread() is self.thread

    def is_running(self) -> bool:
        return self.is_turning

    def close(self) -> None:
        self.closed += 1

    def turn(self) -> None:
        """Make the calls that are waiting, and those that come up meanwhile."""
        before, self.is_turning = self.is_turning, True
        while self.calls:
            self.calls.popleft()()
        self.is_turning = before

    def fire(self) -> None:
        """Let the time of the only timer come."""
        [timer] = self.pending
        self.timers.remove(timer)
        timer.func()
        self.turn()

    @property
    def pending(self) -> list[HandTimer]:
        return [timer for timer in self.timers if not timer.is_cancelled]


class EmptyStore(BaseJobStore):
    """Has no jobs."""

    def lookup_job(self, job_id: str) -> None:
        return None

    def get_due_jobs(self, now: datetime) -> list[Job]:
        return []

    def get_next_run_time(self) -> None:
        return None

    def get_all_jobs(self) -> list[Job]:
        return []

    def add_job(self, job: Job) -> None:
        raise AssertionError("there are no jobs")

    update_job = add_job

    def remove_job(self, job_id: str) -> None:
        raise AssertionError("there are no jobs")

    def remove_all_jobs(self) -> None:
        pass


class IdleExecutor(BaseExecutor):
    def _do_submit_job(self, job: Job, run_times: list[datetime]) -> None:
        raise AssertionError("there are no jobs")


class HandScheduler(LoopScheduler):
    """Makes passes that do what the test says."""

    def __init__(self) -> None:
        self.now = [START]
        self.loops: list[HandLoop] = []
        self.forgotten = 0
        self.passes: list[threading.Thread] = []
        # What passes do, and return; None: until woken.
        self.plans: deque[Callable[[], float | None]] = deque()
        self.performs_io = False
        super().__init__(
            timezone=UTC, clock=CallableClock(lambda: self.now[-1]), logger=None
        )

    @property
    def loop(self) -> HandLoop:
        return self.loops[-1]

    def _open_loop(self) -> HandLoop:
        self.loops.append(HandLoop())
        return self.loop

    def _forget_loop(self) -> None:
        self.forgotten += 1

    def _create_default_executor(self) -> BaseExecutor:
        return IdleExecutor()

    def _create_default_jobstore(self) -> BaseJobStore:
        return EmptyStore()

    def _performs_io(self) -> bool:
        return self.performs_io

    def _process_jobs(self) -> float | None:
        self.passes.append(threading.current_thread())
        return self.plans.popleft()() if self.plans else None

    @run_on_loop
    def note(self, notes: list[Any], *args: Any) -> None:
        notes.append(args)


@pytest.fixture
def scheduler() -> HandScheduler:
    return HandScheduler()


@pytest.fixture
def told(scheduler: HandScheduler) -> list[int]:
    """The codes of the events that listeners were told of."""
    told: list[int] = []
    scheduler.add_listener(lambda event: told.append(event.code))
    return told


def start(scheduler: HandScheduler, *plans: float | None) -> HandLoop:
    """Start the scheduler with passes that return these values, and let it make the first of them."""
    scheduler.plans.extend(lambda plan=plan: plan for plan in plans)  # type: ignore[misc]
    scheduler.start()
    scheduler.loop.turn()
    return scheduler.loop


def dispatch(scheduler: HandScheduler, code: int) -> None:
    scheduler._dispatch_event(SchedulerEvent(code))


# Passes and timers


def test_wakeups_before_a_pass_lead_to_one(scheduler: HandScheduler) -> None:
    scheduler.start()
    for _ in range(10):
        scheduler.wakeup()
    scheduler.loop.turn()

    assert len(scheduler.passes) == 1


def test_wakeup_in_a_pass_leads_to_another(scheduler: HandScheduler) -> None:
    scheduler.plans.append(scheduler.wakeup)
    start(scheduler)

    assert len(scheduler.passes) == 2


def test_long_pause_is_divided_and_a_pass_made_when_its_time_has_come(
    scheduler: HandScheduler,
) -> None:
    loop = start(scheduler, 12.0)
    pauses = []
    while len(scheduler.passes) == 1:
        pauses.append(loop.pending[0].seconds)
        scheduler.now.append(scheduler.now[-1] + timedelta(seconds=pauses[-1]))
        loop.fire()

    whole = looping.SLICE_SECONDS
    assert pauses == pytest.approx([whole, whole, 2.0 - EARLY_SECONDS])
    assert scheduler.now[-1] == START + timedelta(seconds=12 - EARLY_SECONDS)


def test_timer_that_fires_early_leads_to_no_pass(scheduler: HandScheduler) -> None:
    loop = start(scheduler, 2.0)
    scheduler.now.append(START + timedelta(seconds=1.5))
    loop.fire()

    assert len(scheduler.passes) == 1
    pauses = [timer.seconds for timer in loop.pending]
    assert pauses == pytest.approx([0.5 - EARLY_SECONDS])


def test_each_pass_replaces_the_timer_of_the_one_before(
    scheduler: HandScheduler,
) -> None:
    loop = start(scheduler, 1.0, 2.0, None)
    scheduler.wakeup()
    loop.turn()
    assert [timer.seconds for timer in loop.pending] == [2.0 - EARLY_SECONDS]

    scheduler.wakeup()
    loop.turn()
    assert loop.pending == []


def test_loop_within_a_pass_on_the_loop_makes_no_pass_but_one_follows(
    scheduler: HandScheduler,
) -> None:
    at_once: list[int] = []

    def open_window() -> None:
        scheduler.wakeup()
        scheduler.loop.turn()
        at_once.append(len(scheduler.passes))

    scheduler.plans.append(open_window)
    loop = start(scheduler)
    assert at_once == [1]
    loop.fire()

    assert len(scheduler.passes) == 2


def test_passes_over_stores_that_do_io_are_made_in_one_thread(
    scheduler: HandScheduler,
) -> None:
    scheduler.performs_io = True
    may_end = threading.Event()
    begun = threading.Event()

    def hang() -> None:
        begun.set()
        may_end.wait(PATIENCE)

    scheduler.plans.append(hang)
    loop = start(scheduler)
    assert begun.wait(PATIENCE)
    for _ in range(3):
        scheduler.wakeup()
        loop.turn()
    assert len(scheduler.passes) == 1
    may_end.set()
    wait_for(lambda: loop.calls)
    loop.turn()
    loop.fire()
    wait_for(lambda: len(scheduler.passes) == 2)

    assert {type(thread) for thread in scheduler.passes} == {PassThread}
    assert len({*scheduler.passes}) == 1
    scheduler.shutdown()


def test_system_without_threads_to_give_is_tried_again(
    scheduler: HandScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    scheduler.performs_io = True
    with monkeypatch.context() as patches:
        patches.setattr(PassThread, "start", fail)
        loop = start(scheduler)
    assert scheduler.passes == []
    assert scheduler.jobstore_retry_interval == 10
    for seconds in (5, 5):
        scheduler.now.append(scheduler.now[-1] + timedelta(seconds=seconds))
        loop.fire()
    wait_for(lambda: scheduler.passes)

    scheduler.shutdown()


def wait_for(condition: Callable[[], object]) -> None:
    pause = threading.Event()
    for _ in range(PATIENCE * 1000):
        if condition():
            return
        pause.wait(0.001)
    raise TimeoutError


# Listeners


def test_what_happens_in_a_pass_on_the_loop_is_told_after_it(
    scheduler: HandScheduler, told: list[int]
) -> None:
    told_in_pass: list[list[int]] = []

    def plan() -> None:
        dispatch(scheduler, EVENT_SCHEDULER_PAUSED)
        told_in_pass.append(list(told))

    scheduler.plans.append(plan)
    scheduler.start()
    told.clear()
    scheduler.loop.turn()

    assert told_in_pass == [[]]
    assert told == [EVENT_SCHEDULER_PAUSED]


def test_what_a_thread_has_told_comes_before_what_the_loop_tells_later(
    scheduler: HandScheduler, told: list[int]
) -> None:
    loop = start(scheduler)
    told.clear()
    thread = PassThread(target=dispatch, args=(scheduler, EVENT_SCHEDULER_PAUSED))
    thread.start()
    thread.join()
    assert told == []
    assert scheduler._is_telling

    dispatch(scheduler, EVENT_SCHEDULER_RESUMED)
    assert told == [EVENT_SCHEDULER_PAUSED, EVENT_SCHEDULER_RESUMED]
    loop.turn()

    assert told == [EVENT_SCHEDULER_PAUSED, EVENT_SCHEDULER_RESUMED]
    assert not scheduler._is_telling


def test_listener_that_turns_the_loop_hears_of_each_event_once(
    scheduler: HandScheduler, told: list[int]
) -> None:
    scheduler.add_listener(lambda _: scheduler.loop.turn(), EVENT_SCHEDULER_PAUSED)
    loop = start(scheduler)
    told.clear()
    for code in (EVENT_SCHEDULER_PAUSED, EVENT_SCHEDULER_RESUMED):
        thread = PassThread(target=dispatch, args=(scheduler, code))
        thread.start()
        thread.join()
    loop.turn()

    assert told == [EVENT_SCHEDULER_PAUSED, EVENT_SCHEDULER_RESUMED]


def test_events_of_other_threads_are_told_there(
    scheduler: HandScheduler,
) -> None:
    threads: list[threading.Thread] = []
    start(scheduler)
    scheduler.add_listener(lambda _: threads.append(threading.current_thread()))
    thread = threading.Thread(target=scheduler.pause)
    thread.start()
    thread.join()

    assert threads == [thread]


def test_listeners_hear_of_everything_although_the_loop_has_come_to_its_end(
    scheduler: HandScheduler, told: list[int]
) -> None:
    loop = start(scheduler)
    thread = PassThread(target=dispatch, args=(scheduler, EVENT_SCHEDULER_PAUSED))
    thread.start()
    thread.join()
    loop.calls.clear()
    loop.has_ended = True

    another = threading.Thread(target=scheduler.shutdown)
    another.start()
    another.join()

    assert told[-2:] == [EVENT_SCHEDULER_PAUSED, EVENT_SCHEDULER_SHUTDOWN]
    assert not scheduler._is_telling


def test_thread_tells_listeners_itself_when_the_loop_has_come_to_its_end(
    scheduler: HandScheduler, told: list[int]
) -> None:
    loop = start(scheduler)
    told.clear()
    loop.has_ended = True
    thread = PassThread(target=dispatch, args=(scheduler, EVENT_SCHEDULER_PAUSED))
    thread.start()
    thread.join()

    assert told == [EVENT_SCHEDULER_PAUSED]


def test_listeners_hear_of_the_shutdown_although_nobody_turns_the_loop(
    scheduler: HandScheduler, told: list[int]
) -> None:
    start(scheduler)
    thread = threading.Thread(target=scheduler.shutdown)
    thread.start()
    thread.join()

    assert told[-1] == EVENT_SCHEDULER_SHUTDOWN


# Life cycle


def test_shutdown_stops_the_timer_and_gives_the_loop_back_once(
    scheduler: HandScheduler,
) -> None:
    loop = start(scheduler, 3.0)
    scheduler.shutdown()

    assert loop.pending == []
    assert loop.closed == 1
    assert scheduler.forgotten == 1
    scheduler.wakeup()
    assert not loop.calls


def test_shutdown_in_another_thread_returns_when_listeners_have_been_told(
    scheduler: HandScheduler, told: list[int]
) -> None:
    loop = start(scheduler)
    loop.is_turning = True
    told_at_return: list[int] = []

    def shut_down() -> None:
        scheduler.shutdown()
        told_at_return.extend(told)

    thread = threading.Thread(target=shut_down)
    thread.start()
    wait_for(lambda: len(loop.calls) == 3 or not thread.is_alive())
    thread.join(0.05)  # it does not end before the loop goes on
    loop.turn()
    thread.join()

    assert told_at_return[-1] == EVENT_SCHEDULER_SHUTDOWN


def test_timer_is_stopped_although_the_scheduler_has_been_started_again(
    scheduler: HandScheduler,
) -> None:
    first = start(scheduler, 3.0, 4.0)
    thread = threading.Thread(target=scheduler.shutdown, args=(False,))
    thread.start()
    thread.join()
    scheduler.start()
    first.turn()
    scheduler.loop.turn()

    assert first.pending == []
    pauses = [timer.seconds for timer in scheduler.loop.pending]
    assert pauses == [4.0 - EARLY_SECONDS]


def test_start_that_fails_gives_the_loop_back(
    scheduler: HandScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> BaseJobStore:
        raise OSError("no route to host")

    with monkeypatch.context() as patches:
        patches.setattr(scheduler, "_create_default_jobstore", fail)
        with pytest.raises(OSError, match="no route"):
            scheduler.start()
    assert (scheduler.loop.closed, scheduler.forgotten) == (1, 1)
    start(scheduler)

    assert len(scheduler.loops) == 2
    assert len(scheduler.passes) == 1


def test_start_that_is_refused_leaves_the_loop_alone(scheduler: HandScheduler) -> None:
    loop = start(scheduler)
    with pytest.raises(SchedulerAlreadyRunningError):
        scheduler.start()

    assert scheduler.loops == [loop]
    assert (loop.closed, scheduler.forgotten) == (0, 0)


def test_loop_of_a_listener_that_starts_again_is_not_forgotten(
    scheduler: HandScheduler,
) -> None:
    first = start(scheduler)
    scheduler.add_listener(lambda _: scheduler.start(), EVENT_SCHEDULER_SHUTDOWN)
    scheduler.shutdown()

    assert scheduler.running
    assert scheduler.loop is not first
    assert (first.closed, scheduler.loop.closed) == (1, 0)
    assert scheduler.forgotten == 0


def test_end_can_be_awaited_by_a_call(scheduler: HandScheduler) -> None:
    start(scheduler)
    assert scheduler._life is not None
    calls: list[str] = []
    scheduler._life.call_at_end(lambda: calls.append("waited"))
    assert calls == []

    scheduler.shutdown()
    assert calls == ["waited"]
    scheduler._life.call_at_end(lambda: calls.append("too late to wait"))
    assert calls == ["waited", "too late to wait"]


def test_shutdown_on_a_running_loop_with_nothing_to_wait_for_is_complete_at_once(
    scheduler: HandScheduler, told: list[int]
) -> None:
    loop = start(scheduler)
    loop.call_soon(scheduler.shutdown)
    loop.call_soon(scheduler.start)
    loop.turn()

    assert told.count(EVENT_SCHEDULER_SHUTDOWN) == 1
    assert told.count(EVENT_SCHEDULER_STARTED) == 2


def test_methods_are_called_on_the_loop_while_there_is_one(
    scheduler: HandScheduler,
) -> None:
    notes: list[Any] = []
    scheduler.note(notes, "too early")
    loop = start(scheduler)
    scheduler.note(notes, "on the loop")
    assert notes == []
    loop.turn()
    scheduler.shutdown()
    scheduler.note(notes, "too late")
    loop.turn()

    assert notes == [("on the loop",)]


def test_no_thread_is_started_for_a_pass_that_begins_after_the_end(
    scheduler: HandScheduler,
) -> None:
    scheduler.start()
    life = scheduler._life
    assert life is not None
    scheduler.shutdown(wait=False)
    before = {*threading.enumerate()}

    life.pass_in_thread()

    assert {*threading.enumerate()} <= before
    assert not life.is_passing
