"""The programs of a well-known guide to APScheduler 3 run as they are printed, evident slips aside."""

import textwrap
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.triggers.combining import AndTrigger, OrTrigger
from apscheduler.triggers.cron import CronTrigger

SOON = 10


def job(*args: Any) -> None:
    """Do nothing."""


def execute(program: str, tmp_path: Path) -> BaseScheduler:
    """Run a program of the guide, on files instead of servers, and return its scheduler."""
    source = textwrap.dedent(program).replace(
        "sqlite:///jobs.sqlite", f"sqlite:///{tmp_path}/jobs.sqlite"
    )
    names: dict[str, Any] = {"job_func": job, "__name__": "guide"}
    exec(source, names)  # noqa: S102  # our own text
    scheduler = names["scheduler"]
    assert isinstance(scheduler, BaseScheduler)
    return scheduler


# Where the guide has {'type': 'mongodb'}, these have another database: no server is needed to construct it.
BY_LATE_CONFIGURATION = """
    from pytz import utc
    from apscheduler.schedulers.background import BackgroundScheduler
    from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
    from apscheduler.executors.pool import ProcessPoolExecutor

    jobstores = {
        'mongo': {'type': 'memory'},
        'default': SQLAlchemyJobStore(url='sqlite:///jobs.sqlite')
    }
    executors = {
        'default': {'type': 'threadpool', 'max_workers': 20},
        'processpool': ProcessPoolExecutor(max_workers=5)
    }
    job_defaults = {
        'coalesce': False,
        'max_instances': 3
    }
    scheduler = BackgroundScheduler()
    scheduler.configure(jobstores=jobstores, executors=executors,
               job_defaults=job_defaults, timezone=utc)
    scheduler.add_job(job_func, trigger='interval', id='job_1', hours=1,
                       jobstore='default', executor='default')
"""

BY_DICT = """
    from apscheduler.schedulers.background import BackgroundScheduler

    scheduler = BackgroundScheduler({
        'apscheduler.jobstores.mongo': {
             'type': 'memory'
        },
        'apscheduler.jobstores.default': {
            'type': 'sqlalchemy',
            'url': 'sqlite:///jobs.sqlite'
        },
        'apscheduler.executors.default': {
            'class': 'apscheduler.executors.pool:ThreadPoolExecutor',
            'max_workers': '20'
        },
        'apscheduler.executors.processpool': {
            'type': 'processpool',
            'max_workers': '5'
        },
        'apscheduler.job_defaults.coalesce': 'false',
        'apscheduler.job_defaults.max_instances': '3',
        'apscheduler.timezone': 'UTC',
    })
    scheduler.add_job(job_func, trigger='interval', id='job_1', hours=1,
                       jobstore='mongo', executor='default')
"""

BY_KEYWORDS = """
    from pytz import utc
    from apscheduler.schedulers.background import BackgroundScheduler
    from apscheduler.jobstores.memory import MemoryJobStore
    from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
    from apscheduler.executors.pool import ProcessPoolExecutor, ThreadPoolExecutor

    jobstores = {
        'default': SQLAlchemyJobStore(url='sqlite:///jobs.sqlite'),
        'mongo': MemoryJobStore(),
    }
    executors = {
        'default': ThreadPoolExecutor(20),
        'processpool': ProcessPoolExecutor(5)
    }
    job_defaults = {
        'coalesce': False,
        'max_instances': 3
    }
    scheduler = BackgroundScheduler(jobstores=jobstores, executors=executors,
                                 job_defaults=job_defaults, timezone=utc)
    scheduler.add_job(job_func, trigger='interval', id='job_1', hours=1,
                       jobstore='mongo', executor='processpool')
"""


@pytest.mark.parametrize(
    ("program", "store", "executor"),
    [
        (BY_LATE_CONFIGURATION, "default", "default"),
        (BY_DICT, "mongo", "default"),
        (BY_KEYWORDS, "mongo", "processpool"),
    ],
    ids=["late configuration", "dict", "keywords"],
)
def test_the_three_ways_to_configure(
    tmp_path: Path, program: str, store: str, executor: str
) -> None:
    scheduler = execute(program, tmp_path)

    scheduler.start(paused=True)
    try:
        (added,) = scheduler.get_jobs(store)
        assert (added.id, added.executor) == ("job_1", executor)
        assert (added.coalesce, added.max_instances) == (False, 3)
        assert scheduler._executors["default"].slots == 20
        assert scheduler._executors["processpool"].slots == 5
        assert str(scheduler.timezone) == "UTC"
    finally:
        scheduler.shutdown()


def test_jobs_in_a_database_survive_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        scheduler = execute(
            BY_LATE_CONFIGURATION.replace(
                "jobstore='default'", "jobstore='default', replace_existing=True"
            ),
            tmp_path,
        )
        scheduler.start(paused=True)
        listed = [(each.id, each.next_run_time) for each in scheduler.get_jobs()]
        scheduler.shutdown()

    assert [job_id for job_id, _ in listed] == ["job_1"]


@pytest.fixture
def scheduler() -> Iterator[BackgroundScheduler]:
    scheduler = BackgroundScheduler(timezone="Europe/Moscow")
    scheduler.start(paused=True)
    yield scheduler
    if scheduler.running:
        scheduler.shutdown()


@pytest.mark.parametrize(
    ("run_date", "expected"),
    [
        (date(2032, 11, 30), datetime(2032, 11, 30)),  # midnight, not noon
        (datetime(2032, 4, 30, 12, 0, 0), datetime(2032, 4, 30, 12)),
        ("2032-4-30 08:00:00", datetime(2032, 4, 30, 8)),
    ],
    ids=["date", "datetime", "text"],
)
def test_dates(scheduler: Any, run_date: Any, expected: datetime) -> None:
    added = scheduler.add_job(job, "date", run_date=run_date, args=["Job 1"], id="1")

    assert added.next_run_time == expected.replace(tzinfo=ZoneInfo("Europe/Moscow"))


def test_intervals(scheduler: Any) -> None:
    added = scheduler.add_job(job, "interval", seconds=5)

    assert str(added.trigger) == "interval[0:00:05]"
    assert (
        timedelta(0) < added.next_run_time - datetime.now(UTC) <= timedelta(seconds=5)
    )


@pytest.mark.parametrize(
    "expressions",
    [
        {"hour": 17, "minute": "*/5"},
        {"hour": 3},
        {"hour": "*"},
        {"hour": "*/3"},
        {"hour": "9-17"},
        {"hour": "9-17/2"},
        {"day": "2nd fri"},
        {"day": "last fri"},
        {"day": "last"},
        {"minute": "0,15,30-35"},
        {"year": 2040, "month": "1-12", "day": 31, "week": "1-53", "day_of_week": 0},
        {"day_of_week": "mon,tue,wed", "start_date": "2030-01-01", "jitter": 5},
        {"hour": 5, "end_date": datetime(2040, 1, 1), "timezone": "Asia/Tokyo"},
    ],
    ids=str,
)
def test_cron_expressions(scheduler: Any, expressions: dict[str, Any]) -> None:
    added = scheduler.add_job(job, "cron", args=["job 2"], **expressions)

    assert added.next_run_time is None or added.next_run_time > datetime.now(UTC)


@pytest.mark.parametrize("kind", [AndTrigger, OrTrigger])
def test_triggers_combined_into_one(scheduler: Any, kind: Any) -> None:
    trigger = kind([CronTrigger(hour=9), CronTrigger(day_of_week="mon", hour="9,12")])

    assert scheduler.add_job(job, trigger).next_run_time.hour in (9, 12)


def test_the_decorator_always_replaces(scheduler: BackgroundScheduler) -> None:
    for _ in range(2):

        @scheduler.scheduled_job("interval", hours=1, id="decorated")
        def decorated() -> None: ...

    assert [each.id for each in scheduler.get_jobs()] == ["decorated"]


def test_changing_and_removing(scheduler: Any) -> None:
    added = scheduler.add_job(job, "interval", hours=1, id="a")

    added.modify(max_instances=6, name="Alternate name")
    scheduler.modify_job("a", coalesce=False)
    with pytest.raises(ValueError, match="ID"):
        added.modify(id="b")
    assert scheduler.get_job("a").name == "Alternate name"
    added.remove()
    scheduler.add_job(job, "interval", hours=1, id="b")
    scheduler.remove_job("b", "default")

    assert scheduler.get_jobs() == []


def test_a_job_is_removed_after_its_last_trigger() -> None:
    ran = threading.Event()
    removed = threading.Event()
    scheduler = BackgroundScheduler()
    scheduler.add_listener(lambda event: removed.set(), 1 << 10)
    scheduler.add_job(ran.set, "date")
    scheduler.start()
    try:
        assert ran.wait(SOON)
        assert removed.wait(SOON)
        assert scheduler.get_jobs() == []
    finally:
        scheduler.shutdown(wait=False)


def test_pausing_resuming_and_starting_paused() -> None:
    ran = threading.Event()
    scheduler = BackgroundScheduler()
    scheduler.add_job(ran.set, "date", id="wanted")
    scheduler.add_job(pytest.fail, "date", args=["unwanted"], id="unwanted")
    scheduler.start(paused=True)
    try:
        scheduler.remove_job("unwanted")
        scheduler.resume()
        assert ran.wait(SOON)
        scheduler.pause()
        assert scheduler.running
    finally:
        scheduler.shutdown()


def test_the_slips_of_the_guide_are_told() -> None:
    scheduler = BackgroundScheduler()

    with pytest.raises(TypeError, match="hour"):
        scheduler.add_job(job, trigger="interval", id="job_1", hour=1)  # type: ignore[unused-coroutine]  # it is wrong
