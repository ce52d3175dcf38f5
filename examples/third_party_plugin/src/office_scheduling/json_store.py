"""A job store by the contract of APScheduler 3.x: eight methods, and one scheduler at a time."""

import base64
import json
import os
import pickle
from datetime import datetime
from pathlib import Path
from typing import Any

from apscheduler.job import Job
from apscheduler.jobstores.base import BaseJobStore, ConflictingIdError, JobLookupError
from apscheduler.schedulers.base import BaseScheduler


class JsonFileJobStore(BaseJobStore):
    """Keeps jobs in a JSON file: of each the next run time, and its state as text."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._records: dict[str, Any] = {}
        self._reported: set[str] = set()

    def start(self, scheduler: BaseScheduler | None, alias: str) -> None:
        super().start(scheduler, alias)
        if self.path.exists():
            self._records = json.loads(self.path.read_text("utf-8"))

    def lookup_job(self, job_id: str) -> Job | None:
        record = self._records.get(job_id)
        return None if record is None else self._restore(record)

    def get_due_jobs(self, now: datetime) -> list[Job]:
        jobs = self.get_all_jobs()
        return [job for job in jobs if job.next_run_time and job.next_run_time <= now]

    def get_next_run_time(self) -> datetime | None:
        times = [job.next_run_time for job in self.get_all_jobs()]
        return times[0] if times else None

    def get_all_jobs(self) -> list[Job]:
        jobs = []
        for job_id, record in self._records.items():
            try:
                jobs.append(self._restore(record))
                self._reported.discard(job_id)
            except Exception:  # its function is gone: it waits until that is back
                if job_id not in self._reported:
                    self._logger.exception("Unable to restore job %r", job_id)
                self._reported.add(job_id)
        return sorted(jobs, key=order)

    def add_job(self, job: Job) -> None:
        if job.id in self._records:
            raise ConflictingIdError(job.id)
        self._write({**self._records, job.id: make_record(job)})

    def update_job(self, job: Job) -> None:
        if job.id not in self._records:
            raise JobLookupError(job.id)
        self._write({**self._records, job.id: make_record(job)})

    def remove_job(self, job_id: str) -> None:
        if job_id not in self._records:
            raise JobLookupError(job_id)
        self._write({id: r for id, r in self._records.items() if id != job_id})

    def remove_all_jobs(self) -> None:
        self._write({})

    def _restore(self, record: dict[str, str]) -> Job:
        """Return a new job, which knows its scheduler and store."""
        job = Job.__new__(Job)
        job.__setstate__(pickle.loads(base64.b64decode(record["state"])))
        job._scheduler, job._jobstore_alias = self._scheduler, self._alias
        return job

    def _write(self, records: dict[str, Any]) -> None:
        write_file(self.path, records)
        self._records = records


def make_record(job: Job) -> dict[str, str]:
    return {
        "next_run_time": str(job.next_run_time),  # for those who read the file
        "state": base64.b64encode(pickle.dumps(job.__getstate__())).decode(),
    }


def order(job: Job) -> tuple[bool, float, str]:
    """Sort by run time, paused jobs last."""
    time = job.next_run_time
    return time is None, time.timestamp() if time else 0, job.id


def write_file(path: Path, content: object) -> None:
    """Put the new file in the place of the old one when it is complete."""
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(content, indent=2), "utf-8")
    unfinished.replace(path)
