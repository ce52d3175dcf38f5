"""What the contract of schedulers needs to know of a scheduler: how to run it, and how to wait beside it."""

import threading
import time
from collections.abc import Callable
from datetime import UTC
from typing import Any

from apscheduler.events import (
    EVENT_JOB_EXECUTED,
    EVENT_SCHEDULER_SHUTDOWN,
    EVENT_SCHEDULER_STARTED,
    SchedulerEvent,
)
from apscheduler.schedulers import SchedulerNotRunningError
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.testing.clock import find_work
from apscheduler.testing.jobs import PATIENCE

LOOK_SECONDS = 0.001


class SchedulerHarness:
    """Makes schedulers of one class and runs them; this one suits classes whose ``start()`` returns.

    One with an event loop runs it in a thread, or in ``pump()``, and overrides ``call()`` accordingly.

    :param scheduler_class: the class to be tested
    :param options: configuration of all schedulers that are made
    """

    def __init__(self, scheduler_class: type[BaseScheduler], **options: Any):
        self.scheduler_class = scheduler_class
        self.options = {"timezone": UTC, **options}
        self._made: list[BaseScheduler] = []

    def make(self, **options: Any) -> BaseScheduler:
        """Return a new scheduler; it is shut down when the harness is closed."""
        scheduler = self.scheduler_class(**{**self.options, **options})
        self._made.append(scheduler)
        return scheduler

    def make_event(self) -> Any:
        """Return what works like a ``threading.Event`` in jobs and stores."""
        return threading.Event()

    def call(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function where the program that owns the scheduler runs, and return its result."""
        return func(*args, **kwargs)

    def spawn(self, func: Callable[..., Any], *args: Any) -> Any:
        """Call a function beside the test, and return what works like its thread."""
        thread = threading.Thread(target=func, args=args)
        thread.start()
        return thread

    def start(self, scheduler: BaseScheduler, paused: bool = False) -> None:
        """Start the scheduler and return when it has been started; its loop is turning then.

        :raises Exception: whatever ``start()`` raises
        """
        self.call(scheduler.start, paused=paused)

    def shutdown(self, scheduler: BaseScheduler, wait: bool | float = True) -> None:
        """Shut the scheduler down; unless ``wait`` is False, return when that is complete.

        :raises Exception: whatever ``shutdown()`` raises
        """
        self.call(scheduler.shutdown, wait)

    def pump(self) -> None:
        """Let others go on for a moment."""
        time.sleep(LOOK_SECONDS)

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition holds.

        :raises TimeoutError: if that takes too long; says what was waited for
        """
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"Waited {PATIENCE} seconds in vain: {what}")
            self.pump()

    def settle(self, scheduler: BaseScheduler) -> None:
        """Wait until the scheduler has nothing more to do at the time its clock shows."""
        self.wait_until(lambda: find_work(scheduler) is None, "nothing is left to do")

    def close(self) -> None:
        """Leave nothing behind."""
        for scheduler in self._made:
            if scheduler.running:
                try:
                    self.shutdown(scheduler)
                except SchedulerNotRunningError:
                    pass  # a job was faster


class EventLoopHarness(SchedulerHarness):
    """Runs schedulers on an event loop, which a subclass has in a thread or turns in ``pump()``.

    ``call()`` calls functions on the loop.
    """

    def shutdown(self, scheduler: BaseScheduler, wait: bool | float = True) -> None:
        is_told = threading.Event()

        def tell(event: SchedulerEvent) -> None:
            is_told.set()

        scheduler.add_listener(tell, EVENT_SCHEDULER_SHUTDOWN)
        try:
            self.call(scheduler.shutdown, wait)
            if wait is not False:
                self.wait_until(is_told.is_set, "the shutdown is complete")
        finally:
            scheduler.remove_listener(tell)

    def call_later(self, seconds: float, func: Callable[[], Any]) -> None:
        """Have the loop call a function in so many seconds; called on the loop.

        It must not be the scheduler that does it.
        """
        raise NotImplementedError


class BlockingHarness(SchedulerHarness):
    """Runs schedulers whose ``start()`` returns at the end, each in a thread."""

    def __init__(self, scheduler_class: type[BaseScheduler], **options: Any):
        super().__init__(scheduler_class, **options)
        self.threads: list[threading.Thread] = []

    def start(self, scheduler: BaseScheduler, paused: bool = False) -> None:
        is_decided = threading.Event()
        failures: list[BaseException] = []

        def is_started(event: SchedulerEvent) -> None:
            if threading.current_thread() is thread:
                is_decided.set()

        def run() -> None:
            try:
                scheduler.start(paused=paused)
            except BaseException as exc:
                failures.append(exc)
            finally:
                is_decided.set()

        thread = threading.Thread(target=run, name="Blocking scheduler")
        scheduler.add_listener(is_started, EVENT_SCHEDULER_STARTED)
        try:
            thread.start()
            assert is_decided.wait(PATIENCE), "start() neither started nor failed"
        finally:
            scheduler.remove_listener(is_started)
        if failures:
            thread.join(PATIENCE)
            raise failures[0]
        self.threads.append(thread)

    def close(self) -> None:
        super().close()
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "start() has not returned after shutdown()"


class EventLog:
    """A listener that keeps the events it is told of, and the threads it is told in."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.threads: list[threading.Thread] = []

    def __call__(self, event: SchedulerEvent) -> None:
        # Without a lock: those of gevent may let real threads wait for ever.
        self.threads.append(threading.current_thread())
        self.events.append(event)

    def wait_for(self, code: int, count: int = 1, seconds: float = PATIENCE) -> Any:
        """Wait until there were so many events with this code, and return the last of them.

        :raises AssertionError: if there are not in time
        """
        deadline = time.monotonic() + seconds
        while self.count(code) < count:
            assert time.monotonic() < deadline, f"no {code} among {self.codes}"
            time.sleep(LOOK_SECONDS)
        return [event for event in self.events if event.code == code][-1]

    @property
    def codes(self) -> list[int]:
        """The codes of the events, in order."""
        return [event.code for event in self.events]

    @property
    def results(self) -> list[Any]:
        """What the jobs that have run returned, in order."""
        return [
            event.retval for event in self.events if event.code == EVENT_JOB_EXECUTED
        ]

    def codes_among(self, mask: int) -> list[int]:
        """Return the codes that are in the mask, in order; others come from other threads, at any time."""
        return [code for code in self.codes if code & mask]

    def count(self, code: int) -> int:
        """Return how many events with this code there were."""
        return self.codes.count(code)
