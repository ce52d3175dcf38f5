"""Walking schedules: the next fire time after the one before, again and again."""

import math
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import AndTrigger, OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger
from harness import Report, options

# Fire times walked from the start of the year, over both clock changes where that is far enough.
STEPS = 300
FEW_STEPS = 20

CRONTABS = (
    "*/5 * * * *",
    "0 9 * * mon-fri",
    "0 0 1 * *",
    "30 2 * * *",
    "*/15 8-18 * * mon-fri",
    "0 0 29 2 *",
)
FIELDS: tuple[dict[str, Any], ...] = (
    {"day": "last fri", "hour": 12},
    {"second": "*/10"},
)


def cron_triggers(zone: ZoneInfo) -> dict[str, Any]:
    triggers: dict[str, Any] = {
        text: CronTrigger.from_crontab(text, timezone=zone) for text in CRONTABS
    }
    for fields in FIELDS:
        name = ", ".join(f"{key}={value}" for key, value in fields.items())
        triggers[name] = CronTrigger(timezone=zone, **fields)
    return triggers


def other_triggers(zone: ZoneInfo) -> dict[str, Any]:
    start = datetime(2025, 1, 1, tzinfo=zone)
    morning = CronTrigger(hour="6-12", timezone=zone)
    noon = CronTrigger(hour="12-18", timezone=zone)
    return {
        "interval": IntervalTrigger(minutes=10, start_date=start, timezone=zone),
        "calendarinterval": CalendarIntervalTrigger(
            months=1, hour=9, start_date="2025-01-31", timezone=zone
        ),
        "and": AndTrigger([morning, noon]),
        "or": OrTrigger([morning, noon]),
    }


def walk(trigger: Any, start: datetime, seconds: float, steps: int) -> float:
    """Return the microseconds that one step takes; the walk begins again until the time is over."""
    get_next_fire_time: Callable[..., Any] = trigger.get_next_fire_time
    walked = 0
    started = time.perf_counter()
    deadline = started + seconds
    while True:
        previous, now = None, start
        for _ in range(steps):
            now = previous = get_next_fire_time(previous, now)
            walked += 1
        ended = time.perf_counter()
        if ended > deadline:
            return (ended - started) / walked * 1e6


def main() -> None:
    seconds = 0.02 if options().quick else 0.1
    report = Report()
    cron = []
    for zone_name in ("UTC", "Europe/Berlin"):
        zone = ZoneInfo(zone_name)
        start = datetime(2025, 1, 1, tzinfo=zone)
        for name, trigger in cron_triggers(zone).items():
            steps = FEW_STEPS if "29 2" in name else STEPS
            cron.append(walk(trigger, start, seconds, steps))
            report.add(f"{name} ({zone_name})", cron[-1], "µs")
    zone = ZoneInfo("Europe/Berlin")
    start = datetime(2025, 1, 1, tzinfo=zone)
    for name, trigger in other_triggers(zone).items():
        report.add(name, walk(trigger, start, seconds, 100), "µs")
    report.add("cron, geometric mean", math.exp(sum(map(math.log, cron)) / 16), "µs")
    started = time.perf_counter()
    for _ in range(100):
        for text in CRONTABS:
            CronTrigger.from_crontab(text, timezone=zone)
    taken = (time.perf_counter() - started) / 100 / len(CRONTABS)
    report.add("make a cron trigger", taken * 1e6, "µs")
    report.print()


if __name__ == "__main__":
    main()
