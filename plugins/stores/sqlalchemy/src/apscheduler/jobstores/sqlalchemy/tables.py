"""The tables of the store, and how runs become rows and rows become runs."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    Double,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Unicode,
)

from apscheduler.job import Job
from apscheduler.jobstores.sqlalchemy.flavours import Flavour
from apscheduler.runs import Run, RunState, RunTimes
from apscheduler.util import utc_timestamp_to_datetime

# A row of any of the tables: how its type is written depends on the release of SQLAlchemy.
AnyRow = Any

# Where a page of rows in the order of a time begins: after this time and identifier.
Place = tuple[float, str]

# What MySQL can index in its widest encoding; the length that APScheduler 3 uses.
ID_LENGTH = 191


class _LongBlob(LargeBinary):
    __visit_name__ = "LONGBLOB"


class _LongText(Text):
    __visit_name__ = "LONGTEXT"


# Where MySQL limits plain BLOB and TEXT to 64 KiB, new tables have no limit to speak of. SQLAlchemy has such types, too;
# they come with everything else about MySQL, which takes long to load and few need.
BYTES = LargeBinary().with_variant(_LongBlob(), "mysql", "mariadb")
TEXT = Text().with_variant(_LongText(), "mysql", "mariadb")


def jobs_table(
    tablename: str, metadata: MetaData, schema: str | None, flavour: Flavour
) -> Table:
    """Return the table of jobs, as APScheduler 3 lays it out.

    Its index tells the order of jobs that are due at the same time, too: each claim would sort all of them otherwise. The
    one that APScheduler 3 has made does not, but is called the same.
    """
    table = Table(
        tablename,
        metadata,
        Column("id", Unicode(ID_LENGTH), primary_key=True),
        Column("next_run_time", Float(25)),
        Column("job_state", BYTES, nullable=False),
        schema=schema,
        **flavour.table_options,
    )
    # On MySQL the primary key is part of every index.
    names = ("next_run_time",) if flavour.is_mysql else ("next_run_time", "id")
    Index(None, *(table.c[name] for name in names))
    return table


def runs_table(
    tablename: str, metadata: MetaData, schema: str | None, flavour: Flavour
) -> Table:
    """Return the table of runs; times are seconds since 1970, as in the table of jobs."""
    table = Table(
        f"{tablename}_runs",
        metadata,
        Column("id", Unicode(64), primary_key=True),
        Column("job_id", Unicode(ID_LENGTH), nullable=False),
        Column("state", Unicode(16), nullable=False),
        Column("scheduled_time", Double, nullable=False),
        Column("first_time", Double),
        Column("count", Integer),
        Column("claim_id", Unicode(64)),
        Column("node", Unicode(64)),
        Column("attempt", Integer, nullable=False),
        Column("available_at", Double),  # of ready runs only
        Column("started_at", Double),
        Column("finished_at", Double),  # open runs have none
        Column("duration", Double),
        Column("exception", TEXT),
        Column("traceback", TEXT),
        # What is needed when the run is started again and its job may be gone.
        Column("max_attempts", Integer),
        Column("job_state", BYTES),
        # How many runs the job wants to have kept.
        Column("history", Integer),
        schema=schema,
        **flavour.table_options,
    )
    name, c = _qualified(table), table.c
    is_open = c.finished_at.is_(None)
    Index(
        f"ix_{name}_open",
        *(c.finished_at, c.state, c.job_id),
        **flavour.only_where(is_open, "postgresql"),
    )
    Index(f"ix_{name}_history", c.job_id, c.scheduled_time, c.history)
    waiting = c.available_at.is_not(None)
    Index(
        f"ix_{name}_ready",
        *(c.available_at, c.id),
        **flavour.only_where(waiting, "postgresql", "sqlite"),
    )
    return table


def nodes_table(
    tablename: str, metadata: MetaData, schema: str | None, flavour: Flavour
) -> Table:
    """Return the table of leases: which schedulers own runs and are alive."""
    return Table(
        f"{tablename}_nodes",
        metadata,
        Column("id", Unicode(64), primary_key=True),
        Column("host", Unicode(255), nullable=False),
        Column("boot", Unicode(255), nullable=False),
        Column("pid", Integer, nullable=False),
        Column("expires_at", Double, nullable=False),
        schema=schema,
        **flavour.table_options,
    )


def _qualified(table: Table) -> str:
    return f"{table.schema}_{table.name}" if table.schema else table.name


RUNNING, READY = RunState.RUNNING.value, RunState.READY.value

# What ``to_row`` gives, in this order.
ROW = (
    *("id", "job_id", "state", "scheduled_time", "first_time", "count", "claim_id"),
    *("node", "attempt", "available_at", "finished_at"),
    *("max_attempts", "job_state", "history"),
)

# What is not NULL of most runs that begin.
RUNNING_ROW = (
    *("id", "job_id", "state", "scheduled_time", "count", "claim_id"),
    *("node", "attempt"),
)


# A job and a lease, in the order of their columns.
JOB = ("id", "next_run_time", "job_state")
NODE = ("id", "host", "boot", "pid", "expires_at")


def to_row(run: Run, job: Job, job_state: bytes | None) -> tuple[Any, ...]:
    """Return what to insert for a run."""
    first_time, available_at, finished_at = (
        None if time is None else time.timestamp()
        for time in (run.first_time, run.available_at, run.finished_at)
    )
    return (
        *(run.id, run.job_id, run.state.value, run.scheduled_time.timestamp()),
        *(first_time, run.count, run.claim_id, run.node, run.attempt),
        *(available_at, finished_at),
        *(job.max_attempts if job.on_lost == "retry" else None, job_state, job.history),
    )


def running_rows(job: Job, run_times: RunTimes, node: str) -> list[tuple[Any, ...]]:
    """Return what to insert, as ``RUNNING_ROW``, for the runs that a claim starts, without making a record of each."""
    claim_id, attempt, job_id = run_times.claim_id, run_times.attempt, job.id
    return [
        (run_id, job_id, RUNNING, run_time.timestamp(), 1, claim_id, node, attempt)
        for run_id, run_time in zip(run_times.run_ids, run_times, strict=True)
    ]


def special_rows(
    job: Job, run_times: RunTimes, node: str, job_state: bytes
) -> list[tuple[Any, ...]]:
    """Return the same as ``ROW``, for a job that may be run again when it is lost, or limits its history."""
    max_attempts, kept = None, None
    if job.on_lost == "retry":
        max_attempts, kept = job.max_attempts, job_state
    added = (max_attempts, kept, job.history)
    return [
        (*row[:4], None, *row[4:], None, None, *added)
        for row in running_rows(job, run_times, node)
    ]


def to_run(row: AnyRow, alias: str | None) -> Run:
    """Return the run of a row."""
    return Run(
        row.id,
        row.job_id,
        alias,
        RunState(row.state),
        to_datetime(row.scheduled_time),
        utc_timestamp_to_datetime(row.first_time),
        row[5],  # "count" is a method of rows
        row.claim_id,
        row.node,
        row.attempt,
        utc_timestamp_to_datetime(row.available_at),
        utc_timestamp_to_datetime(row.started_at),
        utc_timestamp_to_datetime(row.finished_at),
        row.duration,
        row.exception,
        row.traceback,
    )


def to_datetime(timestamp: float) -> datetime:
    """Return the time of a timestamp that is there, in UTC."""
    value = utc_timestamp_to_datetime(timestamp)
    assert value is not None
    return value
