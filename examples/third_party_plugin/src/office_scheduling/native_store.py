"""The same store by the native contract: bulk changes, claims, and runs that can be listed.

What is different from ``json_store``: every write numbers what it changes, and whoever writes what was computed from a record
compares its numbers, which are its token. ``claim`` moves all due jobs on in one write, without touching their states.
"""

import base64
import json
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from apscheduler.job import Job
from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
from apscheduler.jobstores.contract import (
    Claim,
    ClaimBatch,
    ClaimRequest,
    JobRecord,
    StoredJob,
)
from apscheduler.jobstores.ledger import LedgerJobStore, RunLedger
from apscheduler.jobstores.serializing import SerializingJobStore, distinct_ids
from apscheduler.schedulers.base import BaseScheduler
from office_scheduling.json_store import write_file


class Record(NamedTuple):
    """A job as it is stored. The run time beside the state counts, not the one in it."""

    data: bytes
    timestamp: float | None
    data_number: int
    time_number: int

    @property
    def token(self) -> tuple[int, int]:
        return self.data_number, self.time_number


class NativeJsonFileJobStore(LedgerJobStore, SerializingJobStore):
    """Keeps jobs in a JSON file and their runs in memory."""

    shareable = False  # other processes would overwrite the file
    keeps_runs = False  # they are not in the file

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        super().__init__(**options)
        self.path = Path(path)
        self._records: dict[str, Record] = {}
        self._numbers = count()
        self._ledger = RunLedger()
        self._lock = threading.RLock()  # protects all of these, and the file

    def start(self, scheduler: BaseScheduler | None, alias: str) -> None:
        super().start(scheduler, alias)
        if self.path.exists():
            for job_id, (state, time) in json.loads(self.path.read_text()).items():
                data = base64.b64decode(state)
                number = next(self._numbers)
                self._records[job_id] = Record(data, time, number, number)

    def shutdown(self) -> None:
        super().shutdown()
        with self._lock:
            self._records = {}
            self._ledger.forget_all()

    # Reading

    def read_job(self, job_id: str) -> StoredJob | None:
        record = self._records.get(job_id)
        if record is None:
            return None
        job = self._restorer.restore(job_id, record.data, record.timestamp)
        return StoredJob(job, record.token)

    def get_all_jobs(self) -> list[Job]:
        return self._restore_all(self._in_order())

    def get_due_jobs(self, now: datetime) -> list[Job]:
        return self._restore_all(self._due(now))

    def get_job_records(self) -> list[JobRecord]:
        return [self._describe(*record) for record in self._in_order()]

    def get_next_run_time(self) -> datetime | None:
        timed = [(id, data, time) for id, data, time in self._in_order() if time]
        return self._first_time(timed)

    def _in_order(self) -> list[tuple[str, bytes, float | None]]:
        """Return the records by run time, those of paused jobs last."""
        with self._lock:
            records = [(id, r.data, r.timestamp) for id, r in self._records.items()]
        return sorted(records, key=lambda r: (r[2] is None, r[2] or 0, r[0]))

    def _due(self, now: datetime) -> list[tuple[str, bytes, float]]:
        limit = now.timestamp()
        found = self._in_order()
        return [(id, data, t) for id, data, t in found if t is not None and t <= limit]

    # Changing: whoever has read a record compares its token

    def add_jobs(self, jobs: Sequence[Job]) -> None:
        with self._lock:
            for job_id in distinct_ids(jobs):
                if job_id in self._records:
                    raise ConflictingIdError(job_id)
            self._write({job.id: self._record(job) for job in jobs})

    def update_job(self, job: Job) -> None:
        with self._lock:
            self._check(job.id)
            self._write({job.id: self._record(job)})

    def _write_change(self, stored: StoredJob, with_time: bool) -> bool:
        job = stored.job
        with self._lock:
            record = self._records.get(job.id)
            if record is None:
                return False
            changed = self._record(job)
            if with_time:
                is_same = record.token == stored.token
            else:  # its time may have moved on, and stays as it is
                is_same = record.data_number == stored.token[0]
                time, number = record.timestamp, record.time_number
                changed = changed._replace(timestamp=time, time_number=number)
            if not is_same:
                return False
            self._write({job.id: changed})
            return True

    def discard_job(self, stored: StoredJob) -> bool:
        with self._lock:
            record = self._records.get(stored.job.id)
            if record is None or record.token != stored.token:
                return False
            self._write({}, without=[stored.job.id])
            return True

    def remove_job(self, job_id: str) -> None:
        with self._lock:
            self._check(job_id)
            self._write({}, without=[job_id])

    def remove_all_jobs(self) -> None:
        with self._lock:
            self._write({}, without=list(self._records))

    # Claiming, and what becomes of runs

    def claim(self, request: ClaimRequest) -> ClaimBatch:
        with self._lock:
            self._ledger.complete(request.completions)
            claims = self._ledger.claim_ready(request)
            moved: dict[str, Record] = {}
            over: list[str] = []
            due = self._due(request.now)
            for job_id, data, timestamp in due:
                if len(claims) >= request.limit:
                    break
                job = self._restorer.restore_due(job_id, data, timestamp)
                plan = None if job is None else request.plan(job)
                if job is None or plan is None:
                    continue
                claims.append(self._ledger.claim(job, plan, request, self._alias))
                job.next_run_time = plan.next_run_time
                if plan.next_run_time is None:
                    over.append(job_id)
                else:
                    moved[job_id] = self._records[job_id]._replace(
                        timestamp=plan.next_run_time.timestamp(),
                        time_number=next(self._numbers),
                    )
            if moved or over:
                self._write(moved, without=over)
            return self._batch(claims, request)

    def _batch(self, claims: list[Claim], request: ClaimRequest) -> ClaimBatch:
        now = request.now
        more = len(claims) >= request.limit and bool(self._due(now))
        later = [t for _, _, t in self._in_order() if t and t > now.timestamp()]
        times = [datetime.fromtimestamp(min(later), now.tzinfo)] if later else []
        ready = self._ledger.next_available(now)
        next_time = min([*times, *([ready] if ready else [])], default=None)
        return ClaimBatch(claims, next_time, more, self._ledger.has_waiting)

    # The file

    def _record(self, job: Job) -> Record:
        time = None if job.next_run_time is None else job.next_run_time.timestamp()
        number = next(self._numbers)
        return Record(self._dump(job), time, number, number)

    def _check(self, job_id: str) -> None:
        if job_id not in self._records:
            raise JobLookupError(job_id)

    def _write(
        self, changed: Mapping[str, Record], without: Iterable[str] = ()
    ) -> None:
        records = {**self._records, **changed}
        for job_id in without:
            del records[job_id]
        texts = {
            job_id: (base64.b64encode(record.data).decode(), record.timestamp)
            for job_id, record in records.items()
        }
        write_file(self.path, texts)
        self._records = records
