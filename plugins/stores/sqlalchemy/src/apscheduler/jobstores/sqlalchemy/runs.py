"""Statements on the table of runs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

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
    literal_column,
    or_,
    select,
)

from apscheduler.job import Job
from apscheduler.jobstores.sqlalchemy.flavours import Flavour
from apscheduler.jobstores.sqlalchemy.statements import (
    ListStatement,
    Statement,
    Values,
)
from apscheduler.jobstores.sqlalchemy.tables import (
    READY,
    ROW,
    RUNNING,
    RUNNING_ROW,
    AnyRow,
    Place,
    to_row,
    to_run,
)
from apscheduler.jobstores.sqlalchemy.writing import deleting, inserting, updating
from apscheduler.records import replace
from apscheduler.runs import Completion, Run, RunFilter, RunState
from apscheduler.util import datetime_to_utc_timestamp

# So many finished runs are deleted in one transaction: others do not wait for long.
PRUNE_BATCH = 500

# Asking for the open claims of more jobs than this costs more than reading all that are open: executors hold few.
MAX_LISTED = 100

# As constants, by which databases see that an index serves.
OPEN: list[ColumnElement[str]] = [
    literal_column(f"'{state}'") for state in (RUNNING, READY)
]

# Columns that are no attributes of a run, and those that its end writes.
INTERNAL = frozenset(("max_attempts", "job_state", "history"))
SUCCESS = ("state", "started_at", "finished_at", "duration")
FAILURE = ("exception", "traceback", *SUCCESS)


class OpenRuns(NamedTuple):
    """What is open: of each job that has any, how many claims whose runs go on, and how many runs that wait."""

    claims: dict[str, int]
    ready: dict[str, int]


class RunTable:
    """What is done to runs. Every method works within the transaction of its caller.

    :param runs: the table of runs
    :param flavour: of the database that it is in
    """

    def __init__(self, runs: Table, flavour: Flavour):
        self.runs = runs
        self.flavour = flavour
        c = runs.c
        self.is_open = c.finished_at.is_(None)
        self.record = [column for column in c if column.name not in INTERNAL]
        # Rows made by ``to_row`` and by ``running_rows``.
        self.insert = inserting(flavour, runs, ROW)
        self.begin = inserting(flavour, runs, RUNNING_ROW)
        key = ("id", "node", "attempt")
        done: dict[str, str | None] = {"job_state": None}
        self._succeed = updating(flavour, runs, SUCCESS, key, RUNNING, constants=done)
        self._fail = updating(flavour, runs, FAILURE, key, RUNNING, constants=done)
        self._forget = deleting(flavour, runs, key, RUNNING)
        # Whether outcomes are written by statements that do without a transaction around them.
        self.completes_each = flavour.takes_arrays
        # Running runs become ready: time, state of the job, identifier, claim and attempt of each.
        self.hand_back = updating(
            *(flavour, runs, ("available_at", "job_state")),
            # Unless somebody has taken the run over, and started it again.
            *(("id", "claim_id", "attempt"), RUNNING),
            constants={"state": READY, "node": None},
        )
        # Ready runs become running ones: node, claim and identifier of each.
        self.restart = updating(
            *(flavour, runs, ("node", "claim_id"), ("id",), READY),
            constants={"state": RUNNING, "available_at": None},
            is_locked=True,
        )
        self._make_counts()
        self._make_readers()

    def _make_counts(self) -> None:
        c = self.runs.c
        counted = (
            select(c.job_id, c.state, func.count(distinct(c.claim_id)), func.count())
            .where(self.is_open, c.state.in_(OPEN))
            .group_by(c.job_id, c.state)
        )
        self._count_all = Statement(counted)
        self._count = ListStatement(self.flavour, counted, c.job_id)
        waiting = select(c.id, c.job_id).where(self.is_open, c.state == READY)
        self._lock_ready = ListStatement(
            self.flavour,
            self.flavour.lock(waiting, self.runs, "finished_at"),
            c.job_id,
        )

    def _make_readers(self) -> None:
        c = self.runs.c
        ready = (
            select(*self.record, c.job_state)
            .where(c.available_at <= bindparam("now"), c.state == READY)
            .order_by(c.available_at, c.id)
            .limit(bindparam("size", type_=Integer))
        )
        ready = self.flavour.lock(ready, self.runs, "available_at")
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

    def complete(
        self, connection: Connection, completions: Sequence[Completion]
    ) -> None:
        """Record outcomes, of runs that are still owned by those who report them."""
        # In the order of all other writers, so that they wait for each other in no circle. Of two, the first stands.
        first = {_key(outcome): outcome for outcome in reversed(completions)}
        ordered = [first[key] for key in sorted(first)]
        succeeded = [_success(o) for o in ordered if o.keep and o.exception is None]
        failed = [_failure(o) for o in ordered if o.keep and o.exception is not None]
        dropped = [_key(outcome) for outcome in ordered if not outcome.keep]
        if succeeded:
            self._succeed.execute(connection, succeeded)
        if failed:
            self._fail.execute(connection, failed)
        if dropped:
            self._forget.execute(connection, dropped)

    def count_open(self, connection: Connection, job_ids: Sequence[str]) -> OpenRuns:
        """Return what is open of these jobs, and maybe of others."""
        rows: Any  # of any length, see AnyRow
        if len(job_ids) > MAX_LISTED and not self.flavour.takes_arrays:
            rows = self._count_all.execute(connection)
        else:
            rows = self._count.execute(connection, job_ids)
        opened = OpenRuns({}, {})
        for job_id, state, claims_number, runs_number in rows:
            if state == RUNNING:
                opened.claims[job_id] = claims_number
            else:
                opened.ready[job_id] = runs_number
        return opened

    def lock_ready(
        self, connection: Connection, job_ids: Sequence[str]
    ) -> Mapping[str, int]:
        """Lock all ready runs of these jobs, and return of how many that was possible, of each job."""
        rows = self._lock_ready.execute(connection, job_ids)
        return Counter(row.job_id for row in rows)

    def read_ready(
        self,
        connection: Connection,
        timestamp: float,
        after: Place | None,
        limit: int,
    ) -> Sequence[AnyRow]:
        """Return ready runs that are available, those waiting longest first, that follow another one."""
        if after is None:
            return self._ready.execute(connection, timestamp, limit).all()
        return self._ready_after.execute(connection, timestamp, limit, *after).all()

    def add_ready(
        self, connection: Connection, job: Job, run: Run, job_state: bytes
    ) -> None:
        """Add a run that waits to be claimed."""
        available_at = run.available_at or run.scheduled_time
        ready = replace(run, state=RunState.READY, available_at=available_at)
        self.insert.execute(connection, [to_row(ready, job, job_state)])

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
        query = (
            select(*self.record)
            .where(*self._wanted(which))
            .order_by(c.scheduled_time.desc(), c.id.desc())
            .limit(limit)
            .offset(offset)
        )
        return [to_run(row, alias) for row in connection.execute(query)]

    def count_runs(self, connection: Connection, which: RunFilter) -> int:
        """Return how many runs match."""
        query = select(func.count()).select_from(self.runs).where(*self._wanted(which))
        return connection.execute(query).scalar_one()

    def _wanted(self, which: RunFilter) -> list[ColumnElement[bool]]:
        c = self.runs.c
        equal = (
            (c.id, which.run_id),
            (c.job_id, which.job_id),
            (c.node, which.node),
            (c.attempt, which.attempt),
        )
        wanted = [column == value for column, value in equal if value is not None]
        if which.states is not None:
            wanted.append(c.state.in_(sorted(state.value for state in which.states)))
        if which.since is not None:
            wanted.append(c.scheduled_time >= datetime_to_utc_timestamp(which.since))
        if which.until is not None:
            wanted.append(c.scheduled_time < datetime_to_utc_timestamp(which.until))
        return wanted

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


def _success(completion: Completion) -> Values:
    started_at = completion.started_at
    return (
        completion.state.value,
        None if started_at is None else started_at.timestamp(),
        completion.finished_at.timestamp(),
        completion.duration,
        completion.run_id,
        completion.node,
        completion.attempt,
    )


def _failure(completion: Completion) -> Values:
    texts = (_storable(completion.exception), _storable(completion.traceback))
    return (*texts, *_success(completion))


def _storable(text: str | None) -> str | None:
    """Return a text as every database takes it: what cannot be encoded, or is the character zero, is spelled out."""
    if text is None or (text.isascii() and "\0" not in text):
        return text
    return text.replace("\0", "\\x00").encode(errors="backslashreplace").decode()
