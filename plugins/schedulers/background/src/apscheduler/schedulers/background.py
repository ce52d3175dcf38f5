"""A scheduler that runs in a thread of its own."""

import threading
from typing import Any

from apscheduler.schedulers.base import BaseScheduler
from apscheduler.schedulers.blocking import BlockingScheduler
from apscheduler.util import asbool


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
        """Start the scheduler and return."""
        if self._event is None or self._event.is_set():
            self._event = threading.Event()
        BaseScheduler.start(self, paused=paused)
        self._thread = threading.Thread(
            target=self._main_loop, name="APScheduler", daemon=self._daemon
        )
        self._thread.start()

    def shutdown(self, wait: bool | float = True) -> None:
        super().shutdown(wait)
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join()
