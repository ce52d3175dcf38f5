"""Threads that a scheduler needs beside its loop; where Python's are green, its plugin brings other ones."""

import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


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
        return threading.Event()

    def create_lock(self) -> Any:
        """Return what works like a ``threading.Lock`` in these threads; it is held for a few lines only."""
        return threading.Lock()

    def call(self, func: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of a store in one of these threads, and return its result."""
        return func(*args, **kwargs)
