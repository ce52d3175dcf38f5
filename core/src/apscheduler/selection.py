"""Which due jobs a node can run now, and what is to be done about each; asked by stores while they claim."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from apscheduler import planning
from apscheduler.events import (
    EVENT_JOB_UNAVAILABLE,
    JobUnavailableEvent,
    SchedulerEvent,
)
from apscheduler.job import Job
from apscheduler.records import record
from apscheduler.runs import Plan
from apscheduler.util import is_interrupt

if TYPE_CHECKING:
    from apscheduler.drivers import StoreDriver

# At most so many jobs are claimed in one step; fewer where a step costs next to nothing: an event loop gets its turn
# sooner, and what is under way stays in the caches of the processor.
BATCH_SIZE = 500
BATCH_SIZE_IN_MEMORY = 50

MAX_HOLD = timedelta(minutes=10)

# Fire times that are older, several at a time, are what is left of a backlog: schedulers look more often than that.
BACKLOG_AGE = timedelta(minutes=1)


@record
class _Hold:
    """A job that this node cannot run at present."""

    run_time: datetime | None
    retry_at: datetime
    pause: timedelta


class Selection:
    """What a store driver answers when its store asks about a job.

    :ivar has_rest: whether part of what was planned in this step is still due
    :ivar accepted: the jobs that were found fit to run in this step: all that it may have claimed
    """

    def __init__(self, driver: "StoreDriver"):
        self._driver = driver
        self._engine = driver.engine
        self._scheduler = driver.scheduler
        self._holds: dict[str, _Hold] = {}
        # Jobs with a backlog too long for one claim: what was due when its first part was planned waits for that part,
        # instead of being skipped; what becomes due meanwhile does not, or a slow job would never catch up.
        self.in_parts: dict[str, datetime] = {}
        self.has_rest = False
        self.accepted: dict[str, Job] = {}
        self._capacities: dict[str, int] = {}
        self._now = datetime.min.replace(tzinfo=UTC)
        self._events: list[SchedulerEvent] = []

    def begin(self, now: datetime) -> None:
        """Get ready for the questions of one step."""
        self._now = now
        self.has_rest = False
        self.accepted = {}

    def look_for_capacity(self) -> int:
        """Note how many runs each executor would start, and return how many that is in all, or a batch."""
        self._capacities = {}
        for alias, executor in list(self._scheduler._executors.items()):
            capacity: Any = executor.capacity()
            self._capacities[alias] = (
                capacity if isinstance(capacity, int) else BATCH_SIZE
            )
        performs_io = self._driver.store.performs_io
        most = BATCH_SIZE if performs_io else BATCH_SIZE_IN_MEMORY
        if not self._capacities:
            return most
        total = sum(self._capacities.values())
        if not total:
            self._engine.starved.update(self._capacities)
        return min(most, total)

    def accepts(self, job: Job) -> bool:
        """Return whether a run of the job can be started now; it then counts as started."""
        if self._engine.stopping or self._driver.is_removed:
            return False
        if self._holds and self.is_held(job, self._now):
            return False
        left = self._capacities.get(job.executor)
        if left is None:
            try:
                self._scheduler._lookup_executor(job.executor)
            except KeyError as exc:
                self._hold(job, exc, "its executor is not known here")
                return False
            left = self._capacities[job.executor] = BATCH_SIZE
        if left <= 0:
            self._engine.starved.add(job.executor)
            return False
        self._capacities[job.executor] = left - 1
        self.accepted[job.id] = job
        return True

    def plan(self, job: Job) -> Plan | None:
        """Return what to do about a due job; None: not now."""
        if not self.accepts(job):
            return None
        plan = self._make_plan(job)
        if plan is None:
            self._give_up(job)
        return plan

    def _make_plan(self, job: Job) -> Plan | None:
        now = self._now
        try:
            if type(job) is not Job:
                local = now.astimezone(self._scheduler.timezone)
                return planning.plan_by_run_times(job, local)
            if job.next_run_time is None or job.next_run_time > now:
                return None
            if self.in_parts and self._waits_for_part(job):
                return None
            plan = planning.plan(job, now)
        except BaseException as exc:
            if is_interrupt(exc):
                raise
            self._hold(job, exc, "its trigger failed")
            return None
        if plan.next_run_time is not None and plan.next_run_time <= now:
            self.in_parts.setdefault(job.id, now)
            self.has_rest = True
        elif self.in_parts:
            self.in_parts.pop(job.id, None)
        if self._holds:
            self._holds.pop(job.id, None)
        return plan

    def waits(self, job: Job, plan: Plan) -> bool:
        """Return whether run times wait for a run of the job to end: the rest of a backlog that others have begun with.

        Whose run it is gives up what has become due meanwhile.
        """
        times = plan.run_times
        waits = (
            len(times) > 1
            and times[0] < self._now - BACKLOG_AGE
            and not self._driver.runs.has_any_of(job.id)
        )
        if waits:
            self._give_up(job)
        return waits

    def _give_up(self, job: Job) -> None:
        """Leave the slot that was meant for a job to others."""
        self._capacities[job.executor] += 1

    def _waits_for_part(self, job: Job) -> bool:
        """Return whether the job is due with a later part of its backlog, while an earlier one is not settled."""
        until, run_time = self.in_parts.get(job.id), job.next_run_time
        return (
            until is not None
            and run_time is not None
            and run_time <= until
            and self._driver.runs.has_unsettled_of(job.id)
        )

    def is_held(self, job: Job, now: datetime) -> bool:
        """Return whether the job was found to be one that cannot be run here at present."""
        hold = self._holds.get(job.id)
        return (
            hold is not None
            and hold.run_time == job.next_run_time
            and now < hold.retry_at <= now + hold.pause  # the clock may be set back
        )

    def release_holds(self, job_id: str | None = None) -> None:
        """Try again what could not be run, since something has changed."""
        if job_id is None:
            self._holds.clear()
        else:
            self._holds.pop(job_id, None)

    def retry_times(self, now: datetime) -> list[datetime]:
        """Return when jobs that could not be run are to be tried again."""
        times = []
        for job_id, hold in list(self._holds.items()):
            # One whose time has come is left over: the job is gone, not due any more, or waits for an executor.
            if hold.retry_at > now:
                times.append(hold.retry_at)
            elif hold.retry_at + MAX_HOLD < now:
                self._holds.pop(job_id, None)
        return times

    def tell(self) -> None:
        """Dispatch what was noticed while the store may have held a lock."""
        events, self._events = self._events, []
        for event in events:
            self._scheduler._dispatch_event(event)

    def _hold(self, job: Job, exc: BaseException, reason: str) -> None:
        """Leave a job that cannot be run alone for a while; the pass goes on without it."""
        before = self._holds.get(job.id)
        if before is not None and before.run_time == job.next_run_time:
            pause = min(2 * before.pause, MAX_HOLD)
        else:
            pause = timedelta(seconds=self._scheduler.jobstore_retry_interval)
            alias = self._driver.alias
            self._scheduler._logger.error(
                'Job "%s" (id %r) cannot be run at present and stays in job store %r: %s: %s',
                *(job, job.id, alias, reason, exc),
            )
            self._events.append(
                JobUnavailableEvent(EVENT_JOB_UNAVAILABLE, job.id, alias, exc)
            )
        self._holds[job.id] = _Hold(job.next_run_time, self._now + pause, pause)
