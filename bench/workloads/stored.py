"""Recurring jobs in a store that are due at once: run, and their next run times written; listing, looking up."""

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine, create_engine, func, inspect, select

import counting
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from harness import Countdown, Report, microseconds_each, utc_now

LOOKUPS = 200
TABLE = "apscheduler_bench"


class Stage(ABC):
    """A place where jobs are stored and run."""

    @abstractmethod
    def make_store(self) -> Any:
        """Return a store of jobs in this place."""

    @abstractmethod
    def count_moved(self, now: float) -> int:
        """Return how many jobs there have a run time later than now."""

    @abstractmethod
    def clean_up(self) -> None:
        """Remove everything that was stored."""

    @abstractmethod
    def close(self) -> None:
        """Leave the place."""

    def run_all(self, number: int) -> dict[str, float]:
        """Return how many microseconds a job takes: to add, list, look up, and run, of the processor, too."""
        store = self.make_store()
        scheduler = BackgroundScheduler(timezone="UTC", jobstores={"default": store})
        scheduler.start(paused=True)
        countdown = counting.countdown = Countdown(number)
        add_all = self._adder(scheduler, number)
        values = {"add a job": microseconds_each(add_all, number)}
        values["list a job"] = microseconds_each(scheduler.get_jobs, number)
        some_ids = [job.id for job in scheduler.get_jobs()[:LOOKUPS]]
        values["look up a job"] = microseconds_each(
            lambda: [scheduler.get_job(id) for id in some_ids], len(some_ids)
        )
        started, processor = time.perf_counter(), time.process_time()
        scheduler.resume()
        countdown.wait()
        # Comes back when everything is written.
        scheduler.shutdown()
        values["run a due job"] = (time.perf_counter() - started) / number * 1e6
        used = (time.process_time() - processor) / number * 1e6
        values["run a due job: CPU"] = used
        self._check(number)
        return values

    def add_in_bulk(self, number: int) -> float | None:
        """Return how many microseconds a job takes that is added with many others; None where that is not possible."""
        store = self.make_store()
        if not hasattr(store, "add_jobs"):
            return None
        scheduler = BackgroundScheduler(timezone="UTC")
        scheduler.start(paused=True)
        self._adder(scheduler, number)()
        jobs = scheduler.get_jobs()
        scheduler.shutdown()
        store.start(None, "default")
        taken = microseconds_each(lambda: store.add_jobs(jobs), number)
        store.shutdown()
        return taken

    def _adder(self, scheduler: Any, number: int) -> Callable[[], None]:
        due = utc_now() - timedelta(seconds=10)

        def add_all() -> None:
            for _ in range(number):
                scheduler.add_job(
                    counting.tick,
                    "interval",
                    hours=1,
                    next_run_time=due,
                    misfire_grace_time=None,
                )

        return add_all

    def _check(self, number: int) -> None:
        """Raise an error unless all jobs have been moved on."""
        moved = self.count_moved(time.time())
        if moved != number:
            raise RuntimeError(f"Of {number} jobs only {moved} have been moved on")


class DatabaseStage(Stage):
    """A relational database."""

    def __init__(self, url: str):
        self.url = url
        self.engine: Engine = create_engine(url)

    def make_store(self) -> Any:
        return SQLAlchemyJobStore(self.url, tablename=TABLE)

    def count_moved(self, now: float) -> int:
        jobs = self.make_store().jobs_t
        query = select(func.count()).select_from(jobs).where(jobs.c.next_run_time > now)
        with self.engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def clean_up(self) -> None:
        with self.engine.begin() as connection:
            for name in inspect(connection).get_table_names():
                if name.startswith(TABLE):
                    connection.exec_driver_sql(f"DROP TABLE {name}")

    def close(self) -> None:
        self.engine.dispose()


def measure(url: str, number: int) -> Report:
    """Return what so many jobs take in a database."""
    return measure_at(DatabaseStage(url), number)


def measure_at(stage: Stage, number: int) -> Report:
    """Return what so many jobs take in a place."""
    report = Report()
    try:
        stage.clean_up()  # of a run that was interrupted
    except Exception as exc:
        said = str(exc).partition("\n")[0]
        sys.exit(f"There is no server to measure with ({type(exc).__name__}): {said}")
    try:
        stage.run_all(20)
        stage.clean_up()
        values = stage.run_all(number)
        stage.clean_up()
        bulk = stage.add_in_bulk(number)
    finally:
        stage.clean_up()
        stage.close()
    for name, value in values.items():
        report.add(name, value, "µs")
    if bulk is not None:
        report.add("add a job in bulk", bulk, "µs")
        report.add("in bulk compared with singly", bulk / values["add a job"], "x")
    return report
