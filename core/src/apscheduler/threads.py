"""Threads that a scheduler needs beside its loop; where Python's are green, its plugin brings other ones."""

import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Event:
    """A ``threading.Event`` that a signal handler may set although it has interrupted a thread that uses it.

    There is no lock of its own that the interrupted thread could hold. One thread waits at a time.
    """

    _create_lock: Callable[[], Any] = staticmethod(threading.Lock)

    def __init__(self) -> None:
        self._lock = self._create_lock()  # free: the event is set
        self._lock.acquire()

    def is_set(self) -> bool:
        return not self._lock.locked()

    def set(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:
            pass  # it was set before

    def clear(self) -> None:
        self._lock.acquire(False)

    def wait(self, timeout: float | None = None) -> bool:
        if not self._lock.acquire(True, -1 if timeout is None else timeout):
            return False
        self.set()
        return True


class PassThread(threading.Thread):
    """A thread of the scheduler. What happens in it is told to listeners on the event loop, where there is one."""


class Threads:
    """Threads, and what they wait with, that go on whatever the loop of the scheduler is at."""

    def start(self, target: Callable[[], object], name: str) -> Any:
        """Start a thread that does not keep the program from ending, and return what can be joined.

        :raises RuntimeError: if the system has no more threads to give
        """
        thread = PassThread(target=target, name=name, daemon=True)
        thread.start()
        return thread

    def create_event(self) -> Any:
        """Return what works like a ``threading.Event`` in these threads."""
        return Event()

    def create_lock(self) -> Any:
        """Return what works like a ``threading.Lock`` in these threads; it is held for a few lines only."""
        return threading.Lock()

    def call(self, func: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of a store in one of these threads, and return its result."""
        return func(*args, **kwargs)
