"""What every executor promises, and the functions that run a job and report how it went."""

import logging
import traceback
from abc import ABCMeta, abstractmethod
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta, timezone
from functools import cache
from time import perf_counter
from traceback import format_tb
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from apscheduler.callables import is_awaitable
from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_LOST,
    EVENT_JOB_MISSED,
    JobExecutionEvent,
)
from apscheduler.hooked import get_hooks
from apscheduler.runs import CurrentRun, RunTimes, current_run, running

if TYPE_CHECKING:
    from apscheduler.job import Job
    from apscheduler.schedulers.base import BaseScheduler

# An executor with short runs is handed as many as it starts within this time, so that it never waits for the loop.
LOOKAHEAD_SECONDS = 0.05
MAX_LOOKAHEAD = 500

# What is known of run times that do not carry the identity of their runs.
UNKNOWN = RunTimes()

# Looking a logger up takes a lock that all threads share.
_get_logger = cache(logging.getLogger)


class MaxInstancesReachedError(Exception):
    """As many runs of the job are going on as it allows."""

    def __init__(self, job: "Job"):
        super().__init__(
            f"Job {job.id!r} has already reached its maximum number of instances ({job.max_instances})"
        )


class BaseExecutor(metaclass=ABCMeta):
    """Carries out the runs that a scheduler has claimed, and reports how they went."""

    _scheduler: "BaseScheduler | None" = None
    _lock: Any = None
    _logger = logging.getLogger("apscheduler.executors")

    # Whether it waits for what an async function returns; None: it does not say (as executors written for APScheduler 3).
    runs_coroutines: bool | None = None

    # How many runs the executor works on at a time; None: it does not say (as executors written for APScheduler 3).
    slots: int | None = None

    def __init__(self) -> None:
        self._instances: defaultdict[str, int] = defaultdict(int)
        # How many of them take up slots; the others were left behind by a restart.
        self._outstanding = 0
        self._left_behind: dict[str, int] = {}
        self._mean_duration: float | None = None

    def start(self, scheduler: "BaseScheduler", alias: str) -> None:
        """Get ready to run jobs of this scheduler; called at its start or when added to a running one."""
        self._scheduler = scheduler
        self._lock = scheduler._create_lock()
        self._logger = logging.getLogger(f"apscheduler.executors.{alias}")

    def shutdown(self, wait: bool = True) -> None:  # noqa: B027  # not every executor has something to do here
        """Release resources.

        :param wait: return only when all submitted work has ended
        """

    def capacity(self) -> int | None:
        """Return how many more runs would start soon: free slots, more when measured runs are short.

        Of one that still has enough that is none: a few runs at a time would cost as much as many. None means that any
        number is accepted and waits in this executor.
        """
        slots, outstanding = self.slots, self._outstanding
        if slots is None:
            return None
        wanted = slots
        if self._mean_duration is not None:
            quick = slots * LOOKAHEAD_SECONDS / (self._mean_duration or 1e-6)
            wanted = max(wanted, min(MAX_LOOKAHEAD, int(quick)))
        if outstanding < slots or 3 * outstanding < wanted:
            return wanted - outstanding
        return 0

    def submit_job(self, job: "Job", run_times: Sequence[datetime]) -> None:
        """Have the job run for these run times, one after the other, as one instance.

        :raises MaxInstancesReachedError: if the job has as many instances running as it allows
        """
        assert self._lock is not None, "This executor has not been started yet"
        with self._lock:
            if self._instances.get(job.id, 0) >= job.max_instances:
                raise MaxInstancesReachedError(job)
            # Counted before submission: the work may end before _do_submit_job returns.
            self._instances[job.id] += 1
            self._outstanding += 1
        # Without the lock: an inline executor runs the job and its listeners in here.
        try:
            self._do_submit_job(job, run_times)  # type: ignore[arg-type]  # 3.x hands on what it was given
        except BaseException:
            with self._lock:
                self._forget_instance(job.id)
            raise

    @abstractmethod
    def _do_submit_job(self, job: "Job", run_times: list[datetime]) -> None:
        """Arrange for ``run_job`` to run and for one of the two callbacks below to be called afterwards."""

    def _run_job_success(self, job_id: str, events: list[JobExecutionEvent]) -> None:
        """Take note of runs that have come to their end, with success or not."""
        with self._lock:
            self._forget_instance(job_id)
            self._measure(events)
        self._dispatch(events)

    def _run_job_error(
        self,
        job_id: str,
        exc: BaseException,
        traceback: Any = None,
        job: "Job | None" = None,
        run_times: Sequence[datetime] = (),
    ) -> None:
        """Take note of runs that failed outside the job's function.

        :param job: the job, and
        :param run_times: its run times, so that listeners hear of each; executors written for APScheduler 3
            do not give them
        """
        with self._lock:
            self._forget_instance(job_id)
        self._logger.error(
            "Error running job %s", job_id, exc_info=(exc.__class__, exc, traceback)
        )
        if job is None:
            # The runs that such an executor means are the oldest that are open. Stand-ins for a scheduler have none.
            engine = getattr(self._scheduler, "_engine", None)
            found = engine and engine.find_submission(job_id, self)
            if not isinstance(found, tuple):
                return
            job, run_times = found
        frames = "".join(format_tb(traceback)) if traceback is not None else ""
        events = make_events(EVENT_JOB_ERROR, job, run_times, exc, frames)
        self._dispatch(events)

    def _run_job_lost(
        self,
        job: "Job",
        run_times: Sequence[datetime],
        events: Sequence[JobExecutionEvent] = (),
        exc: BaseException | None = None,
    ) -> None:
        """Take note of runs that were cancelled, or never started because the executor shuts down.

        Each run that has no event yet gets an ``EVENT_JOB_LOST`` without ``started_at``: its function was not called.

        :param events: what is known of the first of the run times
        """
        with self._lock:
            self._forget_instance(job.id)
        rest = make_events(EVENT_JOB_LOST, job, run_times, exc)[len(events) :]
        self._logger.info("Job %s was cancelled", job.id)
        self._dispatch([*events, *rest])

    def _dispatch(self, events: Sequence[JobExecutionEvent]) -> None:
        dispatch = self._scheduler._dispatch_event  # type: ignore[union-attr]  # set by start()
        for event in events:
            dispatch(event)

    def _forget_instance(self, job_id: str) -> None:
        instances = self._instances.get(job_id)
        if instances is None:
            return
        # Which instance of a job has ended is not known. Others end sooner than what outlived a restart.
        if self._left_behind.get(job_id) == instances:
            self._left_behind[job_id] = instances - 1
        else:
            self._outstanding -= 1
        if instances > 1:
            self._instances[job_id] = instances - 1
        else:
            del self._instances[job_id]

    def _leave_behind(self) -> None:
        """Have what is going on take up no slots any more: there are new ones, but it is still running."""
        with self._lock:
            self._left_behind = dict(self._instances)
            self._outstanding = 0

    def _measure(self, events: list[JobExecutionEvent]) -> None:
        """Keep a moving mean of how long one submission takes."""
        total = 0.0
        for event in events:
            total += event.duration or 0.0
        mean = self._mean_duration
        # Longer runs count at once: handing out too much hurts more than handing out too little.
        if mean is None or total > mean:
            self._mean_duration = total
        else:
            self._mean_duration = mean + 0.1 * (total - mean)


def identify(
    event: JobExecutionEvent, run_times: Sequence[datetime], index: int
) -> None:
    """Put the identity of the run on its event, where the run times still carry it."""
    if isinstance(run_times, RunTimes) and index < len(run_times.run_ids):
        event.run_id = run_times.run_ids[index]
        event.attempt = run_times.attempt


def make_events(
    code: int,
    job: "Job",
    run_times: Sequence[datetime],
    exc: BaseException | None,
    frames: str | None = None,
) -> list[JobExecutionEvent]:
    """Return one event per run time, all with the same outcome."""
    events = []
    alias = job._jobstore_alias
    for index, run_time in enumerate(run_times):
        event = JobExecutionEvent(code, job.id, alias, run_time, None, exc, frames)
        identify(event, run_times, index)
        events.append(event)
    return events


class _RunInProgress(CurrentRun):
    """One run of a batch: makes its event and logs it. While it goes on it is the current one."""

    __slots__ = ("_clock", "_identity", "_logger", "_logs", "_token")

    def __init__(
        self,
        job: "Job",
        jobstore_alias: str,
        run_times: list[datetime],
        index: int,
        logger: logging.Logger,
    ):
        self.job = job
        self.jobstore = jobstore_alias
        self.run_times = run_times
        self.index = index
        self._identity = run_times if isinstance(run_times, RunTimes) else UNKNOWN
        self._logger = logger
        self._logs = logger.isEnabledFor(logging.INFO)

    def begin(self, events: list[JobExecutionEvent]) -> bool:
        """Announce the run and make it the current one, unless it must not start: that is reported then."""
        now = datetime.now(timezone.utc) + self._identity.clock_offset  # noqa: UP017  # the name that tests patch
        obstacle = self._find_obstacle(now)
        if obstacle is not None:
            events.append(self._make_event(obstacle))
            return False
        if self._logs:
            self._logger.info(
                'Running job "%s" (scheduled at %s)',
                self.job,
                self.run_times[self.index],
            )
        self.started_at = now
        self._token = running.set(self)
        self._clock = perf_counter()
        return True

    def _find_obstacle(self, now: datetime) -> int | None:
        """Return what to report instead if the run must not start, or is too late to."""
        identity = self._identity
        if identity.may_start is not None and not identity.may_start():
            self._logger.warning(
                "A run of job %s is not started: this scheduler was out of action for so long that others may "
                "have taken it over",
                self.job,
            )
            return EVENT_JOB_LOST
        grace_seconds = self.job.misfire_grace_time
        if grace_seconds is None or identity.is_ready:
            return None
        late = now - self.run_times[self.index]
        if late <= timedelta(seconds=grace_seconds):
            return None
        self._logger.warning('Run time of job "%s" was missed by %s', self.job, late)
        return EVENT_JOB_MISSED

    def succeeded(self, retval: Any) -> JobExecutionEvent:
        event = self._end(EVENT_JOB_EXECUTED, retval)
        if self._logs:
            self._logger.info('Job "%s" executed successfully', self.job)
        return event

    def failed(self, exc: BaseException) -> JobExecutionEvent:
        event = self._end(EVENT_JOB_ERROR, None, exc)
        event.traceback = "".join(format_tb(exc.__traceback__))
        self._logger.error('Job "%s" raised an exception', self.job, exc_info=exc)
        # Frames keep every local of the job alive for as long as somebody keeps the exception.
        traceback.clear_frames(exc.__traceback__)
        return event

    def cancelled(self, exc: BaseException) -> JobExecutionEvent:
        return self._end(EVENT_JOB_LOST, None, exc)

    def _end(
        self, code: int, retval: Any = None, exc: BaseException | None = None
    ) -> JobExecutionEvent:
        duration = perf_counter() - self._clock
        running.reset(self._token)
        event = self._make_event(code, retval, exc)
        event.started_at = self.started_at
        event.duration = duration
        return event

    def _make_event(
        self, code: int, retval: Any = None, exc: BaseException | None = None
    ) -> JobExecutionEvent:
        run_times, index = self.run_times, self.index
        event = JobExecutionEvent(
            code, self.job.id, self.jobstore, run_times[index], retval, exc
        )
        identify(event, run_times, index)
        return event


class UnawaitedJobError(TypeError):
    """The job returned a coroutine to an executor that has no event loop to run it on."""

    def __init__(self, job_name: str):
        self.job_name = job_name
        super().__init__(
            f"Job {job_name!r} returned a coroutine, which this executor cannot run: use the asyncio executor "
            "(or the tornado executor), or a function that is not async"
        )

    def __reduce__(self) -> tuple[Any, ...]:  # it comes back from worker processes
        return type(self), (self.job_name,)


def run_job(
    job: "Job",
    jobstore_alias: str,
    run_times: list[datetime],
    logger_name: str,
    *,
    await_result: Callable[[Awaitable[Any]], Any] | None = None,
    propagate: tuple[type[BaseException], ...] = (),
    events: list[JobExecutionEvent] | None = None,
) -> list[JobExecutionEvent]:
    """Call the job's function for each run time and return one event per run time.

    :param await_result: waits, in this thread, for what the function returned and gives its result; without it
        functions that return coroutines fail with :exc:`UnawaitedJobError`
    :param propagate: exceptions that end the batch instead of being reported as failures
    :param events: the list to fill and return; after an exception of ``propagate`` it tells how far the batch came
    """
    events = [] if events is None else events
    is_wrapped = get_hooks().has("apscheduler_wrap_call")
    logger = _get_logger(logger_name)
    for index in range(len(run_times)):
        run = _RunInProgress(job, jobstore_alias, run_times, index, logger)
        if not run.begin(events):
            continue
        try:
            call = _call_wrapped if is_wrapped else _call
            retval = call(job, await_result)
        except propagate as exc:
            events.append(run.cancelled(exc))
            raise
        except BaseException as exc:  # whatever a job raises is its outcome
            events.append(run.failed(exc))
        else:
            events.append(run.succeeded(retval))
    return events


def _call(job: "Job", await_result: Callable[[Awaitable[Any]], Any] | None) -> Any:
    retval = job.func(*job.args, **job.kwargs)
    if await_result is not None:
        return await_result(retval) if is_awaitable(retval) else retval
    if isinstance(retval, CoroutineType):
        retval.close()
        raise UnawaitedJobError(job.name)
    return retval


def _call_wrapped(
    job: "Job", await_result: Callable[[Awaitable[Any]], Any] | None
) -> Any:
    with _wrapped():  # may swallow what is raised: the run has succeeded then
        return _call(job, await_result)


async def run_coroutine_job(
    job: "Job",
    jobstore_alias: str,
    run_times: list[datetime],
    logger_name: str,
    *,
    propagate: tuple[type[BaseException], ...] = (),
    is_being_cancelled: Callable[[], bool] = lambda: True,
    events: list[JobExecutionEvent] | None = None,
) -> list[JobExecutionEvent]:
    """Await the job's function for each run time and return one event per run time.

    :param propagate: exceptions that end the batch instead of being reported as failures, such as the
        cancellation of the loop
    :param is_being_cancelled: tells, when one of them was raised, whether it came from outside; if not, the job has
        raised it by itself and has failed
    :param events: the list to fill and return; after an exception of ``propagate`` it tells how far the batch came
    """
    events = [] if events is None else events
    is_wrapped = get_hooks().has("apscheduler_wrap_call")
    logger = _get_logger(logger_name)
    for index in range(len(run_times)):
        run = _RunInProgress(job, jobstore_alias, run_times, index, logger)
        if not run.begin(events):
            continue
        try:
            if is_wrapped:
                retval = await _await_wrapped(job)
            else:
                retval = job.func(*job.args, **job.kwargs)
                if is_awaitable(retval):
                    retval = await retval
        except GeneratorExit:  # an abandoned coroutine is being taken apart
            raise
        except BaseException as exc:  # whatever a job raises is its outcome
            if isinstance(exc, propagate) and is_being_cancelled():
                events.append(run.cancelled(exc))
                raise
            events.append(run.failed(exc))
        else:
            events.append(run.succeeded(retval))
    return events


async def _await_wrapped(job: "Job") -> Any:
    with _wrapped():  # may swallow what is raised, as above
        retval = job.func(*job.args, **job.kwargs)
        return await retval if is_awaitable(retval) else retval


def _wrapped() -> AbstractContextManager[None]:
    run = current_run()
    assert run is not None  # begin() made it so
    from apscheduler.hooks import (
        wrapped_call,  # somebody implements it, so it is loaded
    )

    return wrapped_call(run)
