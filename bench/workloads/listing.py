"""Listing 10,000 jobs and looking them up: in an SQLite file, and in Redis where there is one."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

import counting
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from harness import Report, microseconds_each, options
from redis_store import URL, RedisStage

LOOKUPS = 500
REPETITIONS = 5

INTERVAL = {"trigger": "interval", "hours": 1}


def measure(
    report: Report, name: str, stores: tuple[Any, Any], number: int, **trigger: Any
) -> None:
    """Measure how long the scheduler that has added the jobs takes, and one that has not seen them.

    :param stores: two stores in the same place
    :param trigger: the trigger of all jobs, as it is given to ``add_job``
    """
    first, second = (BackgroundScheduler(timezone="UTC") for _ in stores)
    first.add_jobstore(stores[0])
    first.start(paused=True)
    for _ in range(number):
        first.add_job(counting.tick, **trigger)
    second.add_jobstore(stores[1])
    second.start(paused=True)
    report.add(
        f"{name}: list a job not seen before",
        microseconds_each(second.get_jobs, number),
        "µs",
    )
    report.add(
        f"{name}: list a job",
        min(microseconds_each(first.get_jobs, number) for _ in range(REPETITIONS)),
        "µs",
    )
    ids = [job.id for job in first.get_jobs()[:LOOKUPS]]
    report.add(
        f"{name}: look up a job",
        min(
            microseconds_each(lambda: [first.get_job(id) for id in ids], len(ids))
            for _ in range(REPETITIONS)
        ),
        "µs",
    )
    first.shutdown()
    second.shutdown()


def measure_sqlite(report: Report, number: int) -> None:
    """Measure with database files."""
    triggers: tuple[dict[str, Any], ...] = (
        INTERVAL,
        {"trigger": "cron", "hour": "*/2"},
    )
    for trigger in triggers:
        name = f"SQLite, {trigger['trigger']}"
        with tempfile.TemporaryDirectory(prefix="apscheduler-bench-") as directory:
            url = f"sqlite:///{Path(directory, 'jobs.sqlite')}"
            stores = SQLAlchemyJobStore(url), SQLAlchemyJobStore(url)
            measure(report, name, stores, number, **trigger)


def measure_redis(report: Report, number: int) -> None:
    """Measure with a Redis server, if there is one."""
    url = os.environ.get("APSCHEDULER_BENCH_REDIS_URL", URL)
    stage = RedisStage(url)
    try:
        Redis.from_url(url).ping()
    except RedisError as exc:
        print(f"Redis is left out: {exc}", file=sys.stderr)
        return
    stage.clean_up()
    try:
        stores = stage.make_store(), stage.make_store()
        measure(report, "Redis, interval", stores, number, **INTERVAL)
    finally:
        stage.clean_up()
        stage.close()


def main() -> None:
    number = 2_000 if options().quick else 10_000
    report = Report()
    measure_sqlite(report, number)
    measure_redis(report, number)
    report.print()


if __name__ == "__main__":
    main()
