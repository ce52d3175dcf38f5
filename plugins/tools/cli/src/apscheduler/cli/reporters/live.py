"""A view for people at a terminal: what comes next, what is running, and what has happened lately."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from apscheduler.cli.reporters.lines import LineReporter, label_of
from apscheduler.cli.reporters.terminal import Terminal
from apscheduler.cli.shared import format_seconds
from apscheduler.events import EVENT_JOB_SUBMITTED, JobExecutionEvent
from apscheduler.job import Job
from apscheduler.runs import RunState
from apscheduler.schedulers.base import BaseScheduler

# How often it is drawn at most, in seconds.
DRAW_PAUSE = 0.25

# How long nobody looks into the stores when nothing happens here: other processes change them as well.
LOOK_PAUSE = 5.0
# Looking takes at most one part in so many of the time.
LOOK_SHARE = 20

# The most rows of a part, and the lines of the view that are no rows.
MAX_ROWS, OTHER_LINES = 10, 10

# A run that goes on for longer is looked up: it may have been given back without a word.
UNSURE_AFTER = timedelta(seconds=10)
REMEMBERED = 10_000

Key = tuple[str | None, str, datetime]


class Going(NamedTuple):
    """A run that was handed to an executor here."""

    run_id: str | None
    label: str
    since: datetime


class LiveReporter(LineReporter):
    """Shows what goes on, and what the functions of jobs print above that."""

    pause = DRAW_PAUSE

    def __init__(self, scheduler: BaseScheduler, terminal: Terminal):
        console = Console(file=terminal.file)
        super().__init__(scheduler, console)
        self._terminal = terminal
        # Held while anything is written: where the view begins is worked out before, and another thread may show lines.
        self._writing = threading.Lock()
        self._live = Live(
            console=console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._recent: deque[Text] = deque(maxlen=MAX_ROWS)
        self._going: dict[Key, Going] = {}
        self._ended: dict[Key, None] = {}  # the latest, oldest first
        self._jobs: Sequence[Job] = ()
        self._is_outdated = True
        self._look_at = self._draw_at = self._looked_at = 0.0
        self._remark: Text | None = None

    def begin(self, config: str, seconds: float | None) -> None:
        """Have the terminal to itself before anything runs."""
        self._terminal.take(self._show_above)
        super().begin(config, seconds)

    def close(self) -> None:
        """End the view."""
        super().close()
        self._end_view()

    def _end_view(self) -> None:
        self._terminal.give_back()
        self._live.stop()

    def abandon(self) -> None:
        """Show the cursor again."""
        with suppress(OSError):
            self._terminal.leave()

    def _show_above(self, lines: str) -> None:
        # Whatever it is, such as a terminal that is gone: it is no reason for jobs to fail.
        with suppress(Exception), self._writing:
            self._console.print(Text.from_ansi(lines), soft_wrap=True)

    def _write(self, text: str | Text, style: str = "") -> None:
        if self._live.is_started:
            self._recent.append(text if isinstance(text, Text) else Text(text, style))
        else:
            super()._write(text, style)

    def _write_stopping(self) -> None:
        self._remark = Text(
            "Stopping when the running ones have ended; press Ctrl+C (again) to abort them.",
            "yellow",
        )

    def _write_summary(self) -> None:
        self._show(Group(*self._recent))
        self._end_view()
        super()._write_summary()

    def _report(self, event: Any) -> None:
        self._is_outdated = True
        if event.code == EVENT_JOB_SUBMITTED:
            self._note_started(event)
        elif isinstance(event, JobExecutionEvent):
            self._note_ended((event.jobstore, event.job_id, event.scheduled_run_time))
        super()._report(event)
        self._look()

    def _note_started(self, event: Any) -> None:
        times = event.scheduled_run_times
        ids = getattr(times, "run_ids", None) or [None] * len(times)
        label = self._label(event, None)
        for run_id, run_time in zip(ids, times, strict=True):
            key = event.jobstore, event.job_id, run_time
            if key not in self._ended:  # short ones have by the time this is told
                self._going[key] = Going(run_id, label, self._now())

    def _note_ended(self, key: Key) -> None:
        self._going.pop(key, None)
        self._ended[key] = None
        while len(self._ended) > REMEMBERED:
            del self._ended[next(iter(self._ended))]

    def _report_start(self) -> None:
        self._started = True
        with self._writing:
            self._live.start()
        self._read_stores()
        last = self._scheduler.get_runs(limit=MAX_ROWS)
        for run in reversed([run for run in last if run.state.is_final]):
            line = Text(f"{self._local(run.finished_at or run.scheduled_time)}  ")
            line.append(f"{run.job_id:<{self._width}}  {run.state.value}  ", "dim")
            line.append("before the start", "dim")
            self._recent.append(line)

    # Looking

    def _look(self) -> None:
        now = time.monotonic()
        if not self._live.is_started or now < self._draw_at:
            return
        is_due = self._is_outdated or now > self._looked_at + LOOK_PAUSE
        if is_due and now >= self._look_at:
            with suppress(Exception):  # a store that fails is reported elsewhere
                self._read_stores()
        self._show(self._draw())
        self._draw_at = time.monotonic() + DRAW_PAUSE

    def _show(self, view: RenderableType) -> None:
        with self._writing:
            self._live.update(view, refresh=True)

    def _read_stores(self) -> None:
        begin = time.monotonic()
        try:
            jobs = [job for job in self._scheduler.get_jobs() if job.next_run_time]
            jobs.sort(key=lambda job: job.next_run_time.timestamp())  # type: ignore[union-attr]  # has one, see above
            self._jobs = jobs
            for job in jobs[:MAX_ROWS]:
                self._labels[job._jobstore_alias, job.id] = label_of(job)
            self._look_up_unsure()
            self._is_outdated = False
        finally:
            self._looked_at = time.monotonic()
            cost = self._looked_at - begin
            self._look_at = self._looked_at + max(DRAW_PAUSE, LOOK_SHARE * cost)

    def _look_up_unsure(self) -> None:
        limit = self._now() - UNSURE_AFTER
        for key, going in list(self._going.items())[:MAX_ROWS]:
            if going.since > limit or going.run_id is None:
                continue
            run = self._scheduler.get_run(going.run_id, key[0])
            if run is None or run.state is not RunState.RUNNING:
                self._going.pop(key, None)

    # Drawing

    def _draw(self) -> RenderableType:
        now = self._now()
        rows = max(1, min(MAX_ROWS, (self._console.height - OTHER_LINES) // 3))
        coming = [
            (
                f"{self._local(job.next_run_time)}",
                label_of(job),
                _describe_span(job.next_run_time - now),
            )
            for job in self._jobs[:rows]
            if job.next_run_time is not None
        ]
        going = [
            (
                f"{self._local(each.since)}",
                each.label,
                f"for {format_seconds((now - each.since).total_seconds())}",
            )
            for each in list(self._going.values())[:rows]
        ]
        recent = list(self._recent)[-rows:]
        for line in recent:
            line.no_wrap, line.overflow = True, "ellipsis"
        counts = f"{self.ran} run{'' if self.ran == 1 else 's'}, {self.failed} failed"
        return Group(
            *self._part("Next", coming, len(self._jobs)),
            *self._part("Running", going, len(self._going)),
            Text("Recent", "bold"),
            *(recent or [Text("nothing yet", "dim")]),
            self._remark or Text(counts, "dim"),
        )

    def _part(
        self, title: str, rows: Sequence[tuple[str, str, str]], count: int
    ) -> list[RenderableType]:
        more = f" ({len(rows)} of {count})" if count > len(rows) else ""
        table = Table.grid(padding=(0, 2))
        for _ in range(3):
            table.add_column(no_wrap=True)
        for time_, label, text in rows:
            table.add_row(time_, Text(label), Text(text, "dim"))
        return [
            Text(title + more, "bold"),
            table if rows else Text("nothing", "dim"),
            Text(""),
        ]


def _describe_span(span: timedelta) -> str:
    seconds = span.total_seconds()
    if seconds < 0:
        return "due" if seconds > -1 else f"due for {format_seconds(-seconds)}"
    return f"in {format_seconds(seconds // 1)}"
