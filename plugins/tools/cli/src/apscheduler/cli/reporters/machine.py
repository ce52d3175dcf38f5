"""One JSON object per line and happening."""

import json
import os
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

import apscheduler
from apscheduler.cli.output import encode
from apscheduler.cli.reporters.base import Reporter
from apscheduler.events import (
    EVENT_ALL_JOBS_REMOVED,
    EVENT_JOB_ADDED,
    EVENT_JOB_COALESCED,
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_LOST,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    EVENT_JOB_MODIFIED,
    EVENT_JOB_REMOVED,
    EVENT_JOB_SUBMITTED,
    EVENT_JOB_UNAVAILABLE,
    EVENT_JOBSTORE_FAILED,
    EVENT_JOBSTORE_RECOVERED,
    EVENT_SCHEDULER_SHUTDOWN,
    EVENT_SCHEDULER_STARTED,
    JobExecutionEvent,
    JobRangeEvent,
    JobSubmissionEvent,
)
from apscheduler.schedulers.base import BaseScheduler

NAMES = {
    EVENT_SCHEDULER_STARTED: "scheduler_started",
    EVENT_SCHEDULER_SHUTDOWN: "scheduler_shutdown",
    EVENT_JOBSTORE_FAILED: "jobstore_failed",
    EVENT_JOBSTORE_RECOVERED: "jobstore_recovered",
    EVENT_ALL_JOBS_REMOVED: "all_jobs_removed",
    EVENT_JOB_ADDED: "job_added",
    EVENT_JOB_MODIFIED: "job_modified",
    EVENT_JOB_REMOVED: "job_removed",
    EVENT_JOB_UNAVAILABLE: "job_unavailable",
    EVENT_JOB_SUBMITTED: "run_submitted",
    EVENT_JOB_EXECUTED: "run_succeeded",
    EVENT_JOB_ERROR: "run_failed",
    EVENT_JOB_MISSED: "run_missed",
    EVENT_JOB_COALESCED: "run_coalesced",
    EVENT_JOB_MAX_INSTANCES: "run_skipped",
    EVENT_JOB_LOST: "run_lost",
}


class MachineReporter(Reporter):
    """Writes JSON; nothing else goes to the same file.

    :param file: where to
    """

    def __init__(self, scheduler: BaseScheduler, file: TextIO):
        super().__init__(scheduler)
        self._file = file

    def _write(self, event: str, **fields: Any) -> None:
        document = {"event": event, "time": datetime.now(UTC), **fields}
        text = json.dumps(document, default=encode, ensure_ascii=False)
        print(text, file=self._file, flush=True)

    def _write_beginning(self, config: str, seconds: float | None) -> None:
        self._write(
            "starting",
            version=apscheduler.__version__,
            config=config,
            timezone=str(self._scheduler.timezone),
            stops_after=seconds,
        )

    def _write_stopping(self) -> None:
        self._write("stopping")

    def _write_summary(self) -> None:
        self._write("stopped", runs=self.ran, failed=self.failed)

    def _report(self, event: Any) -> None:
        name = NAMES.get(event.code)
        if name is not None:
            self._write(name, **_fields_of(event))


def _fields_of(event: Any) -> dict[str, Any]:
    names = ["job_id", "jobstore"] if hasattr(event, "job_id") else ["alias"]
    if isinstance(event, JobExecutionEvent):
        names += ["run_id", "attempt", "scheduled_run_time", "started_at", "duration"]
        names += ["traceback"]
    if isinstance(event, JobRangeEvent):
        names += ["first_run_time", "count"]
    fields = {name: getattr(event, name, None) for name in names}
    if isinstance(event, JobSubmissionEvent):
        times = event.scheduled_run_times
        fields["scheduled_run_times"] = list(times)
        fields["run_ids"] = list(getattr(times, "run_ids", ()))
    exc = getattr(event, "exception", None)
    if hasattr(event, "exception"):
        fields["exception"] = None if exc is None else f"{type(exc).__name__}: {exc}"
    return fields


def take_output() -> TextIO:
    """Return what was standard output so far; what anybody else writes there goes to standard error from now on."""
    sys.stdout.flush()
    descriptor = sys.stdout.fileno()
    file = os.fdopen(os.dup(descriptor), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), descriptor)
    return file
