"""Schedulers whose passes are made by hand, and the jobs that they run."""

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.drivers import StoreDriver
from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.job import Job
from apscheduler.runs import current_run
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.testing.clock import ManualClock
from apscheduler.testing.crashes.points import FaultPoints
from apscheduler.testing.jobstores.basic import SECOND, T0
from apscheduler.threads import Threads
from apscheduler.triggers.base import BaseTrigger

# The points of the process, for the functions of its jobs.
points = FaultPoints()


class Seconds(BaseTrigger):
    """Fires every second from one time to another, both included."""

    def __init__(self, first: datetime, last: datetime):
        self.first, self.last = first, last

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        if previous_fire_time is None:
            following = max(self.first, now)
        else:
            following = previous_fire_time + SECOND
        return following if following <= self.last else None

    def __str__(self) -> str:
        return f"every second from {self.first} to {self.last}"


def note(log: str, fails: bool = False) -> None:
    """Write down which run this is."""
    run = current_run()
    assert run is not None
    points.reach(f"{run.job_id} begins")
    line = f"{run.id} {run.attempt} {run.scheduled_time.timestamp()} {run.job_id}\n"
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())  # one write is one line
    os.close(file)  # the next point is that after this
    if fails:
        raise RuntimeError("as it should")


class InlineExecutor(BaseExecutor):
    """Runs jobs where they are submitted, any number in a pass."""

    def _do_submit_job(self, job: Job, run_times: list[datetime]) -> None:
        assert job._jobstore_alias is not None
        events = run_job(job, job._jobstore_alias, run_times, self._logger.name)
        self._run_job_success(job.id, events)


class HoldingExecutor(InlineExecutor):
    """Runs jobs when it is told to; at shutdown it gives up what has not begun."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[tuple[Job, list[datetime]]] = []

    def _do_submit_job(self, job: Job, run_times: list[datetime]) -> None:
        self._held.append((job, run_times))

    def let_go(self) -> None:
        """Run what has been submitted."""
        held, self._held = self._held, []
        for job, run_times in held:
            super()._do_submit_job(job, run_times)

    def shutdown(self, wait: bool = True) -> None:
        for job, run_times in self._held:
            self._run_job_lost(job, run_times)
        self._held.clear()


class NoThread:
    """Stands where a thread would be."""

    def join(self, timeout: float | None = None) -> None:
        """Return at once."""


class NoThreads(Threads):
    """Starts none: everything happens when it is told to."""

    def start(self, target: Callable[[], object], name: str) -> Any:
        return NoThread()


class Node(BaseScheduler):
    """A scheduler on one store that makes a pass when it is told to.

    :param jobstore: the configuration of its store
    :param log: the path of the file in which jobs note their runs
    :param now: what its clock is set to
    """

    def __init__(self, jobstore: dict[str, Any], log: str, now: datetime = T0):
        self.log = log
        self.manual_clock = ManualClock(now)
        self.holding = HoldingExecutor()
        self._threads = NoThreads()
        super().__init__(
            timezone=UTC,
            clock=self.manual_clock,
            jobstores={"default": jobstore},
            executors={"default": InlineExecutor(), "holding": self.holding},
        )

    @property
    def driver(self) -> StoreDriver:
        """The driver of the store."""
        return self._engine.add("default", self._jobstores["default"])

    def start(self, paused: bool = False) -> None:
        completions: Any = self.driver.completions
        completions._thread = NoThread()
        super().start(paused)

    def shutdown(self, wait: bool | float = True) -> None:
        super().shutdown(wait)

    def wakeup(self) -> None:
        """Do nothing: what is due is looked for in the next pass."""

    def add(self, job_id: str, seconds: Sequence[int] = (0,), **options: Any) -> Job:
        """Add a job that fires in the first to the last of these seconds."""
        fires = T0 + SECOND * seconds[0], T0 + SECOND * seconds[-1]
        defaults: dict[str, Any] = {"args": (self.log,), "next_run_time": fires[0]}
        job: Job = self.add_job(
            note, Seconds(*fires), id=job_id, **{**defaults, **options}
        )
        return job

    def make_pass(self, seconds: float = 0) -> None:
        """Make a pass so many seconds after the beginning."""
        self.manual_clock.set(T0 + timedelta(seconds=seconds))
        self._process_jobs()

    def write_outcomes(self) -> None:
        """Have outcomes written that the next claim would take with it."""
        self.driver.completions.flush()
