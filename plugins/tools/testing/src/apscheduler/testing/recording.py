"""What has run in a scheduler under test, in the order in which it ended."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from apscheduler.events import (
    EVENT_JOB_COALESCED,
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_LOST,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    EVENT_JOB_UNAVAILABLE,
    JobExecutionEvent,
    JobSubmissionEvent,
    JobUnavailableEvent,
)
from apscheduler.runs import RunState
from apscheduler.schedulers.base import BaseScheduler

STATES = {
    EVENT_JOB_EXECUTED: RunState.SUCCEEDED,
    EVENT_JOB_ERROR: RunState.FAILED,
    EVENT_JOB_MISSED: RunState.MISSED,
    EVENT_JOB_LOST: RunState.LOST,
    EVENT_JOB_COALESCED: RunState.COALESCED,
    EVENT_JOB_MAX_INSTANCES: RunState.SKIPPED,
}
MASK = EVENT_JOB_UNAVAILABLE
for _code in STATES:
    MASK |= _code


class JobFailedError(Exception):
    """A job has failed, or cannot be run, while a test moved the clock."""


@dataclass(frozen=True)
class RecordedRun:
    """One run, or fire times that did not run.

    :ivar job_id: identifier of the job
    :ivar jobstore: alias of the store that the job is in
    :ivar state: how it ended
    :ivar scheduled_time: the fire time, of several the last
    :ivar result: what the function returned
    :ivar exception: what it raised, else None
    :ivar count: how many fire times this stands for, None if that is not known
    """

    job_id: str
    jobstore: str | None
    state: RunState
    scheduled_time: datetime
    result: Any = None
    exception: BaseException | None = None
    count: int | None = 1

    @property
    def has_run(self) -> bool:
        """Whether the function was called, successfully or not."""
        return self.state in (RunState.SUCCEEDED, RunState.FAILED)

    def __str__(self) -> str:
        number = "" if self.count == 1 else f" ({self.count or 'many'} fire times)"
        reason = "" if self.exception is None else f": {self.exception!r}"
        return f"{self.job_id!r} {self.state} at {self.scheduled_time}{number}{reason}"


@dataclass
class Recorder:
    """Listens to one scheduler.

    :ivar runs: what has run or will not run, in the order in which that was known
    :ivar raises: whether a failure ends the test that moves the clock
    """

    scheduler: BaseScheduler
    runs: list[RecordedRun] = field(default_factory=list)
    raises: bool = True

    def __post_init__(self) -> None:
        # Not raised yet: the text, and why.
        self._failures: list[tuple[str, BaseException | None]] = []
        self.scheduler.add_listener(self._note, MASK)

    def close(self) -> None:
        """Listen no more."""
        self.scheduler.remove_listener(self._note)

    def _note(self, event: Any) -> None:
        if isinstance(event, JobUnavailableEvent):
            text = f"Job {event.job_id!r} cannot be run: {event.exception}"
            self._failures.append((text, event.exception))
        elif isinstance(event, JobSubmissionEvent):
            times = event.scheduled_run_times
            state, count = STATES[event.code], len(times)
            self.runs.append(
                RecordedRun(event.job_id, event.jobstore, state, times[-1], count=count)
            )
        elif isinstance(event, JobExecutionEvent):
            run = RecordedRun(
                event.job_id,
                event.jobstore,
                STATES[event.code],
                event.scheduled_run_time,
                event.retval,
                event.exception,
                getattr(event, "count", 1),
            )
            self.runs.append(run)
            if run.state in (RunState.FAILED, RunState.LOST):
                self._failures.append((f"Job {run}", run.exception))

    def raise_failure(self) -> None:
        """Raise the first failure that was not raised before, unless that is not wanted.

        :raises JobFailedError: from what the job has raised
        """
        failures, self._failures = self._failures, []
        if failures and self.raises:
            text, cause = failures[0]
            more = "" if len(failures) == 1 else f" (and {len(failures) - 1} more)"
            raise JobFailedError(text + more) from cause

    def name_busiest(self, since: int) -> str:
        """Return which jobs have run most often, of the runs from this number on."""
        counts = Counter(run.job_id for run in self.runs[since:])
        return ", ".join(f"{id!r} {n} times" for id, n in counts.most_common(3))
