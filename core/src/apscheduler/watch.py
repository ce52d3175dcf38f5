"""A watch over job stores that do not answer: who waits for one cannot tell."""

import logging
import threading
from typing import TYPE_CHECKING, Any

from apscheduler.threads import Threads

if TYPE_CHECKING:
    from apscheduler.engine import Engine

logger = logging.getLogger("apscheduler.scheduler")

# How often the watch looks.
LOOK_SECONDS = 5.0
JOIN_SECONDS = 1.0


class Watch:
    """Has it told, from a thread of its own, that a store keeps everybody waiting."""

    def __init__(self, engine: "Engine"):
        self._engine = engine
        self._thread: Any = None
        self._stop: Any = None
        self._ident: int | None = None
        # Passes over several stores may begin at once, and while the scheduler is being shut down.
        self._lock = engine.scheduler._create_lock()

    def start(self, threads: Threads) -> None:
        """Begin, if nobody has, and the scheduler is not being shut down."""
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None and not self._engine.stopping:
                self._begin(threads)

    def _begin(self, threads: Threads) -> None:
        stop = self._stop = threads.create_event()
        try:
            self._thread = threads.start(
                lambda: self._look(stop, threads), "APScheduler watch"
            )
        except RuntimeError as exc:  # silence is told of later, when it ends
            logger.debug("No thread to watch over job stores: %s", exc)

    def stop(self) -> None:
        """End it, and wait for that a moment, unless a listener that it tells asks for it."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                self._stop.set()
        if thread is not None and threading.get_ident() != self._ident:
            thread.join(JOIN_SECONDS)

    def _look(self, stop: Any, threads: Threads) -> None:
        self._ident = threading.get_ident()
        while not stop.wait(LOOK_SECONDS):
            for driver in list(self._engine.drivers.values()):
                if driver.is_silent:
                    threads.call(driver.tell_of_silence)
