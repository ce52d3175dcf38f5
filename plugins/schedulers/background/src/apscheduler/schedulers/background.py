"""A scheduler that runs in a thread of its own."""

import threading
from typing import Any

from apscheduler.schedulers.base import BaseScheduler
from apscheduler.schedulers.blocking import BlockingScheduler
from apscheduler.util import asbool

# Shutting down waits so long for a pass that hangs in a store; its thread is then left to itself.
JOIN_SECONDS = 5.0


class BackgroundScheduler(BlockingScheduler):
    """A scheduler for programs that have something else to do: ``start()`` returns at once.

    With ``daemon=True``, the default, the program ends without waiting for the scheduler.
    """

    config_keys = frozenset({"daemon"})

    _daemon = True
    _thread: threading.Thread | None = None

    def _configure(self, config: dict[str, Any]) -> None:
        self._daemon = asbool(config.pop("daemon", True))
        super()._configure(config)

    def start(self, paused: bool = False) -> None:
        """Start the scheduler and return; jobs are processed in a thread named ``APScheduler``.

        :param paused: process nothing before :meth:`resume` is called
        :raises SchedulerAlreadyRunningError: if the scheduler is running, or still being shut down
        """
        BaseScheduler.start(self, paused=paused)
        thread = self._thread = threading.Thread(
            target=self._main_loop, name="APScheduler", daemon=self._daemon
        )
        try:
            thread.start()
        except BaseException:  # the system has no more threads to give
            self._thread = None
            BaseScheduler.shutdown(self, wait=False)
            raise

    def shutdown(self, wait: bool | float = True) -> None:
        thread = self._thread
        super().shutdown(wait)
        if thread is not None and thread is not threading.current_thread():
            thread.join(JOIN_SECONDS)
        if self._thread is thread:  # and no listener has started the scheduler again
            self._thread = None
