"""The base of schedulers that run on an event loop of somebody else, whatever loop it is, and never hold it up."""

import contextvars
import threading
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from apscheduler.events import EVENT_SCHEDULER_SHUTDOWN, SchedulerEvent
from apscheduler.schedulers.base import STATE_STOPPED, BaseScheduler
from apscheduler.schedulers.life import EventLoop, Life, Timer
from apscheduler.threads import PassThread

__all__ = ("EventLoop", "LoopScheduler", "Timer", "run_on_loop")

# Longer waits are divided, so that a clock that was set, or a machine that slept, is noticed within seconds.
SLICE_SECONDS = 5.0

_P = ParamSpec("_P")
_S = TypeVar("_S", bound="LoopScheduler")


def run_on_loop(
    func: Callable[Concatenate[_S, _P], object],
) -> Callable[Concatenate[_S, _P], None]:
    """Have a method of a scheduler called on its event loop, soon; callable from any thread.

    Nothing happens if the scheduler has no event loop, or if that has come to its end.
    """

    @wraps(func)
    def run_soon(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        life = self._life
        if life is not None and not life.is_over:
            life.loop.call_soon(partial(func, self, *args, **kwargs))

    return run_soon


class LoopScheduler(BaseScheduler):
    """Makes passes when the event loop says that it is time, on the loop or, over stores that do I/O, in a thread.

    Listeners are called on the loop, except for events that come from an API call or a job in another thread.

    A subclass implements :meth:`_open_loop`.
    """

    _life: Life | None = None
    # The loop gets its turn after each step, and what was started there comes to its end before more is.
    _steps_per_pass = 1

    def __init__(self, gconfig: Mapping[str, Any] | None = None, **options: Any):
        # What is to be told on the loop. Who takes the first one out tells it.
        self._untold: deque[SchedulerEvent] = deque()
        self._untold_lock = self._create_lock()
        super().__init__(gconfig, **options)

    # What a subclass says about its loop

    @abstractmethod
    def _open_loop(self) -> EventLoop:
        """Return the loop to run on; called by every start.

        :raises RuntimeError: if there is none; says what to do
        """

    def _forget_loop(self) -> None:  # not every scheduler needs it
        """Let go of the loop: the scheduler was shut down, or could not be started. Called on any thread."""

    # Life cycle

    def start(self, paused: bool = False) -> None:
        """Start the scheduler on its event loop, and return.

        :param paused: process nothing before :meth:`resume` is called
        :raises SchedulerAlreadyRunningError: if the scheduler is running, or still being shut down
        :raises RuntimeError: if there is no event loop
        """
        before = self._life
        try:
            super().start(paused)
        except BaseException:
            life = self._life
            if life is not None and life is not before and not self.running:
                self._end(life)
            raise

    def _prepare_loop(self) -> None:
        with self._state_lock:  # the end of the life before must not forget this loop
            self._life = Life(self._open_loop(), self)

    def shutdown(self, wait: bool | float = True) -> None:
        """Shut down executors and stores.

        Called by the event loop this returns at once: what takes time is done in a thread, and listeners are told of
        ``EVENT_SCHEDULER_SHUTDOWN`` when it is complete. Anywhere else this returns when it is done.

        :param wait: have it take until all runs that were started have ended; a number: so many seconds at most
        :raises SchedulerNotRunningError: if the scheduler is not running
        """
        life = self._life
        is_on_loop = life is not None and life.is_on_loop
        self._begin_shutdown()
        if life is None:  # in a forked process
            self._finish_shutdown(False)
            return
        if life.loop.is_current():
            life.stop_timer()
        else:
            life.loop.call_soon(life.stop_timer)
        if not is_on_loop:
            self._close(life, wait)
            return
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
            if not life.can_be_waited_for:  # nobody else tells
                self._tell_all()
        finally:
            self._end(life)

    def _end(self, life: Life) -> None:
        with self._state_lock:
            if self._life is life:  # and no listener has started the scheduler again
                self._forget_loop()
        life.end()

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
        self._untold_lock = self._create_lock()
        self._untold.clear()
        self._life = None
        self._forget_loop()

    # The loop

    def wakeup(self) -> None:
        life = self._life
        if life is None or life.is_woken or self.state == STATE_STOPPED:
            return
        life.is_woken = True
        self._begin_pass()

    @run_on_loop
    def _begin_pass(self) -> None:
        life = self._life
        if life is None or self.state == STATE_STOPPED:
            return
        # Before the pass: who asks for one from here on gets another.
        life.is_woken = False
        life.stop_timer()
        if life.is_passing:  # in the thread, or we are in a loop within the loop
            life.passes_again = True
            return
        if self._performs_io():
            try:
                life.pass_in_thread()
            except RuntimeError:  # the system has no more threads to give
                self._logger.exception("Error processing jobs")
                self._start_timer(life, self.jobstore_retry_interval)
            return
        life.is_passing = life.is_passing_on_loop = True
        try:
            wait_seconds = self._make_pass()
        finally:
            life.is_passing = life.is_passing_on_loop = False
        self._end_pass(life, wait_seconds)

    def _end_pass(self, life: Life, wait_seconds: float | None) -> None:
        """Go on after a pass."""
        life.is_passing = False
        self._start_timer(life, 0 if life.passes_again else wait_seconds)
        life.passes_again = False

    def _start_timer(self, life: Life, wait_seconds: float | None) -> None:
        """Have a pass made in so many seconds by the clock of this scheduler; None: not before a wakeup."""
        if wait_seconds is not None:
            due = self._clock.now().timestamp() + wait_seconds
            self._set_timer(life, due, wait_seconds)

    def _set_timer(self, life: Life, due: float, wait_seconds: float) -> None:
        if life is self._life and self.state != STATE_STOPPED:
            pause = min(wait_seconds, SLICE_SECONDS)
            life.timer = life.loop.call_later(pause, self._look_at_clock, life, due)

    def _look_at_clock(self, life: Life, due: float) -> None:
        life.timer = None
        left = due - self._clock.now().timestamp()
        if left > 0:
            self._set_timer(life, due, left)
        else:
            self.wakeup()

    @property
    def _timeout(self) -> Timer | None:
        """What makes the next pass, under its name in APScheduler 3."""
        return None if self._life is None else self._life.timer

    def _run_aside(self, func: Callable[[], None]) -> None:
        life = self._life
        if life is not None and life.is_on_loop:
            PassThread(target=func, name="APScheduler closing", daemon=False).start()
        else:
            func()

    # Listeners

    def _notify_listeners(self, event: SchedulerEvent) -> None:
        life = self._life
        if life is None:
            super()._notify_listeners(event)
        elif life.loop.is_current() and not life.is_passing_on_loop:
            self._tell_all()  # the order matters
            super()._notify_listeners(event)
        elif self._belongs_to_loop(life, event):
            self._untold.append(event)
            if not life.loop.call_soon(self._tell_next):
                self._tell_all()
        else:
            super()._notify_listeners(event)

    def _belongs_to_loop(self, life: Life, event: SchedulerEvent) -> bool:
        # Not in the middle of a pass on the loop: a listener may open a window, which waits in a loop within the loop.
        return (
            life.loop.is_current()
            or isinstance(threading.current_thread(), PassThread)
            or event.code == EVENT_SCHEDULER_SHUTDOWN
        )

    def _tell_all(self) -> None:
        while self._tell_next():
            pass

    def _tell_next(self) -> bool:
        """Tell listeners of the first event that waits for the loop; return False if there is none."""
        with self._untold_lock:
            if not self._untold:
                return False
            event = self._untold[0]
            self._being_told.append(event)  # first, so that it is never in neither
            self._untold.popleft()
        try:
            super()._notify_listeners(event)
        finally:
            self._being_told.remove(event)
        return True

    @property
    def _is_telling(self) -> bool:
        # In this order, since what is taken out of the second is in the first by then.
        return bool(self._untold) or super()._is_telling
