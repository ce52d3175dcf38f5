"""One plain line per happening."""

from datetime import datetime
from typing import Any

from rich.console import Console
from rich.text import Text

import apscheduler
from apscheduler.cli.availability import find_missing_executor
from apscheduler.cli.reporters.base import Reporter
from apscheduler.cli.shared import format_seconds, format_time
from apscheduler.events import (
    EVENT_JOB_ADDED,
    EVENT_JOB_COALESCED,
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_LOST,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    EVENT_JOB_MODIFIED,
    EVENT_JOB_REMOVED,
    EVENT_JOB_UNAVAILABLE,
    EVENT_JOBSTORE_FAILED,
    EVENT_JOBSTORE_RECOVERED,
    EVENT_SCHEDULER_STARTED,
    JobEvent,
    JobRangeEvent,
)
from apscheduler.job import Job
from apscheduler.schedulers.base import BaseScheduler

STOPPING = "Stopping when the runs that are going on have ended; press Ctrl+C (again) to abort them."

# The beginning lists no more jobs than this.
MAX_LISTED = 20

# A run that started later than this after its time is worth a word.
LATE_SECONDS = 2.0

FINISHED = ("succeeded", "failed", "missed", "lost")

CANNOT_RUN = "cannot run", "bold red"

WORDS = {
    EVENT_JOB_EXECUTED: ("ok", "green"),
    EVENT_JOB_ERROR: ("failed", "bold red"),
    EVENT_JOB_MISSED: ("missed", "yellow"),
    EVENT_JOB_MAX_INSTANCES: ("skipped", "yellow"),
    EVENT_JOB_LOST: ("lost", "bold red"),
    EVENT_JOB_COALESCED: ("merged", "yellow"),
    EVENT_JOB_UNAVAILABLE: CANNOT_RUN,
    EVENT_JOB_ADDED: ("added", "cyan"),
    EVENT_JOB_MODIFIED: ("changed", "cyan"),
    EVENT_JOB_REMOVED: ("removed", "cyan"),
}

# Job events that say nothing about runs, and come before the start for what is declared.
CHANGES = {EVENT_JOB_ADDED: "new", EVENT_JOB_MODIFIED: "changed"}


class LineReporter(Reporter):
    """Prints a line for everything that is worth one.

    :param console: where to print; colours are its business
    """

    def __init__(self, scheduler: BaseScheduler, console: Console):
        super().__init__(scheduler)
        self._console = console
        self._started = False
        self._news: dict[tuple[str | None, str], str] = {}
        self._labels: dict[tuple[str | None, str], str] = {}
        self._width = 8

    def _write_beginning(self, config: str, seconds: float | None) -> None:
        zone = self._scheduler.timezone
        self._write(
            f"APScheduler {apscheduler.__version__} runs {config}, times are in {zone}. "
            + (
                f"It stops after {format_seconds(seconds)}."
                if seconds is not None
                else "Stop it with Ctrl+C."
            )
        )

    def _write_stopping(self) -> None:
        self._write(STOPPING)

    def _write_summary(self) -> None:
        self._write(summary_of(self))

    def _write(self, text: str | Text, style: str = "") -> None:
        line = Text(text, style) if isinstance(text, str) else text
        self._console.print(line, soft_wrap=True, highlight=False)

    def _local(self, time: datetime) -> str:
        return format_time(time.astimezone(self._scheduler.timezone), self._now())

    # Events

    def _report(self, event: Any) -> None:
        if event.code == EVENT_SCHEDULER_STARTED:
            self._report_start()
        elif event.code in (EVENT_JOBSTORE_FAILED, EVENT_JOBSTORE_RECOVERED):
            self._report_store(event)
        elif not isinstance(event, JobEvent) or event.code not in WORDS:
            return
        elif not self._started:
            self._news[event.jobstore, event.job_id] = CHANGES.get(
                event.code, "removed"
            )
        elif (
            event.code != EVENT_JOB_REMOVED
        ):  # also what jobs do that have come to their end
            self._report_job(event)

    def _report_store(self, event: Any) -> None:
        if event.code == EVENT_JOBSTORE_RECOVERED:
            self._line(event.alias, "store answers again", "green", [])
            return
        retry = f"next try in {self._scheduler.jobstore_retry_interval:g} s"
        details = [f"{type(event.exception).__name__}: {event.exception}", retry]
        self._line(event.alias, "store fails", "bold red", details)

    def _report_job(self, event: JobEvent) -> None:
        word, style = WORDS[event.code]
        job = self._find(event)
        details = self._describe(event)
        if self._scheduler.running and event.code != EVENT_JOB_COALESCED:
            details.append(self._describe_next(job))
        self._line(self._label(event, job), word, style, details)

    def _describe(self, event: Any) -> list[str]:
        details = []
        if getattr(event, "duration", None) is not None:
            details.append(f"took {format_seconds(event.duration)}")
        if getattr(event, "started_at", None) is not None:
            late = (event.started_at - event.scheduled_run_time).total_seconds()
            if late > LATE_SECONDS:
                due = self._local(event.scheduled_run_time)
                details.append(f"was due at {due}, late by {format_seconds(late)}")
        if isinstance(event, JobRangeEvent):
            details.append(self._describe_range(event))
        elif event.code == EVENT_JOB_MISSED:
            details.append(f"too late for {self._local(event.scheduled_run_time)}")
        elif event.code == EVENT_JOB_MAX_INSTANCES:
            details.append("its last run is still going on")
        elif event.code == EVENT_JOB_LOST:
            details.append("whoever ran it is gone, the outcome is unknown")
        exc = getattr(event, "exception", None)
        if exc is not None:
            details.append(f"{type(exc).__name__}: {exc}".splitlines()[0])
        return details

    def _describe_range(self, event: JobRangeEvent) -> str:
        count = "many" if event.count is None else str(event.count)
        times = "time" if count == "1" else "times"
        since = self._local(event.first_run_time)
        if event.code == EVENT_JOB_COALESCED:
            return f"{count} run {times} since {since}, one run makes up for all"
        return f"{count} run {times} since {since}, too late to run"

    def _find(self, event: JobEvent) -> Job | None:
        try:
            return self._scheduler.get_job(event.job_id, event.jobstore)
        except Exception:  # the store fails, which is reported elsewhere
            return None

    def _describe_next(self, job: Job | None) -> str:
        if job is None:
            return "no further run"
        if job.next_run_time is None:
            return "paused"
        word = "next" if job.next_run_time > self._now() else "overdue since"
        return f"{word} {self._local(job.next_run_time)}"

    def _label(self, event: JobEvent, job: Job | None) -> str:
        """Return what to call a job: its id, unless that is a random one."""
        key = event.jobstore, event.job_id
        if job is not None:
            self._labels[key] = label_of(job)
        return self._labels.get(key, event.job_id)

    def _line(self, label: str, word: str, style: str, details: list[str]) -> None:
        self._width = max(self._width, min(len(label), 30))
        line = Text(f"{self._now():%H:%M:%S}  {label:<{self._width}}  ")
        line.append(f"{word:<7}", style)
        if details:
            line.append("  " + "; ".join(details))
        self._write(line)

    # The beginning

    def _report_start(self) -> None:
        self._started = True
        jobs = self._scheduler.get_jobs()
        self._width = max([8, *(min(len(label_of(job)), 30) for job in jobs)])
        for job in jobs:
            self._labels[job._jobstore_alias, job.id] = label_of(job)
        for (_, job_id), news in sorted(
            self._news.items(), key=lambda item: item[0][1]
        ):
            if news == "removed":
                self._line(job_id, "removed", "cyan", ["no longer declared"])
        if jobs:
            self._list(jobs)
        else:
            self._report_no_jobs()
        self._news.clear()

    def _list(self, jobs: list[Job]) -> None:
        self._write(self._count_jobs(jobs))
        for job in jobs[:MAX_LISTED]:
            details = [self._describe_next(job), *self._describe_last(job)]
            obstacle = find_missing_executor(self._scheduler, job.executor, job.id)
            if obstacle is None:
                news = self._news.get((job._jobstore_alias, job.id), "kept")
                self._line(label_of(job), news, "cyan", details)
            else:
                details.insert(0, obstacle.reason)
                self._line(label_of(job), *CANNOT_RUN, details)
        self._tell_of_more(len(jobs))

    def _report_no_jobs(self) -> None:
        """Tell that nothing will run: because there is nothing, or because nothing can be restored here."""
        scheduler = self._scheduler
        records = [
            record
            for alias in scheduler._matching_stores(None)
            for record in scheduler._native_store(alias).get_job_records()
            if record.error is not None  # else it has been added just now
        ]
        if not records:
            self._write("There are no jobs yet.")
            return
        number = f"{len(records)} job{'' if len(records) == 1 else 's'}"
        self._write(f"{number}, none of which can be restored here:")
        self._width = max([8, *(min(len(record.id), 30) for record in records)])
        for record in records[:MAX_LISTED]:
            self._line(record.id, *CANNOT_RUN, [str(record.error)])
        self._tell_of_more(len(records))

    def _tell_of_more(self, number: int) -> None:
        if number > MAX_LISTED:
            self._write(f"… and {number - MAX_LISTED} more jobs")

    def _count_jobs(self, jobs: list[Job]) -> str:
        known = [job for job in jobs if (job._jobstore_alias, job.id) in self._news]
        kept = len(jobs) - len(known)
        text = f"{len(jobs)} job{'' if len(jobs) == 1 else 's'}"
        if kept:
            text += f", {kept if known else 'all'} of them kept from the last time"
        return text + ":"

    def _describe_last(self, job: Job) -> list[str]:
        runs = self._scheduler.get_runs(
            job.id, FINISHED, jobstore=job._jobstore_alias, limit=1
        )
        if not runs:
            return []
        run = runs[0]
        when = self._local(run.started_at or run.scheduled_time)
        outcome = "ok" if run.state == "succeeded" else str(run.state.value)
        return [f"last run {when}, {outcome}"]


def label_of(job: Job) -> str:
    """Return what to call a job: its id, unless that is a random one; then its name."""
    is_random = len(job.id) == 32 and all(c in "0123456789abcdef" for c in job.id)
    return job.name if is_random else job.id


def summary_of(reporter: Reporter) -> str:
    """Return how many runs there were."""
    ran, failed = reporter.ran, reporter.failed
    text = f"Stopped after {ran} run{'' if ran == 1 else 's'}"
    return f"{text}, {failed} of them failed." if failed else f"{text}."
