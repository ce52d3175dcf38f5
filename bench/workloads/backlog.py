"""The backlog of a job that should have run every second for days: coalesced into one run, and within a grace time."""

import tracemalloc
from datetime import datetime, timedelta
from typing import Any

from harness import Countdown, Report, TimedScheduler, options, utc_now

TRIGGERS: dict[str, dict[str, Any]] = {
    "interval": {"trigger": "interval", "seconds": 1},
    "cron": {"trigger": "cron", "second": "*"},
}


# How late runs may be that are not coalesced.
GRACE_SECONDS = 60


def handle(arguments: dict[str, Any], since: datetime, coalesce: bool = True) -> float:
    """Return the seconds that the pass takes which runs the job."""
    countdown = Countdown(1 if coalesce else GRACE_SECONDS)
    scheduler = TimedScheduler(timezone="UTC")
    scheduler.start(paused=True)
    if arguments["trigger"] == "interval":
        arguments = {**arguments, "start_date": since}
    scheduler.add_job(
        countdown.tick,
        next_run_time=since,
        coalesce=coalesce,
        misfire_grace_time=None if coalesce else GRACE_SECONDS,
        **arguments,
    )
    scheduler.resume()
    countdown.wait()
    scheduler.shutdown()
    return scheduler.longest_pass


def peak_memory(arguments: dict[str, Any], since: datetime) -> float:
    """Return the bytes that handling the backlog takes at its peak."""
    tracemalloc.start()
    handle(arguments, since)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def main() -> None:
    chosen = options()
    now = utc_now().replace(microsecond=0)
    report = Report()
    days = (1,) if chosen.reduced else (1, 30)
    for kind, arguments in TRIGGERS.items():
        handle(arguments, now - timedelta(seconds=3))
        peak_memory(arguments, now - timedelta(seconds=3))
        for number in days:
            since = now - timedelta(days=number)
            seconds = handle(arguments, since)
            name = f"{kind}, {number} day{'s' * (number > 1)}"
            report.add(name, seconds * 1e3, "ms")
            seconds = handle(arguments, since, coalesce=False)
            report.add(f"{name}: not coalesced", seconds * 1e3, "ms")
            if chosen.reduced and kind == "cron":
                continue  # tracing its memory takes minutes
            report.add(
                f"{name}: peak memory", peak_memory(arguments, since) / 1e3, "kB"
            )
    report.print()


if __name__ == "__main__":
    main()
