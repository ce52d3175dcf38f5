"""What belongs to one start of an asyncio scheduler, and ways to reach its loop from other threads."""

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from apscheduler.engine import PassThread
from apscheduler.executors.base import BaseExecutor

if TYPE_CHECKING:
    from apscheduler.schedulers.asyncio import AsyncIOScheduler

# How often a thread that waits for the loop looks whether it still runs.
LOOK_SECONDS = 0.1


class Life:
    """The time of a scheduler from one start to the shutdown that follows."""

    def __init__(self, loop: asyncio.AbstractEventLoop, scheduler: "AsyncIOScheduler"):
        self.loop = loop
        self._scheduler = scheduler
        # Whether a pass has been asked for and not begun.
        self.is_woken = False
        # These two are used on the loop only: whether a pass is under way in the thread, and another is to follow.
        self.is_passing = False
        self.passes_again = False
        # Executors that were shut down already, on the loop.
        self.ended_executors: set[BaseExecutor] = set()
        self._requests: queue.SimpleQueue[bool] | None = None
        self._is_over = False
        self._waiters: list[asyncio.Future[None]] = []
        self._lock = threading.Lock()  # protects the two above

    def pass_in_thread(self) -> None:
        """Have the thread make a pass, and the loop go on after it."""
        self.is_passing = True
        if self._requests is None:
            self._requests = queue.SimpleQueue()
            PassThread(
                target=self._serve,
                args=(self._requests,),
                name="APScheduler passes",
                daemon=True,
            ).start()
        self._requests.put(True)

    def _serve(self, requests: "queue.SimpleQueue[bool]") -> None:
        scheduler = self._scheduler
        while requests.get():
            wait_seconds = scheduler._make_pass()
            if not call_soon(self.loop, scheduler._end_pass, self, wait_seconds):
                return

    def shut_down_executors(self) -> None:
        """Shut down, on the loop, the executors that work on it: the coroutine that asks for it is not cancelled."""
        for alias, executor in list(self._scheduler._executors.items()):
            if hasattr(executor, "wait_closed"):
                self.ended_executors.add(executor)
                self._scheduler._shutdown_executor(alias, executor, False)

    @property
    def can_be_waited_for(self) -> bool:
        """Whether the loop goes on while this thread waits for it."""
        return self.loop.is_running() and not is_current(self.loop)

    def wait_for_callbacks(self) -> None:
        """Wait, in a thread, until the loop has done what it has been asked to do so far."""
        done = threading.Event()
        if self.can_be_waited_for and call_soon(self.loop, done.set):
            while not done.wait(LOOK_SECONDS) and self.loop.is_running():
                pass

    async def wait(self) -> None:
        """Wait until this life is over."""
        with self._lock:
            if self._is_over:
                return
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
        await waiter

    def end(self) -> None:
        """Let everybody who waits for it know that it is over."""
        if self._requests is not None:
            self._requests.put(False)
        with self._lock:
            self._is_over = True
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            call_soon(waiter.get_loop(), _resolve, waiter)


def _resolve(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


def call_soon(
    loop: asyncio.AbstractEventLoop, func: Callable[..., object], *args: Any
) -> bool:
    """Have a function called on the loop; return False if that is closed."""
    try:
        loop.call_soon_threadsafe(func, *args)
    except RuntimeError:
        return False
    return True


def is_current(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether this is the thread of the loop, and it is running."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
