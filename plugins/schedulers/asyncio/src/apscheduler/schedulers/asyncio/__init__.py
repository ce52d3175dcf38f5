"""A scheduler that runs on an asyncio event loop and never holds it up."""

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial, wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from apscheduler.engine import PassThread
from apscheduler.events import EVENT_SCHEDULER_SHUTDOWN, SchedulerEvent
from apscheduler.schedulers.asyncio.life import Life, call_soon, is_current
from apscheduler.schedulers.base import STATE_STOPPED, BaseScheduler
from apscheduler.util import maybe_ref

# Longer waits are divided, so that a clock that was set, or a machine that slept, is noticed within seconds.
SLICE_SECONDS = 5.0

_P = ParamSpec("_P")
_S = TypeVar("_S", bound="AsyncIOScheduler")


def run_in_event_loop(
    func: Callable[Concatenate[_S, _P], object],
) -> Callable[Concatenate[_S, _P], None]:
    """Have a method of a scheduler called on its event loop, soon; callable from any thread.

    Nothing happens if the scheduler has no event loop, or if that is closed.
    """

    @wraps(func)
    def run_soon(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        loop = self._eventloop
        if loop is not None:
            call_soon(loop, partial(func, self, *args, **kwargs))

    return run_soon


class AsyncIOScheduler(BaseScheduler):
    """A scheduler for asyncio programs. Coroutine functions run on the event loop, other functions beside it.

    Passes over stores that do I/O are made in a thread. Listeners are called on the event loop, except for events
    that come from an API call or a job in another thread.
    """

    config_keys = frozenset({"event_loop"})
    default_executor = "asyncio"

    _eventloop: asyncio.AbstractEventLoop | None = None
    _timeout: asyncio.TimerHandle | None = None
    _configured_loop: asyncio.AbstractEventLoop | None = None

    def __init__(self, gconfig: Mapping[str, Any] | None = None, **options: Any):
        # What has come from threads and is to be told on the loop.
        self._untold: deque[SchedulerEvent] = deque()
        self._life: Life | None = None
        super().__init__(gconfig, **options)

    def _configure(self, config: dict[str, Any]) -> None:
        loop = maybe_ref(config.pop("event_loop", None))
        if loop is not None and not hasattr(loop, "call_soon_threadsafe"):
            raise TypeError(
                f"'event_loop' must be an asyncio event loop or a reference to one, got {loop!r}"
            )
        self._configured_loop = self._eventloop = loop
        super()._configure(config)

    # Life cycle

    def start(self, paused: bool = False) -> None:
        """Start the scheduler on the event loop that is running, unless another was configured, and return.

        :param paused: process nothing before :meth:`resume` is called
        :raises SchedulerAlreadyRunningError: if the scheduler is running, or still being shut down
        :raises RuntimeError: if there is no event loop
        """
        before = self._eventloop, self._life
        try:
            super().start(paused)
        except BaseException:
            if self._life is not before[1] and self.state == STATE_STOPPED:
                self._eventloop, self._life = before
            raise

    def _prepare_loop(self) -> None:
        self._eventloop = self._find_loop()
        self._timeout = None
        self._life = Life(self._eventloop, self)

    def _find_loop(self) -> asyncio.AbstractEventLoop:
        for loop in (self._eventloop, self._configured_loop):
            if loop is not None and not loop.is_closed():
                return loop
        try:
            return asyncio.get_running_loop()
        except RuntimeError as exc:
            raise RuntimeError(
                f"{type(self).__name__}.start() needs a running event loop: call it in a coroutine, "
                "or configure 'event_loop'"
            ) from exc

    def shutdown(self, wait: bool | float = True) -> None:
        """Shut down executors and stores; coroutines that jobs run are cancelled.

        On the thread of the event loop this returns at once: what takes time is done in a thread. There
        :meth:`wait_closed` waits for it. In any other thread this returns when it is done.

        :param wait: have it take until all runs that were started have ended; a number: let them go on for so many
            seconds at most before coroutines are cancelled
        :raises SchedulerNotRunningError: if the scheduler is not running
        """
        is_on_loop = self._is_on_loop()
        self._begin_shutdown()
        life = self._life
        if life is None:  # in a forked process
            self._finish_shutdown(False)
            return
        if not is_on_loop:
            call_soon(life.loop, self._stop_timer)
            self._close(life, wait)
            return
        self._stop_timer()
        must_wait = wait is not False and self._engine.is_busy()
        if isinstance(wait, bool) or not must_wait:
            life.shut_down_executors()
        if not (must_wait or life.is_passing or self._performs_io()):
            self._close(life, False)
            return
        # In the context of the caller: if that is a job, it does not wait for itself.
        run = contextvars.copy_context().run
        PassThread(
            target=run,
            args=(self._close, life, wait),
            name="APScheduler shutdown",
            daemon=False,  # the program does not end before it has ended
        ).start()

    def _close(self, life: Life, wait: bool | float) -> None:
        try:
            self._finish_shutdown(wait)
            if wait:
                life.wait_for_callbacks()
            while not life.loop.is_running() and self._tell_next():
                pass
        finally:
            life.end()
            if self._life is life:  # and no listener has started the scheduler again
                self._eventloop = None

    def _shutdown_executors(self, wait: bool) -> None:
        life = self._life
        if life is None:
            super()._shutdown_executors(wait)
            return
        for alias, executor in list(self._executors.items()):
            if executor not in life.ended_executors:
                self._shutdown_executor(alias, executor, wait)
        # Executors that work on the loop do not wait themselves.
        while wait and life.can_be_waited_for and not self._engine.wait_idle(0.1):
            pass

    def _leave_to_parent(self) -> None:
        super()._leave_to_parent()
        self._eventloop = self._life = self._timeout = None

    async def wait_closed(self) -> None:
        """Wait until the scheduler has been shut down; return at once if it was never started.

        In a job this does not wait for the job itself if that has called :meth:`shutdown`.
        """
        if self._life is not None:
            await self._life.wait()

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

    # The loop

    def wakeup(self) -> None:
        life = self._life
        if life is None or life.is_woken or self.state == STATE_STOPPED:
            return
        life.is_woken = True
        self._begin_pass()

    @run_in_event_loop
    def _begin_pass(self) -> None:
        life = self._life
        if life is None or self.state == STATE_STOPPED:
            return
        life.is_woken = (
            False  # before the pass: who asks for one from here on gets another
        )
        self._stop_timer()
        if life.is_passing:
            life.passes_again = True
        elif self._performs_io():
            life.pass_in_thread()
        else:
            self._start_timer(self._make_pass())

    def _make_pass(self) -> float | None:
        try:
            return self._process_jobs()
        except Exception:  # a subclass may do more than we know: no reason to stop
            self._logger.exception("Error processing jobs")
            return self.jobstore_retry_interval

    def _end_pass(self, life: Life, wait_seconds: float | None) -> None:
        """Go on after a pass that was made in a thread."""
        life.is_passing = False
        if life is not self._life:
            return
        self._start_timer(0 if life.passes_again else wait_seconds)
        life.passes_again = False

    def _performs_io(self) -> bool:
        for alias, jobstore in list(self._jobstores.items()):
            if self._engine.add(alias, jobstore).store.performs_io:
                return True
        return False

    def _start_timer(self, wait_seconds: float | None) -> None:
        """Have a pass made in so many seconds by the clock of this scheduler; None: not before a wakeup."""
        self._stop_timer()
        if wait_seconds is not None:
            self._set_timer(self._clock.now().timestamp() + wait_seconds, wait_seconds)

    def _set_timer(self, due: float, wait_seconds: float) -> None:
        loop = self._eventloop
        if loop is not None and self.state != STATE_STOPPED:
            pause = min(wait_seconds, SLICE_SECONDS)
            self._timeout = loop.call_later(pause, self._look_at_clock, due)

    def _look_at_clock(self, due: float) -> None:
        self._timeout = None
        left = due - self._clock.now().timestamp()
        if left > 0:
            self._set_timer(due, left)
        else:
            self.wakeup()

    def _stop_timer(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None

    def _is_on_loop(self) -> bool:
        return self._eventloop is not None and is_current(self._eventloop)

    def _run_aside(self, func: Callable[[], None]) -> None:
        if self._is_on_loop():
            PassThread(target=func, name="APScheduler closing", daemon=False).start()
        else:
            func()

    # Listeners

    def _notify_listeners(self, event: SchedulerEvent) -> None:
        life = self._life
        is_ours = isinstance(threading.current_thread(), PassThread)
        if (
            life is None
            or not (is_ours or event.code == EVENT_SCHEDULER_SHUTDOWN)
            or is_current(life.loop)
            or not life.loop.is_running()
        ):
            super()._notify_listeners(event)
            return
        self._untold.append(event)
        if not call_soon(life.loop, self._tell_next):
            self._tell_next()

    def _tell_next(self) -> bool:
        """Tell listeners of the first event that has come from a thread; return False if there is none."""
        if not self._untold:
            return False
        try:
            super()._notify_listeners(self._untold[0])
        finally:
            self._untold.popleft()
        return True

    @property
    def _is_telling(self) -> bool:
        return super()._is_telling or bool(self._untold)
