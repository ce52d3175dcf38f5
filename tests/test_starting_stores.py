"""Stores whose server does not answer when they are started, and stores that tell of changes."""

import logging
import math
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apscheduler.events import (
    EVENT_JOB_EXECUTED,
    EVENT_JOBSTORE_FAILED,
    EVENT_JOBSTORE_RECOVERED,
)
from apscheduler.jobstores.base import BaseJobStore
from apscheduler.jobstores.contract import ClaimBatch, ClaimRequest
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers import components
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.settings import retry_seconds
from apscheduler.testing.servers import Server

SOON = 20


class FarStore(MemoryJobStore):
    """A store that is told when its server answers; from then on its jobs are in memory."""

    def __init__(self, error: Exception | None = None):
        super().__init__()
        self.error = error or ConnectionRefusedError("nobody there")
        self.answers = threading.Event()
        self.tried = threading.Event()
        self.starts = 0

    def start(self, scheduler: Any, alias: str) -> None:
        self.starts += 1
        self.tried.set()
        if not self.answers.is_set():
            raise self.error
        super().start(scheduler, alias)


class TellingStore(MemoryJobStore):
    """A store that tells of changes, which the tests make up."""

    pushes_changes = True

    def __init__(self) -> None:
        super().__init__()
        self.callback: Callable[[], None] | None = None
        self.refuses = self.is_lost = False
        self.claims = threading.Semaphore(0)

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        if self.refuses:
            raise ConnectionError("no connection to spare")
        self.callback = callback
        return self.unsubscribe

    def unsubscribe(self) -> None:
        self.callback = None

    def claim(self, request: ClaimRequest) -> ClaimBatch:
        self.claims.release()
        if self.is_lost:
            raise ConnectionError("gone")
        return super().claim(request)

    def tell(self) -> None:
        assert self.callback is not None
        self.callback()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(components, "LONGEST_PAUSE_SECONDS", 0.05)


@pytest.fixture
def make() -> Iterator[Callable[..., BackgroundScheduler]]:
    """Make schedulers that are shut down after the test."""
    made: list[BackgroundScheduler] = []

    def make(store: BaseJobStore, **options: Any) -> BackgroundScheduler:
        scheduler = BackgroundScheduler(
            timezone=UTC, jobstores={"default": store}, **options
        )
        made.append(scheduler)
        return scheduler

    yield make
    for scheduler in made:
        if scheduler.running:
            scheduler.shutdown()


def in_background(func: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=func)
    thread.start()
    return thread


def nothing() -> None:
    """Do nothing."""


# Starting


def test_a_server_that_does_not_answer_is_an_error_unless_trying_again_is_asked_for(
    make: Any,
) -> None:
    store = FarStore()
    scheduler = make(store)

    with pytest.raises(ConnectionRefusedError):
        scheduler.start()

    assert store.starts == 1
    assert not scheduler.running


def test_start_waits_for_a_server_and_says_so(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    store = FarStore()
    scheduler = make(store, start_retry=True)
    scheduler.add_job(nothing, "interval", hours=1, id="pending")
    starting = in_background(scheduler.start)
    assert store.tried.wait(SOON)
    store.tried.clear()
    assert store.tried.wait(SOON)  # it was tried again
    assert starting.is_alive()
    # What is called meanwhile does not wait.
    scheduler.add_job(nothing, "interval", hours=1, id="meanwhile")
    assert len(scheduler.get_jobs()) == 2

    store.answers.set()
    starting.join(SOON)

    assert scheduler.running
    assert {job.id for job in scheduler.get_jobs()} == {"pending", "meanwhile"}
    records = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(records) == store.starts - 1
    assert "'default' cannot be reached" in records[0].getMessage()
    assert "nobody there" in records[0].getMessage()


def test_start_gives_up_after_the_time_that_was_given(make: Any) -> None:
    store = FarStore()
    scheduler = make(store, start_retry=0.1)

    with pytest.raises(ConnectionRefusedError):
        scheduler.start()

    assert store.starts > 1
    assert not scheduler.running
    store.answers.set()
    scheduler.start()  # and nothing stands in the way of another try
    assert scheduler.running


def test_an_error_that_waiting_does_not_mend_is_raised_at_once(make: Any) -> None:
    store = FarStore(PermissionError("wrong password"))

    with pytest.raises(PermissionError):
        make(store, start_retry=True).start()

    assert store.starts == 1


def test_a_store_that_is_added_while_running_is_waited_for_without_holding_up_others(
    make: Any,
) -> None:
    scheduler = make(MemoryJobStore(), start_retry=True)
    scheduler.start()
    store = FarStore()
    adding = in_background(lambda: scheduler.add_jobstore(store, "far"))
    assert store.tried.wait(SOON)

    ran = threading.Event()
    scheduler.add_listener(lambda event: ran.set(), EVENT_JOB_EXECUTED)
    scheduler.add_job(nothing)
    assert ran.wait(SOON)
    with pytest.raises(ValueError, match="already has a job store"):
        scheduler.add_jobstore(MemoryJobStore(), "far")
    with pytest.raises(KeyError):  # it is not there before it has been started
        scheduler.add_job(nothing, jobstore="far")
    store.answers.set()
    adding.join(SOON)

    scheduler.add_job(nothing, "interval", hours=1, jobstore="far", id="a")
    assert scheduler.get_job("a", "far") is not None


def test_a_store_that_could_not_be_added_can_be_added_again(make: Any) -> None:
    scheduler = make(MemoryJobStore())
    scheduler.start()
    store = FarStore()
    with pytest.raises(ConnectionRefusedError):
        scheduler.add_jobstore(store, "far")

    store.answers.set()
    scheduler.add_jobstore(store, "far")

    assert scheduler.get_jobs("far") == []


def test_a_store_whose_server_answers_after_the_scheduler_was_shut_down_is_closed(
    make: Any,
) -> None:
    class Counting(FarStore):
        shutdowns = 0

        def shutdown(self) -> None:
            self.shutdowns += 1
            super().shutdown()

    scheduler = make(MemoryJobStore(), start_retry=True)
    scheduler.start()
    store = Counting()
    adding = in_background(lambda: scheduler.add_jobstore(store, "far"))
    assert store.tried.wait(SOON)
    scheduler.shutdown()

    store.answers.set()
    adding.join(SOON)

    assert store.shutdowns == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0),
        (1, 1),
        ("1", 1),
        ("2.5", 2.5),
        (True, math.inf),
        ("true", math.inf),
        (" Yes", math.inf),
        (False, 0),
        ("off", 0),
    ],
)
def test_how_long_to_try_is_a_number_or_a_truth_value(
    value: Any, seconds: float
) -> None:
    assert retry_seconds(value) == seconds


@pytest.mark.parametrize("value", [-1, "-1", "soon", "nan", None, [1]])
def test_anything_else_is_refused_with_the_value(make: Any, value: Any) -> None:
    with pytest.raises(ValueError, match="'start_retry' must be a number of seconds"):
        make(MemoryJobStore(), start_retry=value)


def test_a_database_that_is_started_late_is_waited_for(
    own_postgresql: Server, make: Any
) -> None:
    own_postgresql.stop()
    store = SQLAlchemyJobStore(own_postgresql.url)
    scheduler = make(store, start_retry=True)
    ran = threading.Event()
    scheduler.add_listener(lambda event: ran.set(), EVENT_JOB_EXECUTED)
    scheduler.add_job(nothing)
    with pytest.raises(Exception, match="refused") as refused:
        make(SQLAlchemyJobStore(own_postgresql.url)).start()
    assert store.is_unreachable(refused.value)
    starting = in_background(scheduler.start)

    own_postgresql.start()
    starting.join(SOON)

    assert ran.wait(SOON)


# Hearing of changes


def wait_for_claims(store: TellingStore) -> None:
    """Wait until a pass has been made over the store, and then for all that follow from it."""
    assert store.claims.acquire(timeout=SOON)
    while store.claims.acquire(timeout=0.2):
        pass


def test_what_another_process_has_added_is_started_when_the_store_tells(
    make: Any,
) -> None:
    store = TellingStore()
    scheduler = make(store)
    ran = threading.Event()
    scheduler.add_listener(lambda event: ran.set(), EVENT_JOB_EXECUTED)
    scheduler.start()
    job = scheduler.add_job(nothing, "date", run_date=datetime(2100, 1, 1))
    wait_for_claims(store)
    state = {"next_run_time": datetime.now(UTC) - timedelta(seconds=1)}
    store.change_job(store.read_job(job.id), state)  # type: ignore[arg-type]  # it is there
    assert not ran.is_set()

    store.tell()

    assert ran.wait(SOON)


def test_a_store_that_had_failed_is_tried_at_once_when_it_tells(make: Any) -> None:
    store = TellingStore()
    scheduler = make(store, jobstore_retry_interval=3600)
    failed, recovered = threading.Event(), threading.Event()
    scheduler.add_listener(lambda event: failed.set(), EVENT_JOBSTORE_FAILED)
    scheduler.add_listener(lambda event: recovered.set(), EVENT_JOBSTORE_RECOVERED)
    store.is_lost = True
    scheduler.start()
    assert failed.wait(SOON)

    store.is_lost = False
    store.tell()

    assert recovered.wait(SOON)


def test_nobody_is_told_after_a_shutdown_and_again_after_another_start(
    make: Any,
) -> None:
    store = TellingStore()
    scheduler = make(store)
    scheduler.start()
    assert store.callback is not None
    scheduler.shutdown()
    assert store.callback is None

    scheduler.start()

    assert store.callback is not None


@pytest.mark.parametrize("shutdown", [True, False])
def test_nobody_is_told_of_changes_in_a_store_that_was_removed(
    make: Any, shutdown: bool
) -> None:
    store = TellingStore()
    scheduler = make(store)
    scheduler.start()

    scheduler.remove_jobstore("default", shutdown)

    assert store.callback is None


def test_a_store_that_cannot_tell_is_used_nevertheless(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    store = TellingStore()
    store.refuses = True
    scheduler = make(store)
    ran = threading.Event()
    scheduler.add_listener(lambda event: ran.set(), EVENT_JOB_EXECUTED)
    scheduler.start()

    scheduler.add_job(nothing)

    assert ran.wait(SOON)
    assert "does not tell of changes" in caplog.text
