"""A scheduler that runs on a Twisted reactor and never holds it up."""

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Self

from twisted.internet.defer import Deferred, succeed
from twisted.python.threadable import isInIOThread

from apscheduler.schedulers.looping import EventLoop, LoopScheduler, run_on_loop
from apscheduler.util import maybe_ref

# Its name in APScheduler 3.
run_in_reactor = run_on_loop


class ReactorLoop(EventLoop):
    """A reactor as a scheduler sees it."""

    def __init__(self, reactor: Any):
        self.reactor = reactor
        self._has_ended = False
        # It cannot be started again, and does not say whether it will ever run.
        self._trigger = reactor.addSystemEventTrigger("after", "shutdown", self._end)

    def _end(self) -> None:
        self._has_ended = True

    def call_soon(self, func: Callable[..., object], *args: Any) -> bool:
        if self._has_ended:
            return False
        self.reactor.callFromThread(func, *args)
        return True

    def call_later(
        self, seconds: float, func: Callable[..., object], *args: Any
    ) -> "_Timer":
        return _Timer(self.reactor.callLater(seconds, func, *args))

    def is_current(self) -> bool:
        return self.is_running() and bool(isInIOThread())  # type: ignore[no-untyped-call]  # Twisted has no types for it

    def is_running(self) -> bool:
        return bool(self.reactor.running)

    def close(self) -> None:
        if not self._has_ended:
            try:
                self.reactor.removeSystemEventTrigger(self._trigger)
            except ValueError:  # the reactor, in another thread, is just calling it
                pass


class _Timer:
    """A delayed call that may be cancelled when it was made."""

    def __init__(self, call: Any):
        self._call = call

    def cancel(self) -> None:
        if self._call.active():
            self._call.cancel()


class TwistedScheduler(LoopScheduler):
    """A scheduler for Twisted programs. Coroutines run on the reactor, other functions in the threads of the reactor.

    Passes over stores that do I/O are made in a thread. Listeners are called on the reactor's thread, except for
    events that come from an API call or a job in another thread.
    """

    config_keys = frozenset({"reactor"})
    default_executor = "twisted"

    _reactor: Any = None
    _configured_reactor: Any = None

    def _configure(self, config: dict[str, Any]) -> None:
        reactor = maybe_ref(config.pop("reactor", None))
        if reactor is not None and not hasattr(reactor, "callFromThread"):
            raise TypeError(
                f"'reactor' must be a Twisted reactor or a reference to one, got {reactor!r}"
            )
        self._configured_reactor = self._reactor = reactor
        super()._configure(config)

    def _open_loop(self) -> ReactorLoop:
        if self._configured_reactor is None:
            # Not at the top: importing it installs the default reactor, and the program may want another one.
            from twisted.internet import reactor

            self._reactor = reactor
        else:
            self._reactor = self._configured_reactor
        return ReactorLoop(self._reactor)

    def start(self, paused: bool = False) -> None:
        """Start the scheduler on the reactor of the program, unless another was configured, and return.

        The reactor need not run yet.

        :param paused: process nothing before :meth:`resume` is called
        :raises SchedulerAlreadyRunningError: if the scheduler is running, or still being shut down
        """
        super().start(paused)

    def shutdown(self, wait: bool | float = True) -> None:
        """Shut down executors and stores; functions and coroutines that jobs run are not interrupted.

        On the thread of the reactor this returns at once: what takes time is done in a thread. There
        :meth:`wait_closed` tells when it is done. In any other thread this returns when it is done.

        :param wait: have it take until all runs that were started have ended; a number: so many seconds at most
        :raises SchedulerNotRunningError: if the scheduler is not running
        """
        super().shutdown(wait)

    def wait_closed(self) -> "Deferred[None]":
        """Return what fires, on the reactor, when the scheduler has been shut down.

        That is at once if it was never started. In a job this does not wait for the job itself if that has called
        :meth:`shutdown`.
        """
        life = self._life
        if life is None:
            return succeed(None)
        closed: Deferred[None] = Deferred()
        life.call_at_end(partial(life.loop.call_soon, closed.callback, None))
        return closed

    async def __aenter__(self) -> Self:
        """Start the scheduler unless it is running."""
        if not self.running:
            self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Shut the scheduler down and wait until that is done."""
        if self.running:
            self.shutdown()
        await self.wait_closed()
