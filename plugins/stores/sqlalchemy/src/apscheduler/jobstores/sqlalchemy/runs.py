"""Statements on the table of runs."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Table,
    and_,
    bindparam,
    delete,
    distinct,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    update,
)

from apscheduler.job import Job
from apscheduler.jobstores.sqlalchemy.statements import Statement, Values
from apscheduler.jobstores.sqlalchemy.tables import (
    ROW,
    RUNNING,
    AnyRow,
    to_row,
    to_run,
)
from apscheduler.runs import Completion, Run, RunFilter, RunState
from apscheduler.util import datetime_to_utc_timestamp

# So many finished runs are deleted in one transaction: others do not wait for long.
PRUNE_BATCH = 500

# Asking for the open claims of more jobs than this costs more than reading all that are open: executors hold few.
MAX_LISTED = 100

READY = RunState.READY.value

# Columns that are no attributes of a run, and those that its end writes.
INTERNAL = frozenset(("max_attempts", "job_state", "history"))
OUTCOME = ("state", "started_at", "finished_at", "duration", "exception", "traceback")


class RunTable:
    """What is done to runs. Every method works within the transaction of its caller.

    :param runs: the table of runs
    """

    def __init__(self, runs: Table):
        self.runs = runs
        c = runs.c
        self.is_open = c.finished_at.is_(None)
        is_running = and_(self.is_open, c.state == RUNNING)
        self.record = [column for column in c if column.name not in INTERNAL]
        self._insert = Statement(insert(runs), ROW)
        owned = and_(
            c.id == bindparam("_id"),
            c.node == bindparam("_node"),
            c.attempt == bindparam("_attempt"),
            c.state == literal_column(f"'{RUNNING}'"),
        )
        key = ("_id", "_node", "_attempt")
        ended = update(runs).where(owned)
        outcome: dict[str, Any] = {name: bindparam(name) for name in OUTCOME}
        outcome["job_state"] = null()
        self._complete = Statement(ended.values(outcome), (*OUTCOME, *key))
        self._forget = Statement(delete(runs).where(owned), key)
        counted = (
            select(c.job_id, func.count(distinct(c.claim_id)))
            .where(is_running)
            .group_by(c.job_id)
        )
        self._count_all = Statement(counted)
        chosen = c.job_id.in_(bindparam("job_ids", expanding=True))
        self._count = counted.where(chosen)
        self._hand_back = (
            update(runs)
            .where(
                c.id == bindparam("_id"),
                c.state == RUNNING,
                c.claim_id == bindparam("_claim_id"),
                # Or somebody has taken the run over, and started it again.
                c.attempt == bindparam("_attempt"),
            )
            .values(
                state=READY,
                node=None,
                available_at=bindparam("available_at"),
                job_state=bindparam("job_state"),
            )
        )
        ready = (
            select(*self.record, c.job_state)
            .where(c.available_at <= bindparam("now"), c.state == READY)
            .order_by(c.available_at, c.id)
            .limit(bindparam("size", type_=Integer))
        )
        following = or_(
            c.available_at > bindparam("after_time"),
            and_(
                c.available_at == bindparam("after_time"), c.id > bindparam("after_id")
            ),
        )
        self._ready = Statement(ready, ("now", "size"))
        self._ready_after = Statement(
            ready.where(following), ("now", "size", "after_time", "after_id")
        )
        self._start = (
            update(runs)
            .where(c.id == bindparam("_id"), c.state == READY)
            .values(
                state=RUNNING,
                node=bindparam("node"),
                claim_id=bindparam("claim_id"),
                available_at=None,
            )
        )

    def insert(self, connection: Connection, rows: Sequence[Values]) -> None:
        """Add rows made by ``to_row`` and ``running_rows``."""
        self._insert.execute_many(connection, rows)

    def complete(
        self, connection: Connection, completions: Sequence[Completion]
    ) -> None:
        """Record outcomes, of runs that are still owned by those who report them."""
        kept = [_outcome(outcome) for outcome in completions if outcome.keep]
        dropped = [_key(outcome) for outcome in completions if not outcome.keep]
        if kept:
            self._complete.execute_many(connection, kept)
        if dropped:
            self._forget.execute_many(connection, dropped)

    def count_claims(
        self, connection: Connection, job_ids: Sequence[str]
    ) -> dict[str, int]:
        """Return how many claims are open, of each of these jobs that has any."""
        rows: Any  # of any length, see AnyRow
        if len(job_ids) > MAX_LISTED:
            rows = self._count_all.execute(connection)
        else:
            rows = connection.execute(self._count, {"job_ids": job_ids})
        wanted = frozenset(job_ids)
        return {row[0]: row[1] for row in rows if row[0] in wanted}

    def read_ready(
        self,
        connection: Connection,
        timestamp: float,
        after: AnyRow | None,
        limit: int,
    ) -> Sequence[AnyRow]:
        """Return ready runs that are available, those waiting longest first, that follow another one."""
        if after is None:
            return self._ready.execute(connection, timestamp, limit).all()
        values = (timestamp, limit, after.available_at, after.id)
        return self._ready_after.execute(connection, *values).all()

    def start_ready(
        self, connection: Connection, rows: Sequence[dict[str, Any]]
    ) -> None:
        """Make ready runs running ones: ``_id``, ``node`` and ``claim_id`` of each."""
        connection.execute(self._start, rows)

    def add_ready(
        self, connection: Connection, job: Job, run: Run, job_state: bytes
    ) -> None:
        """Add a run that waits to be claimed."""
        available_at = run.available_at or run.scheduled_time
        ready = replace(run, state=RunState.READY, available_at=available_at)
        self.insert(connection, [to_row(ready, job, job_state)])

    def hand_back(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Make running runs ready: ``_id``, ``_claim_id``, ``_attempt``, ``available_at`` and ``job_state`` of each."""
        connection.execute(self._hand_back, rows)

    def get_runs(
        self,
        connection: Connection,
        which: RunFilter,
        limit: int,
        offset: int,
        alias: str | None,
    ) -> list[Run]:
        """Return the runs that match, latest scheduled time first, of equal times the latest record first."""
        c = self.runs.c
        wanted: list[ColumnElement[bool]] = []
        if which.job_id is not None:
            wanted.append(c.job_id == which.job_id)
        if which.states is not None:
            wanted.append(c.state.in_(sorted(state.value for state in which.states)))
        if which.since is not None:
            wanted.append(c.scheduled_time >= datetime_to_utc_timestamp(which.since))
        if which.until is not None:
            wanted.append(c.scheduled_time < datetime_to_utc_timestamp(which.until))
        query = (
            select(*self.record)
            .where(*wanted)
            .order_by(c.scheduled_time.desc(), c.id.desc())
            .limit(limit)
            .offset(offset)
        )
        return [to_run(row, alias) for row in connection.execute(query)]

    def find_prunable(
        self,
        connection: Connection,
        max_age: timedelta | None,
        max_per_job: int | None,
        now: datetime,
    ) -> list[str]:
        """Return the identifiers of up to ``PRUNE_BATCH`` finished runs that need not be kept."""
        c = self.runs.c
        found: list[str] = []
        if max_age is not None:
            oldest = (now - max_age).timestamp()
            query = select(c.id).where(c.finished_at < oldest).limit(PRUNE_BATCH)
            found.extend(connection.execute(query).scalars())
        if len(found) < PRUNE_BATCH:
            found.extend(self._find_surplus(connection, max_per_job))
        return list(dict.fromkeys(found))[:PRUNE_BATCH]

    def _find_surplus(
        self, connection: Connection, max_per_job: int | None
    ) -> list[str]:
        """Return the oldest finished runs of jobs that have more than they, or the store, want to keep."""
        c = self.runs.c
        allowed = func.coalesce(func.min(c.history), max_per_job)
        crowded = (
            select(c.job_id)
            .group_by(c.job_id)
            .having(func.count() > allowed)
            .limit(PRUNE_BATCH)
        )
        found: list[str] = []
        for job_id in connection.execute(crowded).scalars().all():
            finished = (
                select(c.id, c.history)
                .where(c.job_id == job_id, ~self.is_open)
                .order_by(c.scheduled_time.desc(), c.id.desc())
            )
            latest = connection.execute(finished.limit(1)).first()
            keep = max_per_job if not latest or latest[1] is None else latest[1]
            if keep is not None:
                query = finished.offset(keep).limit(PRUNE_BATCH)
                found.extend(connection.execute(query).scalars())
            if len(found) >= PRUNE_BATCH:
                break
        return found

    def delete(self, connection: Connection, run_ids: Sequence[str]) -> int:
        """Delete runs, and return how many there were."""
        chosen = self.runs.c.id.in_(run_ids)
        result = connection.execute(delete(self.runs).where(chosen, ~self.is_open))
        return result.rowcount


def _key(completion: Completion) -> Values:
    return completion.run_id, completion.node, completion.attempt


def _outcome(completion: Completion) -> Values:
    started_at = completion.started_at
    return (
        completion.state.value,
        None if started_at is None else started_at.timestamp(),
        completion.finished_at.timestamp(),
        completion.duration,
        completion.exception,
        completion.traceback,
        completion.run_id,
        completion.node,
        completion.attempt,
    )
