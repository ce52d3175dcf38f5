"""Passes over stores that would hold up the hub."""

import queue
from collections.abc import Callable
from typing import Any

from apscheduler.schedulers.gevent.waiting import HubEvent, destroy_hub
from apscheduler.threads import PassThread


class PassWorker:
    """A real thread that works for greenlets of the hub in which this is made; each waits for what it has asked for.

    The thread is started when it is first needed, and ends some time after :meth:`end`.
    """

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[Callable[[], None] | None] = (
            queue.SimpleQueue()
        )
        self._thread: PassThread | None = None

    def call(self, func: Callable[[], Any]) -> Any:
        """Return the result of a function that is called in the thread."""
        if self._thread is None:
            self._thread = PassThread(
                target=self._serve, name="APScheduler passes", daemon=True
            )
            self._thread.start()
        ended = HubEvent()
        results: list[Any] = []
        failures: list[BaseException] = []

        def work() -> None:
            try:
                results.append(func())
            except BaseException as exc:
                failures.append(exc)
            finally:
                ended.set()

        self._requests.put(work)
        ended.wait()
        if failures:
            raise failures[0]
        return results[0]

    def end(self) -> None:
        """Let the thread end when it has done what it was asked for."""
        self._requests.put(None)

    def _serve(self) -> None:
        while (work := self._requests.get()) is not None:
            work()
        destroy_hub()
