"""Nothing runs twice, late or never when the clocks change, whatever zone scheduler, clock and trigger live in."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from apscheduler.clock import CallableClock
from apscheduler.events import EVENT_JOB_EXECUTED
from apscheduler.executors.debug import DebugExecutor
from schedulers import PassScheduler

BERLIN = ZoneInfo("Europe/Berlin")
SPRING = datetime(2026, 3, 28, 22, tzinfo=UTC)
AUTUMN = datetime(2026, 10, 24, 22, tzinfo=UTC)
EIGHT_HOURS = timedelta(hours=8)


@pytest.mark.parametrize("begin", [SPRING, AUTUMN], ids=["forward", "back"])
@pytest.mark.parametrize("clock_zone", [UTC, BERLIN], ids=str)
@pytest.mark.parametrize("zone", [UTC, BERLIN], ids=str)
def test_every_fire_runs_once_and_in_time(
    begin: datetime, clock_zone: Any, zone: Any
) -> None:
    now = begin
    late: list[timedelta] = []
    runs: Counter[tuple[str, datetime]] = Counter()

    def listen(event: Any) -> None:
        instant = event.scheduled_run_time.astimezone(UTC)
        runs[event.job_id, instant] += 1
        late.append(now - instant)

    scheduler = PassScheduler(
        timezone=zone,
        clock=CallableClock(lambda: now.astimezone(clock_zone)),
        executors={"default": DebugExecutor()},
    )
    scheduler.add_listener(listen, EVENT_JOB_EXECUTED)
    scheduler.start()
    every: dict[str, Any] = {"minutes": 20, "start_date": begin, "timezone": BERLIN}
    scheduler.add_job(int, "interval", id="interval", **every)
    scheduler.add_job(int, "interval", id="each", coalesce=False, **every)
    scheduler.add_job(int, "cron", id="cron", minute="*/20", timezone=BERLIN)

    for _ in range(200):
        wait = scheduler._process_jobs()
        assert wait is not None
        now += timedelta(seconds=wait)
        if now >= begin + EIGHT_HOURS:
            break
    scheduler.shutdown()

    assert set(runs.values()) == {1}
    assert set(late) == {timedelta(0)}
    assert Counter(job_id for job_id, _ in runs) == {
        "interval": 24,
        "each": 24,
        "cron": 24,
    }
