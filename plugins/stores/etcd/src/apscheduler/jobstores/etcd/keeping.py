"""The part of the store that keeps jobs."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, NamedTuple

from apscheduler.job import Job
from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
from apscheduler.jobstores.contract import JobRecord, StoredJob
from apscheduler.jobstores.etcd.documents import (
    copies_in,
    pack,
    read_time,
    replace_copy,
    unpack,
)
from apscheduler.jobstores.etcd.gateway import (
    Answer,
    KeyValue,
    is_at,
    is_there,
)
from apscheduler.jobstores.etcd.mirror import Change
from apscheduler.jobstores.etcd.storage import (
    GROUP_BYTES,
    GROUP_SIZE,
    SENDERS,
    Step,
    Storage,
)
from apscheduler.jobstores.restore import CACHE_SIZE, set_next_run_time
from apscheduler.jobstores.serializing import (
    SerializingJobStore,
    StoredState,
    distinct_ids,
)
from apscheduler.util import datetime_to_utc_timestamp

# A server takes 1.5 MiB at a time; some of it is for what is written with the job, such as a copy of it.
MAX_BYTES, MAX_COPIED_BYTES = 1_000_000, 300_000
# A change is tried anew when the job was claimed meanwhile; so often in a row is no coincidence.
MAX_TRIES = 100

# Identifier, bytes, run time.
Record = tuple[str, bytes, float | None]


class Token(NamedTuple):
    """Which record was read."""

    revision: int
    data: bytes


class KeyJobStore(SerializingJobStore):
    """Jobs under keys that begin with a path."""

    _storage: Storage

    # Reading.

    def read_job(self, job_id: str) -> StoredJob | None:
        found = self._storage.gateway.get(self._key_of(job_id))
        if found is None:
            return None
        timestamp = read_time(found.value, self.serializer)
        job = self._restorer.restore(job_id, found.value, timestamp)
        return StoredJob(job, Token(found.revision, found.value))

    def get_due_jobs(self, now: datetime) -> list[Job]:
        limit = now.timestamp()
        records = self._records()
        return self._restore_all(
            [each for each in records if each[2] is not None and each[2] <= limit]
        )

    def get_next_run_time(self) -> datetime | None:
        return self._first_time(
            (id, data, time) for id, data, time in self._records() if time is not None
        )

    def get_all_jobs(self) -> list[Job]:
        return self._restore_all(self._records())

    def get_job_records(self) -> list[JobRecord]:
        return [self._describe(*record) for record in self._records()]

    def _records(self) -> list[Record]:
        """Return all jobs, earliest first, paused ones last."""
        storage = self._storage
        if storage.is_watching:
            storage.sync()
            with storage.mirror.lock:
                jobs = storage.mirror.in_order()
                return [(id, entry.data, entry.timestamp) for id, entry in jobs]
        prefix = storage.keys.jobs
        records: list[Record] = [
            (key[len(prefix) :], data, read_time(data, self.serializer))
            for key, data, _ in storage.gateway.read_prefix(prefix)
        ]
        records.sort(key=lambda each: (each[2] is None, each[2] or 0.0, each[0]))
        return records

    # Writing.

    def add_jobs(self, jobs: Sequence[Job]) -> None:
        ids = distinct_ids(jobs)
        values = list(map(self._dump, jobs))
        groups = list(_grouped(map(self._key_of, ids), values))
        if len(groups) > 1:  # else what was added would have to be taken back
            self._check_free(ids)
        if len(groups) == 1:  # as with every job that is added by itself
            answers = [self._create(groups[0])]
        else:
            with ThreadPoolExecutor(SENDERS, "APScheduler etcd") as senders:
                answers = list(senders.map(self._create, groups))
        for job, value in zip(jobs[:CACHE_SIZE], values, strict=False):
            self._restorer.learn(job, value)
        if not all(answer.succeeded for answer in answers):
            self._take_back(groups, answers)
            for job_id in ids:
                self._restorer.forget(job_id)
            self._check_free(ids)
            raise ConflictingIdError(ids[0])  # somebody has removed it again meanwhile

    def _create(self, group: Sequence[Change]) -> Answer:
        compare = [is_at(change.key, 0) for change in group]
        return self._storage.commit(compare, group)

    def _take_back(
        self, groups: Sequence[Sequence[Change]], answers: Sequence[Answer]
    ) -> None:
        """Delete what was added, unless somebody has changed it."""
        added = [
            Step([is_at(change.key, answer.revision)], [Change(change.key, None)])
            for group, answer in zip(groups, answers, strict=True)
            if answer.succeeded
            for change in group
        ]
        self._storage.commit_each(added, (), is_news=True)

    def _check_free(self, job_ids: Sequence[str]) -> None:
        prefix = self._storage.keys.jobs
        found = self._storage.gateway.read_prefix(prefix, keys_only=True)
        taken = set(map(self._id_of, found))
        for job_id in job_ids:
            if job_id in taken:
                raise ConflictingIdError(job_id)

    def update_job(self, job: Job) -> None:
        key = self._key_of(job.id)
        if not self._put(key, self._dump(job), is_there(key)):
            raise JobLookupError(job.id)

    def _write_change(self, stored: StoredJob, with_time: bool) -> bool:
        job, token = stored.job, stored.token
        key = self._key_of(job.id)
        revision = token.revision
        for _ in range(MAX_TRIES):
            if self._put(key, self._dump(job), is_at(key, revision)):
                return True
            found = self._storage.gateway.get(key)
            if with_time or found is None or not self._is_same(found.value, token.data):
                return False
            # Only its run time is another: it was claimed.
            set_next_run_time(job, read_time(found.value, self.serializer))
            revision = found.revision
        return False

    def _is_same(self, data: bytes, other: bytes) -> bool:
        """Return whether records are the same except for the run time."""
        return self._without_time(data) == self._without_time(other)

    def _without_time(self, data: bytes) -> bytes:
        document = self.serializer.loads(data)
        document["next_run_time"] = document["job_state"]["next_run_time"] = None
        return self.serializer.dumps(document)

    def _put(self, key: str, value: bytes, condition: Any) -> bool:
        return self._storage.commit([condition], [Change(key, value)]).succeeded

    def discard_job(self, stored: StoredJob) -> bool:
        key = self._key_of(stored.job.id)
        compare = [is_at(key, stored.token.revision)]
        return self._storage.commit(compare, [Change(key, None)]).succeeded

    def remove_job(self, job_id: str) -> None:
        key = self._key_of(job_id)
        if not self._storage.commit([is_there(key)], [Change(key, None)]).succeeded:
            raise JobLookupError(job_id)
        self._restorer.forget(job_id)

    def remove_all_jobs(self) -> None:
        self._storage.remove_jobs()
        self._restorer.forget()

    # Bytes.

    def read_states(self) -> Iterator[StoredState]:
        gateway, keys = self._storage.gateway, self._storage.keys
        for found in gateway.read_prefix(keys.jobs):
            yield StoredState(self._id_of(found), None, found.value, found.key)
        for found in (
            *gateway.read_prefix(keys.open),
            *gateway.read_prefix(keys.ready),
        ):
            for job_id, run_id, copy in copies_in(unpack(found.value)):
                yield StoredState(job_id, run_id, copy, found.key)

    def replace_state(self, state: StoredState, data: bytes) -> bool:
        key = state.place
        found = self._storage.gateway.get(key)
        if found is None:
            return False
        if state.run_id is None:
            value = data if found.value == state.data else None
        else:
            content = unpack(found.value)
            has_met = replace_copy(content, state.run_id, state.data, data)
            value = pack(content) if has_met else None
        if value is None:
            return False
        compare = [is_at(key, found.revision)]
        return self._storage.commit(compare, [Change(key, value)]).succeeded

    def _key_of(self, job_id: str) -> str:
        return f"{self._storage.keys.jobs}{job_id}"

    def _id_of(self, found: KeyValue) -> str:
        return found.key[len(self._storage.keys.jobs) :]

    def _dump(self, job: Job) -> bytes:
        timestamp = datetime_to_utc_timestamp(job.next_run_time)
        document = {"next_run_time": timestamp, "job_state": job.__getstate__()}
        data = self.serializer.dumps(document)
        limit = MAX_COPIED_BYTES if job.on_lost == "retry" else MAX_BYTES
        if len(data) > limit:
            raise ValueError(
                f"Job {job.id!r} takes {len(data)} bytes, but in etcd there is room for {limit}: give it smaller "
                "arguments"
            )
        return data

    def _loads(self, data: bytes) -> dict[str, Any]:
        return self._unwrap(super()._loads(data))

    def _unwrap(self, document: dict[str, Any]) -> dict[str, Any]:
        state: dict[str, Any] = document["job_state"]
        return state

    def _restore(self, data: bytes) -> Job:
        return self._reconstitute_job(self._loads(data))


def _grouped(keys: Iterable[str], values: Sequence[bytes]) -> Iterator[list[Change]]:
    """Return what writes keys in groups that a server takes at once."""
    group: list[Change] = []
    size = 0
    for key, value in zip(keys, values, strict=True):
        if group and (len(group) == GROUP_SIZE or size + len(value) > GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(Change(key, value))
        size += len(value) + 200
    if group:
        yield group
