"""A scheduler that runs in the thread that starts it."""

import threading
from typing import Any

from apscheduler.schedulers.base import STATE_STOPPED, BaseScheduler

# Longer waits are divided, so that a clock that was set, or a machine that slept, is noticed within seconds.
SLICE_SECONDS = 5.0


class BlockingScheduler(BaseScheduler):
    """A scheduler for programs that do nothing else: ``start()`` returns when it is shut down."""

    _event: Any = None

    def start(self, paused: bool = False) -> None:
        """Start the scheduler and process jobs in this thread until it is shut down.

        ``KeyboardInterrupt`` and ``SystemExit`` pass through; the program then calls ``shutdown()``.
        """
        if self._event is None or self._event.is_set():
            self._event = threading.Event()
        super().start(paused=paused)
        self._main_loop()

    def shutdown(self, wait: bool | float = True) -> None:
        super().shutdown(wait)
        self._event.set()

    def wakeup(self) -> None:
        if self._event is not None:
            self._event.set()

    def _main_loop(self) -> None:
        wait_seconds: float | None = None  # the first pass needs a wakeup
        while self.state != STATE_STOPPED:
            self._wait(wait_seconds)
            self._event.clear()
            if self.state != STATE_STOPPED:
                wait_seconds = self._process_jobs()

    def _wait(self, seconds: float | None) -> None:
        """Sleep until woken, until the time is over, or until the clock has been set."""
        if seconds is None:
            self._event.wait()
            return
        due = self._clock.now().timestamp() + seconds
        while seconds > 0 and not self._event.wait(min(seconds, SLICE_SECONDS)):
            seconds = due - self._clock.now().timestamp()
