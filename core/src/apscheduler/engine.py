"""One pass over the stores: claim what is due, hand it to executors, work out when to look again.

Knows no event loop: whoever turns the wheel calls :meth:`Engine.process`.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from apscheduler.drivers import StoreDriver
from apscheduler.events import JobExecutionEvent, SchedulerEvent
from apscheduler.hooked import get_hooks
from apscheduler.jobstores.adapter import native_store
from apscheduler.jobstores.base import BaseJobStore
from apscheduler.nodes import Identity
from apscheduler.outcomes import OBSERVERS, Outcomes
from apscheduler.runs import RunTimes, running
from apscheduler.threads import PassThread
from apscheduler.util import is_program_ending
from apscheduler.watch import Watch

if TYPE_CHECKING:
    from apscheduler.executors.base import BaseExecutor
    from apscheduler.job import Job
    from apscheduler.schedulers.base import BaseScheduler

logger = logging.getLogger("apscheduler.scheduler")

# The pass over one store waits no longer than this for another store; that one goes on in its own thread.
PATIENCE_SECONDS = 0.25
# Shutting down waits so long for a pass that is under way.
STOP_SECONDS = 5.0

_Result = tuple[datetime | None, list[SchedulerEvent]]


class Engine:
    """The stores of a scheduler and what goes on in them."""

    def __init__(self, scheduler: "BaseScheduler"):
        self.scheduler = scheduler
        self.outcomes = Outcomes(scheduler)
        self.drivers: dict[str, StoreDriver] = {}
        self.identity = Identity()
        # Executors that were too busy to be handed what is due: a slot that becomes free there wakes the loop.
        self.starved: set[str] = set()
        self.stopping = False
        self.observed = False
        self._pass_lock = scheduler._create_lock()
        # Who holds it to make a pass, in the course of which other locks are held as well.
        self._passing_thread: int | None = None
        # Set when a run has ended: one event for each thread that waits for that.
        self._waiting: list[Any] = []
        # How many threads are in process(): only one makes a pass, but another may be telling of the last one.
        self._passes = 0
        self._passes_lock = scheduler._create_lock()
        self._retired: list[StoreDriver] = []
        self.watch = Watch(self)
        self._threads: dict[str, _StoreThread] = {}

    def leave_to_parent(self) -> None:
        """In a forked process: the runs are those of the parent, and threads that hold locks are not here."""
        self._pass_lock = self.scheduler._create_lock()
        self._passes_lock = self.scheduler._create_lock()
        self._passing_thread = None
        self._waiting, self._passes = [], 0
        self._retired, self._threads = [], {}
        self.watch = Watch(self)
        for driver in self.drivers.values():
            driver.leave_to_parent()

    def start(self) -> None:
        """Get ready for a new start of the scheduler."""
        self.identity = Identity()
        self.stopping = False
        hooks = get_hooks()
        names = {"apscheduler_run_starting", "apscheduler_run_lost"}
        self.observed = any(hooks.has(name) for name in names | {*OBSERVERS.values()})

    def add(self, alias: str, store: BaseJobStore) -> StoreDriver:
        """Take a store into the passes that follow, and return its driver."""
        driver = self.drivers.get(alias)
        if driver is None or driver.raw_store is not store:
            driver = self.drivers[alias] = self.create_driver(alias, store)
        return driver

    def create_driver(self, alias: str, store: BaseJobStore) -> StoreDriver:
        """Return a driver for a store that takes no part in passes."""
        return StoreDriver(self, alias, store, native_store(store))

    def remove(self, alias: str) -> StoreDriver | None:
        """Leave a store out of the passes that follow."""
        thread = self._threads.pop(alias, None)
        if thread is not None:
            thread.end()
        driver = self.drivers.pop(alias, None)
        if driver is not None:
            driver.is_removed = True
            # Of those that were removed earlier, only who still awaits outcomes matters. A pass may be under way here.
            self._retired = [other for other in self._retired if other.runs]
            self._retired.append(driver)
        return driver

    def remove_all(self) -> None:
        """Leave all stores out of the passes that follow."""
        for alias in list(self.drivers):
            self.remove(alias)

    def process(self, now: datetime) -> datetime | None:
        """Make one pass over all stores, in the order in which they were added.

        :return: when the next one is due; None if only a wakeup can tell
        """
        with self._passes_lock:
            self._passes += 1
        try:
            return self._process(now)
        finally:
            with self._passes_lock:
                self._passes -= 1

    @property
    def is_passing(self) -> bool:
        """Whether a pass is under way, or what it had to tell has not been told."""
        threads = list(self._threads.values())
        return self._passes > 0 or any(thread.is_busy for thread in threads)

    def _process(self, now: datetime) -> datetime | None:
        with self._pass_lock:
            self._passing_thread = self.scheduler._get_ident()
            try:
                wakeups, events = self._run_passes(now)
            finally:
                self._passing_thread = None
        for event in events:
            self.scheduler._dispatch_event(event)
        if self._can_go_on():  # a slot became free before anybody knew that it mattered
            return now
        # As instants: of two times in one zone, Python compares the wall clocks.
        return min(filter(None, wakeups), key=datetime.timestamp, default=None)

    def _run_passes(
        self, now: datetime
    ) -> tuple[list[datetime | None], list[SchedulerEvent]]:
        wakeups: list[datetime | None] = []
        events: list[SchedulerEvent] = []
        self.starved.clear()
        drivers = list(self.drivers.items())
        for alias, driver in drivers:
            if self.stopping:
                break
            if driver.is_removed:
                continue
            if len(drivers) == 1 or not self._deserves_thread(driver):
                wakeup, driver_events = driver.run_pass(now)
            else:
                wakeup, driver_events = self._run_apart(alias, driver, now)
            wakeups.append(wakeup)
            events.extend(driver_events)
        return wakeups, events

    def _deserves_thread(self, driver: StoreDriver) -> bool:
        return driver.store.performs_io and self.scheduler._uses_threads

    def _run_apart(self, alias: str, driver: StoreDriver, now: datetime) -> _Result:
        """Make the pass over one store on a thread of its own, so that a slow one does not hold up the others."""
        thread = self._threads.get(alias)
        if thread is None:
            thread = self._threads[alias] = _StoreThread(alias, self.scheduler.wakeup)
        return thread.run(driver.run_pass, now)

    def note_outcome(self, event: JobExecutionEvent) -> None:
        """Take note of how a run ended."""
        driver = self.drivers.get(event.jobstore or "")
        if driver is None or not driver.note_outcome(event):
            self._note_late_outcome(event)
        else:
            for ended in list(self._waiting):
                ended.set()
        if self._can_go_on():
            self.starved.clear()
            self.scheduler.wakeup()

    def find_unsettled_runs(self) -> set[str]:
        """Return the runs whose outcomes are awaited, be it by stores that have been removed meanwhile."""
        drivers = [*self.drivers.values(), *self._retired]
        return set().union(*(driver.runs.ids() for driver in drivers))

    def find_submission(
        self, job_id: str, executor: "BaseExecutor"
    ) -> "tuple[Job, RunTimes] | None":
        """Return the oldest runs of a job that an executor was handed and has not reported."""
        for driver in [*self.drivers.values(), *self._retired]:
            found = driver.runs.find_submission(job_id, executor)
            if found is not None:
                return found
        return None

    def _note_late_outcome(self, event: JobExecutionEvent) -> None:
        """Record the outcome of a run whose store has been removed meanwhile."""
        for driver in list(self._retired):
            if driver.note_outcome(event):
                driver.settle_without_claims()
                if not driver.runs:
                    self._retired.remove(driver)
                return

    def _can_go_on(self) -> bool:
        """Whether an executor that was too busy can be handed more."""
        if not self.starved:
            return False
        executors = self.scheduler._executors
        return any(
            executors[alias].capacity() != 0
            for alias in list(self.starved)
            if alias in executors
        )

    @property
    def is_ending(self) -> bool:
        """Whether executors may refuse runs because the scheduler is being shut down, or the whole program ends."""
        return self.stopping or is_program_ending()

    def is_called_in_pass(self) -> bool:
        """Return whether the caller has interrupted a pass, or is called in it.

        What such a caller waits for may wait for locks that are held in the pass.
        """
        return self._passing_thread == self.scheduler._get_ident()

    def release_holds(self) -> None:
        """Try again what could not be run, since an executor was added."""
        for driver in list(self.drivers.values()):
            driver.selection.release_holds()

    def stop(self) -> None:
        """Claim nothing from here on, and let a pass that is under way come to its end."""
        self.stopping = True
        self.watch.stop()
        if self._pass_lock.acquire(timeout=STOP_SECONDS):
            self._pass_lock.release()
        else:
            logger.warning("A job store does not answer; shutting down without it")
        for thread in list(self._threads.values()):
            thread.end(STOP_SECONDS)
        self._threads.clear()

    def hand_back_with_program(self) -> None:
        """Hand back what has not begun, since the program ends and nobody shuts the scheduler down."""
        for driver in list(self.drivers.values()):
            driver.hand_back_with_program()

    def wait_idle(self, seconds: float) -> bool:
        """Wait until no run is going on any more, but not longer than so; return whether that is so.

        A job that calls this does not wait for itself.
        """
        deadline = time.monotonic() + seconds
        ended = self.scheduler._create_event()
        self._waiting.append(ended)
        try:
            while self.is_busy():
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                # Not longer, since what has ended may not be the last of it.
                ended.wait(min(left, 0.1))
                ended.clear()
        finally:
            self._waiting.remove(ended)
        return True

    def is_busy(self) -> bool:
        """Return whether runs are going on, besides the one that asks."""
        current = running.get()
        times = current.run_times if current is not None else None
        own = frozenset(times.run_ids if isinstance(times, RunTimes) else ())
        drivers = list(self.drivers.values())
        return any(driver.runs.has_besides(own) for driver in drivers)


class _StoreThread:
    """Makes the passes over one store, and is waited for only a moment."""

    def __init__(self, alias: str, wakeup: Callable[[], None]):
        self._alias = alias
        self._wakeup = wakeup
        self._requests: queue.SimpleQueue[Callable[[], _Result] | None] = (
            queue.SimpleQueue()
        )
        self._done = threading.Event()
        self._done.set()
        self._result: _Result = (None, [])
        # Whether the loop has gone on without the pass that is under way: it is woken at its end.
        self._left_behind = False
        self._lock = threading.Lock()
        self._thread = PassThread(
            target=self._serve, name=f"APScheduler store {alias}", daemon=True
        )
        self._thread.start()

    def run(self, run_pass: Callable[[datetime], _Result], now: datetime) -> _Result:
        """Make a pass and return its result; of one that takes long, the events come with a later call."""
        with self._lock:
            _, events = self._take_result()
            is_free = self._done.is_set()
            if is_free:
                self._done.clear()
                self._requests.put(lambda: run_pass(now))
        if is_free:
            self._done.wait(PATIENCE_SECONDS)
        with self._lock:
            self._left_behind = not self._done.is_set()
            wakeup, more_events = self._take_result()
        return wakeup, events + more_events

    @property
    def is_busy(self) -> bool:
        """Whether a pass is under way, or its events have not been fetched."""
        return not self._done.is_set() or bool(self._result[1])

    def _take_result(self) -> _Result:
        result, self._result = self._result, (None, [])
        return result

    def end(self, wait_seconds: float = 0.0) -> None:
        """Let the thread end when it has finished what it is at, and wait for that a while."""
        self._requests.put(None)
        if self._thread is not threading.current_thread():
            self._done.wait(wait_seconds)

    def _serve(self) -> None:
        while True:
            request = self._requests.get()
            if request is None:
                return
            try:
                result = request()
            except BaseException:  # signal handlers are called in the main thread
                logger.exception("Error in the pass over job store %r", self._alias)
                result = (None, [])
            with self._lock:
                self._result = result
                self._done.set()
                left_behind = self._left_behind
            if left_behind:
                self._wakeup()
