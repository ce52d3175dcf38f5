"""What a scheduler costs whose store has many jobs of which none is due for long."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from redis import Redis
from sqlalchemy import Engine, event

import counting
import postgresql
import redis_store
import stored
from apscheduler.schedulers.background import BackgroundScheduler
from harness import KEEPS_RUNS, Report, options, utc_now

# How long the scheduler is watched, after it has found out that there is nothing to do.
SECONDS, SETTLING_SECONDS = 10, 2
CHUNK = 10_000


def fill(stage: stored.Stage, number: int) -> None:
    """Add jobs that are due in a day, some at a time."""
    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.start(paused=True)
    job = scheduler.add_job(counting.tick, "interval", days=1)
    state = job.__getstate__()
    scheduler.shutdown()
    store = stage.make_store()
    store.start(None, "default")
    due = utc_now() + timedelta(days=1)
    for first in range(0, number, CHUNK):
        jobs = []
        for index in range(first, min(first + CHUNK, number)):
            copy = type(job).__new__(type(job))
            next_run_time = due + timedelta(milliseconds=index)
            copy.__setstate__(
                {**state, "id": f"{index:06}", "next_run_time": next_run_time}
            )
            jobs.append(copy)
        store.add_jobs(jobs)
    store.shutdown()


def watch(
    stage: stored.Stage, count_requests: Callable[[], int]
) -> tuple[float, float]:
    """Return which part of a core an idle scheduler takes, in percent, and how many requests it sends per second."""
    scheduler = BackgroundScheduler(
        timezone="UTC", jobstores={"default": stage.make_store()}
    )
    scheduler.start()
    time.sleep(SETTLING_SECONDS)
    requests, used, started = count_requests(), time.process_time(), time.monotonic()
    time.sleep(SECONDS)
    used, taken = time.process_time() - used, time.monotonic() - started
    requests = count_requests() - requests
    scheduler.shutdown()
    return used / taken * 100, requests / taken


@contextmanager
def counted_statements() -> Iterator[Callable[[], int]]:
    """Count the statements that SQLAlchemy sends."""
    count = 0

    def note(*_: Any) -> None:
        nonlocal count
        count += 1

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield lambda: count
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@contextmanager
def counted_commands(client: Redis) -> Iterator[Callable[[], int]]:
    """Count the commands that a Redis server gets; asking it is one."""
    yield lambda: int(dict(client.info("stats"))["total_commands_processed"])


def main() -> None:
    number = 30_000 if options().quick else 300_000
    report = Report()
    if not KEEPS_RUNS:
        report.print()  # APScheduler 3 takes minutes to add so many jobs
        return
    with ExitStack() as stack:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory()), "jobs.sqlite")
        url = os.environ.get("APSCHEDULER_BENCH_POSTGRESQL_URL", postgresql.URL)
        statements = stack.enter_context(counted_statements())
        redis = redis_store.RedisStage(
            os.environ.get("APSCHEDULER_BENCH_REDIS_URL", redis_store.URL)
        )
        commands = stack.enter_context(counted_commands(redis.client))
        for name, stage, count_requests in (
            ("SQLite", stored.DatabaseStage(f"sqlite:///{path}"), statements),
            ("PostgreSQL", stored.DatabaseStage(url), statements),
            ("Redis", redis, commands),
        ):
            stage.clean_up()
            try:
                fill(stage, number)
                part, requests = watch(stage, count_requests)
            finally:
                stage.clean_up()
                stage.close()
            report.add(f"{name}: part of a core", part, "%")
            report.add(f"{name}: requests", requests, "/s")
    report.print()


if __name__ == "__main__":
    main()
