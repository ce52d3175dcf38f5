"""The part of the store that keeps jobs."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, DuplicateKeyError

from apscheduler.job import Job
from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
from apscheduler.jobstores.contract import JobRecord, StoredJob
from apscheduler.jobstores.mongodb.database import Database, again, new_revision
from apscheduler.jobstores.mongodb.documents import (
    BY_TIME,
    HAS_NO_RUNS,
    IS_JOB,
    IS_NO_JOB,
    JOB_STATE,
    NEXT_RUN_TIME,
    READY_AT,
    REVISION,
    RUNS,
    Document,
    runs_of,
    update,
    without_job,
)
from apscheduler.jobstores.mongodb.runs import DUPLICATE, MAX_TRIES, RunDocuments
from apscheduler.jobstores.restore import CACHE_SIZE
from apscheduler.jobstores.serializing import (
    SerializingJobStore,
    StoredState,
    distinct_ids,
)
from apscheduler.util import datetime_to_utc_timestamp

# What MongoDB takes as one document is 16 MiB, and the runs of the job need room.
MAX_STATE_BYTES = 15 * 1024 * 1024

# So many identifiers fit into one question.
MAX_LISTED = 10_000

RECORD = {NEXT_RUN_TIME: 1, JOB_STATE: 1}
TIME = "scheduled_time"
OWN_FIELDS = {**RECORD, RUNS: 1, REVISION: 1, READY_AT: 1}


class DocumentJobStore(SerializingJobStore):
    """Jobs as documents."""

    _database: Database
    _runs: RunDocuments

    @property
    def client(self) -> Any:
        """The client that is used."""
        return self._database.client

    @property
    def collection(self) -> Collection[Document]:
        """The collection of jobs."""
        return self._database.collection

    # Reading.

    def read_job(self, job_id: str) -> StoredJob | None:
        found = self._database.jobs.find_one({"_id": job_id, **IS_JOB}, RECORD)
        if found is None:
            return None
        token = found[JOB_STATE], found[NEXT_RUN_TIME]
        return StoredJob(self._restorer.restore(job_id, *token), token)

    def get_due_jobs(self, now: datetime) -> list[Job]:
        return self._get_jobs({NEXT_RUN_TIME: {"$lte": now.timestamp()}})

    def get_next_run_time(self) -> datetime | None:
        records = self._find({NEXT_RUN_TIME: {"$ne": None}}, batch_size=2)
        return self._first_time(records)

    def get_all_jobs(self) -> list[Job]:
        jobs = self._get_jobs({})
        self._fix_paused_jobs_sorting(jobs)
        return jobs

    def get_job_records(self) -> list[JobRecord]:
        records = [self._describe(*record) for record in self._find({})]
        records.sort(key=lambda record: record.next_run_time is None)
        return records

    def _get_jobs(self, conditions: Mapping[str, Any]) -> list[Job]:
        """Return the jobs whose documents match, earliest first, paused ones before them."""
        return self._restore_all(list(self._find(conditions)))

    def _find(
        self, conditions: Mapping[str, Any], batch_size: int = 0
    ) -> Iterator[tuple[str, bytes, Any]]:
        found = self._database.jobs.find({**IS_JOB, **conditions}, RECORD).sort(BY_TIME)
        for document in found.batch_size(batch_size):
            yield document["_id"], document[JOB_STATE], document[NEXT_RUN_TIME]

    # Writing.

    def add_jobs(self, jobs: Sequence[Job]) -> None:
        ids = distinct_ids(jobs)
        if not ids:
            return
        revision = new_revision()
        documents = {
            job.id: {"_id": job.id, **self._values_of(job), REVISION: revision}
            for job in jobs
        }
        # So that hardly ever anybody sees some of many, which are taken back.
        taken = self._find_taken(ids) if len(ids) > 1 else []
        if not taken:
            taken = self._insert(documents, revision)
            if taken:
                self._remove({REVISION: revision})
        if taken:
            raise ConflictingIdError(min(taken, key=ids.index))
        for job in jobs[:CACHE_SIZE]:
            self._restorer.learn(job, documents[job.id][JOB_STATE])

    def _find_taken(self, ids: Sequence[str]) -> list[str]:
        """Return some of these identifiers that jobs have, none if no job has any."""
        jobs = self._database.jobs
        for start in range(0, len(ids), MAX_LISTED):
            listed = {"_id": {"$in": ids[start : start + MAX_LISTED]}}
            found = [job["_id"] for job in jobs.find({**listed, **IS_JOB}, {"_id": 1})]
            if found:
                return found
        return []

    def _insert(self, documents: Mapping[str, Document], revision: str) -> list[str]:
        """Insert the documents, and return which identifiers are taken."""
        jobs = self._database.jobs

        def insert(is_repeated: bool) -> list[str]:
            # What was added, though the answer got lost, may have run since and be gone.
            begun = self._find_begun(documents) if is_repeated else set()
            left = [each for each in documents.values() if each["_id"] not in begun]
            if not left:
                return []
            try:
                if len(left) == 1:
                    jobs.insert_one(left[0])
                else:
                    jobs.insert_many(left, ordered=False)
            except DuplicateKeyError:
                there = [each["_id"] for each in left]
            except BulkWriteError as exc:
                errors = exc.details["writeErrors"] or [{}]
                if any(error.get("code") != DUPLICATE for error in errors):
                    self._remove({REVISION: revision})
                    raise
                there = [error["op"]["_id"] for error in errors]
            else:
                return []
            mine = {"_id": {"$in": there}, REVISION: revision}
            done = {document["_id"] for document in jobs.find(mine, {"_id": 1})}
            return [job_id for job_id in there if job_id not in done]

        return [
            job_id for job_id in again(insert) if not self._revive(documents[job_id])
        ]

    def _find_begun(self, documents: Mapping[str, Document]) -> set[str]:
        """Return which of these jobs have runs, from the time of their first fire on."""
        times = {job_id: each[NEXT_RUN_TIME] for job_id, each in documents.items()}
        due = {job_id: time for job_id, time in times.items() if time is not None}
        listed = {"$in": [*due]}
        database = self._database
        runs = list(database.runs.find({"job_id": listed}, {"job_id": 1, TIME: 1}))
        for document in database.jobs.find({"_id": listed}, {RUNS: 1}):
            runs += runs_of(document)
        return {run["job_id"] for run in runs if run[TIME] >= due[run["job_id"]]}

    def _revive(self, document: Document) -> bool:
        """Make a job of a document of which only the runs are left; return whether it was one."""
        left = {"_id": document["_id"], **IS_NO_JOB}
        values = {name: value for name, value in document.items() if name != "_id"}
        try:
            # If the last of its runs has ended meanwhile, it is inserted after all.
            again(
                lambda _: self._database.jobs.update_one(
                    left, {"$set": values}, upsert=True
                )
            )
        except DuplicateKeyError:
            return False
        return True

    def update_job(self, job: Job) -> None:
        values = {**self._values_of(job), REVISION: new_revision()}
        if not self._update({"_id": job.id}, values):
            raise JobLookupError(job.id)

    def _write_change(self, stored: StoredJob, with_time: bool) -> bool:
        values = {**self._values_of(stored.job), REVISION: new_revision()}
        if not with_time:
            del values[NEXT_RUN_TIME]
        # When the answer is lost this says that the record is another, which it is, and the change is made once more.
        return self._update(_same_record(stored, with_time), values)

    def _update(self, query: Document, values: Document) -> bool:
        """Set values in the document of a job, and return whether there was one."""
        jobs, found = self._database.jobs, {**IS_JOB, **query}
        return bool(
            again(lambda _: jobs.update_one(found, {"$set": values})).matched_count
        )

    def remove_job(self, job_id: str) -> None:
        if not self._remove({"_id": job_id}):
            raise JobLookupError(job_id)
        self._restorer.forget(job_id)

    def discard_job(self, stored: StoredJob) -> bool:
        return self._remove(_same_record(stored, with_time=True))

    def remove_all_jobs(self) -> None:
        self._remove({})
        self._restorer.forget()

    def _remove(self, query: Document) -> bool:
        """Delete the jobs that match, but not their runs, and return whether there were any."""
        found = {**IS_JOB, **query}

        def delete(is_repeated: bool) -> tuple[int, bool]:
            deleted = self._database.jobs.delete_many({**found, **HAS_NO_RUNS})
            return deleted.deleted_count, is_repeated

        number, is_unsure = again(delete)
        if number and isinstance(query.get("_id"), str):
            return True
        stripped = self._strip(found)
        if number or any(stripped):
            return True
        # Whether the answer that got lost said so is seen by what is there.
        is_unsure |= None in stripped
        left = {**IS_JOB, "_id": query.get("_id")}
        return is_unsure and self._database.jobs.find_one(left, {"_id": 1}) is None

    def _strip(self, query: Document) -> list[int | None]:
        """Leave only the runs of the jobs that match, and return of how many, try by try.

        0: others were faster, and what they have made of the job may not match; None: the answer got lost.
        """
        stripped: list[int | None] = []
        for _ in range(MAX_TRIES):
            documents = list(self._database.jobs.find(query, OWN_FIELDS))
            if not documents:
                return stripped
            revision = new_revision()
            updates = [
                update(document, {**without_job(document), REVISION: revision})
                for document in documents
            ]
            stripped.append(self._database.write(updates))
            self._runs.delete_emptied([document["_id"] for document in documents])
        raise RuntimeError(
            f"Jobs could not be removed: others were faster {MAX_TRIES} times in a row"
        )

    # Bytes as they are, for those who change the serializer.

    def read_states(self) -> Iterator[StoredState]:
        for document in self._database.jobs.find({}, {JOB_STATE: 1, RUNS: 1}):
            job_id = document["_id"]
            if JOB_STATE in document:
                yield StoredState(job_id, None, document[JOB_STATE])
            for run in runs_of(document):
                if JOB_STATE in run:
                    yield StoredState(job_id, run["id"], run[JOB_STATE])

    def replace_state(self, state: StoredState, data: bytes) -> bool:
        if state.run_id is None:
            same = {"_id": state.job_id, JOB_STATE: state.data}
            return self._update(same, {JOB_STATE: data, REVISION: new_revision()})
        was_found = False

        def edit(document: Document) -> list[Document] | None:
            nonlocal was_found
            runs = [
                {**run, JOB_STATE: data}
                if run["id"] == state.run_id and run.get(JOB_STATE) == state.data
                else run
                for run in runs_of(document)
            ]
            # Asked again when somebody else was faster, who may have changed it.
            was_found = runs != runs_of(document)
            return runs if was_found else None

        self._runs.change([state.job_id], edit, with_state=True)
        return was_found

    def _values_of(self, job: Job) -> Document:
        data = self._dump(job)
        if len(data) > MAX_STATE_BYTES:
            raise ValueError(
                f"Job {job.id!r} takes {len(data)} bytes, but MongoDB has room for {MAX_STATE_BYTES}: give it smaller "
                "arguments, such as the name of a file"
            )
        timestamp = datetime_to_utc_timestamp(job.next_run_time)
        return {NEXT_RUN_TIME: timestamp, JOB_STATE: data}


def _same_record(stored: StoredJob, with_time: bool) -> Document:
    """Return what only the record that was read matches."""
    job_state, timestamp = stored.token
    same: Document = {"_id": stored.job.id, JOB_STATE: job_state}
    if with_time:
        same[NEXT_RUN_TIME] = timestamp
    return same
