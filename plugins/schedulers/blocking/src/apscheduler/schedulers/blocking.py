"""A scheduler that runs in the thread that starts it."""

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

        In a signal handler that interrupts the loop in the middle of a pass, and in what a pass calls, this returns at
        once, and the loop does it at the end of the pass: jobs that are waited for may wait for what the pass holds.

        :param wait: return only when all runs that were started have ended; a number: wait so many seconds at most
        :raises SchedulerNotRunningError: if the scheduler is not running
        """
        if self._engine.is_called_in_pass():
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
                wait_seconds = self._make_pass()

    def _process_jobs(self) -> float | None:
        try:
            return super()._process_jobs()
        finally:
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
