"""Twisted reactors for tests: each of its own, in a thread of its own, because no reactor can be run twice."""

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.selectreactor import SelectReactor
from twisted.logger import LogLevel, globalLogPublisher

from apscheduler.testing.jobs import PATIENCE
from apscheduler.threads import PassThread

KINDS = ("select", "asyncio")

# How long a call may take to be made, or cancelled, after the end of a test and not count as left behind: enough for
# a busy machine, and less than a scheduler that sleeps lets pass between two looks at its clock.
CALLS_SECONDS = 2.0

_publisher: Any = globalLogPublisher  # its observers are declared in a way that type checkers cannot see


class ReactorThread:
    """Runs a new reactor in a thread, and stops it at the end of the block.

    :param kind: one of ``KINDS``
    :ivar reactor: the reactor, which is not the one that ``twisted.internet.reactor`` stands for
    """

    def __init__(self, kind: str = "select"):
        self._loop: asyncio.AbstractEventLoop | None = None
        if kind == "asyncio":
            self._loop = asyncio.new_event_loop()
        self.reactor: Any = (
            AsyncioSelectorReactor(self._loop) if self._loop else SelectReactor()
        )
        # A daemon: a reactor that a failed test has left running must not keep the program from ending.
        self.thread = threading.Thread(
            target=self._run, name="Twisted reactor", daemon=True
        )
        # What Twisted has logged as an error: it does not raise what goes wrong in callbacks.
        self.errors: list[Any] = []

    def _run(self) -> None:
        self.reactor.run(installSignalHandlers=False)

    def _note(self, event: Any) -> None:
        if event["log_level"] >= LogLevel.error:
            self.errors.append(event.get("log_failure") or event["log_format"])

    def __enter__(self) -> Self:
        _publisher.addObserver(self._note)
        is_running = threading.Event()
        self.reactor.callWhenRunning(is_running.set)
        self.thread.start()
        assert is_running.wait(PATIENCE), "the reactor does not begin to run"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the reactor.

        :raises AssertionError: if calls are left behind that are still to be made, or something has gone wrong
        """
        left_behind: list[Any] = []
        try:
            if self.reactor.running:
                try:
                    left_behind = self._wait_for_calls()
                finally:
                    self.reactor.callFromThread(self.reactor.stop)
            self.thread.join(PATIENCE)
            assert not self.thread.is_alive(), "the reactor does not stop"
            _wait_for_schedulers()
            self._close()
            gc.collect()  # Twisted tells of what nobody has looked at when it is gone
        finally:
            _publisher.removeObserver(self._note)
        if exc is None:
            assert left_behind == []
            assert self.errors == []

    def _wait_for_calls(self) -> list[Any]:
        """Let the reactor make the calls that are about to be made, and return those that are not."""
        deadline = time.monotonic() + CALLS_SECONDS
        while calls := self.call(self.reactor.getDelayedCalls):
            if time.monotonic() > deadline:
                break
            time.sleep(0.001)
        return list(calls)

    def call(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function on the thread of the reactor, and return its result."""
        outcome: Future[Any] = Future()

        def call() -> None:
            try:
                outcome.set_result(func(*args, **kwargs))
            except BaseException as exc:
                outcome.set_exception(exc)

        self.reactor.callFromThread(call)
        return outcome.result(PATIENCE)

    def _close(self) -> None:
        """Close what a reactor leaves open, since it usually ends with its program."""
        for reader in list(self.reactor._internalReaders):
            self.reactor._internalReaders.discard(reader)
            self.reactor.removeReader(reader)
            reader.connectionLost(None)
        if self._loop is not None:
            self._loop.close()


def _wait_for_schedulers() -> None:
    """Let threads of schedulers end that may be about to wake the reactor.

    They would write into the descriptor by which it is woken, and if that was closed, into whatever has its number then.
    """
    for thread in threading.enumerate():
        if isinstance(thread, PassThread):
            thread.join(PATIENCE)
            assert not thread.is_alive(), f"{thread.name!r} does not end"
