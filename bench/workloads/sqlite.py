"""Recurring jobs in an SQLite file that are due at once: run, and their next run times written."""

import sqlite3
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import counting
from harness import Countdown, Report, options, utc_now

from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler


def run_all(database: Path, number: int) -> tuple[float, float]:
    """Return the seconds it takes to add so many jobs, and to run them all and shut down."""
    store = SQLAlchemyJobStore(url=f"sqlite:///{database}")
    scheduler = BackgroundScheduler(timezone="UTC", jobstores={"default": store})
    scheduler.start(paused=True)
    countdown = counting.countdown = Countdown(number)
    due = utc_now() - timedelta(seconds=10)
    started = time.perf_counter()
    for _ in range(number):
        scheduler.add_job(
            counting.tick,
            "interval",
            hours=1,
            next_run_time=due,
            misfire_grace_time=None,
        )
    added = time.perf_counter()
    scheduler.resume()
    countdown.wait()
    # Comes back when everything is written.
    scheduler.shutdown()
    return added - started, time.perf_counter() - added


def check(database: Path, number: int) -> None:
    """Raise an error unless all jobs have been moved on."""
    connection = sqlite3.connect(database)
    query = "SELECT count(*) FROM apscheduler_jobs WHERE next_run_time > ?"
    (moved,) = connection.execute(query, (time.time(),)).fetchone()
    connection.close()
    if moved != number:
        raise RuntimeError(f"Of {number} jobs only {moved} have been moved on")


def main() -> None:
    number = 500 if options().quick else 1000
    report = Report()
    with tempfile.TemporaryDirectory(prefix="apscheduler-bench-") as directory:
        run_all(Path(directory, "warm-up.sqlite"), 20)
        database = Path(directory, "jobs.sqlite")
        adding, running = run_all(database, number)
        check(database, number)
    report.add("run a due job", running / number * 1e6, "µs")
    report.add("add a job", adding / number * 1e6, "µs")
    report.print()


if __name__ == "__main__":
    main()
