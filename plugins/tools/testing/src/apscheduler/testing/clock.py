"""A clock that tests control, and ways to wait until a scheduler has caught up with it."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from apscheduler.clock import Clock
from apscheduler.drivers import StoreDriver
from apscheduler.runs import RunFilter, RunState
from apscheduler.schedulers.base import STATE_RUNNING, BaseScheduler
from apscheduler.testing.jobs import PATIENCE

READY = RunFilter(states=frozenset([RunState.READY]))
MANY_RUNS = 1000

# Between two looks at a scheduler that has not caught up: soon first, since most runs are short, then less often.
FIRST_LOOK_SECONDS, LAST_LOOK_SECONDS = 0.0001, 0.005


class ManualClock(Clock):
    """A clock that stands still until it is set; schedulers that run by it take notice at once.

    Hand it to a scheduler as ``clock``. Jobs that are added by name of a trigger, the grace time and the records of
    runs go by it; a trigger that the test makes itself, and the duration of runs, go by the system's clock.

    :param start: the time to begin with (default: the system's)
    :raises ValueError: if the time has no zone
    """

    def __init__(self, start: datetime | None = None):
        self._now = datetime.now(UTC) if start is None else _in_utc(start)
        self._callbacks: list[Callable[[], None]] = []
        self._lock = threading.Lock()  # protects the two above

    def now(self) -> datetime:
        """Return the time that was set, in UTC."""
        return self._now

    def offset(self) -> timedelta:
        """Return how far this clock is ahead of the system's."""
        return self._now - datetime.now(UTC)

    def set(self, time: datetime) -> None:
        """Set the clock, forward or back, and let the schedulers know.

        :raises ValueError: if the time has no zone
        """
        now = _in_utc(time)
        with self._lock:
            self._now = now
        self._tell()

    def advance(self, *args: float | timedelta, **kwargs: float) -> None:
        """Move the clock by a :class:`~datetime.timedelta`, or by what is given to make one: ``advance(hours=1)``.

        A scheduler sees the new time only, not those in between: what came due there is late.
        """
        step = make_step(*args, **kwargs)
        with self._lock:
            self._now += step
        self._tell()

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        with self._lock:
            self._callbacks.append(callback)

        def unsubscribe() -> None:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

        return unsubscribe

    def _tell(self) -> None:
        with self._lock:
            callbacks = tuple(self._callbacks)
        for callback in callbacks:  # without the lock: they may look at the clock
            callback()

    def __repr__(self) -> str:
        return f"<ManualClock at {self._now.isoformat()}>"


def make_step(*args: float | timedelta, **kwargs: float) -> timedelta:
    """Return the one time difference that is given, or what the arguments of one make."""
    if len(args) == 1 and isinstance(args[0], timedelta) and not kwargs:
        return args[0]
    return timedelta(*args, **kwargs)  # type: ignore[arg-type]  # it checks for itself


def settle(scheduler: BaseScheduler, timeout: float = PATIENCE) -> None:
    """Wait until everything that is due by the clock of the scheduler has run and listeners have been told of it.

    The clock must be standing still. On the thread of an event loop use :func:`settle_async`.

    :param timeout: real seconds to wait at most
    :raises TimeoutError: if the scheduler does not get there in time; says what it is still at
    """
    for pause in until_settled(scheduler, timeout):
        time.sleep(pause)


async def settle_async(scheduler: BaseScheduler, timeout: float = PATIENCE) -> None:
    """Do the same as :func:`settle` without holding up the event loop."""
    for pause in until_settled(scheduler, timeout):
        await asyncio.sleep(pause)


def until_settled(
    scheduler: BaseScheduler, timeout: float = PATIENCE
) -> Iterator[float]:
    """Yield, until a scheduler has settled, how many seconds to wait before the next look."""
    pause = FIRST_LOOK_SECONDS
    deadline = time.monotonic() + timeout
    while (reason := find_work(scheduler)) is not None:
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"The scheduler has not settled within {timeout} seconds: {reason}"
            )
        yield pause
        pause = min(pause * 1.5, LAST_LOOK_SECONDS)


def find_work(scheduler: BaseScheduler) -> str | None:
    """Say what the scheduler is still at, None if it has settled.

    The order matters: what is due becomes a pass, a pass starts runs, and a run that ends is told of. Looking in
    this order, nothing can slip past.
    """
    engine = scheduler._engine
    if scheduler.state == STATE_RUNNING:
        for driver in list(engine.drivers.values()):
            reason = _find_due(driver, scheduler._clock.now())
            if reason is not None:
                return reason
    if engine.is_passing:
        return "a pass over its stores is under way"
    if engine.is_busy():
        return "a run is going on"
    if scheduler._is_telling:
        return "listeners are being told of events"
    return None


def _find_due(driver: StoreDriver, now: datetime) -> str | None:
    """Say what is due in a store, apart from jobs that the scheduler has found it cannot run."""
    store, where = driver.store, f"in job store {driver.alias!r}"
    next_run_time = store.get_next_run_time()
    if next_run_time is not None and next_run_time <= now:
        for job in store.get_due_jobs(now):
            if not driver.selection.is_held(job, now):
                return f'job "{job}" is due {where}'
    for run in store.get_runs(READY, MANY_RUNS):
        if (run.available_at or run.scheduled_time) <= now:
            return f"a run of job {run.job_id!r} waits {where}"
    return None


def _in_utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise ValueError(
            f"The clock needs a time with a zone, got {time!r}: "
            "write datetime(..., tzinfo=UTC)"
        )
    return time.astimezone(UTC)
