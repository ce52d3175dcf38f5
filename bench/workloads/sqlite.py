"""Recurring jobs in an SQLite file that are due at once: run, and their next run times written."""

import sqlite3
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import counting
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from harness import Countdown, Report, options, utc_now


def run_all(database: Path, number: int) -> tuple[float, float, float]:
    """Return the seconds it takes to run so many jobs and shut down, and of the processor, and to add them before."""
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
    added, processor = time.perf_counter(), time.process_time()
    scheduler.resume()
    countdown.wait()
    # Comes back when everything is written.
    scheduler.shutdown()
    used = time.process_time() - processor
    return time.perf_counter() - added, used, added - started


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
        running, used, adding = run_all(database, number)
        check(database, number)
    report.add("run a due job", running / number * 1e6, "µs")
    report.add("run a due job: CPU", used / number * 1e6, "µs")
    report.add("add a job", adding / number * 1e6, "µs")
    report.print()


if __name__ == "__main__":
    main()
