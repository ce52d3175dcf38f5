"""A scheduler on a clock that a test advances, and what can be said of its jobs afterwards."""

import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, NoReturn, Self

from apscheduler.config import create_scheduler
from apscheduler.events import EVENT_SCHEDULER_STARTED
from apscheduler.job import Job
from apscheduler.runs import RunState
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.schedulers.looping import LoopScheduler
from apscheduler.testing.jobs import PATIENCE
from apscheduler.testing.recording import RecordedRun, Recorder
from apscheduler.testing.stepping import SteppingClock
from apscheduler.triggers.base import BaseTrigger

SchedulerSource = (
    str
    | os.PathLike[str]
    | Mapping[str, Any]
    | BaseScheduler
    | Callable[[], BaseScheduler]
)

# What assert_scheduled() compares besides the trigger.
ATTRIBUTES = frozenset(
    {
        "args",
        "coalesce",
        "executor",
        "func",
        "kwargs",
        "max_instances",
        "misfire_grace_time",
        "name",
        "next_run_time",
    }
)


class SchedulerTest:
    """A scheduler under test.

    :param source: a configuration, the path of one, a scheduler that was not started, or a function that makes one
    :ivar scheduler: the scheduler
    :ivar clock: its clock
    """

    def __init__(self, source: SchedulerSource, clock: SteppingClock):
        self.scheduler = _make_scheduler(source)
        if self.scheduler.running:
            raise ValueError(
                f"{type(self.scheduler).__name__} is running already: a test needs a scheduler that was not started"
            )
        self.clock = clock
        self._own_clock = self.scheduler._clock
        self.scheduler._clock = clock
        self._recorder = Recorder(self.scheduler)
        clock.attach(self._recorder)

    # Life

    def start(self) -> None:
        """Start the scheduler; one that would block is started in a thread."""
        if not _blocks(self.scheduler):
            self.scheduler.start()
            return
        started = threading.Event()
        errors: list[BaseException] = []

        def run() -> None:
            try:
                self.scheduler.start()
            except BaseException as exc:
                errors.append(exc)
                started.set()

        def note(event: object) -> None:
            started.set()

        self.scheduler.add_listener(note, EVENT_SCHEDULER_STARTED)
        threading.Thread(target=run, name="APScheduler under test", daemon=True).start()
        try:
            if not started.wait(PATIENCE):
                raise TimeoutError(
                    f"The scheduler has not started within {PATIENCE} seconds"
                )
        finally:
            self.scheduler.remove_listener(note)
        if errors:
            raise errors[0]

    def close(self) -> None:
        """Shut the scheduler down and give it back the clock it had."""
        if self.scheduler.running:
            self.scheduler.shutdown(wait=PATIENCE)
        self._recorder.close()
        self.clock.detach(self._recorder)
        self.scheduler._clock = self._own_clock

    async def __aenter__(self) -> Self:
        """Start the scheduler on the event loop, unless it is running."""
        if not self.scheduler.running:
            self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.scheduler.running:
            self.scheduler.shutdown()
        wait_closed = getattr(self.scheduler, "wait_closed", None)
        if wait_closed is not None:
            await wait_closed()

    # Time

    def run_due(self) -> None:
        """Run what is due now; see :meth:`SteppingClock.run_due`."""
        self.clock.run_due()

    async def run_due_async(self) -> None:
        """Run what is due now, on the event loop."""
        await self.clock.run_due_async()

    # What ran

    @property
    def raise_failures(self) -> bool:
        """Whether a job that fails ends the test (the default); else look at :meth:`failures`."""
        return self._recorder.raises

    @raise_failures.setter
    def raise_failures(self, value: bool) -> None:
        self._recorder.raises = value

    def runs(self, job_id: str | None = None) -> list[RecordedRun]:
        """Return the runs of a job, or of all, in the order in which they ended."""
        return [run for run in self._records(job_id) if run.has_run]

    def failures(self, job_id: str | None = None) -> list[RecordedRun]:
        """Return the runs that failed."""
        return [run for run in self.runs(job_id) if run.state is RunState.FAILED]

    def not_run(self, job_id: str | None = None) -> list[RecordedRun]:
        """Return the fire times that did not run: missed, coalesced, skipped, lost."""
        return [run for run in self._records(job_id) if not run.has_run]

    def _records(self, job_id: str | None) -> list[RecordedRun]:
        return [run for run in self._recorder.runs if job_id in (None, run.job_id)]

    def forget_runs(self) -> None:
        """Forget what has run until now."""
        self._recorder.runs.clear()

    def assert_ran(
        self,
        job_id: str,
        times: int | None = None,
        at: Sequence[datetime] | None = None,
    ) -> None:
        """Check that a job has run, successfully or not.

        :param times: exactly so often; None: at least once
        :param at: exactly at these times
        """
        __tracebackhide__ = True
        found = [run.scheduled_time for run in self.runs(job_id)]
        if at is not None and found != list(at):
            wanted = _list(at)
            self._fail(f"Job {job_id!r} should have run at{wanted}\nIt ran at", found)
        if times is None and not found:
            self._fail(f"Job {job_id!r} has not run. What ran:", self.runs())
        if times is not None and len(found) != times:
            text = f"Job {job_id!r} should have run {times} times, but ran {len(found)} times"
            self._fail(f"{text}:", found)

    def assert_not_ran(self, job_id: str) -> None:
        """Check that a job has not run."""
        __tracebackhide__ = True
        found = self.runs(job_id)
        if found:
            self._fail(f"Job {job_id!r} should not have run, but did:", found)

    # What is scheduled

    def assert_scheduled(
        self,
        job_id: str,
        trigger: BaseTrigger | str | None = None,
        jobstore: str | None = None,
        **expected: Any,
    ) -> Job:
        """Check that there is a job, and what it is like; return it.

        :param trigger: a trigger that looks the same, or its text, such as ``"interval[1:00:00]"``
        :param jobstore: alias of the store that it must be in
        :param expected: attributes of the job, such as ``next_run_time``
        :raises TypeError: if there is no such attribute
        """
        __tracebackhide__ = True
        unknown = expected.keys() - ATTRIBUTES
        if unknown:
            raise TypeError(
                f"Jobs have no attribute {min(unknown)!r} to compare, but {', '.join(sorted(ATTRIBUTES))}"
            )
        job = self.scheduler.get_job(job_id, jobstore)
        if job is None:
            where = "" if jobstore is None else f" in store {jobstore!r}"
            self._fail(
                f"No job {job_id!r} is scheduled{where}. There are:",
                self.scheduler.get_jobs(jobstore),
            )
        found = {name: getattr(job, name, None) for name in expected}
        if trigger is not None:
            expected, found = (
                {"trigger": str(trigger), **expected},
                {"trigger": str(job.trigger), **found},
            )
        if "args" in expected:
            expected["args"] = tuple(expected["args"])
        wrong = [
            f"{name}: should be {value!s}, but is {found[name]!s}"
            for name, value in expected.items()
            if found[name] != value
        ]
        if wrong:
            self._fail(f"Job {job_id!r} is scheduled, but not as it should be:", wrong)
        return job

    def assert_not_scheduled(self, job_id: str, jobstore: str | None = None) -> None:
        """Check that there is no such job: it was removed, or its schedule is over."""
        __tracebackhide__ = True
        job = self.scheduler.get_job(job_id, jobstore)
        if job is not None:
            self._fail("There should be no such job:", [job])

    def _fail(self, text: str, details: Sequence[object]) -> NoReturn:
        __tracebackhide__ = True
        raise AssertionError(
            f"{text}{_list(details)}\nThe clock shows {self.clock.now().isoformat()}"
        )


def _list(details: Sequence[object]) -> str:
    if not details:
        return "\n  (nothing)"
    return "".join(f"\n  {detail!s}" for detail in details)


def _make_scheduler(source: SchedulerSource) -> BaseScheduler:
    if isinstance(source, BaseScheduler):
        return source
    if not callable(source):
        return create_scheduler(source)
    made = source()
    if not isinstance(made, BaseScheduler):
        raise TypeError(
            f"The function in 'apscheduler_config' must return a scheduler, but returned {made!r}"
        )
    return made


def _blocks(scheduler: BaseScheduler) -> bool:
    blocking = sys.modules.get("apscheduler.schedulers.blocking")
    return (
        blocking is not None
        and type(scheduler).start is blocking.BlockingScheduler.start
    )


def needs_loop(scheduler: BaseScheduler) -> bool:
    """Return whether a scheduler can only be started on an event loop."""
    return isinstance(scheduler, LoopScheduler)
