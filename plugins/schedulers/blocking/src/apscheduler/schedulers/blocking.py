"""A scheduler that runs in the thread that starts it."""

import threading
from typing import Any

from apscheduler.schedulers.base import STATE_STOPPED, BaseScheduler

# Longer waits are divided, so that a clock that was set, or a machine that slept, is noticed within seconds.
SLICE_SECONDS = 5.0


class BlockingScheduler(BaseScheduler):
    """A scheduler for programs that do nothing else: ``start()`` returns when it has been shut down."""

    # Set to wake the loop. Every start makes another one, so that a loop knows when it is no longer the current one.
    _event: Any = None
    # How long to wait in a shutdown that was asked for in the middle of a pass; None: none was.
    _left_to_loop: bool | float | None = None

    def start(self, paused: bool = False) -> None:
        """Start the scheduler and process jobs in this thread until it has been shut down.

        ``KeyboardInterrupt`` and ``SystemExit`` pass through and leave the scheduler running without a loop: the
        program then calls ``shutdown()``.

        :param paused: process nothing before :meth:`resume` is called
        :raises SchedulerAlreadyRunningError: if the scheduler is running, or still being shut down
        """
        super().start(paused=paused)
        self._main_loop()

    def shutdown(self, wait: bool | float = True) -> None:
        """Shut down executors and stores. Running jobs are not interrupted.

        In a signal handler that interrupts the loop in a store, this returns at once, and the loop does it: jobs that
        are waited for may themselves wait for that store.

        :param wait: return only when all runs that were started have ended; a number: wait so many seconds at most
        :raises SchedulerNotRunningError: if the scheduler is not running
        """
        if self._engine.is_called_from_store():
            self._begin_shutdown()
            self._left_to_loop = wait
            return
        event = self._event
        try:
            super().shutdown(wait)
        finally:
            if event is not None:
                event.set()

    def wakeup(self) -> None:
        if self._event is not None:
            self._event.set()

    def _prepare_loop(self) -> None:
        self._event = self._create_event()

    def _create_event(self) -> Any:
        """Return what works like a ``threading.Event`` in the threads of this scheduler."""
        return threading.Event()

    def _leave_to_parent(self) -> None:
        super()._leave_to_parent()
        self._event = None  # nobody waits for it here

    def _main_loop(self) -> None:
        """Make a pass whenever one is due or asked for, until the scheduler has been shut down completely."""
        event = self._event
        wait_seconds: float | None = None  # the first pass needs a wakeup
        while self._event is event and (
            self.state != STATE_STOPPED or self._is_shutting_down
        ):
            self._wait(event, wait_seconds)
            # Before the pass: who asks for one from here on gets another.
            event.clear()
            wait_seconds = None
            if self.state != STATE_STOPPED:
                try:
                    wait_seconds = self._make_pass()
                finally:
                    self._finish_what_was_left()

    def _finish_what_was_left(self) -> None:
        wait, self._left_to_loop = self._left_to_loop, None
        if wait is not None:
            self._finish_shutdown(wait)

    def _wait(self, event: Any, seconds: float | None) -> None:
        """Sleep until woken, or until the time has come by the clock of this scheduler."""
        if seconds is None:
            event.wait()
            return
        due = self._clock.now().timestamp() + seconds
        while seconds > 0 and not event.wait(min(seconds, SLICE_SECONDS)):
            seconds = due - self._clock.now().timestamp()
