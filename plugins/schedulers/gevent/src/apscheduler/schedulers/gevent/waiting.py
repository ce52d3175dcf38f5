"""Locks, events and threads that work between the greenlets of any hub and real threads.

Those of gevent are made for the greenlets of one hub, those of Python are green where they have been patched: two
threads with a hub each, waiting for one lock of gevent, wait for ever.
"""

import contextvars
from collections import deque
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from gevent import get_hub, getcurrent, monkey, spawn
from gevent._hub_local import get_hub_if_exists
from gevent.event import Event

from apscheduler.threads import Event as BaseEvent
from apscheduler.threads import Threads
from apscheduler.util import is_program_ending

P = ParamSpec("P")
T = TypeVar("T")

# How long a thread waits for a hub to begin with what it has been given, before it does it itself.
HUB_PATIENCE_SECONDS = 2.0

# Who waits for a hub looks so often whether it is there.
HUB_CHECK_SECONDS = 1.0
HOUR_SECONDS = 3600.0

# Real ones, whatever has been patched.
_allocate_lock = monkey.get_original("_thread", "allocate_lock")
_RLock = monkey.get_original("_thread", "RLock")
_start_new_thread = monkey.get_original("_thread", "start_new_thread")
_get_ident = monkey.get_original("_thread", "get_ident")


class NativeEvent(BaseEvent):
    """An event for real threads."""

    _create_lock = staticmethod(_allocate_lock)


class HubEvent:
    """A ``threading.Event`` for which greenlets of one hub wait, and which any thread may set.

    It belongs to the hub of the thread that makes it.
    """

    def __init__(self) -> None:
        self._hub = get_hub()
        self._event = Event()

    def set(self) -> None:
        if _get_ident() == self._hub.thread_ident:
            self._event.set()
            return
        loop = self._hub.loop
        if loop is not None:  # else nobody waits any more
            loop.run_callback_threadsafe(self._event.set)

    def clear(self) -> None:
        self._event.clear()

    def wait(self, timeout: float | None = None) -> bool:
        if timeout is not None:
            return bool(self._event.wait(timeout))
        # By the hour: a hub that has no timer either believes that it waits for ever, and gives up.
        while not self._event.wait(HOUR_SECONDS):
            pass
        return True


def create_event() -> "HubEvent | NativeEvent":
    """Return an event that the caller can wait for without holding up greenlets beside it."""
    return NativeEvent() if get_hub_if_exists() is None else HubEvent()


def destroy_hub() -> None:
    """Give back what a hub holds that something has made in a real thread which is about to end."""
    hub = get_hub_if_exists()
    if hub is not None:
        hub.destroy(destroy_loop=True)


class AnyLock:
    """A reentrant lock for greenlets of all hubs and real threads; who comes first is served first."""

    def __init__(self) -> None:
        # Protects all of the following. Reentrant for the sake of signal handlers, which interrupt any line.
        self._guard = _RLock()
        self._owner: Any = None
        self._count = 0
        self._waiting: deque[tuple[Any, HubEvent | NativeEvent]] = deque()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        me = getcurrent()
        with self._guard:
            if self._owner is None or self._owner is me:
                self._owner = me
                self._count += 1
                return True
            if not blocking or timeout == 0:
                return False
            turn = create_event()
            entry = (me, turn)
            self._waiting.append(entry)
        try:
            turn.wait(None if timeout < 0 else timeout)
        except BaseException:  # the greenlet was killed
            if not self._give_up(entry):
                self.release()
            raise
        return not self._give_up(entry)

    def _give_up(self, entry: tuple[Any, Any]) -> bool:
        """Wait no longer; return False if it is the turn of the caller already."""
        with self._guard:
            try:
                self._waiting.remove(entry)
            except ValueError:
                return False
        return True

    def release(self) -> None:
        with self._guard:
            if self._owner is not getcurrent():
                raise RuntimeError("cannot release a lock that somebody else has")
            self._count -= 1
            if self._count:
                return
            self._owner = None
            if self._waiting:
                self._owner, turn = self._waiting.popleft()
                self._count = 1
                turn.set()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def call_on_hub(hub: Any, func: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in a greenlet of another thread's hub, in the context of the caller, and return its result.

    :raises RuntimeError: if the program ends, or the hub is destroyed, before the call has ended
    """
    call = _HubCall(hub, partial(func, *args, **kwargs))
    while not call.ended.wait(HUB_CHECK_SECONDS):
        if hub.loop is None or is_program_ending():
            raise RuntimeError("The hub that was asked to make a call has ended")
    result: T = call.get()
    return result


class _HubCall:
    """A call that a greenlet of another thread's hub is asked to make."""

    def __init__(self, hub: Any, func: Callable[[], Any]):
        self._func = func
        self._context = contextvars.copy_context()
        self._may_begin = _allocate_lock()
        self._outcome: tuple[Any, BaseException | None] = None, None
        self.ended = create_event()
        hub.loop.run_callback_threadsafe(spawn, self._make)

    def _make(self) -> None:
        if not self._may_begin.acquire(False):
            return
        try:
            self._outcome = self._context.run(self._func), None
        except BaseException as exc:
            self._outcome = None, exc
        finally:
            self.ended.set()

    def wait(self, timeout: float) -> bool:
        """Wait until the call has been made, and return whether it has. After that, it is not made any more."""
        try:
            return self.ended.wait(timeout)
        finally:
            self._may_begin.acquire(False)

    def get(self) -> Any:
        """Return the result."""
        result, exc = self._outcome
        if exc is not None:
            raise exc
        return result


class _NativeThread:
    """What of a real thread can be joined, in greenlets of the hub that started it."""

    def __init__(self, target: Callable[[], object]):
        self._target = target
        self._ended = HubEvent()

    def __call__(self) -> None:
        try:
            self._target()
        finally:
            self._ended.set()
            destroy_hub()

    def join(self, timeout: float | None = None) -> None:
        self._ended.wait(timeout)


class NativeThreads(Threads):
    """Real threads where those of Python have been patched.

    They leave what is done in stores to the hub, whose greenlets share its connections, as long as that answers.
    """

    def __init__(self, hub: Any):
        self._hub = hub

    def start(self, target: Callable[[], object], name: str) -> Any:
        thread = _NativeThread(target)
        _start_new_thread(thread, ())
        return thread

    def create_event(self) -> Any:
        return NativeEvent()

    def create_lock(self) -> Any:
        return _allocate_lock()

    def call(self, func: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        call = _HubCall(self._hub, partial(func, *args, **kwargs))
        if call.wait(HUB_PATIENCE_SECONDS):
            result: T = call.get()
            return result
        return func(*args, **kwargs)  # something holds up the hub
