"""What a scheduler needs of an event loop, and what belongs to one start of a scheduler that runs on one."""

import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from apscheduler.executors.base import BaseExecutor
from apscheduler.executors.looping import LoopExecutor
from apscheduler.threads import PassThread

if TYPE_CHECKING:
    from apscheduler.schedulers.looping import LoopScheduler

# How often a thread that waits for the loop looks whether it still runs.
LOOK_SECONDS = 0.1


class Timer(Protocol):
    """A call that is to be made later."""

    def cancel(self) -> object:
        """Have the call never made; nothing happens if it was."""


class EventLoop(ABC):
    """An event loop as a scheduler sees it. Every start makes another one, for the same loop or a different one."""

    @abstractmethod
    def call_soon(self, func: Callable[..., object], *args: Any) -> bool:
        """Have a function called on the loop, after those that were given before; callable from any thread.

        If the loop does not run, the function is called when it does.

        :return: False if the loop has come to its end, and nothing will be called
        """

    @abstractmethod
    def call_later(
        self, seconds: float, func: Callable[..., object], *args: Any
    ) -> Timer:
        """Have a function called on the loop in so many seconds; callable on the thread of the loop only.

        A moment too early does no harm: the scheduler looks at its clock.
        """

    @abstractmethod
    def is_current(self) -> bool:
        """Return whether this is the thread of the loop; if it does not run, this may be False on all threads."""

    @abstractmethod
    def is_running(self) -> bool:
        """Return whether somebody has the loop call functions; callable from any thread."""

    def close(self) -> None:  # noqa: B027  # not every loop needs it
        """Give back what this object holds; the loop itself goes on. Called once, on any thread."""


class Life:
    """The time of a scheduler from one start to the shutdown that follows."""

    def __init__(self, loop: EventLoop, scheduler: "LoopScheduler"):
        self.loop = loop
        self._scheduler = scheduler
        # What makes the next pass; used on the loop only.
        self.timer: Timer | None = None
        # Whether a pass has been asked for and not begun.
        self.is_woken = False
        # These three are used on the loop only: whether a pass is under way in the thread or on the loop, and whether
        # another is to follow.
        self.is_passing = self.is_passing_on_loop = False
        self.passes_again = False
        # Executors that were shut down already, on the loop.
        self.ended_executors: set[BaseExecutor] = set()
        self._requests: queue.SimpleQueue[bool] | None = None
        self.is_over = False
        self._waiters: list[Callable[[], object]] = []
        self._lock = threading.Lock()  # protects the three above

    @property
    def is_on_loop(self) -> bool:
        """Whether the loop is what calls us: nothing may take long here."""
        return self.loop.is_current() and self.loop.is_running()

    @property
    def can_be_waited_for(self) -> bool:
        """Whether the loop goes on while this thread waits for it."""
        return self.loop.is_running() and not self.loop.is_current()

    def stop_timer(self) -> None:
        """Have the next pass made by a wakeup only; called on the loop."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def pass_in_thread(self) -> None:
        """Have the thread make a pass, and the loop go on after it.

        :raises RuntimeError: if the system has no more threads to give
        """
        with self._lock:  # a thread that is started after the end would wait for ever
            if self.is_over:
                return
            if self._requests is None:
                self._requests = self._start_thread()
            self.is_passing = True
            self._requests.put(True)

    def _start_thread(self) -> "queue.SimpleQueue[bool]":
        requests: queue.SimpleQueue[bool] = queue.SimpleQueue()
        PassThread(
            target=self._serve,
            args=(requests,),
            name="APScheduler passes",
            daemon=True,
        ).start()
        return requests

    def _serve(self, requests: "queue.SimpleQueue[bool]") -> None:
        scheduler = self._scheduler
        while requests.get():
            wait_seconds = scheduler._make_pass()
            if not self.loop.call_soon(scheduler._end_pass, self, wait_seconds):
                return

    def shut_down_executors(self) -> None:
        """Shut down, on the loop, the executors that work on it: the coroutine that asks for it is not cancelled."""
        for alias, executor in list(self._scheduler._executors.items()):
            if isinstance(executor, LoopExecutor):
                self.ended_executors.add(executor)
                self._scheduler._shutdown_executor(alias, executor, False)

    def wait_for_callbacks(self) -> None:
        """Wait, in a thread, until the loop has done what it has been asked to do so far."""
        done = threading.Event()
        if self.can_be_waited_for and self.loop.call_soon(done.set):
            while not done.wait(LOOK_SECONDS) and self.loop.is_running():
                pass

    def call_at_end(self, func: Callable[[], object]) -> None:
        """Have a function called, on any thread, when this life is over; at once if it is."""
        with self._lock:
            if not self.is_over:
                self._waiters.append(func)
                return
        func()

    def end(self) -> None:
        """Let everybody who waits for it know that it is over."""
        with self._lock:
            self.is_over = True
            if self._requests is not None:
                self._requests.put(False)
            waiters, self._waiters = self._waiters, []
        for tell in waiters:
            tell()
        self.loop.close()
