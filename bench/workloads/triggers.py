"""Walking schedules: the next fire time after the one before, again and again."""

import math
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim  # type: ignore[import-not-found]  # in the environments of the benchmarks only

from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import AndTrigger, OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger
from harness import Report, options

# Fire times walked from the start of a year on.
STEPS = 300
FEW_STEPS = 20
MICROSECOND = timedelta(microseconds=1)

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


Make = Callable[[], Any]


def cron_triggers(zone: ZoneInfo) -> dict[str, Make]:
    triggers: dict[str, Make] = {
        text: partial(CronTrigger.from_crontab, text, timezone=zone)
        for text in CRONTABS
    }
    for fields in FIELDS:
        name = ", ".join(f"{key}={value}" for key, value in fields.items())
        triggers[name] = partial(CronTrigger, timezone=zone, **fields)
    return triggers


def interval_triggers(zone: ZoneInfo) -> dict[str, Make]:
    start = datetime(2025, 1, 1, tzinfo=zone)
    return {
        "interval": partial(
            IntervalTrigger, minutes=10, start_date=start, timezone=zone
        ),
        "calendarinterval": partial(
            CalendarIntervalTrigger,
            months=1,
            hour=9,
            start_date="2025-01-31",
            timezone=zone,
        ),
    }


def combined_triggers(zone: ZoneInfo) -> dict[str, Make]:
    def parts() -> list[Any]:
        return [CronTrigger(hour=hours, timezone=zone) for hours in ("6-12", "12-18")]

    return {"and": lambda: AndTrigger(parts()), "or": lambda: OrTrigger(parts())}


def walk(make: Make, start: datetime, seconds: float, steps: int) -> float:
    """Return the microseconds of processor time that one step takes.

    Every walk is that of a new trigger, so that nothing is remembered of the walk before.
    """
    walked = 0
    taken = 0.0
    while taken < seconds:
        get_next_fire_time = make().get_next_fire_time
        previous, now = None, start
        started = time.process_time()
        for _ in range(steps):
            now = previous = get_next_fire_time(previous, now)
        taken += time.process_time() - started
        walked += steps
    return taken / walked * 1e6


def walk_afresh(make: Make, start: datetime, seconds: float, steps: int) -> float:
    """Do the same without telling the fire time before: with it, 3.11.3 never returns from an AndTrigger."""
    walked = 0
    taken = 0.0
    while taken < seconds:
        get_next_fire_time = make().get_next_fire_time
        now = start
        started = time.process_time()
        for _ in range(steps):
            now = get_next_fire_time(None, now) + MICROSECOND
        taken += time.process_time() - started
        walked += steps
    return taken / walked * 1e6


def walk_cronsim(text: str, start: datetime, seconds: float, steps: int) -> float:
    """Return the microseconds of processor time that a step takes with a library that does nothing but this."""
    walked = 0
    taken = 0.0
    while taken < seconds:
        schedule = CronSim(text, start)
        started = time.process_time()
        for _ in range(steps):
            next(schedule)
        taken += time.process_time() - started
        walked += steps
    return taken / walked * 1e6


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def main() -> None:
    seconds = 0.02 if options().quick else 0.1
    report = Report()
    cron: list[float] = []
    crontabs: list[float] = []
    others: list[float] = []
    for zone_name in ("UTC", "Europe/Berlin"):
        zone = ZoneInfo(zone_name)
        start = datetime(2025, 1, 1, tzinfo=zone)
        for name, make in cron_triggers(zone).items():
            steps = FEW_STEPS if "29 2" in name else STEPS
            cron.append(walk(make, start, seconds, steps))
            report.add(f"{name} ({zone_name})", cron[-1], "µs")
            if name in CRONTABS:
                crontabs.append(cron[-1])
                others.append(walk_cronsim(name, start, seconds, steps))
    report.add("cron, geometric mean", geometric_mean(cron), "µs")
    report.add("for comparison: cronsim", geometric_mean(others), "µs")
    compared = geometric_mean(crontabs) / geometric_mean(others)
    report.add("crontabs compared with cronsim", compared, "x")
    zone = ZoneInfo("Europe/Berlin")
    start = datetime(2025, 1, 1, tzinfo=zone)
    for name, make in interval_triggers(zone).items():
        report.add(name, walk(make, start, seconds, STEPS), "µs")
    for name, make in combined_triggers(zone).items():
        report.add(name, walk_afresh(make, start, seconds, STEPS), "µs")
    makers = list(cron_triggers(zone).values()) * 50
    started = time.process_time()
    for make in makers:
        make()
    taken = (time.process_time() - started) / len(makers)
    report.add("make a cron trigger", taken * 1e6, "µs")
    report.print()


if __name__ == "__main__":
    main()
