"""The native contract: what a store offers beyond APScheduler 3, so that every fire is claimed exactly once.

A store that does not declare it is driven by ``adapter.LegacyStoreAdapter``, unshared.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from apscheduler.job import NEW_OPTIONS
from apscheduler.jobstores.base import BaseJobStore
from apscheduler.nodes import Identity, Lease, Node
from apscheduler.records import fresh, record
from apscheduler.runs import Completion, Plan, Run, RunFilter, RunState, RunTimes

if TYPE_CHECKING:
    from apscheduler.executors.base import BaseExecutor
    from apscheduler.job import Job

# What is kept of finished runs where nobody says otherwise.
HISTORY_DAYS = 7
HISTORY_RUNS = 1000

# More than any store holds, and a number that every database takes.
MAX_COUNTED = 2**31 - 1


@record
class StoredJob:
    """A job as it was read, and the token of the record it was read from."""

    job: "Job"
    token: Any


@record
class JobRecord:
    """What can be said of a stored job without importing its function.

    :ivar error: why the job cannot be restored here, None if it can
    :ivar origin: the configuration that declares it, None if a program has added it
    :ivar details: its other attributes, and the trigger itself; empty if they cannot be read
    """

    id: str
    next_run_time: datetime | None
    name: str | None = None
    func: str | None = None
    trigger: str | None = None
    error: str | None = None
    origin: str | None = None
    details: dict[str, Any] = fresh(default_factory=dict)


# What a record has among its details.
DETAILS = (
    *("trigger", "executor", "args", "kwargs"),
    *("misfire_grace_time", "coalesce", "max_instances", *NEW_OPTIONS),
)


@record
class ClaimRequest:
    """What a scheduler asks of a store in one pass.

    :ivar now: the current time
    :ivar limit: claim at most so many jobs
    :ivar plan: what to do about a due job; None leaves the job as it is, to be asked about in a later pass.
        It does no I/O and does not raise; it may be asked more than once about the same job
    :ivar identity: who is asking; makes the identifiers of claims and runs
    :ivar completions: outcomes to be written in the same step, before instances are counted
    :ivar accepts: whether this scheduler can start a ready run of the job now; one that it does not accept is left
    :ivar waits: whether run times of a job that has as many instances as it allows are left in place until one ends,
        instead of being given up
    :ivar lease_until: the step that starts runs also records that their owner is alive until then; None where no
        lease is kept, or one was recorded lately
    :ivar keeps_history: whether finished runs are kept of jobs that do not say
    """

    now: datetime
    limit: int
    plan: "Callable[[Job], Plan | None]"
    identity: Identity
    completions: Sequence[Completion] = ()
    accepts: "Callable[[Job], bool]" = lambda job: True
    waits: "Callable[[Job, Plan], bool]" = lambda job, plan: False
    lease_until: datetime | None = None
    keeps_history: bool = True

    def keeps_history_of(self, job: "Job") -> bool:
        """Return whether fire times of this job that do not run are to be recorded."""
        return keeps_history(job, self.keeps_history)


@record
class Claim:
    """A job that was claimed, and the runs that are to be started.

    :ivar job: the job, its next run time already the following one
    :ivar plan: the plan that was carried out
    :ivar run_times: what to hand to the executor; empty when nothing is to be started
    :ivar skipped: as many instances as allowed are running: the run times of the plan are given up
    :ivar ready: the run did not come from the trigger, and the job's record was not touched
    :ivar announced: that a finished job was removed has been told to listeners already
    :ivar node: the scheduler that owns the runs; set when they are handed out
    :ivar executor: the executor that was handed the runs; the job may name another one meanwhile
    """

    job: "Job"
    plan: Plan
    run_times: RunTimes
    skipped: bool = False
    ready: bool = False
    announced: bool = False
    node: str = ""
    executor: "BaseExecutor | None" = None

    def time_of(self, run_id: str) -> datetime:
        """Return the run time of one of the runs."""
        return self.run_times[self.run_times.run_ids.index(run_id)]

    @property
    def is_finished(self) -> bool:
        """Whether the schedule is over, so that the job is no longer in the store."""
        return not self.ready and self.plan.next_run_time is None


@record
class ClaimBatch:
    """The answer to a claim request.

    :ivar claims: in the order of their run times
    :ivar next_run_time: when the store has something to do next, of what is due later than now; without meaning
        when there is more
    :ivar more: whether due jobs remain that were not looked at because the limit was reached
    :ivar waiting: whether ready runs were left because as many instances of their job are running as it allows
    """

    claims: list[Claim] = fresh(default_factory=list)
    next_run_time: datetime | None = None
    more: bool = False
    waiting: bool = False


class NativeJobStore(BaseJobStore):
    """A job store with an atomic claim and a record of runs.

    Its methods may be called from any thread, several at a time. Every writer compares: what was computed from a
    record that somebody has changed meanwhile is not written.
    """

    # What a store can do. A subclass that cannot do something says so here, with its reason in a comment.
    shareable = (
        False  # several schedulers, in several processes, may use the same storage
    )
    keeps_runs = True  # runs and history outlive the process
    pushes_changes = False  # other schedulers hear of a change at once
    performs_io = (
        True  # calls may take long: they must not be made on an event loop's thread
    )
    # How often a shared store is looked at for what others have put there, in seconds; None: never needed.
    poll_interval: float | None = None
    # For how long finished runs are kept, and how many of each job that does not say (0: none); None: no limit.
    history_days: float | None = HISTORY_DAYS
    history_runs: int | None = HISTORY_RUNS

    def limit_history(self, days: float | None, runs: int | None) -> None:
        """Set for how long finished runs are kept, and how many of each job; None: no limit.

        :raises ValueError: if it is no such number
        """
        if days is not None and not (_is_number(days, float) and days > 0):
            raise ValueError(
                f"'history_days' must be a number of days greater than 0, or None for no limit, but is {days!r}; "
                "history_runs=0 keeps no history"
            )
        if runs is not None and not (_is_number(runs, int) and runs >= 0):
            raise ValueError(
                f"'history_runs' must be a number of runs to keep of each job (0 for none), or None for no limit, "
                f"but is {runs!r}"
            )
        self.history_days, self.history_runs = days, runs

    @property
    def max_history_age(self) -> timedelta | None:
        """For how long finished runs are kept."""
        return None if self.history_days is None else timedelta(days=self.history_days)

    def exists(self) -> bool:
        """Return whether there is anything of this store at its place; asked before the start, it creates nothing.

        A store that cannot tell says that there is something.
        """
        return True

    @abstractmethod
    def add_jobs(self, jobs: "Sequence[Job]") -> None:
        """Keep the jobs, all or none of them.

        :raises ConflictingIdError: if a job with the same identifier as one of them is already here
        """

    @abstractmethod
    def read_job(self, job_id: str) -> StoredJob | None:
        """Return the job and its token, or None if this store has none.

        :raises Exception: whatever restoring the job raises
        """

    @abstractmethod
    def change_job(self, stored: StoredJob, changes: Mapping[str, Any]) -> bool:
        """Change attributes of the job, on ``stored.job`` and in the store, if the record is still the one read.

        Without ``next_run_time`` among the changes the run time is not written, and its having moved on meanwhile
        does not matter.

        :return: False if the record is another by now, or gone; nothing was written, and the caller reads it again
        :raises Exception: if a value is invalid; nothing was changed
        """

    @abstractmethod
    def discard_job(self, stored: StoredJob) -> bool:
        """Forget the job if its record is still the one read; otherwise return False."""

    @abstractmethod
    def claim(self, request: ClaimRequest) -> ClaimBatch:
        """Take due jobs, earliest first, and move each on, in one atomic step per job.

        For each due job the plan is asked for. The step counts the claims of the job that are still open, over all
        schedulers: at ``max_instances`` the run times are recorded as skipped. It moves the job to its next run time
        or, if there is none, deletes it, and records the runs as running, owned by ``request.identity``. Ready runs
        that are available are claimed too; at ``max_instances`` they wait. Jobs that cannot be restored are reported
        once, left alone and looked at again later.
        """

    @abstractmethod
    def complete(self, completions: Sequence[Completion]) -> None:
        """Record how runs ended; a run that another scheduler has taken over meanwhile is not touched."""

    @abstractmethod
    def add_ready_run(self, job: "Job", run: Run) -> None:
        """Keep a run to be claimed as soon as ``run.available_at`` is reached, with a copy of the job."""

    @abstractmethod
    def hand_back(self, claims: Sequence[Claim]) -> None:
        """Make runs that were claimed but not started available to any scheduler, as ready runs."""

    @abstractmethod
    def get_runs(self, which: RunFilter, limit: int, offset: int = 0) -> list[Run]:
        """Return runs that match, latest scheduled time first, those of one time by identifier, also backwards."""

    def count_runs(self, which: RunFilter) -> int:
        """Return how many runs match."""
        return len(self.get_runs(which, MAX_COUNTED))

    @abstractmethod
    def prune_runs(
        self, max_age: timedelta | None, max_per_job: int | None, now: datetime
    ) -> int:
        """Forget finished runs that are too old or too many, a small batch at a time; return how many."""

    def keep_schedule(self, stored: StoredJob, job: "Job") -> bool:
        """Let a job stand for the one that was read, which was declared in the same way and keeps its schedule.

        A store that holds job objects takes this one in place of that; one that writes them down has nothing to do.

        :return: False if the record is another by now; the caller reads it again
        """
        return True

    def get_job_records(self) -> list[JobRecord]:
        """Return what can be said of every job without importing functions, in the order of listings."""
        return [describe(job) for job in self.get_all_jobs()]

    # The rest matters to stores that are shared or outlive the process.

    def renew_lease(self, node: Node, expires_at: datetime) -> None:
        """Let the other schedulers know that this one is alive."""

    def drop_lease(self, node: Node) -> None:
        """Let the other schedulers know that this one has ended and owns nothing."""

    def read_leases(self) -> list[Lease]:
        """Return the leases that there are, also those that are over and from whose nodes nobody has taken over yet."""
        return []

    def take_over(self, node: Node, now: datetime) -> list[Run]:
        """Take the open runs of schedulers that are dead: their lease is over or their process is gone.

        With ``on_lost="retry"`` and attempts left a run becomes ready again, attempt + 1; otherwise it is lost.

        :return: the runs that were taken, with their new state
        """
        return []

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None] | None:
        """Have ``callback`` called, from any thread, when another process changed what is due.

        It is also called when changes may have been missed, because the connection was lost and is there again. It
        need not be called for changes made through this object.

        :return: a function that ends it, or None if this store does not push changes
        """
        return None

    def read_clock(self) -> datetime | None:
        """Return the time on the server's clock, or None if there is none that can be asked."""
        return None

    def is_unreachable(self, exc: BaseException) -> bool:
        """Return whether an error says that the server did not answer, so that trying again later may help."""
        return isinstance(exc, (ConnectionError, TimeoutError))


def keeps_history(job: "Job", by_default: bool) -> bool:
    """Return whether finished runs of this job are kept.

    :param by_default: whether they are of jobs that do not say
    """
    return by_default if job.history is None else job.history != 0


def _is_number(value: object, kind: type) -> bool:
    return isinstance(value, (int, kind)) and not isinstance(value, bool)


def describe(job: "Job") -> JobRecord:
    """Return the record view of a job that could be restored."""
    return JobRecord(
        job.id,
        job.next_run_time,
        job.name,
        job.func_ref,
        str(job.trigger),
        origin=job._origin,
        details={name: getattr(job, name, None) for name in DETAILS},
    )


def started_times(plan: Plan, identity: Identity) -> RunTimes:
    """Return the run times that a claim starts, as the executor gets them, each with a new identifier."""
    times = plan.run_times
    if not times:
        return RunTimes()
    run_ids = tuple([identity.new_id() for _ in times])
    return RunTimes(times, run_ids, run_ids[0])  # the first run names the claim


def idle_runs(
    job: "Job",
    plan: Plan,
    skipped: bool,
    alias: str | None,
    identity: Identity,
    now: datetime,
) -> list[Run]:
    """Return the records of the fire times that a claim does not start: missed, coalesced, skipped."""
    ranges = [(RunState.MISSED, plan.missed), (RunState.COALESCED, plan.coalesced)]
    runs = [
        Run(
            identity.new_id(),
            job.id,
            alias,
            state,
            fires.last,
            first_time=fires.first,
            count=fires.count,
            node=identity.node.id,
            finished_at=now,
        )
        for state, fires in ranges
        if fires is not None
    ]
    if skipped and plan.run_times:
        runs.append(
            Run(
                identity.new_id(),
                job.id,
                alias,
                RunState.SKIPPED,
                plan.run_times[-1],
                first_time=plan.run_times[0],
                count=len(plan.run_times),
                node=identity.node.id,
                finished_at=now,
            )
        )
    return runs


def run_times_of(runs: Sequence[Run]) -> RunTimes:
    """Return what an executor gets for the runs of one claim."""
    return RunTimes(
        [run.scheduled_time for run in runs],
        tuple(run.id for run in runs),
        runs[0].claim_id if runs else None,
        runs[0].attempt if runs else 1,
    )
