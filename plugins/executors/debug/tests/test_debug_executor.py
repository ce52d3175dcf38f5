import threading
from typing import Any

import pytest

from apscheduler.events import EVENT_JOB_EXECUTED
from apscheduler.executors.base import MaxInstancesReachedError
from apscheduler.executors.debug import DebugExecutor
from apscheduler.job import Job
from apscheduler.testing.executors import NOON, ExecutorContract, RecordingScheduler
from apscheduler.testing.jobs import make_job


class TestDebugExecutor(ExecutorContract):
    runs_inline = True  # that is what it is for

    @pytest.fixture
    def executor(self) -> Any:
        return DebugExecutor()


@pytest.fixture
def scheduler() -> RecordingScheduler:
    return RecordingScheduler()


@pytest.fixture
def executor(scheduler: RecordingScheduler) -> Any:
    executor: Any = DebugExecutor()
    executor.start(scheduler, "default")
    return executor


def test_job_runs_and_is_reported_before_submission_returns(
    executor: Any, scheduler: RecordingScheduler
) -> None:
    executor.submit_job(make_job(threading.get_ident), [NOON])

    (event,) = scheduler.pending_events()
    assert (event.code, event.retval) == (EVENT_JOB_EXECUTED, threading.get_ident())


def test_job_and_listeners_run_without_the_lock_of_the_executor(
    executor: Any, scheduler: RecordingScheduler
) -> None:
    def take_lock_elsewhere() -> bool:
        took = []

        def take() -> None:
            if executor._lock.acquire(timeout=5):
                took.append(True)
                executor._lock.release()

        thread = threading.Thread(target=take)
        thread.start()
        thread.join()
        return took == [True]

    executor.submit_job(make_job(take_lock_elsewhere), [NOON])

    assert scheduler.pending_events()[0].retval is True


def test_job_that_submits_itself_is_refused(
    executor: Any, scheduler: RecordingScheduler
) -> None:
    jobs: list[Job] = []

    def submit_again() -> str:
        with pytest.raises(MaxInstancesReachedError):
            executor.submit_job(jobs[0], [NOON])
        return "refused"

    jobs.append(make_job(submit_again))

    executor.submit_job(jobs[0], [NOON])

    assert scheduler.pending_events()[0].retval == "refused"
