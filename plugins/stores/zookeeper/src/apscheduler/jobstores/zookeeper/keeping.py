"""The part of the store that keeps jobs."""

import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from apscheduler.job import Job
from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
from apscheduler.jobstores.contract import JobRecord, StoredJob
from apscheduler.jobstores.restore import CACHE_SIZE, set_next_run_time
from apscheduler.jobstores.serializing import (
    SerializingJobStore,
    StoredState,
    distinct_ids,
)
from apscheduler.jobstores.zookeeper.connecting import (
    GROUP_BYTES,
    NodeExistsError,
    NoNodeError,
    Write,
)
from apscheduler.jobstores.zookeeper.ledgers import Ledger
from apscheduler.jobstores.zookeeper.storage import (
    CONFLICTS,
    MAX_TRIES,
    JobEntry,
    Storage,
)
from apscheduler.util import datetime_to_utc_timestamp

# What the server does not take in the name of a node.
UNUSABLE = re.compile("[/\0-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff]|^\\.{0,2}$")


class Token(NamedTuple):
    """Which record was read.

    :ivar created: the transaction that has created its node
    :ivar changed: the one that has written it
    """

    data: bytes
    created: int
    changed: int


class NodeJobStore(SerializingJobStore):
    """Jobs in the nodes below a path."""

    path: str

    @property
    @abstractmethod
    def _storage(self) -> Storage:
        """Where everything is."""

    # Reading.

    def read_job(self, job_id: str) -> StoredJob | None:
        if UNUSABLE.search(job_id):
            return None
        path = self._path_of(job_id)
        try:
            data, stat = self._storage.connection.read(lambda client: client.get(path))
        except NoNodeError:
            return None
        timestamp = self._storage.read_time(data)
        job = self._restorer.restore(job_id, data, timestamp)
        return StoredJob(job, Token(data, stat.czxid, stat.mzxid))

    def get_due_jobs(self, now: datetime) -> list[Job]:
        timestamp = now.timestamp()
        entries = self._storage.refresh_jobs().values()
        return self._jobs_of(
            each
            for each in entries
            if each.value.timestamp is not None and each.value.timestamp <= timestamp
        )

    def get_next_run_time(self) -> datetime | None:
        entries = self._storage.refresh_jobs().values()
        return self._first_time(
            [
                (each.name, each.value.base, each.value.timestamp)
                for each in sorted(entries, key=in_order)
                if each.value.timestamp is not None
            ]
        )

    def get_all_jobs(self) -> list[Job]:
        return self._jobs_of(self._storage.refresh_jobs().values())

    def get_job_records(self) -> list[JobRecord]:
        entries = sorted(self._storage.refresh_jobs().values(), key=in_order)
        return [
            self._describe(each.name, each.value.base, each.value.timestamp)
            for each in entries
        ]

    def _jobs_of(self, entries: Iterable[JobEntry]) -> list[Job]:
        return self._restore_all(
            [
                (each.name, each.value.base, each.value.timestamp)
                for each in sorted(entries, key=in_order)
            ]
        )

    # Writing.

    def add_jobs(self, jobs: Sequence[Job]) -> None:
        for job_id in distinct_ids(jobs):
            if UNUSABLE.search(job_id):
                raise ValueError(
                    f"Job identifier {job_id!r} cannot be the name of a node in ZooKeeper: choose one without '/' "
                    "and control characters"
                )
        data = [self._dump(job) for job in jobs]
        for job, each in zip(jobs, data, strict=True):
            self._check_size(job, each)
        creations = [
            Write("create", self._path_of(job.id), each)
            for job, each in zip(jobs, data, strict=True)
        ]
        if not creations:
            return
        self._create_all([job.id for job in jobs], creations)
        for job, each in zip(jobs[:CACHE_SIZE], data, strict=False):
            self._restorer.learn(job, each)

    def _create_all(self, job_ids: Sequence[str], creations: Sequence[Write]) -> None:
        """Create all nodes or none.

        :raises ConflictingIdError: if there is one of them
        """
        commit = partial(self._storage.commit, wakes=True)
        created: list[str] = []
        for part in _parts(creations):
            (failure,) = commit([part])
            if isinstance(failure, NoNodeError):  # somebody has removed the path
                self._storage.create()
                (failure,) = commit([part])
            if failure is not None:
                for job_id in created:
                    self._remove(job_id)
                if not isinstance(failure, NodeExistsError):
                    raise failure
                raise ConflictingIdError(self._first_taken(job_ids))
            created += job_ids[len(created) : len(created) + len(part)]

    def _first_taken(self, job_ids: Sequence[str]) -> str:
        taken = self._storage.refresh_jobs()
        return next((job_id for job_id in job_ids if job_id in taken), job_ids[0])

    def update_job(self, job: Job) -> None:
        if UNUSABLE.search(job.id):
            raise JobLookupError(job.id)
        data = self._dump(job)
        self._check_size(job, data)
        step = [Write("set_data", self._path_of(job.id), data)]
        (failure,) = self._storage.commit([step], wakes=True)
        if isinstance(failure, NoNodeError):
            raise JobLookupError(job.id)
        if failure is not None:
            raise failure

    def _write_change(self, stored: StoredJob, with_time: bool) -> bool:
        job, token = stored.job, stored.token

        def make_write(data: bytes, stat: Any) -> Write | None:
            if stat.mzxid != token.changed:
                if with_time or stat.czxid != token.created:
                    return None
                if self._without_time(data) != self._without_time(token.data):
                    return None
                set_next_run_time(job, self._storage.read_time(data))
            written = self._dump(job)
            self._check_size(job, written)
            path = self._path_of(job.id)
            return Write("set_data", path, written, stat.version)

        return self._rewrite(job.id, make_write)

    def discard_job(self, stored: StoredJob) -> bool:
        job_id, token = stored.job.id, stored.token

        def make_write(data: bytes, stat: Any) -> Write | None:
            if stat.mzxid != token.changed:
                return None
            return Write("delete", self._path_of(job_id), version=stat.version)

        return self._rewrite(job_id, make_write)

    def _rewrite(
        self, job_id: str, make_write: Callable[[bytes, Any], Write | None]
    ) -> bool:
        """Change a job in a way that depends on its record, which nobody changes meanwhile; return whether it was.

        :param make_write: gets data and state of the node; None gives up
        """
        storage = self._storage
        for _ in range(MAX_TRIES):
            # First: the ledger of a job that is replaced after that is another.
            ((ledger, version),) = storage.read_ledgers([job_id])
            (found,) = storage.connection.get_all([self._path_of(job_id)])
            write = None if found is None else make_write(*found)
            if write is None:
                return False
            if self._write_beside_ledger(job_id, write, ledger, version):
                return True
        return False

    def _write_beside_ledger(
        self, job_id: str, write: Write, ledger: Ledger, version: int | None
    ) -> bool:
        """Write a job if its ledger is the one that was read; return whether it is."""
        storage = self._storage
        is_deletion = write.kind == "delete"
        if version is None or is_deletion:
            ledger_writes = storage.write_ledger(job_id, ledger, version)
        else:
            path = storage.ledgers.path_of(job_id)
            ledger_writes = [Write("check", path, version=version)]
        (failure,) = storage.commit([[write, *ledger_writes]], wakes=not is_deletion)
        if failure is not None and not isinstance(failure, CONFLICTS):
            raise failure
        return failure is None

    def remove_job(self, job_id: str) -> None:
        if UNUSABLE.search(job_id) or not self._remove(job_id):
            raise JobLookupError(job_id)
        self._restorer.forget(job_id)

    def _remove(self, job_id: str) -> bool:
        """Remove a job, whatever its record is; return whether there was one."""
        delete = Write("delete", self._path_of(job_id))
        for _ in range(MAX_TRIES):
            ((ledger, version),) = self._storage.read_ledgers([job_id])
            if self._write_beside_ledger(job_id, delete, ledger, version):
                return True
            if self._storage.connection.get_all([delete.path]) == [None]:
                return False
        raise RuntimeError(f"Job {job_id!r} was changed {MAX_TRIES} times in a row")

    def remove_all_jobs(self) -> None:
        storage = self._storage
        while entries := storage.refresh_jobs():
            try:
                storage.change_ledgers(
                    {job_id: lambda ledger: True for job_id in entries},
                    lambda job_id: [Write("delete", self._path_of(job_id))],
                )
            except RuntimeError:  # somebody else removes them, too
                continue
        self._restorer.forget()

    # Bytes.

    def read_states(self) -> Iterator[StoredState]:
        storage = self._storage
        job_ids = list(storage.refresh_jobs())
        # Not from the copies here: those know of bytes that were restored before, and of the run time.
        found = storage.connection.get_all([self._path_of(id) for id in job_ids])
        for job_id, answer in zip(job_ids, found, strict=True):
            if answer is not None:
                yield StoredState(job_id, None, answer[0])
        for job_id, entry in storage.refresh_ledgers().items():
            for run_id, copy in entry.value.copies():
                yield StoredState(job_id, run_id, copy)

    def replace_state(self, state: StoredState, data: bytes) -> bool:
        job_id, run_id = state.job_id, state.run_id

        def make_write(found: bytes, stat: Any) -> Write | None:
            if found != state.data:
                return None
            return Write("set_data", self._path_of(job_id), data, stat.version)

        if run_id is None:
            return self._rewrite(job_id, make_write)

        def change(ledger: Ledger) -> bool:
            return ledger.replace_copy(run_id, state.data, data)

        return bool(self._storage.change_ledgers({job_id: change})[job_id])

    def _path_of(self, job_id: str) -> str:
        return f"{self.path}/{job_id}"

    def _check_size(self, job: Job, data: bytes) -> None:
        limit = MAX_RETRIED_BYTES if job.on_lost == "retry" else MAX_BYTES
        if len(data) > limit:
            raise ValueError(
                f"Job {job.id!r} takes {len(data)} bytes, but ZooKeeper has room for {limit}: give it smaller arguments"
            )

    def _dump(self, job: Job) -> bytes:
        timestamp = datetime_to_utc_timestamp(job.next_run_time)
        document = {"next_run_time": timestamp, "job_state": job.__getstate__()}
        return self.serializer.dumps(document)

    def _loads(self, data: bytes) -> dict[str, Any]:
        return self._unwrap(super()._loads(data))

    def _unwrap(self, document: dict[str, Any]) -> dict[str, Any]:
        state: dict[str, Any] = document["job_state"]
        return state

    def _restore(self, data: bytes) -> Job:
        return self._reconstitute_job(self._loads(data))

    def _without_time(self, data: bytes) -> bytes:
        """Return stored bytes as they would be without a run time."""
        document = self.serializer.loads(data)
        document["next_run_time"] = document["job_state"]["next_run_time"] = None
        return self.serializer.dumps(document)


# A server takes less than a mebibyte at once, and a copy of a job, as text, may be written with it.
MAX_BYTES, MAX_RETRIED_BYTES = 500_000, 300_000


def in_order(entry: JobEntry) -> tuple[bool, float, float, str]:
    """Return a key that sorts jobs by run time, those of one time by creation, paused ones last."""
    timestamp = entry.value.timestamp
    return timestamp is None, timestamp or 0.0, entry.created, entry.name


def _parts(creations: Sequence[Write]) -> Iterable[list[Write]]:
    """Return writes in parts that a server takes at once."""
    part: list[Write] = []
    size = 0
    for write in creations:
        write_size = len(write.data) + len(write.path) + 100
        if part and size + write_size > GROUP_BYTES * 2:
            yield part
            part, size = [], 0
        part.append(write)
        size += write_size
    if part:
        yield part
