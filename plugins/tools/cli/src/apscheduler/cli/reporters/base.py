"""What tells of a scheduler have in common: they listen, and do their work in a thread of their own."""

import logging
import queue
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from apscheduler.events import (
    EVENT_ALL,
    EVENT_EXECUTOR_ADDED,
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_LOST,
    EVENT_JOBSTORE_ADDED,
)
from apscheduler.schedulers.base import BaseScheduler

logger = logging.getLogger("apscheduler.cli")

MUTE = EVENT_EXECUTOR_ADDED | EVENT_JOBSTORE_ADDED


class Reporter(ABC):
    """Tells what a scheduler does.

    Its public methods may be called from anywhere, also from a signal handler.

    :param scheduler: before it is started
    """

    # After so many seconds without news there is another look; None: never.
    pause: float | None = None

    def __init__(self, scheduler: BaseScheduler):
        self._counts: Counter[int] = Counter()
        self._scheduler = scheduler
        # Listeners must be quick, and signal handlers may do next to nothing: they leave it to the thread.
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._work, name="apscheduler output", daemon=True
        )

    def begin(self, config: str, seconds: float | None) -> None:
        """Tell that a scheduler is about to be started.

        :param seconds: for how long; None: until there is a signal
        """
        self._scheduler.add_listener(self._take, EVENT_ALL & ~MUTE)
        self._thread.start()
        self._queue.put(lambda: self._write_beginning(config, seconds))

    def explain_stopping(self) -> None:
        """Tell that there are runs to be waited for."""
        self._queue.put(self._write_stopping)

    def summarise(self) -> None:
        """Tell how many runs there were, of all that has happened so far."""
        self._queue.put(self._write_summary)

    def close(self) -> None:
        """Tell what is left, and end."""
        self._queue.put(None)
        self._thread.join()

    def abandon(self) -> None:  # noqa: B027  # lines leave nothing to be put right
        """Leave everything as it must be when the process ends now."""

    def _take(self, event: Any) -> None:
        self._queue.put(lambda: self._receive(event))

    def _receive(self, event: Any) -> None:
        self._counts[event.code] += 1
        self._report(event)

    def _work(self) -> None:
        while True:
            try:
                action = self._queue.get(timeout=self.pause)
            except queue.Empty:
                action = self._look
            if action is None:
                return
            try:
                action()
            except OSError:  # nobody reads any more
                return
            except Exception:  # such as a store that does not answer
                logger.exception("Cannot tell what happened")

    @property
    def failed(self) -> int:
        """How many runs have failed so far."""
        return self._counts[EVENT_JOB_ERROR] + self._counts[EVENT_JOB_LOST]

    @property
    def ran(self) -> int:
        """How many runs there were so far."""
        return self._counts[EVENT_JOB_EXECUTED] + self.failed

    def _now(self) -> datetime:
        return datetime.now(UTC).astimezone(self._scheduler.timezone)

    def _look(self) -> None:  # noqa: B027  # who has no pause is never asked
        """Look again, after a pause without news."""

    @abstractmethod
    def _write_beginning(self, config: str, seconds: float | None) -> None: ...

    @abstractmethod
    def _report(self, event: Any) -> None: ...

    @abstractmethod
    def _write_stopping(self) -> None: ...

    @abstractmethod
    def _write_summary(self) -> None: ...
