"""What every executor promises, and what stands in for a scheduler there."""

import queue
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_MISSED,
    JobExecutionEvent,
)
from apscheduler.executors.base import (
    BaseExecutor,
    MaxInstancesReachedError,
    UnawaitedJobError,
)
from apscheduler.job import Job
from apscheduler.runs import RunTimes
from apscheduler.testing import jobs
from apscheduler.testing.contracts import Contract, only_if
from apscheduler.testing.jobs import PATIENCE, Gate, make_job

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)

# What can only be seen while a job runs.
meanwhile = only_if(lambda suite: not suite.runs_inline)


class RecordingScheduler:
    """Stands in for a scheduler: keeps the events that an executor reports."""

    timezone = UTC

    def __init__(self) -> None:
        self._events: queue.Queue[JobExecutionEvent] = queue.Queue()
        self.threads: list[threading.Thread] = []

    def _create_lock(self) -> Any:
        return threading.RLock()

    def _dispatch_event(self, event: JobExecutionEvent) -> None:
        self.threads.append(threading.current_thread())
        self._events.put(event)

    def next_event(self) -> JobExecutionEvent:
        """Wait for an event and return it.

        :raises queue.Empty: if there is none in good time
        """
        return self._events.get(timeout=PATIENCE)

    def pending_events(self) -> list[JobExecutionEvent]:
        """Return the events that are there already."""
        events = []
        while not self._events.empty():
            events.append(self._events.get_nowait())
        return events


class ExecutorContract(Contract):
    """What every executor promises. A subclass has a fixture ``executor``, which yields one that is not started."""

    runs_inline = False  # True: submitting a job returns when it has ended
    runs_coroutines = False  # True: there is an event loop

    @pytest.fixture
    def executor(self) -> Iterator[BaseExecutor]:
        """Override this."""
        raise NotImplementedError("yield an executor that has not been started")

    @pytest.fixture
    def scheduler(self) -> Iterator[RecordingScheduler]:
        """Override this if the executor needs more of its scheduler, such as its event loop."""
        yield RecordingScheduler()

    @pytest.fixture
    def started(
        self, executor: BaseExecutor, scheduler: RecordingScheduler
    ) -> Iterator[BaseExecutor]:
        executor.start(scheduler, "tested")  # type: ignore[arg-type]  # a stand-in
        yield executor
        executor.shutdown()

    @pytest.fixture
    def gate(self, started: BaseExecutor) -> Iterator[Gate]:
        with Gate() as gate:
            yield gate

    def run(
        self, executor: BaseExecutor, scheduler: RecordingScheduler, job: Job
    ) -> JobExecutionEvent:
        executor.submit_job(job, [NOON])
        return scheduler.next_event()

    def test_result_is_reported(
        self, started: BaseExecutor, scheduler: RecordingScheduler
    ) -> None:
        event = self.run(started, scheduler, make_job(jobs.add, 1, second=2))

        assert (event.code, event.retval) == (EVENT_JOB_EXECUTED, 3)
        assert (event.job_id, event.jobstore) == ("job", "default")
        assert event.scheduled_run_time == NOON
        assert event.exception is None
        assert event.traceback is None

    def test_start_and_duration_of_a_run_are_reported(
        self, started: BaseExecutor, scheduler: RecordingScheduler
    ) -> None:
        before = datetime.now(UTC)

        event = self.run(started, scheduler, make_job(jobs.add, 1, 2))

        assert event.started_at is not None
        assert before <= event.started_at <= datetime.now(UTC)
        assert event.duration is not None
        assert 0 <= event.duration < PATIENCE

    def test_failure_is_reported_with_exception_and_frames(
        self, started: BaseExecutor, scheduler: RecordingScheduler
    ) -> None:
        event = self.run(started, scheduler, make_job(jobs.fail, "no paper"))

        assert event.code == EVENT_JOB_ERROR
        assert isinstance(event.exception, RuntimeError)
        assert str(event.exception) == "no paper"
        assert "in fail" in (event.traceback or "")
        assert "RuntimeError: " not in (event.traceback or "")

    def test_exit_of_the_program_is_reported_as_failure(
        self, started: BaseExecutor, scheduler: RecordingScheduler
    ) -> None:
        event = self.run(started, scheduler, make_job(jobs.exit_program))

        assert event.code == EVENT_JOB_ERROR
        assert isinstance(event.exception, SystemExit)

    def test_run_later_than_its_grace_time_is_missed(
        self, started: BaseExecutor, scheduler: RecordingScheduler
    ) -> None:
        late = datetime.now(UTC) - timedelta(seconds=61)

        started.submit_job(make_job(jobs.add, 1, 2, misfire_grace_time=60), [late])
        event = scheduler.next_event()

        assert (event.code, event.scheduled_run_time) == (EVENT_JOB_MISSED, late)
        assert event.started_at is None

    def test_run_within_its_grace_time_is_not_missed(
        self, started: BaseExecutor, scheduler: RecordingScheduler
    ) -> None:
        late = datetime.now(UTC) - timedelta(seconds=1)

        started.submit_job(make_job(jobs.add, 1, 2, misfire_grace_time=600), [late])

        assert scheduler.next_event().code == EVENT_JOB_EXECUTED

    def test_lateness_is_measured_on_the_clock_of_the_scheduler(
        self, started: BaseExecutor, scheduler: RecordingScheduler
    ) -> None:
        now = datetime.now(UTC)
        ahead = RunTimes([now], ("a",), clock_offset=timedelta(minutes=10))

        started.submit_job(make_job(jobs.add, 1, 2, misfire_grace_time=60), ahead)

        assert scheduler.next_event().code == EVENT_JOB_MISSED

    def test_runs_of_a_batch_follow_one_another_and_keep_their_identity(
        self, started: BaseExecutor, scheduler: RecordingScheduler
    ) -> None:
        times = [NOON + timedelta(seconds=second) for second in range(3)]
        run_times = RunTimes(times, ("a", "b", "c"), "claim", attempt=2)

        started.submit_job(make_job(jobs.tell_run), run_times)
        events = [scheduler.next_event() for _ in times]

        assert [event.scheduled_run_time for event in events] == times
        assert [event.run_id for event in events] == ["a", "b", "c"]
        assert [event.attempt for event in events] == [2, 2, 2]
        assert [event.retval for event in events] == [
            (run_id, "job", time, 2) for run_id, time in zip("abc", times, strict=True)
        ]

    def test_run_times_without_identity_are_accepted(
        self, started: BaseExecutor, scheduler: RecordingScheduler
    ) -> None:
        event = self.run(started, scheduler, make_job(jobs.tell_run))

        assert event.retval == ("", "job", NOON, 1)
        assert event.run_id is None

    def test_finished_runs_are_no_longer_counted(
        self, started: BaseExecutor, scheduler: RecordingScheduler
    ) -> None:
        for func in (jobs.exit_program, jobs.add_async, jobs.tell_run):
            args = (1, 2) if func is jobs.add_async else ()
            self.run(started, scheduler, make_job(func, *args))

        assert dict(started._instances) == {}

    @meanwhile
    def test_no_more_instances_than_allowed_run_at_once(
        self, started: BaseExecutor, scheduler: RecordingScheduler, gate: Gate
    ) -> None:
        job = make_job(jobs.pass_gate, gate.port, max_instances=2)
        started.submit_job(job, [NOON])
        started.submit_job(job, [NOON])

        with pytest.raises(MaxInstancesReachedError, match=r"'job'.*\(2\)"):
            started.submit_job(job, [NOON])

        gate.wait_for_arrival()
        gate.wait_for_arrival()
        gate.open()
        assert [scheduler.next_event().retval for _ in "ab"] == ["passed", "passed"]

    def test_instance_that_has_ended_makes_room_for_another(
        self, started: BaseExecutor, scheduler: RecordingScheduler
    ) -> None:
        job = make_job(jobs.add, 1, 2, max_instances=1)

        for _ in range(3):
            assert self.run(started, scheduler, job).retval == 3

    def test_failed_submission_is_raised_and_not_counted(
        self,
        started: BaseExecutor,
        scheduler: RecordingScheduler,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def refuse(*args: object) -> None:
            raise RuntimeError("refused")

        job = make_job(jobs.add, 1, 2)
        with monkeypatch.context() as patch:
            patch.setattr(started, "_do_submit_job", refuse)
            with pytest.raises(RuntimeError, match="refused"):
                started.submit_job(job, [NOON])

        assert dict(started._instances) == {}
        assert self.run(started, scheduler, job).retval == 3

    @meanwhile
    def test_capacity_shrinks_while_jobs_run_and_comes_back(
        self, started: BaseExecutor, scheduler: RecordingScheduler, gate: Gate
    ) -> None:
        if started.slots is None:
            assert started.capacity() is None
            return
        before = started.capacity()
        started.submit_job(make_job(jobs.pass_gate, gate.port), [NOON])

        during = started.capacity()

        assert before == started.slots
        assert during == started.slots - 1
        gate.wait_for_arrival()
        gate.open()
        scheduler.next_event()
        assert (started.capacity() or 0) >= started.slots

    def test_submitting_before_start_is_refused(self, executor: BaseExecutor) -> None:
        with pytest.raises(AssertionError, match="not been started"):
            executor.submit_job(make_job(jobs.add, 1, 2), [NOON])

        executor.shutdown()

    @meanwhile
    def test_shutdown_that_waits_returns_when_the_runs_have_ended(
        self, started: BaseExecutor, scheduler: RecordingScheduler, gate: Gate
    ) -> None:
        started.submit_job(make_job(jobs.pass_gate, gate.port), [NOON])
        gate.wait_for_arrival()
        opener = threading.Timer(0.05, gate.open)
        opener.start()

        started.shutdown(True)

        assert [event.retval for event in scheduler.pending_events()] == ["passed"]
        opener.join()

    @meanwhile
    def test_shutdown_that_does_not_wait_leaves_functions_running(
        self, started: BaseExecutor, scheduler: RecordingScheduler, gate: Gate
    ) -> None:
        started.submit_job(make_job(jobs.pass_gate, gate.port), [NOON])
        gate.wait_for_arrival()

        started.shutdown(False)

        assert scheduler.pending_events() == []
        gate.open()
        assert scheduler.next_event().retval == "passed"

    def test_shutting_down_twice_does_no_harm(self, started: BaseExecutor) -> None:
        started.shutdown()
        started.shutdown()

    def test_it_can_be_started_again_after_shutdown(
        self, started: BaseExecutor, scheduler: RecordingScheduler
    ) -> None:
        self.run(started, scheduler, make_job(jobs.add, 1, 2))
        started.shutdown()

        started.start(scheduler, "tested")  # type: ignore[arg-type]  # a stand-in

        assert self.run(started, scheduler, make_job(jobs.add, 2, 3)).retval == 5

    @pytest.mark.parametrize("name", ["add_async", "start_adding", "async_adder"])
    def test_coroutines_are_awaited_or_reported_as_failures(
        self, started: BaseExecutor, scheduler: RecordingScheduler, name: str
    ) -> None:
        job = make_job(f"apscheduler.testing.jobs:{name}", 1, 2)

        event = self.run(started, scheduler, job)

        if self.runs_coroutines:
            assert (event.code, event.retval) == (EVENT_JOB_EXECUTED, 3)
        else:
            assert event.code == EVENT_JOB_ERROR
            assert isinstance(event.exception, UnawaitedJobError)

    def test_records_go_to_the_logger_of_the_alias(
        self,
        started: BaseExecutor,
        scheduler: RecordingScheduler,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        started._run_job_error("job", RuntimeError("paper jam"))

        assert [(record.name, record.levelname) for record in caplog.records] == [
            ("apscheduler.executors.tested", "ERROR")
        ]
        assert "job" in caplog.text
        assert "paper jam" in caplog.text
