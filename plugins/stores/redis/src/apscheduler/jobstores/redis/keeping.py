"""The part of the store that keeps jobs."""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import zip_longest
from typing import Any

from apscheduler.job import Job
from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
from apscheduler.jobstores.contract import JobRecord, StoredJob
from apscheduler.jobstores.redis.job_scripts import (
    ADD,
    CHANGE,
    COPIES,
    LIST,
    PAGE,
    READ,
    REMOVE,
    REMOVE_ALL,
    REPLACE,
)
from apscheduler.jobstores.redis.scripts import Runner, decode, encode
from apscheduler.jobstores.restore import CACHE_SIZE, set_next_run_time
from apscheduler.jobstores.serializing import (
    SerializingJobStore,
    StoredState,
    distinct_ids,
)

# So many jobs are read at a time where not all are wanted.
PAGE_SIZE = 500

# Identifier, state, run time.
Record = tuple[str, bytes, float | None]


class HashJobStore(SerializingJobStore):
    """Jobs in a hash, and their run times in a sorted set.

    The token of a job is its state, and its run time as Redis writes it, empty for a paused job.
    """

    _runner: Runner

    # Reading.

    def read_job(self, job_id: str) -> StoredJob | None:
        answer: bytes | None = self._runner.run(READ, None, encode(job_id))
        if answer is None:
            return None
        time, _, state = answer.partition(b" ")
        job = self._restorer.restore(job_id, state, float(time) if time else None)
        return StoredJob(job, (state, time.decode()))

    def get_due_jobs(self, now: datetime) -> list[Job]:
        return self._jobs_of(self._read_page(repr(now.timestamp()), 0, -1)[0])

    def get_next_run_time(self) -> datetime | None:
        offset, size = 0, 1  # the first one will do, if it can be restored
        while True:
            records, count = self._read_page("+inf", offset, size)
            first = self._first_time(
                [(id, state, time) for id, state, time in records if time is not None]
            )
            if first is not None or count < size:
                return first
            offset, size = offset + size, PAGE_SIZE

    def get_all_jobs(self) -> list[Job]:
        return self._jobs_of(self._list_records())

    def get_job_records(self) -> list[JobRecord]:
        return [self._describe(*record) for record in self._list_records()]

    def _read_page(
        self, until: str, offset: int, size: int
    ) -> tuple[Iterator[Record], int]:
        """Return jobs up to a run time, earliest first, and how many run times were looked at."""
        given = {"until_": until, "offset": offset, "size": size}
        return _unpack(self._runner.run(PAGE, given))

    def _list_records(self) -> Iterator[Record]:
        """Return all jobs, earliest first, paused ones last."""
        return _unpack(self._runner.run(LIST))[0]

    def _jobs_of(self, records: Iterable[Record]) -> list[Job]:
        """Return the jobs that can be restored."""
        standard = HashJobStore._reconstitute_jobs
        if type(self)._reconstitute_jobs is standard:
            return self._restore_all(records)
        records = list(records)
        times = {job_id: time for job_id, _, time in records}
        jobs = self._reconstitute_jobs((id, state) for id, state, _ in records)
        for job in jobs:
            set_next_run_time(job, times[job.id])
        return jobs

    def _reconstitute_jobs(self, job_states: Iterable[tuple[str, bytes]]) -> list[Job]:
        """Return the jobs of pairs of identifier and state, without those that cannot be restored.

        A subclass that has its own gets all that are listed, as with APScheduler 3.
        """
        jobs: list[Job] = []
        for job_id, state in job_states:
            try:
                jobs.append(self._reconstitute_job(state))
            except Exception as exc:
                self._restorer.set_aside(job_id, state, exc)
        return jobs

    # Writing.

    def add_jobs(self, jobs: Sequence[Job]) -> None:
        ids = distinct_ids(jobs)
        if not ids:
            return
        states = [self._dump(job) for job in jobs]
        given = ids, [_time_of(job) for job in jobs], [len(state) for state in states]
        taken = int(self._runner.run(ADD, given, b"".join(states)))
        if taken:
            raise ConflictingIdError(ids[taken - 1])
        for job, state in zip(jobs[:CACHE_SIZE], states, strict=False):
            self._restorer.learn(job, state)

    def update_job(self, job: Job) -> None:
        given = {"id": job.id, "with_time": True, "time": _time_of(job)}
        if self._runner.run(CHANGE, given, self._dump(job)) == b"0":
            raise JobLookupError(job.id)

    def _write_change(self, stored: StoredJob, with_time: bool) -> bool:
        job = stored.job
        given: dict[str, Any] = {"id": job.id, "compares": True, "with_time": with_time}
        before, given["old"] = stored.token
        given["time"] = _time_of(job)
        answer: bytes = self._runner.run(CHANGE, given, self._dump(job), before)
        return answer == b"1"

    def remove_job(self, job_id: str) -> None:
        if self._runner.run(REMOVE, {"id": job_id}) == b"0":
            raise JobLookupError(job_id)
        self._restorer.forget(job_id)

    def discard_job(self, stored: StoredJob) -> bool:
        before, old = stored.token
        given = {"id": stored.job.id, "compares": True, "old": old}
        answer: bytes = self._runner.run(REMOVE, given, before)
        return answer == b"1"

    def remove_all_jobs(self) -> None:
        self._runner.run(REMOVE_ALL)
        self._restorer.forget()

    # Bytes as they are, for those who change the serializer.

    def read_states(self) -> Iterator[StoredState]:
        for job_id, state, _ in self._list_records():
            yield StoredState(job_id, None, state)
        found = iter(self._runner.run(COPIES, {}))
        for job_id, run_id, state in zip(found, found, found, strict=True):
            yield StoredState(decode(job_id), decode(run_id), state)

    def replace_state(self, state: StoredState, data: bytes) -> bool:
        is_copy = state.run_id is not None
        given = {"id": state.run_id or state.job_id, "is_copy": is_copy}
        answer: bytes = self._runner.run(REPLACE, given, data, state.data)
        return answer == b"1"


def _time_of(job: Job) -> str | bool:
    """Return the run time as it is written, False for a paused job."""
    return False if job.next_run_time is None else repr(job.next_run_time.timestamp())


def _unpack(answer: tuple[bytes, Sequence[bytes]]) -> tuple[Iterator[Record], int]:
    """Return jobs as they were read, and how many run times and jobs were looked at."""
    ids, times, lengths = json.loads(decode(answer[0]))
    return _take_apart(ids, times, lengths, b"".join(answer[1])), len(ids)


def _take_apart(
    ids: Sequence[str], times: Sequence[str], lengths: Sequence[int], states: bytes
) -> Iterator[Record]:
    start = 0
    # Paused jobs have no run times.
    for job_id, time, length in zip_longest(ids, times, lengths):
        if length < 0:  # nor has every run time a job
            continue
        end = start + length
        yield job_id, states[start:end], float(time) if time else None
        start = end
