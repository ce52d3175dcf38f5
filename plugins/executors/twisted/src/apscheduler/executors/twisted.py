"""An executor that runs coroutines on a Twisted reactor, and other functions in the threads of the reactor."""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.python.failure import Failure
from twisted.python.threadable import isInIOThread

from apscheduler.executors.batches import Batch
from apscheduler.executors.looping import LoopExecutor, loop_of

if TYPE_CHECKING:
    from apscheduler.schedulers.base import BaseScheduler


class TwistedExecutor(LoopExecutor):
    """Runs coroutine functions and ``inlineCallbacks`` on the scheduler's reactor, other functions in its threads.

    The Deferreds that functions return are waited for. Jobs can be submitted from any thread. Listeners hear of their
    outcome on the reactor's thread. Shutting down lets everything go on that has begun; when the reactor stops,
    coroutines are cancelled.
    """

    cancellations = (CancelledError,)

    _reactor: Any = None

    def __init__(self) -> None:
        super().__init__()
        # What the reactor calls at its end; protected by the lock.
        self._triggers: list[Any] = []
        self._is_ending = self._has_ended = False

    def start(self, scheduler: "BaseScheduler", alias: str) -> None:
        self._reactor = loop_of(scheduler, "_reactor", "TwistedExecutor")
        super().start(scheduler, alias)
        self._is_ending = self._has_ended = False
        add = self._reactor.addSystemEventTrigger
        with self._lock:
            if not self._triggers:
                self._triggers = [
                    add("during", "shutdown", self._end),
                    add("after", "shutdown", self._leave_nothing_behind),
                ]

    def shutdown(self, wait: bool = True) -> None:
        super().shutdown(wait)
        if self._lock is not None:
            self._forget_reactor()

    def wait_closed(self) -> "Deferred[None]":
        """Return what fires when everything that was submitted has ended, except for the job that waits."""
        return Deferred.fromCoroutine(self._wait_closed(self._others()))

    async def _wait_closed(self, batches: list[Batch]) -> None:
        for batch in batches:
            ended: Deferred[None] = Deferred()
            wake = partial(self._reactor.callFromThread, ended.callback, None)
            self._call_when_reported(batch, wake)
            await ended

    # The end of the reactor: it cannot be started again.

    def _end(self) -> None:
        """Let nobody wait for what a reactor that stops will not do any more."""
        self._is_shut_down = self._is_ending = True
        self._triggers = []
        self._cancel(self._snapshot(), ends_running=True)

    def _leave_nothing_behind(self) -> None:
        self._has_ended = True
        self._report_without_loop(self._snapshot(), ends_running=True)

    def _forget_reactor(self) -> None:
        """Do not hear of the end of the reactor when there is nothing left that it would end."""
        with self._lock:
            if self._batches or not self._is_shut_down or self._is_ending:
                return
            for trigger in self._triggers:
                try:
                    self._reactor.removeSystemEventTrigger(trigger)
                except ValueError:  # the reactor, in another thread, is just calling it
                    pass
            self._triggers = []

    def _finish(self, batch: Batch, report: Callable[..., None], *args: Any) -> None:
        super()._finish(batch, report, *args)
        if self._is_shut_down:
            self._forget_reactor()

    # The loop

    def _belongs_on_loop(self, func: Callable[..., Any]) -> bool:
        return super()._belongs_on_loop(func) or _has_inline_callbacks(func)

    def _is_on_loop(self) -> bool:
        return self._is_running() and bool(isInIOThread())  # type: ignore[no-untyped-call]  # Twisted has no types for it

    def _is_running(self) -> bool:
        return bool(self._reactor.running)

    def _is_closed(self) -> bool:
        return not self._is_running()

    def _call_soon(self, func: Callable[..., object], *args: Any) -> None:
        if self._has_ended:
            raise RuntimeError("The reactor has been stopped")
        self._reactor.callFromThread(func, *args)

    def _create_task(self, coroutine: Coroutine[Any, Any, Any]) -> "_Task":
        return _Task(self._reactor, coroutine)

    def _call_in_thread(self, func: Callable[[], None]) -> None:
        self._reactor.callInThread(func)


class _Task:
    """A coroutine on a reactor, with those methods of ``asyncio.Task`` that executors need."""

    def __init__(self, reactor: Any, coroutine: Coroutine[Any, Any, Any]):
        self._cancellations = 0
        self._outcome: Any = None
        self._callbacks: list[Callable[[_Task], object]] | None = []
        self._deferred = Deferred.fromCoroutine(_run_soon(reactor, coroutine))
        self._deferred.addBoth(self._end)

    def cancel(self) -> None:
        self._cancellations += 1
        self._deferred.cancel()

    def cancelling(self) -> int:
        return self._cancellations

    def cancelled(self) -> bool:
        return isinstance(self.exception(), CancelledError)

    def exception(self) -> BaseException | None:
        outcome = self._outcome
        return outcome.value if isinstance(outcome, Failure) else None

    def result(self) -> Any:
        return self._outcome

    def add_done_callback(self, callback: Callable[["_Task"], object]) -> None:
        if self._callbacks is None:
            callback(self)
        else:
            self._callbacks.append(callback)

    def remove_done_callback(self, callback: Callable[["_Task"], object]) -> None:
        if self._callbacks is not None:
            self._callbacks.remove(callback)

    def _end(self, outcome: Any) -> None:
        self._outcome = outcome
        callbacks, self._callbacks = self._callbacks or [], None
        for callback in callbacks:
            callback(self)


async def _run_soon(reactor: Any, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine from the next turn of the reactor on: who submits a job does not wait for its beginning."""
    turn: Deferred[None] = Deferred()
    reactor.callFromThread(turn.callback, None)
    try:
        await turn
        return await coroutine
    finally:
        coroutine.close()  # if it was cancelled before it began


@inlineCallbacks
def _nothing() -> Any:
    yield None


def _has_inline_callbacks(func: Any) -> bool:
    """Return whether the function was decorated with ``inlineCallbacks``, which leaves no other mark."""
    while isinstance(func, partial):
        func = func.func
    return getattr(func, "__code__", None) is _nothing.__code__
