"""A watch over job stores that do not answer: who waits for one cannot tell."""

import logging
from typing import TYPE_CHECKING, Any

from apscheduler.threads import Threads

if TYPE_CHECKING:
    from apscheduler.engine import Engine

logger = logging.getLogger("apscheduler.scheduler")

# How often the watch looks.
LOOK_SECONDS = 5.0


class Watch:
    """Has it told, from a thread of its own, that a store keeps everybody waiting."""

    def __init__(self, engine: "Engine"):
        self._engine = engine
        self._thread: Any = None
        self._stop: Any = None

    def start(self, threads: Threads) -> None:
        """Begin, if nobody has."""
        if self._thread is not None or self._engine.stopping:
            return
        stop = self._stop = threads.create_event()
        try:
            self._thread = threads.start(
                lambda: self._look(stop, threads), "APScheduler watch"
            )
        except (
            RuntimeError
        ) as exc:  # what it would tell is told later, when the store answers
            logger.debug("No thread to watch over job stores: %s", exc)

    def stop(self) -> None:
        """End it."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stop.set()

    def _look(self, stop: Any, threads: Threads) -> None:
        while not stop.wait(LOOK_SECONDS):
            for driver in list(self._engine.drivers.values()):
                if driver.housekeeper.is_cut_off and not driver.is_failing:
                    threads.call(driver.tell_of_silence)
