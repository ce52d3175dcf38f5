"""Whoever misbehaves, or has much to do, delays nobody else."""

import asyncio
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from apscheduler.events import EVENT_ALL, EVENT_JOB_ERROR, EVENT_JOB_REMOVED
from apscheduler.executors.debug import DebugExecutor
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.job import Job
from apscheduler.jobstores.contract import ClaimBatch, ClaimRequest
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.runs import RunState
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.testing.clock import ManualClock
from apscheduler.triggers.base import BaseTrigger
from apscheduler.util import is_interrupt
from schedulers import PassScheduler, scheduler_maker

SOON = 20
T0 = datetime(2026, 6, 1, 12, tzinfo=UTC)
# So many fire times that two claims hand out only part of them.
BACKLOG = timedelta(minutes=2500)


class CountingStore(SQLAlchemyJobStore):
    """Counts claims."""

    claims = 0

    def claim(self, request: ClaimRequest) -> ClaimBatch:
        self.claims += 1
        return super().claim(request)


class _Work:
    go = threading.Event()
    ran: list[str]


def work() -> None:
    """Go on until the test lets it go."""
    assert _Work.go.wait(SOON)


def _work_and_note() -> None:
    work()
    note("x")


def note(name: str) -> None:
    """Note that a job has run."""
    _Work.ran.append(name)


@pytest.fixture(autouse=True)
def fresh_work() -> Iterator[None]:
    _Work.go, _Work.ran = threading.Event(), []
    yield
    _Work.go.set()


@pytest.fixture
def make() -> Iterator[Any]:
    with scheduler_maker(PassScheduler, wait=False) as make:
        yield make
        _Work.go.set()


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_node_looks_once_at_a_backlog_that_another_works_off(
    make: Any, tmp_path: Path
) -> None:
    clock, url = ManualClock(T0), f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    store = CountingStore(url)
    one = make(clock=clock, jobstores={"default": SQLAlchemyJobStore(url)})
    other = make(clock=clock, jobstores={"default": store})
    one.start()
    other.start()
    one.add_job(work, "interval", minutes=1, coalesce=False, next_run_time=T0 - BACKLOG)
    one._process_jobs()

    store.claims = 0
    seconds = other._process_jobs()

    assert store.claims == 1
    assert seconds > 0.1
    one.remove_all_jobs()


def test_a_job_that_waits_for_its_own_backlog_leaves_its_place_to_others(
    make: Any,
) -> None:
    clock = ManualClock(T0)
    scheduler = make(clock=clock, executors={"default": ThreadPoolExecutor(2)})
    scheduler.start()
    scheduler.add_job(
        work, "interval", minutes=1, coalesce=False, next_run_time=T0 - BACKLOG
    )
    scheduler._process_jobs()

    scheduler.add_job(note, "date", run_date=T0, args=["other"])
    scheduler._process_jobs()

    wait_for(lambda: _Work.ran == ["other"])


class CancelledTrigger(BaseTrigger):
    """Lets out what asyncio raises."""

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        if previous_fire_time is None:
            return now
        raise asyncio.CancelledError


class RaisingExecutor(DebugExecutor):
    """Lets out the exception that it is given."""

    def __init__(self, exc: BaseException):
        super().__init__()
        self.exc = exc

    def _do_submit_job(self, job: Job, run_times: list[datetime]) -> None:
        raise self.exc


def test_a_trigger_that_lets_a_cancellation_out_delays_only_its_job(make: Any) -> None:
    scheduler = make(executors={"default": DebugExecutor()}, clock=ManualClock(T0))
    scheduler.start()
    scheduler.add_job(note, CancelledTrigger(), args=["bad"])
    scheduler.add_job(note, "date", run_date=T0, args=["good"])

    scheduler._process_jobs()

    assert _Work.ran == ["good"]


def test_an_executor_that_lets_a_cancellation_out_delays_only_its_jobs(
    make: Any,
) -> None:
    executors = {
        "default": DebugExecutor(),
        "bad": RaisingExecutor(asyncio.CancelledError()),
    }
    scheduler, failed = make(executors=executors, clock=ManualClock(T0)), []
    scheduler.add_listener(lambda event: failed.append(event.job_id), EVENT_JOB_ERROR)
    scheduler.start()
    scheduler.add_job(note, "date", run_date=T0, args=["bad"], id="x", executor="bad")
    scheduler.add_job(note, "date", run_date=T0, args=["good"])

    scheduler._process_jobs()

    assert (_Work.ran, failed) == (["good"], ["x"])


def test_an_exit_in_the_pass_over_one_of_several_stores_ends_nothing(
    make: Any, tmp_path: Path
) -> None:
    stores = {
        name: SQLAlchemyJobStore(f"sqlite:///{tmp_path / name}")
        for name in ("default", "other")
    }
    executors = {"default": DebugExecutor(), "bad": RaisingExecutor(SystemExit(1))}
    scheduler = make(BackgroundScheduler, jobstores=stores, executors=executors)
    scheduler.start()

    scheduler.add_job(note, args=["bad"], executor="bad")
    scheduler.add_job(note, "interval", seconds=0.05, args=["good"])

    wait_for(lambda: _Work.ran.count("good") >= 3)
    assert "bad" not in _Work.ran


def test_a_signal_interrupts_the_main_thread_and_no_other() -> None:
    found: list[bool] = []
    thread = threading.Thread(
        target=lambda: found.append(is_interrupt(KeyboardInterrupt()))
    )
    thread.start()
    thread.join()

    assert found == [False]
    assert is_interrupt(KeyboardInterrupt())
    assert is_interrupt(GeneratorExit())
    assert not is_interrupt(asyncio.CancelledError())
    assert not is_interrupt(ValueError())


def test_what_was_claimed_for_an_executor_that_is_gone_waits_for_it(
    make: Any, tmp_path: Path
) -> None:
    store = SQLAlchemyJobStore(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    scheduler = make(
        clock=ManualClock(T0),
        jobstores={"default": store},
        executors={"passing": DebugExecutor()},
    )
    # The store says that the job is over just before its run is handed to the executor.
    scheduler.add_listener(
        lambda event: scheduler.remove_executor("passing"), EVENT_JOB_REMOVED
    )
    scheduler.start()
    scheduler.add_job(note, "date", run_date=T0, args=["x"], id="x", executor="passing")

    for _ in range(2):
        scheduler._process_jobs()
    assert [run.state for run in scheduler.get_runs()] == [RunState.READY]
    scheduler.add_executor(DebugExecutor(), "passing")
    scheduler._process_jobs()

    assert _Work.ran == ["x"]


@pytest.mark.parametrize("ends", ["before", "after"])
def test_a_store_that_is_removed_and_added_again_goes_on_with_its_jobs(
    make: Any, ends: str
) -> None:
    clock, store = ManualClock(T0), MemoryJobStore()
    scheduler = make(clock=clock, executors={"default": ThreadPoolExecutor(2)})
    scheduler.start()
    scheduler.add_jobstore(store, "kept")
    scheduler.add_job(_work_and_note, "interval", minutes=1, jobstore="kept")

    clock.advance(minutes=1)
    scheduler._process_jobs()
    if ends == "before":
        _Work.go.set()
        wait_for(lambda: not scheduler._engine.is_busy())
    scheduler.remove_jobstore("kept", shutdown=False)
    _Work.go.set()
    wait_for(lambda: _Work.ran == ["x"])
    wait_for(lambda: scheduler._executors["default"]._outstanding == 0)
    wait_for(lambda: not scheduler._engine.find_unsettled_runs())
    scheduler.add_jobstore(store, "kept")
    clock.advance(minutes=1)
    scheduler._process_jobs()

    wait_for(lambda: _Work.ran == ["x", "x"])


def test_a_listener_whose_mask_is_no_number_is_told_of_and_holds_up_nobody(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[int] = []
    scheduler = make(executors={"default": DebugExecutor()}, clock=ManualClock(T0))
    scheduler.add_listener(print, "no mask")
    scheduler.add_listener(lambda event: heard.append(event.code), EVENT_ALL)
    scheduler.start()
    scheduler.add_job(note, "date", run_date=T0, args=["x"])

    scheduler._process_jobs()

    assert _Work.ran == ["x"]
    assert heard
    assert "Error notifying listener" in caplog.text
