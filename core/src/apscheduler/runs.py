"""Runs: one execution of a job for one fire time, who owns it and how it ended."""

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from apscheduler.clock import NO_OFFSET
from apscheduler.records import record

if TYPE_CHECKING:
    from apscheduler.job import Job


class RunState(StrEnum):
    """Where a run stands. Every fire time ends in exactly one of the states below ``RUNNING``."""

    READY = "ready"  # waits to be claimed by a scheduler, since it comes from elsewhere than a trigger
    RUNNING = "running"  # claimed by a scheduler: handed to an executor, or about to be
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    MISSED = "missed"  # later than the grace time
    COALESCED = "coalesced"  # a later fire time ran in its place
    SKIPPED = "skipped"  # too many instances were running
    LOST = "lost"  # its scheduler died: outcome unknown

    @property
    def is_final(self) -> bool:
        """Whether a run in this state has ended."""
        return self not in (RunState.READY, RunState.RUNNING)


@record
class FireRange:
    """Fire times that follow one another; ``count`` is None when it is too expensive to know."""

    first: datetime
    last: datetime
    count: int | None


@record
class Run:
    """The record of one run, or of a range of fire times that did not run.

    :ivar id: identifier, unique in the store
    :ivar job_id: identifier of the job
    :ivar jobstore: alias of the job store
    :ivar state: where the run stands
    :ivar scheduled_time: the fire time (of a range: its last)
    :ivar first_time: the first fire time of a range, else None
    :ivar count: how many fire times the record stands for, None if unknown
    :ivar claim_id: what the runs that were claimed together have in common
    :ivar node: the scheduler that owns or owned it
    :ivar attempt: 1, or more when it was started again
    :ivar available_at: of a ready run: not to be started earlier
    :ivar started_at: when the function was called
    :ivar finished_at: when the outcome was known
    :ivar duration: how long the call took, in seconds
    :ivar exception: what the function raised, as text
    :ivar traceback: where, as text
    """

    id: str
    job_id: str
    jobstore: str | None
    state: RunState
    scheduled_time: datetime
    first_time: datetime | None = None
    count: int | None = 1
    claim_id: str | None = None
    node: str | None = None
    attempt: int = 1
    available_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration: float | None = None
    exception: str | None = None
    traceback: str | None = None


class RunTimes(list[datetime]):
    """The run times that an executor gets, with the identity of the runs they stand for.

    :ivar run_ids: one identifier per run time
    :ivar claim_id: identifier of the claim they came from
    :ivar attempt: 1, or more when these runs are started again
    :ivar clock_offset: what to add to the system clock to get the scheduler's time
    :ivar is_ready: they did not come from the trigger, so that no grace time applies
    :ivar may_start: whether the scheduler still has the right to start them; None: always. Worker processes, which
        are not told, cannot ask
    """

    __slots__ = (
        *("attempt", "claim_id", "clock_offset"),
        *("is_ready", "may_start", "run_ids"),
    )

    def __init__(
        self,
        times: Iterable[datetime] = (),
        run_ids: tuple[str, ...] = (),
        claim_id: str | None = None,
        attempt: int = 1,
        clock_offset: timedelta = NO_OFFSET,
        is_ready: bool = False,
    ):
        self.extend(times)
        self.run_ids = run_ids
        self.claim_id = claim_id
        self.attempt = attempt
        self.clock_offset = clock_offset
        self.is_ready = is_ready
        self.may_start: Callable[[], bool] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        fields = (self.run_ids, self.claim_id, self.attempt, self.clock_offset)
        return type(self), (list(self), *fields, self.is_ready)


@record
class Completion:
    """The outcome of a run on its way to the store."""

    run_id: str
    job_id: str
    node: str
    attempt: int
    state: RunState
    finished_at: datetime
    started_at: datetime | None = None
    duration: float | None = None
    exception: str | None = None
    traceback: str | None = None
    keep: bool = True  # False: history is switched off, forget the run


@record
class Plan:
    """What to do about a due job: which fire times run, which do not, what comes next.

    :ivar run_times: fire times to run, in order
    :ivar next_run_time: what the job's next run time becomes; None when the schedule is over
    :ivar missed: fire times that are later than the grace time
    :ivar coalesced: fire times in whose place a later one runs
    """

    run_times: list[datetime]
    next_run_time: datetime | None
    missed: FireRange | None = None
    coalesced: FireRange | None = None


class CurrentRun:
    """What :func:`current_run` makes its answer from: the record itself is only built for those who ask."""

    __slots__ = ("index", "job", "jobstore", "run_times", "started_at")

    job: "Job"
    jobstore: str
    run_times: list[datetime]
    index: int
    started_at: datetime


running: ContextVar[CurrentRun | None] = ContextVar("apscheduler_running", default=None)


def current_run() -> Run | None:
    """Return the run that is calling, or None outside of one.

    Works in the function of a job and everything it calls: in threads, coroutines and worker processes.
    """
    current = running.get()
    if current is None:
        return None
    times = current.run_times
    identified = isinstance(times, RunTimes) and len(times.run_ids) == len(times)
    return Run(
        id=times.run_ids[current.index] if identified else "",  # type: ignore[attr-defined]  # checked above
        job_id=current.job.id,
        jobstore=current.jobstore,
        state=RunState.RUNNING,
        scheduled_time=times[current.index],
        claim_id=times.claim_id if isinstance(times, RunTimes) else None,
        attempt=times.attempt if isinstance(times, RunTimes) else 1,
        started_at=current.started_at,
    )


@record
class RunFilter:
    """Which runs to list; everything that is None does not matter."""

    job_id: str | None = None
    states: frozenset[RunState] | None = None
    since: datetime | None = None
    until: datetime | None = None
    run_id: str | None = None
    node: str | None = None
    attempt: int | None = None
