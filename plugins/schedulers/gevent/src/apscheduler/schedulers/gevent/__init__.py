"""A scheduler that runs in a greenlet."""

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gevent
from gevent import Greenlet, GreenletExit, getcurrent, monkey
from gevent._hub_local import get_hub_if_exists

from apscheduler.events import SchedulerEvent
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.schedulers.blocking import BlockingScheduler
from apscheduler.schedulers.gevent.passes import PassWorker
from apscheduler.schedulers.gevent.waiting import (
    AnyLock,
    HubEvent,
    NativeThreads,
    call_on_hub,
    create_event,
)
from apscheduler.threads import PassThread, Threads

# Shutting down waits so long for a pass that hangs in a store; its greenlet is then left to itself.
JOIN_SECONDS = 5.0


class GeventScheduler(BlockingScheduler):
    """A scheduler for gevent programs: ``start()`` returns the greenlet that processes jobs.

    Where sockets and threads are not patched, passes over stores that do I/O are made in a real thread. Listeners
    are called in greenlets, except for events that come from an API call or a job in another thread.
    """

    default_executor = "gevent"

    _greenlet: "Greenlet[..., None] | None" = None
    _hub: Any = None
    _worker: PassWorker | None = None

    def __init__(self, gconfig: Mapping[str, Any] | None = None, **options: Any):
        # What has come from threads and is to be told in a greenlet.
        self._untold: deque[SchedulerEvent] = deque()
        super().__init__(gconfig, **options)

    def _create_lock(self) -> Any:
        return AnyLock()

    def _create_event(self) -> Any:
        return create_event()

    def _get_ident(self) -> int:
        return id(getcurrent())

    # Life cycle

    def start(self, paused: bool = False) -> "Greenlet[..., None]":  # type: ignore[override]  # as in APScheduler 3
        """Start the scheduler and return the greenlet in which jobs are processed.

        It belongs to the hub of the thread that calls this, and ends when the scheduler has been shut down.

        :param paused: process nothing before :meth:`resume` is called
        :raises SchedulerAlreadyRunningError: if the scheduler is running, or still being shut down
        """
        BaseScheduler.start(self, paused=paused)
        self._greenlet = gevent.spawn(self._run, self._event, self._worker)
        return self._greenlet

    def _prepare_loop(self) -> None:
        self._hub = gevent.get_hub()
        self._event = HubEvent()
        self._worker = None if _is_cooperative() else PassWorker()
        self._threads = NativeThreads(self._hub) if _has_green_threads() else Threads()

    def _run(self, event: HubEvent, worker: PassWorker | None) -> None:
        try:
            if self._event is event:  # no other start came before this got its turn
                self._main_loop()
        finally:
            if worker is not None:
                worker.end()

    def shutdown(self, wait: bool | float = True) -> None:
        """Shut down executors and stores, and wait for the greenlet. Running jobs are not interrupted.

        Callable from any thread, as long as the hub of the scheduler runs: it is done there. Called in the hub itself,
        as in a signal handler, this returns at once, since the hub must not wait.

        :param wait: return only when all runs that were started have ended; a number: wait so many seconds at most
        :raises SchedulerNotRunningError: if the scheduler is not running
        :raises RuntimeError: in another thread, if the program ends before the jobs that are waited for
        """
        if self.running and getcurrent() is self._hub:
            gevent.spawn(self.shutdown, wait)
            return
        if self.running and not (self._is_on_hub() or _is_pass_thread()):
            # The greenlet is not waited for: a program that has joined it may end its hub then.
            call_on_hub(self._hub, super().shutdown, wait)
            return
        greenlet = self._greenlet
        super().shutdown(wait)
        if greenlet is None or greenlet is getcurrent() or not self._is_on_hub():
            return
        greenlet.join(JOIN_SECONDS)
        if self._greenlet is greenlet:  # no listener has started the scheduler again
            self._greenlet = None

    def _finish_shutdown(self, wait: bool | float) -> None:
        worker = self._worker
        if worker is None or not (self._performs_io() and self._is_on_hub()):
            super()._finish_shutdown(wait)
            return
        # In the context of the caller: if that is a job, it does not wait for itself.
        finish = partial(contextvars.copy_context().run, super()._finish_shutdown, wait)
        another = PassWorker()  # a pass may hang in the first one
        try:
            another.call(finish)
        finally:
            another.end()
            self._tell_untold()

    def _leave_to_parent(self) -> None:
        super()._leave_to_parent()
        self._greenlet = self._hub = self._worker = None

    # The loop

    def _make_pass(self) -> float | None:
        worker = self._worker
        if worker is None or not self._performs_io():
            return super()._make_pass()
        wait_seconds: float | None = worker.call(super()._make_pass)
        return wait_seconds

    def _wait(self, event: HubEvent, seconds: float | None) -> None:
        super()._wait(event, seconds)
        if self._event is not event:
            # This is a forked process: greenlets go on there, and this one must not claim anything.
            raise GreenletExit

    @property
    def _uses_threads(self) -> bool:  # type: ignore[override]  # here it depends
        # Green ones do not hold up the hub, nor do real ones for which another real one waits.
        return self._worker is not None or _has_green_threads()

    def _run_aside(self, func: Callable[[], None]) -> None:
        if self._worker is not None and self._is_on_hub():
            PassThread(target=func, name="APScheduler closing", daemon=False).start()
        else:
            func()

    def _is_on_hub(self) -> bool:
        """Return whether the caller is where things belong; without a hub that can run, that is anywhere."""
        hub = self._hub
        return hub is None or hub.loop is None or get_hub_if_exists() is hub

    # Listeners

    def _notify_listeners(self, event: SchedulerEvent) -> None:
        if self._is_on_hub():
            self._tell_untold()  # the order matters
        elif _is_pass_thread():
            self._untold.append(event)
            self._hub.loop.run_callback_threadsafe(gevent.spawn, self._tell_untold)
            return
        super()._notify_listeners(event)

    def _tell_untold(self) -> None:
        """Tell listeners of the events that have come from threads."""
        while self._untold:
            event = self._untold[0]
            self._being_told.append(event)
            self._untold.popleft()
            try:
                super()._notify_listeners(event)
            finally:
                self._being_told.remove(event)

    @property
    def _is_telling(self) -> bool:
        return super()._is_telling or bool(self._untold)


def _is_cooperative() -> bool:
    """Return whether what waits for a store is supposed to let other greenlets go on."""
    return monkey.is_module_patched("socket") or _has_green_threads()


def _has_green_threads() -> bool:
    return bool(monkey.is_module_patched("threading"))


def _is_pass_thread() -> bool:
    return isinstance(threading.current_thread(), PassThread)
