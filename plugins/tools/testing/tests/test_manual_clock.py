import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from apscheduler.events import EVENT_JOB_EXECUTED
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.testing.clock import ManualClock, settle, settle_async
from apscheduler.testing.jobs import PATIENCE

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def scheduler(clock: ManualClock) -> Iterator[BaseScheduler]:
    # Not needed to use the clock, only to show here what it does to a scheduler.
    background = pytest.importorskip("apscheduler.schedulers.background")
    scheduler = background.BackgroundScheduler(timezone=UTC, clock=clock)
    yield scheduler
    if scheduler.running:
        scheduler.shutdown()


@pytest.fixture
def runs(scheduler: BaseScheduler) -> list[datetime]:
    runs: list[datetime] = []
    scheduler.add_listener(
        lambda event: runs.append(event.scheduled_run_time), EVENT_JOB_EXECUTED
    )
    return runs


def test_clock_begins_with_the_time_of_the_system_and_stands_still() -> None:
    before = datetime.now(UTC)
    clock = ManualClock()

    assert before <= clock.now() <= datetime.now(UTC)
    assert clock.now() == clock.now()


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((), {"hours": 1, "seconds": 0.5}, timedelta(hours=1, seconds=0.5)),
        ((timedelta(minutes=3),), {}, timedelta(minutes=3)),
        ((), {"days": -1}, timedelta(days=-1)),
        ((), {}, timedelta(0)),
    ],
    ids=["keywords", "timedelta", "backwards", "nothing"],
)
def test_clock_advances_by_what_it_is_told(
    clock: ManualClock,
    args: tuple[Any, ...],
    kwargs: dict[str, float],
    expected: timedelta,
) -> None:
    clock.advance(*args, **kwargs)

    assert clock.now() - NOON == expected


def test_clock_can_be_set_in_any_zone(clock: ManualClock) -> None:
    clock.set(datetime(2030, 6, 1, 12, tzinfo=timezone(timedelta(hours=2))))

    assert clock.now() == datetime(2030, 6, 1, 10, tzinfo=UTC)
    assert clock.now().tzinfo is UTC


@pytest.mark.parametrize(
    "use", [ManualClock, ManualClock(NOON).set], ids=["new", "set"]
)
def test_time_without_zone_is_refused(use: Any) -> None:
    with pytest.raises(ValueError, match="needs a time with a zone"):
        use(datetime(2030, 1, 1))


def test_offset_leads_from_the_time_of_the_system_to_that_of_the_clock(
    clock: ManualClock,
) -> None:
    before = datetime.now(UTC)
    offset = clock.offset()

    assert NOON - datetime.now(UTC) <= offset <= NOON - before


def test_subscribers_are_told_when_the_clock_has_been_set(clock: ManualClock) -> None:
    seen = []
    unsubscribe = clock.subscribe(lambda: seen.append(clock.now()))
    clock.advance(hours=1)
    clock.set(NOON)
    unsubscribe()
    unsubscribe()
    clock.advance(hours=2)

    assert seen == [NOON + timedelta(hours=1), NOON]


def test_scheduler_follows_the_clock(
    scheduler: BaseScheduler, clock: ManualClock, runs: list[datetime]
) -> None:
    scheduler.start()
    scheduler.add_job(int, "interval", hours=1)
    settle(scheduler)
    assert runs == []

    clock.advance(minutes=59)
    settle(scheduler)
    assert runs == []

    clock.advance(minutes=1)
    settle(scheduler)
    assert runs == [NOON + timedelta(hours=1)]


@pytest.mark.parametrize("year", [2020, 2040])
def test_job_without_trigger_runs_now_by_the_clock(
    scheduler: BaseScheduler, clock: ManualClock, runs: list[datetime], year: int
) -> None:
    clock.set(NOON.replace(year=year))
    scheduler.add_job(int)
    scheduler.start()
    scheduler.add_job(int)
    settle(scheduler)

    assert runs == 2 * [NOON.replace(year=year)]


def test_grace_time_is_measured_by_the_clock(
    scheduler: BaseScheduler, clock: ManualClock, runs: list[datetime]
) -> None:
    scheduler.start()
    scheduler.add_job(int, "interval", hours=1, misfire_grace_time=1)
    clock.advance(hours=1)
    settle(scheduler)

    assert runs == [NOON + timedelta(hours=1)]


def test_clock_that_is_set_back_repeats_nothing(
    scheduler: BaseScheduler, clock: ManualClock, runs: list[datetime]
) -> None:
    scheduler.start()
    scheduler.add_job(int, "interval", hours=1)
    clock.advance(hours=1)
    settle(scheduler)
    clock.advance(hours=-1)
    settle(scheduler)
    clock.advance(hours=1)
    settle(scheduler)

    assert runs == [NOON + timedelta(hours=1)]


def test_clock_forgets_schedulers_that_were_shut_down(
    scheduler: BaseScheduler, clock: ManualClock
) -> None:
    scheduler.start()
    assert len(clock._callbacks) == 1

    scheduler.shutdown()

    assert clock._callbacks == []


def test_settling_waits_for_runs_and_for_listeners(
    scheduler: BaseScheduler, clock: ManualClock
) -> None:
    told = []
    pause = threading.Event()

    def listen(event: Any) -> None:
        pause.wait(0.02)
        told.append(event.retval)

    scheduler.add_listener(listen, EVENT_JOB_EXECUTED)
    scheduler.start()
    for number in range(3):
        scheduler.add_job(pause.wait, args=(0.01 * number,), id=str(number))
    scheduler.run_job(scheduler.add_job(int, "interval", hours=1).id)
    settle(scheduler)

    assert len(told) == 4


def test_settling_gives_up_and_says_why(scheduler: BaseScheduler) -> None:
    may_end = threading.Event()
    scheduler.start()
    scheduler.add_job(may_end.wait, args=(PATIENCE,))
    try:
        with pytest.raises(
            TimeoutError, match=r"within 0\.01 seconds: a run is going on"
        ):
            settle(scheduler, timeout=0.01)
    finally:
        may_end.set()


def test_settling_names_a_job_that_the_scheduler_does_not_get_to(
    scheduler: BaseScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "_process_jobs", lambda: None)
    scheduler.start()
    scheduler.add_job(int, name="forgotten")

    with pytest.raises(
        TimeoutError, match=r"forgotten.* is due in job store 'default'"
    ):
        settle(scheduler, timeout=0.01)


def test_settling_does_not_wait_for_jobs_that_cannot_be_run(
    scheduler: BaseScheduler,
) -> None:
    scheduler.start()
    scheduler.add_job(int, executor="elsewhere")

    settle(scheduler)

    assert len(scheduler.get_jobs()) == 1


def test_event_loops_settle_without_being_held_up(clock: ManualClock) -> None:
    module = pytest.importorskip("apscheduler.schedulers.asyncio")
    results = []

    async def work() -> None:
        await asyncio.sleep(0)
        results.append(clock.now())

    async def main() -> None:
        async with module.AsyncIOScheduler(timezone=UTC, clock=clock) as scheduler:
            scheduler.add_job(work, "interval", hours=1)
            for _ in range(3):
                clock.advance(hours=1)
                await settle_async(scheduler)

    asyncio.run(main())

    assert results == [NOON + timedelta(hours=hours) for hours in (1, 2, 3)]
