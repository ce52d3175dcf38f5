"""The part of the store that keeps jobs."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    delete,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from apscheduler.job import Job
from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
from apscheduler.jobstores.claiming import PAGE_SIZE
from apscheduler.jobstores.contract import JobRecord, StoredJob
from apscheduler.jobstores.restore import CACHE_SIZE
from apscheduler.jobstores.serializing import (
    SerializingJobStore,
    StoredState,
    distinct_ids,
)
from apscheduler.jobstores.sqlalchemy.database import Database
from apscheduler.jobstores.sqlalchemy.listening import Channel
from apscheduler.jobstores.sqlalchemy.storage import Storage
from apscheduler.jobstores.sqlalchemy.tables import to_datetime
from apscheduler.jobstores.sqlalchemy.writing.postgresql import ArrayWriter
from apscheduler.util import datetime_to_utc_timestamp

T = TypeVar("T")


class TableJobStore(SerializingJobStore):
    """Jobs in a table of a database."""

    jobs_t: Table
    _database: Database
    _storage: Storage
    # Where to tell others of changes, if they can be told.
    _channel: Channel | None = None

    # Reading.

    def read_job(self, job_id: str) -> StoredJob | None:
        found = self._storage.find_job(job_id)
        if found is None:
            return None
        return StoredJob(self._restorer.restore(job_id, *found), found)

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
        # Where the database has put those without a run time is its own affair.
        jobs.sort(key=lambda job: job.next_run_time is None)
        return jobs

    def get_job_records(self) -> list[JobRecord]:
        c = self.jobs_t.c
        order = (c.next_run_time.is_(None), c.next_run_time, c.id)
        query = select(c.id, c.job_state, c.next_run_time).order_by(*order)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [self._describe(*row) for row in rows]

    def _get_jobs(self, *conditions: ColumnElement[bool]) -> list[Job]:
        """Return the jobs that meet all conditions, earliest first; where NULL goes is up to the database."""
        c = self.jobs_t.c
        query = (
            select(c.id, c.job_state, c.next_run_time)
            .where(*conditions)
            .order_by(c.next_run_time, c.id)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return self._restore_all(map(tuple, rows))

    # Writing.

    def add_jobs(self, jobs: Sequence[Job]) -> None:
        ids = distinct_ids(jobs)
        rows = [(job.id, *self._columns_of(job).values()) for job in jobs]
        if not rows:
            return

        is_due = any(time is not None for _, time, _ in rows)
        writer = self._storage.add_jobs

        def add(connection: Connection) -> None:
            if is_due and self._channel is not None:
                assert isinstance(writer, ArrayWriter)  # as always where others hear
                self._channel.write(connection, writer, rows)
            else:
                writer.execute(connection, rows)

        try:
            if len(rows) == 1 or isinstance(writer, ArrayWriter):
                self._database.transact_each(self.jobs_t, add)
            else:  # which may take more than one statement
                self._database.transact(self.jobs_t, add)
        except IntegrityError:
            taken = self._find_taken(ids)
            if taken is None:
                raise
            raise ConflictingIdError(taken) from None
        for job, row in zip(jobs[:CACHE_SIZE], rows, strict=False):
            self._restorer.learn(job, row[2])

    def _find_taken(self, ids: Sequence[str]) -> str | None:
        """Return the first of these identifiers that a job has, None if none has."""
        c = self.jobs_t.c
        with self._database.read() as connection:
            for start in range(0, len(ids), PAGE_SIZE):
                page = ids[start : start + PAGE_SIZE]
                query = select(c.id).where(c.id.in_(page))
                taken = set(connection.execute(query).scalars())
                # Tables that APScheduler 3 has made on MySQL do not tell upper from lower case.
                alike = {job_id.casefold() for job_id in taken}
                for job_id in page:
                    if job_id in taken or job_id.casefold() in alike:
                        return job_id
        return None

    def update_job(self, job: Job) -> None:
        statement = update(self.jobs_t).where(self.jobs_t.c.id == job.id)
        columns = self._columns_of(job)
        is_due = columns["next_run_time"] is not None
        if not self._write(statement.values(columns), is_due):
            raise JobLookupError(job.id)

    def _write_change(self, stored: StoredJob, with_time: bool) -> bool:
        values = self._columns_of(stored.job)
        if not with_time:
            del values["next_run_time"]
        same_record = self._same_record(stored, with_time)
        statement = update(self.jobs_t).where(*same_record).values(values)
        return self._write(statement, values.get("next_run_time") is not None)

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

    # Bytes as they are, for those who change the serializer.

    def read_states(self) -> Iterator[StoredState]:
        jobs, runs = self.jobs_t.c, self._storage.runs_table.c
        of_jobs = select(jobs.id, jobs.job_state)
        of_runs = select(runs.job_id, runs.id, runs.job_state)
        with self._storage.read_all() as (connection, runs_connection):
            records = connection.execute(of_jobs).all()
            copies = runs_connection.execute(
                of_runs.where(runs.job_state.is_not(None))
            ).all()
        yield from (StoredState(job_id, None, data) for job_id, data in records)
        yield from (StoredState(*copy) for copy in copies)

    def replace_state(self, state: StoredState, data: bytes) -> bool:
        table = self.jobs_t if state.run_id is None else self._storage.runs_table
        row_id = state.job_id if state.run_id is None else state.run_id
        same = (table.c.id == row_id, table.c.job_state == state.data)
        statement = update(table).where(*same).values(job_state=data)
        if state.run_id is None:
            return self._write(statement)
        return self._storage.transact_runs_each(
            lambda connection: bool(connection.execute(statement).rowcount)
        )

    def _columns_of(self, job: Job) -> dict[str, Any]:
        timestamp = datetime_to_utc_timestamp(job.next_run_time)
        data, limit = self._dump(job), self._storage.state_limit
        if limit is not None and len(data) > limit:
            raise ValueError(
                f"Job {job.id!r} takes {len(data)} bytes, but column job_state of table {self.jobs_t.name} has room for "
                f"{limit}: give it smaller arguments, or ALTER TABLE {self.jobs_t.name} MODIFY job_state LONGBLOB NOT NULL"
            )
        return {"next_run_time": timestamp, "job_state": data}

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

    def _write(self, statement: Any, is_due: bool = False) -> bool:
        """Carry out a statement on jobs, and return whether it met any.

        :param is_due: there is a run time that others may not know
        """

        if is_due and self._channel is not None:
            statement = self._channel.telling(statement)
        return self._database.transact_each(
            self.jobs_t,
            lambda connection: bool(connection.execute(statement).rowcount),
        )

    def _tell(self, connection: Connection) -> None:
        """Let others know, once the transaction is committed, that there is something to do sooner."""
        if self._channel is not None:
            self._channel.tell(connection)
