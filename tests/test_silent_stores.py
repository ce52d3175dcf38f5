"""A job store that does not answer holds its jobs up, and somebody says so."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from apscheduler import housekeeping, watch
from apscheduler.events import (
    EVENT_JOB_EXECUTED,
    EVENT_JOBSTORE_FAILED,
    EVENT_JOBSTORE_RECOVERED,
    JobstoreFailureEvent,
)
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.testing.servers import Server

SOON = 20.0


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "LONG_OUTAGE", 0.5)
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.05)


@pytest.fixture
def scheduler(own_postgresql: Server) -> Iterator[BackgroundScheduler]:
    store = SQLAlchemyJobStore(own_postgresql.url)
    scheduler = BackgroundScheduler(timezone="UTC", jobstores={"default": store})
    scheduler.start()
    yield scheduler
    own_postgresql.thaw()
    if scheduler.running:
        scheduler.shutdown()


def tick() -> None:
    """Do nothing, again and again."""


def watches() -> set[threading.Thread]:
    return {each for each in threading.enumerate() if each.name == "APScheduler watch"}


def test_a_store_that_does_not_answer_is_told_of_while_it_is_waited_for(
    own_postgresql: Server,
    scheduler: BackgroundScheduler,
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[Any] = []
    ran, failed, recovered = (threading.Event() for _ in range(3))
    scheduler.add_listener(told.append, EVENT_JOBSTORE_FAILED)
    scheduler.add_listener(lambda event: failed.set(), EVENT_JOBSTORE_FAILED)
    scheduler.add_listener(lambda event: recovered.set(), EVENT_JOBSTORE_RECOVERED)
    scheduler.add_listener(lambda event: ran.set(), EVENT_JOB_EXECUTED)
    scheduler.add_job(tick, "interval", seconds=0.1)
    assert ran.wait(SOON)

    own_postgresql.freeze()

    assert failed.wait(SOON)
    assert "Job store 'default' has not answered for" in caplog.text
    assert not recovered.is_set()

    ran.clear()
    own_postgresql.thaw()

    assert recovered.wait(SOON)
    assert ran.wait(SOON)
    (event,) = told
    assert isinstance(event, JobstoreFailureEvent)
    assert isinstance(event.exception, TimeoutError)


def test_listeners_on_an_event_loop_are_told_there(own_postgresql: Server) -> None:
    threads = []

    async def main() -> None:
        store = SQLAlchemyJobStore(own_postgresql.url)
        scheduler = AsyncIOScheduler(timezone="UTC", jobstores={"default": store})
        failed, recovered = asyncio.Event(), asyncio.Event()

        def note(event: Any) -> None:
            threads.append(threading.current_thread())
            (failed if event.code == EVENT_JOBSTORE_FAILED else recovered).set()

        scheduler.add_listener(note, EVENT_JOBSTORE_FAILED | EVENT_JOBSTORE_RECOVERED)
        scheduler.start()
        try:
            scheduler.add_job(tick, "interval", seconds=0.1)
            own_postgresql.freeze()
            await asyncio.wait_for(failed.wait(), SOON)
            own_postgresql.thaw()
            await asyncio.wait_for(recovered.wait(), SOON)
        finally:
            own_postgresql.thaw()
            await asyncio.to_thread(scheduler.shutdown)

    asyncio.run(main())

    assert threads == [threading.current_thread()] * 2


def test_the_watch_ends_with_the_scheduler_and_begins_again_with_it(
    scheduler: BackgroundScheduler,
) -> None:
    ran = threading.Event()
    scheduler.add_listener(lambda event: ran.set(), EVENT_JOB_EXECUTED)
    for _ in range(2):
        ran.clear()
        scheduler.add_job(tick)
        assert ran.wait(SOON)
        thread = scheduler._engine.watch._thread
        assert thread in watches()

        scheduler.shutdown()

        thread.join(SOON)
        assert not thread.is_alive()
        scheduler.start()


def test_jobs_in_memory_need_no_watch() -> None:
    scheduler = BackgroundScheduler(timezone="UTC")
    ran, others = threading.Event(), watches()
    scheduler.add_listener(lambda event: ran.set(), EVENT_JOB_EXECUTED)
    scheduler.start()
    scheduler.add_job(tick)
    assert ran.wait(SOON)

    assert watches() <= others

    scheduler.shutdown()
