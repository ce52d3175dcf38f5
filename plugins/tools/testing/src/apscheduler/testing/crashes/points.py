"""Fault points: the places between two calls at which a process is killed."""

import os
import re
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

from apscheduler.jobstores.contract import NativeJobStore

#: Called with a word for what is about to be sent to the server.
Reach = Callable[[str], None]
#: Has a function called before each request that a client sends for the scenario and that may change what is stored.
Watch = Callable[[Reach], None]

# Whatever of a store reads or writes what is stored.
CALLS = (
    *("add_job", "update_job", "remove_job", "remove_all_jobs"),
    *("lookup_job", "get_due_jobs", "get_next_run_time", "get_all_jobs"),
    *("add_jobs", "read_job", "change_job", "discard_job", "keep_schedule"),
    *("claim", "complete", "add_ready_run", "hand_back", "get_runs", "prune_runs"),
    *("renew_lease", "drop_lease", "take_over", "get_job_records"),
)


class FaultPoints:
    """Counts the fault points that are passed, and kills this process at one of them.

    :param fatal: at which one, the first being 0; None: at none
    :param by_request: whether requests are told apart, and what sends none does not count; otherwise only calls are
    :ivar passed: what came after each
    """

    def __init__(self, fatal: int | None = None, by_request: bool = False):
        self._fatal = fatal
        self._by_request = by_request
        self.passed: list[str] = []
        self._is_armed = False
        self._call = ""

    def arm(self) -> None:
        """Count from here on."""
        self._is_armed = True

    def disarm(self) -> None:
        """Count no further."""
        self._is_armed = False

    def reach(self, name: str) -> None:
        """Come to a fault point."""
        if not self._is_armed:
            return
        if len(self.passed) == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        self.passed.append(name)

    def reach_request(self, name: str) -> None:
        """Come to the point before something is sent to the server."""
        self.reach(f"{self._call}: {name}" if self._call else name)

    def watch_calls(self, store: NativeJobStore) -> None:
        """Make every call of a store a fault point."""
        for name in CALLS:
            setattr(store, name, self._watched(name, getattr(store, name)))

    def _watched(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._call or not is_of_scenario():
                return method(*args, **kwargs)
            if not self._by_request:
                self.reach(name)
            self._call = name
            try:
                return method(*args, **kwargs)
            finally:
                self._call = ""

        return call


def is_of_scenario() -> bool:
    """Return whether this thread carries out the scenario; others listen, or keep connections alive, and come when they come."""
    return threading.current_thread() is threading.main_thread()


def watch_sockets(reach: Reach, queries: re.Pattern[bytes] | None = None) -> None:
    """Watch a client that is written in Python, and sends its requests in the thread that makes them.

    :param queries: what is sent for requests that change nothing: before these, everything is as it was before
    """

    def watch(name: str) -> None:
        send = getattr(socket.socket, name)

        def watched(self: socket.socket, data: Any, *args: Any) -> Any:
            if is_of_scenario() and not (queries and queries.match(data)):
                reach("request")
            return send(self, data, *args)

        setattr(socket.socket, name, watched)

    for name in ("send", "sendall"):
        watch(name)
