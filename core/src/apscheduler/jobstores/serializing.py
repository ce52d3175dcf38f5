"""What stores that keep jobs as bytes have in common."""

import pickle
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from apscheduler.job import Job
from apscheduler.jobstores.base import ConflictingIdError
from apscheduler.jobstores.contract import (
    HISTORY_DAYS,
    HISTORY_RUNS,
    JobRecord,
    NativeJobStore,
    StoredJob,
)
from apscheduler.jobstores.records import read_record
from apscheduler.jobstores.restore import Restorer
from apscheduler.serializers import PickleSerializer, Serializer
from apscheduler.util import maybe_ref, utc_timestamp_to_datetime

if TYPE_CHECKING:
    from apscheduler.schedulers.base import BaseScheduler


class StoredState(NamedTuple):
    """Bytes that a serializer has made, as they are in the storage.

    :ivar run_id: the run that a copy of the job is kept with; None: the record of the job itself
    :ivar place: where the copy is; up to the store
    """

    job_id: str
    run_id: str | None
    data: bytes
    place: Any = None


class SerializingJobStore(NativeJobStore):
    """A store that writes jobs down. What it writes is the state of the job, made into bytes by a serializer.

    :param pickle_protocol: the protocol to write the state of jobs with
    :param serializer: how jobs become bytes, if not by pickle; or a reference to that
    :param history_days: for how long finished runs are kept; None: no limit
    :param history_runs: how many finished runs are kept of each job that does not say; 0: none; None: no limit
    :raises ValueError: if these two are not such numbers
    """

    def __init__(
        self,
        pickle_protocol: int = pickle.HIGHEST_PROTOCOL,
        serializer: Serializer | str | None = None,
        history_days: float | None = HISTORY_DAYS,
        history_runs: int | None = HISTORY_RUNS,
    ):
        super().__init__()
        self.limit_history(history_days, history_runs)
        self.pickle_protocol = pickle_protocol
        self.serializer: Serializer = maybe_ref(serializer) or PickleSerializer(
            pickle_protocol
        )
        # A subclass that makes jobs in a way of its own gets every job made in that way.
        self._restorer = Restorer(
            lambda data: self._restore(data),
            None if self._has_own("_reconstitute_job") else self._loads,
            self._link,
            self._reads_what_it_wrote,
        )

    def start(self, scheduler: "BaseScheduler | None", alias: str) -> None:
        super().start(scheduler, alias)
        self._restorer.logger = self._logger

    def shutdown(self) -> None:
        # What is known of the jobs is compared with what is stored when this store is started again.
        self._restorer.forget_failures()

    def lookup_job(self, job_id: str) -> Job | None:
        stored = self.read_job(job_id)
        return None if stored is None else stored.job

    def add_job(self, job: Job) -> None:
        self.add_jobs([job])

    def change_job(self, stored: StoredJob, changes: Mapping[str, Any]) -> bool:
        job = stored.job
        before = {name: getattr(job, name) for name in Job.__slots__}
        try:
            job._modify(**changes)
            return self._write_change(stored, "next_run_time" in changes)
        except BaseException:
            for name, value in before.items():
                if name != "__weakref__":
                    setattr(job, name, value)
            raise

    @abstractmethod
    def _write_change(self, stored: StoredJob, with_time: bool) -> bool:
        """Write ``stored.job`` if the record is still the one of the token; return whether it was.

        :param with_time: False: the run time is neither compared nor written
        """

    def read_states(self) -> Iterator[StoredState]:
        """Return everything that a serializer has made: the records of jobs, and copies of jobs kept with open runs."""
        raise NotImplementedError(
            f"{type(self).__name__} cannot list the bytes that it keeps"
        )

    def replace_state(self, state: StoredState, data: bytes) -> bool:
        """Put other bytes in the place of those that were read, if they are still there; return whether they were."""
        raise NotImplementedError(
            f"{type(self).__name__} cannot replace the bytes that it keeps"
        )

    def _reconstitute_job(self, job_state: Any) -> Job:
        """Return the job of a state as it is stored: as bytes or, where it is part of a larger record, as a dict."""
        is_read = isinstance(job_state, dict)
        return self._make(job_state if is_read else self._loads(job_state))

    def _restore(self, data: bytes) -> Job:
        """Return the job of a stored record."""
        return self._reconstitute_job(data)

    def _loads(self, data: bytes) -> dict[str, Any]:
        """Return the state of the job in a stored record."""
        return self.serializer.loads(data)

    def _dump(self, job: Job) -> bytes:
        """Return what to store of the job, apart from where its run time belongs."""
        return self.serializer.dumps(job.__getstate__())

    def _make(self, state: dict[str, Any]) -> Job:
        job = Job.__new__(Job)
        job.__setstate__(state)
        self._link(job)
        return job

    def _reads_what_it_wrote(self) -> bool:
        """Return whether a state of constants comes back as it was; other formats may change or refuse some."""
        return type(self.serializer) is PickleSerializer and (
            self.serializer.allowed is None
        )

    def _link(self, job: Job) -> None:
        job._scheduler = self._scheduler
        job._jobstore_alias = self._alias

    def _restore_all(
        self, records: "Iterable[tuple[str, bytes, float | None]]"
    ) -> list[Job]:
        """Return the jobs of records given as identifier, bytes and run time; without those that cannot be restored."""
        return self._restorer.restore_all(records)

    def _first_time(
        self, records: "Iterable[tuple[str, bytes, float]]"
    ) -> datetime | None:
        """Return the run time of the first of these records that can be restored."""
        for job_id, data, timestamp in records:
            if self._restorer.restore_due(job_id, data, timestamp):
                return utc_timestamp_to_datetime(timestamp)
        return None

    def _describe(self, job_id: str, data: bytes, timestamp: float | None) -> JobRecord:
        """Return what can be said of a record without importing the function of the job."""
        return read_record(
            job_id,
            utc_timestamp_to_datetime(timestamp),
            data,
            self.serializer,
            self._restorer.error_of(job_id, data),
            self._unwrap,
        )

    def _unwrap(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return the state of the job in what the serializer has read."""
        return document

    def _has_own(self, name: str) -> bool:
        """Return whether a subclass, or the instance, has a method of its own in place of the one here."""
        standard = getattr(SerializingJobStore, name)
        return name in vars(self) or getattr(type(self), name) is not standard


def distinct_ids(jobs: Sequence[Job]) -> list[str]:
    """Return the identifiers of the jobs, in order.

    :raises ConflictingIdError: if two of them have the same
    """
    ids: dict[str, None] = {}
    for job in jobs:
        if job.id in ids:
            raise ConflictingIdError(job.id)
        ids[job.id] = None
    return list(ids)
