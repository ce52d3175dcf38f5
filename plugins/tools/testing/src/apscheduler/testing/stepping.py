"""A clock that goes from fire time to fire time, and lets everything run that is due there."""

import asyncio
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NoReturn

from apscheduler.drivers import StoreDriver
from apscheduler.schedulers.base import STATE_RUNNING, BaseScheduler
from apscheduler.testing.clock import (
    MANY_RUNS,
    READY,
    ManualClock,
    make_step,
    until_settled,
)
from apscheduler.testing.jobs import PATIENCE
from apscheduler.testing.recording import Recorder


class SteppingClock(ManualClock):
    """A :class:`ManualClock` that runs the jobs of its schedulers when it is advanced, each at its own time.

    :ivar limit: how many fire times :meth:`advance` goes through at most
    :ivar run_limit: how many runs there may be at one of them
    :ivar timeout: how many real seconds the runs of one fire time may take
    """

    def __init__(
        self,
        start: datetime | None = None,
        limit: int = 10_000,
        run_limit: int = 1_000,
        timeout: float = PATIENCE,
    ):
        super().__init__(start)
        self.limit = limit
        self.run_limit = run_limit
        self.timeout = timeout
        self._recorders: list[Recorder] = []

    def attach(self, recorder: Recorder) -> None:
        """Run the jobs of one more scheduler."""
        self._recorders.append(recorder)

    def detach(self, recorder: Recorder) -> None:
        """Leave the jobs of a scheduler alone."""
        self._recorders.remove(recorder)

    def advance(self, *args: float | timedelta, **kwargs: float) -> None:
        """Go forward, ``advance(days=3)``, and run everything on the way, in order.

        At each fire time the clock stands still until all has ended that is due, and what that has added, changed and
        removed counts for the next. No time passes but that of the runs.

        :raises JobFailedError: if a job fails; the clock then stands at that time
        :raises RuntimeError: if jobs do not stop to fire, or no scheduler runs
        :raises TimeoutError: if a run does not end
        """
        self._check_thread()
        for pause in self._go(make_step(*args, **kwargs)):
            time.sleep(pause)

    async def advance_async(self, *args: float | timedelta, **kwargs: float) -> None:
        """Do the same as :meth:`advance` on the event loop that the scheduler runs on."""
        for pause in self._go(make_step(*args, **kwargs)):
            await asyncio.sleep(pause)

    def run_due(self) -> None:
        """Run what is due now, and what that adds for now."""
        self.advance(0)

    async def run_due_async(self) -> None:
        """Do the same as :meth:`run_due` on the event loop that the scheduler runs on."""
        await self.advance_async(0)

    def _go(self, step: timedelta) -> Iterator[float]:
        """Yield how many seconds to wait before the next look, until all has run."""
        if step < timedelta(0):
            raise ValueError(
                f"The clock is advanced by a positive time, got {step}: use set() to put it back"
            )
        if not any(recorder.scheduler.running for recorder in self._recorders):
            raise RuntimeError("No scheduler of this clock is running: start it first")
        end = self.now() + step
        before = [len(recorder.runs) for recorder in self._recorders]
        yield from self._settle()
        moments = 0
        while (moment := self._find_next(end)) is not None:
            moments += 1
            if moments > self.limit:
                self._give_up("limit", "fire times", before)
            self.set(moment)
            yield from self._settle()
        if self.now() < end:
            self.set(end)
            yield from self._settle()

    def _settle(self) -> Iterator[float]:
        before = [len(recorder.runs) for recorder in self._recorders]
        # One may have given another something to do.
        for recorder in (*self._recorders, *self._recorders[:-1]):
            for pause in until_settled(recorder.scheduler, self.timeout):
                yield pause
                new = sum(len(each.runs) for each in self._recorders) - sum(before)
                if new > self.run_limit:
                    self._give_up("run_limit", "runs at one time", before)
        for recorder in self._recorders:
            # Written before time goes on, or others would find a run open whose scheduler seems to be dead.
            for driver in list(recorder.scheduler._engine.drivers.values()):
                driver.completions.flush()
        for recorder in self._recorders:
            recorder.raise_failure()

    def _give_up(self, limit: str, what: str, before: list[int]) -> NoReturn:
        busiest = "; ".join(
            recorder.name_busiest(since)
            for recorder, since in zip(self._recorders, before, strict=True)
        )
        raise RuntimeError(
            f"More than {getattr(self, limit)} {what} up to {self.now().isoformat()}, where the clock stands now. "
            f"What ran most often: {busiest}. "
            f"If that is right, set {limit!r} of the clock higher, or advance it by less"
        )

    def _find_next(self, end: datetime) -> datetime | None:
        """Return the next time at which something is due, None if there is none until the end."""
        now = self.now()
        times = [
            moment
            for recorder in self._recorders
            if recorder.scheduler.state == STATE_RUNNING
            for driver in list(recorder.scheduler._engine.drivers.values())
            for moment in _find_times(driver, now)
            if now < moment <= end
        ]
        return min(times, key=datetime.timestamp, default=None)

    def _check_thread(self) -> None:
        for recorder in self._recorders:
            if _is_on_loop(recorder.scheduler):
                raise RuntimeError(
                    "This would hold up the event loop that the jobs run on: write 'await clock.advance_async(...)', "
                    "or 'await clock.run_due_async()'"
                )


def _is_on_loop(scheduler: BaseScheduler) -> bool:
    life = getattr(scheduler, "_life", None)
    return life is not None and bool(life.loop.is_current())


def _find_times(driver: StoreDriver, now: datetime) -> Iterator[datetime]:
    """Find when jobs and waiting runs of a store are due."""
    first = driver.store.get_next_run_time()
    if first is not None and first > now:
        yield first
    elif first is not None:  # a job that cannot be run must not hide the others
        for record in driver.store.get_job_records():
            if record.next_run_time is not None:
                yield record.next_run_time
    for run in driver.store.get_runs(READY, MANY_RUNS):
        yield run.available_at or run.scheduled_time
