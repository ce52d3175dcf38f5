"""A job store in a relational database, through SQLAlchemy."""

import pickle
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    MetaData,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError, IntegrityError

from apscheduler.job import Job
from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
from apscheduler.jobstores.contract import (
    Claim,
    ClaimBatch,
    ClaimRequest,
    JobRecord,
    NativeJobStore,
    StoredJob,
)
from apscheduler.jobstores.sqlalchemy.claims import PAGE_SIZE, ClaimPass
from apscheduler.jobstores.sqlalchemy.database import Database
from apscheduler.jobstores.sqlalchemy.records import read_record
from apscheduler.jobstores.sqlalchemy.restore import CACHE_SIZE, Restorer
from apscheduler.jobstores.sqlalchemy.storage import Storage
from apscheduler.jobstores.sqlalchemy.tables import to_datetime
from apscheduler.nodes import Node
from apscheduler.runs import Completion, Run, RunFilter
from apscheduler.serializers import PickleSerializer, Serializer
from apscheduler.util import (
    datetime_to_utc_timestamp,
    maybe_ref,
    utc_timestamp_to_datetime,
)

if TYPE_CHECKING:
    from apscheduler.schedulers.base import BaseScheduler

__all__ = ("SQLAlchemyJobStore",)


class SQLAlchemyJobStore(NativeJobStore):
    """Keeps jobs in a table of a relational database, and their runs in two tables beside it.

    :param url: where the database is, as SQLAlchemy writes it
    :param engine: an engine to use instead, or a reference to one
    :param tablename: the table of jobs; the others are named after it
    :param metadata: a ``MetaData`` that the tables become part of, or a reference to one
    :param pickle_protocol: the protocol to write the state of jobs with
    :param tableschema: the schema of the tables
    :param engine_options: more arguments for ``create_engine``, with ``url`` only
    :param serializer: how jobs become bytes, if not by pickle; or a reference to that
    :param shared: True: refuse to start where several schedulers cannot share the tables; False: do not try, and keep
        runs in memory; None: share them where that is possible
    :raises ValueError: if there is neither engine nor URL
    """

    shareable = True
    performs_io = True
    poll_interval: float | None = 1.0

    def __init__(
        self,
        url: str | None = None,
        engine: Engine | str | None = None,
        tablename: str = "apscheduler_jobs",
        metadata: MetaData | str | None = None,
        pickle_protocol: int = pickle.HIGHEST_PROTOCOL,
        tableschema: str | None = None,
        engine_options: Mapping[str, Any] | None = None,
        *,
        serializer: Serializer | str | None = None,
        shared: bool | None = None,
    ):
        super().__init__()
        self.pickle_protocol = pickle_protocol
        self.serializer: Serializer = maybe_ref(serializer) or PickleSerializer(
            pickle_protocol
        )
        self._shared = shared
        if engine is not None:
            database = Database(maybe_ref(engine), owned=False)
        elif url:
            database = Database.from_url(url, engine_options or {})
        else:
            raise ValueError('Need either "engine" or "url" defined')
        # MetaData without tables is no false value, but asks to be compared to None.
        found = MetaData() if metadata is None else maybe_ref(metadata)
        self._database = database
        self._storage = Storage(database, tablename, found, tableschema)
        self.engine = database.engine
        self.jobs_t = self._storage.jobs_table
        is_custom = _is_custom(self, "_reconstitute_job")
        self._restorer = Restorer(
            lambda data: self._reconstitute_job(data),
            None if is_custom else self.serializer.loads,
            self._link,
        )

    def start(self, scheduler: "BaseScheduler | None", alias: str) -> None:
        super().start(scheduler, alias)
        self._restorer.logger = self._logger
        database = self._database
        database.dialect.check(self.engine)
        try:
            if database.owned:
                database.is_closed = False
                database.dialect.tune(self.engine)
            self._storage.create_jobs()
            self._prepare_runs()
        except DBAPIError as exc:
            database.close()
            what = f"Job store {alias!r} cannot use the database"
            raise database.explain(exc, what) from exc

    def _prepare_runs(self) -> None:
        """Find out whether other schedulers can work on the same tables, and create what they need for that."""
        dialect = self._database.dialect
        isolated = dialect.isolates_claims and not dialect.is_private(self.engine)
        if self._shared and not isolated:
            raise ValueError(
                f"Job store {self._alias!r} cannot be shared: several schedulers cannot use {self._database.url} at "
                "the same time; use another database, or leave out shared=True"
            )
        if self._shared is False:
            self._stay_alone(keeps_runs=False)
            return
        try:
            self._storage.create_runs()
        except DBAPIError as exc:
            if self._shared or not dialect.is_denied(exc):
                raise
            self._logger.warning(
                "Job store %r cannot create its tables %s and %s at %s: %s. It works without them, but only one "
                "scheduler may use it, and runs are forgotten when that ends",
                self._alias,
                self._storage.runs_table,
                self._storage.nodes_table,
                self._database.url,
                exc.orig,
            )
            self._stay_alone(keeps_runs=False)
        else:
            if not isolated:
                self._stay_alone(keeps_runs=not dialect.is_private(self.engine))

    def _stay_alone(self, keeps_runs: bool) -> None:
        self.shareable = False
        self.poll_interval = None
        self.keeps_runs = keeps_runs
        if not keeps_runs and not self._database.dialect.is_private(self.engine):
            self._storage.keep_runs_in_memory()

    def shutdown(self) -> None:
        self._restorer.forget()
        self._storage.close()

    # Jobs.

    def lookup_job(self, job_id: str) -> Job | None:
        stored = self.read_job(job_id)
        return None if stored is None else stored.job

    def read_job(self, job_id: str) -> StoredJob | None:
        c = self.jobs_t.c
        query = select(c.job_state, c.next_run_time).where(c.id == job_id)
        with self._database.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        job = self._restorer.restore(job_id, row.job_state, row.next_run_time)
        return StoredJob(job, tuple(row))

    def get_due_jobs(self, now: datetime) -> list[Job]:
        return self._get_jobs(self.jobs_t.c.next_run_time <= now.timestamp())

    def get_next_run_time(self) -> datetime | None:
        c = self.jobs_t.c
        query = (
            select(c.id, c.next_run_time, c.job_state)
            .where(c.next_run_time.is_not(None))
            .order_by(c.next_run_time, c.id)
        )
        offset, size = 0, 1  # the first one will do, if it can be restored
        with self._database.read() as connection:
            while True:
                page = query.offset(offset).limit(size)
                rows = connection.execute(page).all()
                for row in rows:
                    if self._restorer.restore_due(
                        row.id, row.job_state, row.next_run_time
                    ):
                        return to_datetime(row.next_run_time)
                if len(rows) < size:
                    return None
                offset, size = offset + size, PAGE_SIZE

    def get_all_jobs(self) -> list[Job]:
        jobs = self._get_jobs()
        self._fix_paused_jobs_sorting(jobs)
        return jobs

    def add_job(self, job: Job) -> None:
        self.add_jobs([job])

    def add_jobs(self, jobs: Sequence[Job]) -> None:
        rows = [{"id": job.id, **self._columns_of(job)} for job in jobs]
        if not rows:
            return
        ids = [job.id for job in jobs]
        if len(set(ids)) < len(ids):
            raise ConflictingIdError(next(i for i in ids if ids.count(i) > 1))
        try:
            with self._database.write(self.jobs_t) as connection:
                connection.execute(insert(self.jobs_t), rows)
        except IntegrityError:
            taken = self._find_taken(ids)
            if taken is None:
                raise
            raise ConflictingIdError(taken) from None
        for job, row in zip(jobs[:CACHE_SIZE], rows, strict=False):
            self._restorer.learn(job, row["job_state"])

    def _find_taken(self, ids: Sequence[str]) -> str | None:
        """Return the first of these identifiers that a job has, None if none has."""
        c = self.jobs_t.c
        with self._database.read() as connection:
            for start in range(0, len(ids), PAGE_SIZE):
                page = ids[start : start + PAGE_SIZE]
                query = select(c.id).where(c.id.in_(page))
                taken = set(connection.execute(query).scalars())
                for job_id in page:
                    if job_id in taken:
                        return job_id
        return None

    def update_job(self, job: Job) -> None:
        statement = update(self.jobs_t).where(self.jobs_t.c.id == job.id)
        if not self._write(statement.values(self._columns_of(job))):
            raise JobLookupError(job.id)

    def change_job(self, stored: StoredJob, changes: Mapping[str, Any]) -> bool:
        job = stored.job
        before = {name: getattr(job, name) for name in Job.__slots__}
        try:
            job._modify(**changes)
            values = self._columns_of(job)
            if "next_run_time" not in changes:
                del values["next_run_time"]
            statement = update(self.jobs_t).where(
                *self._same_record(stored, "next_run_time" in changes)
            )
            changed = self._write(statement.values(values))
        except BaseException:
            for name, value in before.items():
                if name != "__weakref__":
                    setattr(job, name, value)
            raise
        return changed

    def remove_job(self, job_id: str) -> None:
        if not self._write(delete(self.jobs_t).where(self.jobs_t.c.id == job_id)):
            raise JobLookupError(job_id)
        self._restorer.forget(job_id)

    def discard_job(self, stored: StoredJob) -> bool:
        same_record = self._same_record(stored, with_time=True)
        return self._write(delete(self.jobs_t).where(*same_record))

    def remove_all_jobs(self) -> None:
        self._write(delete(self.jobs_t))
        self._restorer.forget()

    def get_job_records(self) -> list[JobRecord]:
        c = self.jobs_t.c
        order = (c.next_run_time.is_(None), c.next_run_time, c.id)
        query = select(c.id, c.next_run_time, c.job_state).order_by(*order)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [
            read_record(
                row.id,
                utc_timestamp_to_datetime(row.next_run_time),
                row.job_state,
                self.serializer,
                self._restorer.error_of(row.id, row.job_state),
            )
            for row in rows
        ]

    def _get_jobs(self, *conditions: ColumnElement[bool]) -> list[Job]:
        """Return the jobs that meet all conditions, earliest first; where NULL goes is up to the database."""
        c = self.jobs_t.c
        query = (
            select(c.id, c.next_run_time, c.job_state)
            .where(*conditions)
            .order_by(c.next_run_time, c.id)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        restored = [
            self._restorer.try_restore(row.id, row.job_state, row.next_run_time)
            for row in rows
        ]
        return [job for job in restored if job is not None]

    def _reconstitute_job(self, job_state: bytes) -> Job:
        """Return the job that these bytes were made of."""
        job = Job.__new__(Job)
        job.__setstate__(self.serializer.loads(job_state))
        self._link(job)
        return job

    def _link(self, job: Job) -> None:
        job._scheduler = self._scheduler
        job._jobstore_alias = self._alias

    def _dump(self, job: Job) -> bytes:
        return self.serializer.dumps(job.__getstate__())

    def _columns_of(self, job: Job) -> dict[str, Any]:
        timestamp = datetime_to_utc_timestamp(job.next_run_time)
        return {"next_run_time": timestamp, "job_state": self._dump(job)}

    def _same_record(
        self, stored: StoredJob, with_time: bool
    ) -> list[ColumnElement[bool]]:
        """Return the conditions that only the record that was read meets."""
        c = self.jobs_t.c
        job_state, timestamp = stored.token
        conditions = [c.id == stored.job.id, c.job_state == job_state]
        if with_time:  # None becomes IS NULL
            conditions.append(c.next_run_time == timestamp)
        return conditions

    def _write(self, statement: Any) -> bool:
        """Carry out a statement on jobs, and return whether it met any."""
        with self._database.write(self.jobs_t) as connection:
            return bool(connection.execute(statement).rowcount)

    # Runs.

    def claim(self, request: ClaimRequest) -> ClaimBatch:
        storage = self._storage
        if not request.completions:
            with storage.read_all() as connections:
                times = storage.claims.find_times(*connections, None)
            first = min((time for time in times if time is not None), default=None)
            if first is None or first > request.now.timestamp():
                return ClaimBatch(next_run_time=utc_timestamp_to_datetime(first))
        with storage.write_all() as (connection, runs_connection):
            storage.runs.complete(runs_connection, request.completions)
            claiming = ClaimPass(
                storage.claims,
                self._restorer,
                self._alias,
                connection,
                runs_connection,
                request,
            )
            batch = claiming.carry_out()
            if claiming.starts_runs and request.lease_until is not None:
                node = request.identity.node
                storage.nodes.renew(runs_connection, node, request.lease_until)
        return batch

    def complete(self, completions: Sequence[Completion]) -> None:
        if completions:
            with self._write_runs() as connection:
                self._storage.runs.complete(connection, completions)

    def add_ready_run(self, job: Job, run: Run) -> None:
        with self._write_runs() as connection:
            self._storage.runs.add_ready(connection, job, run, self._dump(job))

    def hand_back(self, claims: Sequence[Claim]) -> None:
        rows = [
            {
                "_id": run_id,
                "_claim_id": claim.run_times.claim_id,
                "_attempt": claim.run_times.attempt,
                "available_at": claim.run_times[0].timestamp(),
                "job_state": job_state,
            }
            for claim in claims
            if claim.run_times
            for job_state in [self._dump(claim.job)]
            for run_id in claim.run_times.run_ids
        ]
        if rows:
            with self._write_runs() as connection:
                self._storage.runs.hand_back(connection, rows)

    def get_runs(self, which: RunFilter, limit: int, offset: int = 0) -> list[Run]:
        storage = self._storage
        with storage.runs_database.read() as connection:
            return storage.runs.get_runs(connection, which, limit, offset, self._alias)

    def prune_runs(
        self, max_age: timedelta | None, max_per_job: int | None, now: datetime
    ) -> int:
        storage = self._storage
        with storage.runs_database.read() as connection:
            surplus = storage.runs.find_prunable(connection, max_age, max_per_job, now)
        if not surplus:
            return 0
        with self._write_runs() as connection:
            return storage.runs.delete(connection, surplus)

    def renew_lease(self, node: Node, expires_at: datetime) -> None:
        with self._write_runs() as connection:
            self._storage.nodes.renew(connection, node, expires_at)

    def drop_lease(self, node: Node) -> None:
        with self._write_runs() as connection:
            self._storage.nodes.drop(connection, [node.id])

    def take_over(self, node: Node, now: datetime) -> list[Run]:
        nodes = self._storage.nodes
        with self._storage.runs_database.read() as connection:
            dead = nodes.find_dead(connection, node, now)
            unknown = nodes.find_unknown(connection, node)
        if not dead and not unknown:
            return []
        with self._write_runs() as connection:
            if unknown:
                nodes.give_leases(connection, node, unknown, now)
            # Another scheduler may have been faster, or a node have come back.
            dead = nodes.find_dead(connection, node, now)
            return nodes.take_runs(connection, dead, now, self._alias) if dead else []

    def _write_runs(self) -> AbstractContextManager[Connection]:
        return self._storage.runs_database.write(self._storage.runs_table)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} (url={self._database.url})>"


def _is_custom(store: SQLAlchemyJobStore, name: str) -> bool:
    """Return whether a subclass, or the instance, has a method of its own instead of the one here."""
    own = vars(SQLAlchemyJobStore)[name]
    return name in vars(store) or getattr(type(store), name) is not own
