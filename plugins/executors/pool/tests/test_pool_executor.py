import concurrent.futures
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

import apscheduler.executors.pool
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED, EVENT_JOB_LOST
from apscheduler.executors.base import MaxInstancesReachedError
from apscheduler.executors.pool import (
    BasePoolExecutor,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    WorkerError,
)
from apscheduler.testing import jobs
from apscheduler.testing.executors import NOON, ExecutorContract, RecordingScheduler
from apscheduler.testing.jobs import PATIENCE, Gate, make_job


class TestThreadPoolExecutor(ExecutorContract):
    @pytest.fixture
    def executor(self) -> Any:
        return ThreadPoolExecutor(3)


class TestForeignPool(ExecutorContract):
    """A subclass with a pool of its own, as third parties write it."""

    @pytest.fixture
    def executor(self) -> Any:
        class Foreign(BasePoolExecutor):
            def _make_pool(self) -> Any:
                return concurrent.futures.ThreadPoolExecutor(3)

        return Foreign(concurrent.futures.ThreadPoolExecutor(3))


class TestProcessPoolExecutor(ExecutorContract):
    # Forking from a server that has imported everything saves half a second per test over spawning.
    @pytest.fixture
    def executor(self) -> Any:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["__main__", "apscheduler.testing.executors"])
        return ProcessPoolExecutor(2, {"mp_context": context})


@pytest.fixture
def scheduler() -> Any:
    return RecordingScheduler()


def start(executor: Any, scheduler: RecordingScheduler) -> Any:
    executor.start(scheduler, "default")
    return executor


@pytest.fixture
def threads(scheduler: RecordingScheduler) -> Iterator[ThreadPoolExecutor]:
    executor = start(ThreadPoolExecutor(2), scheduler)
    yield executor
    executor.shutdown()


@pytest.fixture
def processes(scheduler: RecordingScheduler) -> Iterator[ProcessPoolExecutor]:
    executor = start(ProcessPoolExecutor(1), scheduler)
    yield executor
    executor.shutdown()


@pytest.mark.parametrize("cls", [ThreadPoolExecutor, ProcessPoolExecutor])
class TestArguments:
    def test_number_of_workers_may_be_text(self, cls: Any) -> None:
        executor = cls("20")

        assert executor.slots == 20
        assert executor._pool._max_workers == 20

    @pytest.mark.parametrize("value", [0, "0", -1, "many", None, ""])
    def test_bad_number_of_workers_is_named(self, cls: Any, value: Any) -> None:
        with pytest.raises(ValueError, match=f"'max_workers'.* is {value!r}$"):
            cls(value)

    def test_arguments_for_the_pool_are_left_as_they_were(self, cls: Any) -> None:
        kwargs = {"initializer": print, "initargs": ("hello",)}

        executor = cls(1, pool_kwargs=kwargs)

        assert kwargs == {"initializer": print, "initargs": ("hello",)}
        assert executor.pool_kwargs.items() >= kwargs.items()

    def test_work_is_refused_after_shutdown(
        self, cls: Any, scheduler: RecordingScheduler
    ) -> None:
        executor = start(cls(1), scheduler)
        executor.shutdown()

        with pytest.raises(RuntimeError, match="shutdown"):
            executor.submit_job(make_job(jobs.add, 1, 2), [NOON])

        assert dict(executor._instances) == {}


class IdlePool(concurrent.futures.ThreadPoolExecutor):
    """Notes what it is asked for, and gives no thread before it is told to."""

    def __init__(self) -> None:
        super().__init__(3)
        self.asked: list[Any] = []

    def submit(self, *call: Any, **kwargs: Any) -> Any:
        self.asked.append(call)
        return concurrent.futures.Future()


def test_no_more_threads_are_woken_than_find_something_to_do(scheduler: Any) -> None:
    executor = ThreadPoolExecutor(3)
    pool = executor._pool = IdlePool()
    executor.start(scheduler, "pool")
    for name in "abcde":
        executor.submit_job(make_job(jobs.add, 1, 2, id=name), [NOON])
    assert len(pool.asked) == 1

    func, *args = pool.asked[0]
    # The thread does it all, and the one that it asks for does not come.
    func(*args)

    assert len(pool.asked) == 2
    assert [event.job_id for event in scheduler.pending_events()] == list("abcde")


def test_long_runs_that_were_submitted_together_run_at_the_same_time(
    scheduler: Any,
) -> None:
    executor = ThreadPoolExecutor(3)
    executor.start(scheduler, "pool")
    together = threading.Barrier(3, timeout=PATIENCE)
    for name in "abc":
        executor.submit_job(make_job(together.wait, id=name), [NOON])
    executor.shutdown()

    events = scheduler.pending_events()
    assert [event.exception for event in events] == [None] * 3


def test_initializer_of_the_user_runs_in_each_thread(
    scheduler: RecordingScheduler,
) -> None:
    seen = []
    kwargs = {"initializer": lambda tag: seen.append(tag), "initargs": ("mine",)}
    executor = start(ThreadPoolExecutor(1, kwargs), scheduler)

    executor.submit_job(make_job(jobs.add, 1, 2), [NOON])
    executor.shutdown()

    assert seen == ["mine"]


def test_failing_initializer_is_reported_for_each_job(
    scheduler: RecordingScheduler,
) -> None:
    executor = start(ThreadPoolExecutor(1, {"initializer": jobs.fail}), scheduler)

    executor.submit_job(make_job(jobs.add, 1, 2), [NOON])
    event = scheduler.next_event()
    executor.shutdown()

    assert event.code == EVENT_JOB_ERROR
    assert isinstance(event.exception, concurrent.futures.BrokenExecutor)


def test_failure_outside_the_job_is_reported(
    threads: ThreadPoolExecutor,
    scheduler: RecordingScheduler,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*args: Any) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(apscheduler.executors.pool, "run_job", broken)

    threads.submit_job(make_job(jobs.add, 1, 2), [NOON, NOON])
    events = [scheduler.next_event(), scheduler.next_event()]

    assert [event.code for event in events] == [EVENT_JOB_ERROR] * 2
    assert isinstance(events[0].exception, MemoryError)
    assert "in broken" in str(events[0].traceback)
    assert dict(threads._instances) == {}


def test_work_that_was_cancelled_in_the_pool_is_reported(
    scheduler: RecordingScheduler,
) -> None:
    executor = start(
        BasePoolExecutor(concurrent.futures.ThreadPoolExecutor(1)), scheduler
    )
    with Gate() as gate:
        executor.submit_job(make_job(jobs.pass_gate, gate.port), [NOON])
        gate.wait_for_arrival()
        executor.submit_job(make_job(jobs.add, 1, 2, id="queued"), [NOON])
        executor._pool.shutdown(wait=False, cancel_futures=True)

        event = scheduler.next_event()

    executor.shutdown()
    assert (event.job_id, event.code) == ("queued", EVENT_JOB_ERROR)


def test_job_may_shut_down_its_own_pool_and_waits_for_the_others(
    threads: ThreadPoolExecutor, scheduler: RecordingScheduler
) -> None:
    with Gate() as gate:
        threads.submit_job(make_job(jobs.pass_gate, gate.port, id="other"), [NOON])
        gate.wait_for_arrival()
        opener = threading.Timer(0.05, gate.open)

        def stop() -> None:
            opener.start()
            threads.shutdown(True)

        threads.submit_job(make_job(stop, id="caller"), [NOON])
        events = [scheduler.next_event(), scheduler.next_event()]
        opener.join()

    assert [event.job_id for event in events] == ["other", "caller"]
    assert [event.exception for event in events] == [None, None]


@pytest.mark.parametrize("cls", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_what_still_runs_after_a_restart_takes_up_no_slots_but_counts_as_instance(
    cls: Any, scheduler: RecordingScheduler
) -> None:
    executor = start(cls(1), scheduler)
    with Gate() as gate:
        job = make_job(jobs.pass_gate, gate.port, id="hung")
        executor.submit_job(job, [NOON])
        gate.wait_for_arrival()
        executor.shutdown(False)
        executor.start(scheduler, "default")

        assert executor.capacity() == 1
        with pytest.raises(MaxInstancesReachedError):
            executor.submit_job(job, [NOON])
        again = make_job(jobs.pass_gate, gate.port, id="again")
        executor.submit_job(again, [NOON])
        gate.wait_for_arrival()
        assert executor.capacity() == 0

    ended = {scheduler.next_event().job_id for _ in range(2)}
    executor.shutdown()
    assert ended == {"hung", "again"}
    assert (executor._outstanding, dict(executor._instances)) == (0, {})


def test_two_jobs_that_shut_down_their_pool_do_not_wait_for_each_other(
    scheduler: RecordingScheduler,
) -> None:
    executor = start(ThreadPoolExecutor(2), scheduler)
    both = threading.Barrier(2)

    def stop() -> Any:
        both.wait(PATIENCE)
        executor.shutdown(True)

    for job_id in "ab":
        executor.submit_job(make_job(stop, id=job_id), [NOON])
    events = [scheduler.next_event(), scheduler.next_event()]

    assert [event.code for event in events] == [EVENT_JOB_EXECUTED] * 2


@pytest.mark.parametrize("cls", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_listener_may_shut_down_the_pool_that_reports_to_it(cls: Any) -> None:
    executors: list[Any] = []

    class StoppingScheduler(RecordingScheduler):
        def _dispatch_event(self, event: Any) -> None:
            executors[0].shutdown(True)
            super()._dispatch_event(event)

    scheduler = StoppingScheduler()
    executor = start(cls(1), scheduler)
    executors.append(executor)

    executor.submit_job(make_job(jobs.add, 1, 2), [NOON])

    assert scheduler.next_event().retval == 3
    executor.shutdown()


def test_what_workers_cannot_send_is_reported_and_the_pool_goes_on(
    processes: ProcessPoolExecutor,
    scheduler: RecordingScheduler,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = processes._pool
    cases = {
        jobs.return_lock: "result could not be sent back.*lock",
        jobs.return_breaking: "result could not be sent back.*not a number",
        jobs.fail_with_lock: "RuntimeError.*holds a lock",
        jobs.fail_with_two_arguments: "NeedsTwoArguments: this and that",
    }
    for func, message in cases.items():
        processes.submit_job(make_job(func), [NOON])
        event = scheduler.next_event()

        assert event.code == EVENT_JOB_ERROR
        assert isinstance(event.exception, WorkerError)
        with pytest.raises(WorkerError, match=message):
            raise event.exception
    processes.submit_job(make_job(os.getpid), [NOON])
    assert scheduler.next_event().retval in {
        child.pid for child in multiprocessing.active_children()
    }
    assert processes._pool is pool


def test_job_that_cannot_be_pickled_is_refused_at_submission(
    processes: ProcessPoolExecutor,
) -> None:
    with pytest.raises(ValueError, match="cannot be serialized"):
        processes.submit_job(make_job(lambda: 1), [NOON])

    assert dict(processes._instances) == {}


def test_job_that_cannot_be_restored_in_the_worker_is_reported(
    processes: ProcessPoolExecutor,
    scheduler: RecordingScheduler,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jobs, "only_here", jobs.add, raising=False)
    job = make_job("apscheduler.testing.jobs:only_here", 1, 2)
    job.func_ref = "apscheduler.testing.jobs:only_here"

    processes.submit_job(job, [NOON])
    event = scheduler.next_event()

    assert event.code == EVENT_JOB_ERROR
    assert isinstance(event.exception, WorkerError)
    assert "only_here" in str(event.exception)


def test_run_in_a_worker_that_dies_fails_and_queued_jobs_run_elsewhere(
    processes: ProcessPoolExecutor,
    scheduler: RecordingScheduler,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Gate() as gate:
        processes.submit_job(
            make_job(jobs.pass_gate, gate.port, id="dies"), [NOON, NOON]
        )
        victim = gate.wait_for_arrival()
        for number in range(5):  # more than a pool hands to its workers in advance
            job = make_job(jobs.add, number, 10, id=f"queued{number}")
            processes.submit_job(job, [NOON])
        os.kill(victim, signal.SIGKILL)
        failed = [scheduler.next_event(), scheduler.next_event()]
        others = [scheduler.next_event() for _ in range(5)]

    assert [(event.job_id, event.code) for event in failed] == [
        ("dies", EVENT_JOB_ERROR)
    ] * 2
    assert isinstance(failed[0].exception, BrokenProcessPool)
    assert "'dies'" in str(failed[0].exception)
    assert {event.job_id: event.retval for event in others} == {
        f"queued{number}": number + 10 for number in range(5)
    }
    assert dict(processes._instances) == {}
    replaced = [r for r in caplog.records if "being replaced" in r.message]
    assert [record.levelname for record in replaced] == ["WARNING"]


@pytest.mark.parametrize("is_second_try", [False, True])
def test_death_of_a_worker_after_shutdown_gives_back_what_has_not_begun(
    processes: ProcessPoolExecutor,
    scheduler: RecordingScheduler,
    is_second_try: bool,
) -> None:
    with Gate() as gate:
        for job_id in ("dies", "next"):
            job = make_job(jobs.pass_gate, gate.port, id=job_id)
            processes.submit_job(job, [NOON])
        processes.submit_job(make_job(jobs.add, 1, 2, id="queued"), [NOON, NOON])
        victim = gate.wait_for_arrival()
        if is_second_try:
            os.kill(victim, signal.SIGKILL)
            scheduler.next_event()
            victim = gate.wait_for_arrival()
        processes.shutdown(False)
        os.kill(victim, signal.SIGKILL)
        events = [scheduler.next_event() for _ in range(3 if is_second_try else 4)]

    queued = [event for event in events if event.job_id == "queued"]
    assert [event.code for event in queued] == [EVENT_JOB_LOST] * 2
    assert [event.started_at for event in queued] == [None] * 2
    assert dict(processes._instances) == {}


def test_job_submitted_before_the_death_of_a_worker_was_noticed_still_runs(
    processes: ProcessPoolExecutor, scheduler: RecordingScheduler
) -> None:
    processes.submit_job(make_job(os.getpid), [NOON])
    os.kill(scheduler.next_event().retval, signal.SIGKILL)

    processes.submit_job(make_job(jobs.add, 1, 2), [NOON])

    assert scheduler.next_event().retval == 3


def test_job_that_kills_two_pools_before_another_starts_gives_up_on_that(
    processes: ProcessPoolExecutor, scheduler: RecordingScheduler
) -> None:
    for job_id in ("first", "second"):
        processes.submit_job(make_job(jobs.kill_process, id=job_id), [NOON])
    processes.submit_job(make_job(jobs.add, 1, 2, id="queued"), [NOON])

    events = {}
    for _ in range(3):
        event = scheduler.next_event()
        events[event.job_id] = event

    assert {event.code for event in events.values()} == {EVENT_JOB_ERROR}
    assert "twice before they started job 'queued'" in str(events["queued"].exception)
    processes.submit_job(make_job(jobs.add, 1, 2), [NOON])
    assert scheduler.next_event().retval == 3


def test_death_of_a_worker_leaves_no_processes_behind(
    scheduler: RecordingScheduler,
) -> None:
    before = set(multiprocessing.active_children())
    executor = start(ProcessPoolExecutor(2), scheduler)
    with Gate() as gate:
        for job_id in "ab":
            job = make_job(jobs.pass_gate, gate.port, id=job_id)
            executor.submit_job(job, [NOON])
        victim, _ = gate.wait_for_arrival(), gate.wait_for_arrival()
        workers = set(multiprocessing.active_children()) - before
        os.kill(victim, signal.SIGKILL)
        events = [scheduler.next_event(), scheduler.next_event()]
    executor.shutdown()

    assert [event.code for event in events] == [EVENT_JOB_ERROR] * 2
    assert len(workers) == 2
    for worker in workers:
        worker.join(PATIENCE)
        assert not worker.is_alive()
    assert set(multiprocessing.active_children()) <= before


def test_pool_that_refuses_as_broken_is_replaced_once(
    processes: ProcessPoolExecutor,
    scheduler: RecordingScheduler,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*args: Any) -> None:
        raise BrokenProcessPool("broken")

    monkeypatch.setattr(processes._pool, "submit", refuse)

    processes.submit_job(make_job(jobs.add, 1, 2), [NOON])

    assert scheduler.next_event().retval == 3


SCRIPT = """
import sys, threading
from apscheduler.executors.pool import ProcessPoolExecutor
from apscheduler.testing import jobs
from apscheduler.testing.executors import NOON, RecordingScheduler

if __name__ == "__main__":
    executor = ProcessPoolExecutor(1)
    executor.start(RecordingScheduler(), "default")
    port = int(sys.argv[1])
    executor.submit_job(jobs.make_job(jobs.pass_gate, port, id="running"), [NOON])
    executor.submit_job(jobs.make_job(jobs.pass_gate, port, id="queued"), [NOON])
    threading.Event().wait()
"""


def test_workers_end_when_the_scheduler_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with Gate() as gate:
        command = [sys.executable, str(script), str(gate.port)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as parent:
            worker = gate.wait_for_arrival()
            parent.kill()
            parent.wait(PATIENCE)
            os.kill(worker, 0)  # goes on with its job
            gate.open()

            # Ends when the last process has closed it.
            assert parent.stdout is not None
            assert parent.stdout.read() == b""


def test_worker_error_survives_pickling() -> None:
    assert str(pickle.loads(pickle.dumps(WorkerError("text")))) == "text"


def test_installed_hook_plugins_wrap_calls_in_worker_processes(
    scheduler: RecordingScheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wrapping.py").write_text(
        "import contextlib, os\n"
        "from apscheduler.hooks import hookimpl\n"
        "@hookimpl\n"
        "def apscheduler_wrap_call(run):\n"
        "    os.environ['WRAPPED'] = run.job_id\n"
        "    return contextlib.nullcontext()\n"
    )
    metadata = tmp_path / "wrapping-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: wrapping\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[apscheduler]\nwrapping = wrapping\n")
    monkeypatch.syspath_prepend(str(tmp_path))  # workers inherit the path

    executor = start(ProcessPoolExecutor(1), scheduler)
    executor.submit_job(make_job("os:getenv", "WRAPPED", id="wrapped"), [NOON])
    event = scheduler.next_event()

    executor.shutdown()
    assert event.retval == "wrapped"
