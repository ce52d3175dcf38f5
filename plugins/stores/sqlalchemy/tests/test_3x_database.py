"""A database that APScheduler 3.11.3 has written opens, and its jobs run."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from apscheduler import planning
from apscheduler.job import Job
from apscheduler.jobstores.contract import ClaimRequest
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.nodes import Identity
from apscheduler.runs import Completion, RunFilter, RunState

FIXTURES = Path(__file__).parent / "fixtures"
START = datetime(2026, 6, 1, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")

DEFAULTS: dict[str, Any] = {
    "name": "time",
    "func_ref": "time:time",
    "args": (),
    "kwargs": {},
    "executor": "default",
    "misfire_grace_time": 1,
    "coalesce": True,
    "max_instances": 1,
    "next_run_time": START,
    "on_lost": "mark",
    "max_attempts": 3,
    "history": None,
}

CALENDAR_INTERVAL = (
    "CalendarIntervalTrigger(months=1, time='09:30:00', start_date='2026-01-31', "
    "timezone='Europe/Berlin')"
)

# Identifier → the text of the trigger, the fire time that follows the first one, and what is not as usual.
JOBS: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "date": ("date[2026-06-01 12:00:00 UTC]", None, {}),
    "interval": (
        "interval[0:05:00]",
        "2026-06-01T12:05:00+00:00",
        {
            "name": "Add one and two",
            "func_ref": "operator:add",
            "args": (1, 2),
            "misfire_grace_time": 30,
            "coalesce": False,
            "max_instances": 3,
            "executor": "other",
        },
    ),
    "interval-jitter": (
        "interval[2:00:00]",
        "jitter",
        {
            "name": "dumps",
            "func_ref": "json:dumps",
            "args": ({"a": [1, 2]},),
            "kwargs": {"sort_keys": True},
        },
    ),
    "cron-all": ("cron[second='*']", "2026-06-01T12:00:01+00:00", {}),
    "cron-step": (
        "cron[minute='*/15', second='5']",
        "2026-06-01T14:00:05+02:00",
        {},
    ),
    "cron-range": (
        "cron[day_of_week='mon-fri', hour='8-17']",
        "2026-06-02T08:00:00+09:00",
        {},
    ),
    "cron-range-step": ("cron[hour='8-18/2']", "2026-06-01T14:00:00+00:00", {}),
    "cron-list": ("cron[hour='1,5-7,20-23/3']", "2026-06-01T20:00:00+00:00", {}),
    "cron-weekday-position": ("cron[day='2nd tue']", "2026-06-09T00:00:00-04:00", {}),
    "cron-last-weekday": ("cron[day='last fri']", "2026-06-26T00:00:00+00:00", {}),
    "cron-last-day": (
        "cron[day='last', hour='23']",
        "2026-06-30T23:00:00+00:00",
        {},
    ),
    "cron-months": ("cron[month='jan,jun-aug']", "2026-07-01T00:00:00+00:00", {}),
    "cron-week": ("cron[week='10-40/5']", "2026-06-15T00:00:00+00:00", {}),
    "cron-years": (
        "cron[year='2026-2030', month='6']",
        "2027-06-01T00:00:00+00:00",
        {},
    ),
    "cron-jitter": ("cron[minute='0']", "jitter", {}),
    "cron-bounds": ("cron[minute='0']", "2026-06-01T15:00:00+02:00", {}),
    "crontab": (
        "cron[month='*', day='*', day_of_week='0-4', hour='9-17', minute='*/5']",
        "2026-06-01T12:05:00+00:00",
        {},
    ),
    "calendarinterval": (
        CALENDAR_INTERVAL,
        "2026-07-01T09:30:00+02:00",
        {},
    ),
    "and": ("and[cron[hour='9-17'], interval[1:00:00]]", None, {}),
    "or": ("or[cron[hour='9-17'], interval[1:00:00]]", "jitter", {}),
    "bound-method": (
        "interval[1 day, 0:00:00]",
        None,
        {
            "name": "PurePosixPath.joinpath",
            "func_ref": "pathlib:PurePosixPath.joinpath",
        },
    ),
    "class-method": (
        "interval[1 day, 0:00:00]",
        None,
        {"name": "datetime.now", "func_ref": "datetime:datetime.now"},
    ),
    "fixed-offset": ("interval[1 day, 0:00:00]", "2026-06-02T09:00:00-03:00", {}),
    "far": (
        "date[2038-01-19 03:14:08 UTC]",
        None,
        {
            "misfire_grace_time": None,
            "next_run_time": datetime(2038, 1, 19, 3, 14, 8, 1, UTC),
        },
    ),
    "paused": ("interval[1 day, 0:00:00]", None, {"next_run_time": None}),
}


# The states of jobs are the same everywhere.
in_every_database = pytest.mark.parametrize(
    "url", ["sqlite", "postgresql", "mysql"], indirect=True
)


def load(url: str, script: str) -> None:
    """Carry out the statements of a dump."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        cursor = connection.connection.cursor()
        for statement in script.rstrip().split(";\n"):
            cursor.execute(statement)


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the address of a database that APScheduler 3.11.3 has written."""
    kind = getattr(request, "param", "sqlite")
    if kind == "sqlite":
        path = tmp_path / "jobs.db"
        shutil.copy(FIXTURES / "jobs-3.11.3.db", path)
        return f"sqlite:///{path}"
    found: str = request.getfixturevalue(f"{kind}_database_url")
    load(found, (FIXTURES / f"jobs-3.11.3-{kind}.sql").read_text())
    return found


@pytest.fixture
def store(url: str) -> Iterator[SQLAlchemyJobStore]:
    store = SQLAlchemyJobStore(url)
    store.start(None, "sql")
    assert store.shareable
    yield store
    store.shutdown()


@in_every_database
def test_all_jobs_are_listed(store: SQLAlchemyJobStore) -> None:
    listed = [job.id for job in store.get_all_jobs()]

    assert sorted(listed) == sorted(JOBS)
    assert listed[-2:] == ["far", "paused"]


@pytest.mark.parametrize("job_id", JOBS)
def test_every_attribute_of_a_job_is_as_it_was(
    store: SQLAlchemyJobStore, job_id: str
) -> None:
    job = store.lookup_job(job_id)

    assert job is not None
    text, _, expected = JOBS[job_id]
    assert str(job.trigger) == text
    found = {name: getattr(job, name) for name in DEFAULTS}
    if job_id == "bound-method":
        assert [str(argument) for argument in found.pop("args")] == ["/tmp", "file"]
        expected = {**DEFAULTS, **expected}
        expected.pop("args")
        assert found == expected
    else:
        assert found == DEFAULTS | expected


@pytest.mark.parametrize(
    ("job_id", "hours"),
    [("interval-jitter", 2), ("fixed-offset", -3), ("cron-bounds", 0)],
)
def test_run_times_keep_their_zones(
    store: SQLAlchemyJobStore, job_id: str, hours: int
) -> None:
    job = store.lookup_job(job_id)

    assert job is not None and job.next_run_time is not None
    assert job.next_run_time.utcoffset() == timedelta(hours=hours)


@pytest.mark.parametrize("job_id", [id for id, row in JOBS.items() if row[1]])
def test_triggers_go_on_where_they_were(store: SQLAlchemyJobStore, job_id: str) -> None:
    job = store.lookup_job(job_id)
    assert job is not None
    expected = JOBS[job_id][1]

    following = job.trigger.get_next_fire_time(START, START)

    assert following is not None
    if expected == "jitter":
        assert START < following <= START + timedelta(hours=2, seconds=60)
    else:
        assert following.isoformat() == expected


@in_every_database
def test_due_jobs_run_and_are_moved_on(store: SQLAlchemyJobStore) -> None:
    me = Identity()
    due = {job.id for job in store.get_due_jobs(START)}

    batch = store.claim(
        ClaimRequest(START, 100, lambda job: planning.plan(job, START), me)
    )

    assert (
        {claim.job.id for claim in batch.claims} == due == {*JOBS} - {"far", "paused"}
    )
    results = {c.job.id: c.job.func(*c.job.args, **c.job.kwargs) for c in batch.claims}
    assert results["interval"] == 3
    assert results["interval-jitter"] == '{"a": [1, 2]}'
    assert str(results["bound-method"]) == "/tmp/file"
    assert isinstance(results["class-method"], datetime)
    store.complete(
        [
            _completion(claim.run_times.run_ids[0], claim.job, me)
            for claim in batch.claims
        ]
    )
    assert store.get_due_jobs(START) == []
    assert store.lookup_job("date") is None, "it was due only once"
    interval = store.lookup_job("interval")
    assert interval is not None
    assert interval.next_run_time == START + timedelta(minutes=5)
    finished = store.get_runs(RunFilter(states=frozenset([RunState.SUCCEEDED])), 100)
    assert len(finished) == len(due)


@in_every_database
def test_records_tell_about_all_jobs(store: SQLAlchemyJobStore) -> None:
    records = {record.id: record for record in store.get_job_records()}

    assert {id: record.trigger for id, record in records.items()} == {
        id: row[0] for id, row in JOBS.items()
    }
    assert records["interval"].name == "Add one and two"
    assert not any(record.error for record in records.values())


def _completion(run_id: str, job: Job, me: Identity) -> Completion:
    return Completion(run_id, job.id, me.node.id, 1, RunState.SUCCEEDED, START)
