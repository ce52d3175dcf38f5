"""Many jobs that are due in the same second: how long after it the last of them starts."""

import time
from datetime import datetime, timedelta

from apscheduler.schedulers.background import BackgroundScheduler
from harness import Countdown, Report, options, utc_now

REPEATS = 3


def last_start(number: int) -> float:
    """Return how many milliseconds after they are due the last of so many jobs starts."""
    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.start()
    countdown = Countdown(number)
    due = utc_now() + timedelta(seconds=1 + number / 5000)
    due = datetime.fromtimestamp(int(due.timestamp()) + 1, due.tzinfo)
    for _ in range(number):
        scheduler.add_job(countdown.tick, "date", run_date=due, misfire_grace_time=None)
    # The clocks of the wall and of the countdown, read together.
    ahead = time.time() - time.perf_counter()
    countdown.wait()
    scheduler.shutdown()
    return (countdown.ended_at + ahead - due.timestamp()) * 1e3


def main() -> None:
    number = 1000 if options().quick else 5000
    last_start(100)
    report = Report()
    report.add(
        "the last job starts after",
        min(last_start(number) for _ in range(REPEATS)),
        "ms",
    )
    report.print()


if __name__ == "__main__":
    main()
