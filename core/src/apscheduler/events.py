"""What a scheduler tells its listeners: event codes and event classes."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

__all__ = (
    "EVENT_ALL",
    "EVENT_ALL_JOBS_REMOVED",
    "EVENT_EXECUTOR_ADDED",
    "EVENT_EXECUTOR_REMOVED",
    "EVENT_JOBSTORE_ADDED",
    "EVENT_JOBSTORE_FAILED",
    "EVENT_JOBSTORE_RECOVERED",
    "EVENT_JOBSTORE_REMOVED",
    "EVENT_JOB_ADDED",
    "EVENT_JOB_COALESCED",
    "EVENT_JOB_ERROR",
    "EVENT_JOB_EXECUTED",
    "EVENT_JOB_LOST",
    "EVENT_JOB_MAX_INSTANCES",
    "EVENT_JOB_MISSED",
    "EVENT_JOB_MODIFIED",
    "EVENT_JOB_REMOVED",
    "EVENT_JOB_SUBMITTED",
    "EVENT_JOB_UNAVAILABLE",
    "EVENT_SCHEDULER_PAUSED",
    "EVENT_SCHEDULER_RESUMED",
    "EVENT_SCHEDULER_SHUTDOWN",
    "EVENT_SCHEDULER_STARTED",
    "JobEvent",
    "JobExecutionEvent",
    "JobRangeEvent",
    "JobSubmissionEvent",
    "JobUnavailableEvent",
    "JobstoreFailureEvent",
    "SchedulerEvent",
)

EVENT_SCHEDULER_STARTED = EVENT_SCHEDULER_START = 2**0
EVENT_SCHEDULER_SHUTDOWN = 2**1
EVENT_SCHEDULER_PAUSED = 2**2
EVENT_SCHEDULER_RESUMED = 2**3
EVENT_EXECUTOR_ADDED = 2**4
EVENT_EXECUTOR_REMOVED = 2**5
EVENT_JOBSTORE_ADDED = 2**6
EVENT_JOBSTORE_REMOVED = 2**7
EVENT_ALL_JOBS_REMOVED = 2**8
EVENT_JOB_ADDED = 2**9
EVENT_JOB_REMOVED = 2**10
EVENT_JOB_MODIFIED = 2**11
EVENT_JOB_EXECUTED = 2**12
EVENT_JOB_ERROR = 2**13
EVENT_JOB_MISSED = 2**14
EVENT_JOB_SUBMITTED = 2**15
EVENT_JOB_MAX_INSTANCES = 2**16
# From here on there is nothing like it in APScheduler 3.
EVENT_JOB_COALESCED = 2**17
EVENT_JOB_LOST = 2**18
EVENT_JOB_UNAVAILABLE = 2**19
EVENT_JOBSTORE_FAILED = 2**20
EVENT_JOBSTORE_RECOVERED = 2**21
EVENT_ALL = 2**22 - 1


class SchedulerEvent:
    """Something that concerns the scheduler itself.

    :ivar code: which event this is
    :ivar alias: alias of the job store or executor it is about, if any
    """

    def __init__(self, code: int, alias: str | None = None):
        self.code = code
        self.alias = alias

    def __repr__(self) -> str:
        return f"<{type(self).__name__} (code={self.code})>"


class JobstoreFailureEvent(SchedulerEvent):
    """A job store that failed, or does not answer; the scheduler tries again by itself.

    :ivar exception: what the store raised; a :exc:`TimeoutError` if it has not answered for more than ten seconds
    """

    def __init__(self, code: int, alias: str, exception: BaseException):
        super().__init__(code, alias)
        self.exception = exception


class JobEvent(SchedulerEvent):
    """Something that concerns one job.

    :ivar job_id: identifier of the job
    :ivar jobstore: alias of the job store it is in, None for a pending job
    """

    def __init__(self, code: int, job_id: str, jobstore: str | None):
        super().__init__(code)
        self.job_id = job_id
        self.jobstore = jobstore


class JobUnavailableEvent(JobEvent):
    """A job that this scheduler cannot run now; it stays in its store and is tried again.

    :ivar exception: why
    """

    def __init__(
        self, code: int, job_id: str, jobstore: str | None, exception: BaseException
    ):
        super().__init__(code, job_id, jobstore)
        self.exception = exception


class JobSubmissionEvent(JobEvent):
    """Runs that were handed to an executor, or refused because too many are running.

    :ivar scheduled_run_times: the scheduled times of the runs
    """

    def __init__(
        self,
        code: int,
        job_id: str,
        jobstore: str | None,
        scheduled_run_times: Sequence[datetime],
    ):
        super().__init__(code, job_id, jobstore)
        self.scheduled_run_times = scheduled_run_times


class JobExecutionEvent(JobEvent):
    """The outcome of one run.

    :ivar scheduled_run_time: when the run was due
    :ivar retval: what the function returned
    :ivar exception: what it raised, else None
    :ivar traceback: the formatted stack frames of that exception, else None
    :ivar run_id: identifier of the run, None if the executor did not hand it on
    :ivar attempt: 1, or more when the run was started again
    :ivar started_at: when the function was called (aware, UTC), None if it was not
    :ivar duration: how long the call took, in seconds
    """

    run_id: str | None = None
    attempt: int = 1
    started_at: datetime | None = None
    duration: float | None = None

    def __init__(
        self,
        code: int,
        job_id: str,
        jobstore: str | None,
        scheduled_run_time: datetime,
        retval: Any = None,
        exception: BaseException | None = None,
        traceback: str | None = None,
    ):
        # Made for every run: the attributes of the base classes are set here, without the calls.
        self.code = code
        self.alias = None
        self.job_id = job_id
        self.jobstore = jobstore
        self.scheduled_run_time = scheduled_run_time
        self.retval = retval
        self.exception = exception
        self.traceback = traceback


class JobRangeEvent(JobExecutionEvent):
    """Fire times that followed one another and will not run: missed, or coalesced into a later run.

    :ivar scheduled_run_time: the last of them
    :ivar first_run_time: the first of them
    :ivar count: how many they are, None if that is too expensive to know
    """

    def __init__(
        self,
        code: int,
        job_id: str,
        jobstore: str | None,
        first_run_time: datetime,
        last_run_time: datetime,
        count: int | None,
    ):
        super().__init__(code, job_id, jobstore, last_run_time)
        self.first_run_time = first_run_time
        self.count = count
