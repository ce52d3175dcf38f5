"""A copy of what claims have to know. What is written compares with the server all the same."""

import logging
import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

from apscheduler.jobstores.etcd.documents import CLAIM_ID, ID, JOB_ID, Row, unpack
from apscheduler.jobstores.etcd.gateway import KeyValue

logger = logging.getLogger("apscheduler.jobstores")

# What the keys of everything begin with that is not a job.
BESIDE = "~runs"


def check_path(path: str) -> None:
    """Raise an error if a path cannot be used."""
    if not path:
        raise ValueError('The "path" parameter must not be empty')
    if path.startswith(BESIDE) or BESIDE.startswith(path):
        raise ValueError(
            f"'path' must not begin like {BESIDE!r}, where runs are kept, but is {path!r}; choose something like "
            "'/apscheduler'"
        )


class Keys:
    """The names of everything that a store keeps.

    APScheduler 3 takes every key that begins with the path for a job, so that nothing else does.

    :ivar jobs: what the keys of jobs begin with
    :ivar live: what those of everything else begin with that claims have to know
    :ivar ended: what those of runs that have ended begin with
    """

    def __init__(self, path: str):
        self.jobs = f"{path}/"
        self.live = f"{BESIDE}{path}/live/"
        self.ended = f"{BESIDE}{path}/ended/"
        self.open = f"{self.live}open/"
        self.ready = f"{self.live}ready/"
        self.nodes = f"{self.live}node/"
        # Written whenever a ready run is started, which changes nothing else that the next claim compares.
        self.started = f"{self.live}started"
        # Written with everything else, and with every job: they tell how far a copy has to be.
        self.tick = f"{self.live}tick"
        self.job_ticks = f"{self.live}job-tick/"

    def node_of(self, key: str) -> str:
        """Return which node owns the runs under a key."""
        return key[len(self.open) :].rpartition("/")[0]


class JobEntry(NamedTuple):
    """A job.

    :ivar timestamp: its run time in seconds since 1970, None if it is paused
    :ivar data: bytes with the same job in them, except for the run time
    """

    revision: int
    timestamp: float | None
    data: bytes


class OpenEntry(NamedTuple):
    """Runs that are going on, which a node has claimed with one request."""

    revision: int
    node: str
    rows: list[Row]


class Entry(NamedTuple):
    """Something else."""

    revision: int
    value: Any


class Change(NamedTuple):
    """A key that was written.

    :ivar value: None: it was deleted
    :ivar base: of a job: bytes with the same job in them, which it was restored from before
    """

    key: str
    value: bytes | None
    base: bytes | None = None


class Mirror:
    """What is below the keys of a store. Whoever uses it holds ``lock``.

    :param read_time: returns the run time in the record of a job
    """

    def __init__(self, keys: Keys, read_time: Callable[[bytes], float | None]):
        self.lock = threading.RLock()
        self.jobs: dict[str, JobEntry] = {}
        self.open: dict[str, OpenEntry] = {}
        self.ready: dict[str, Entry] = {}
        self.leases: dict[str, Entry] = {}
        # Identifier of a run that is going on → key of what it is in.
        self.places: dict[str, str] = {}
        self._keys = keys
        self._read_time = read_time
        # Run times and identifiers of jobs, in order.
        self._order: list[tuple[float, str]] = []
        # Job → claim → how many of its runs are going on.
        self._claims: dict[str, dict[str, int]] = {}
        # Key → when it was written last, also for those deleted of which older news may be on its way.
        self._revisions: dict[str, int] = {}

    # What is asked.

    def revision_of(self, key: str) -> int:
        """Return when a key was written last, 0 if it is not there."""
        return self._revisions.get(key, 0) if self._has(key) else 0

    def count_claims(self, job_id: str) -> int:
        """Return how many claims of the job have runs that are going on."""
        return len(self._claims.get(job_id, ()))

    def page_due(
        self, now: float, after: tuple[float, str] | None, size: int
    ) -> list[tuple[str, JobEntry]]:
        """Return jobs that are due, earliest first, those of one time by identifier."""
        start = 0 if after is None else bisect_right(self._order, after)
        page = self._order[start : start + size]
        return [(id, self.jobs[id]) for time, id in page if time <= now]

    def next_time(self, now: float) -> float | None:
        """Return the first time later than now at which a job is due."""
        index = bisect_right(self._order, now, key=lambda each: each[0])
        return self._order[index][0] if index < len(self._order) else None

    def in_order(self) -> Iterator[tuple[str, JobEntry]]:
        """Return all jobs, earliest first, paused ones last."""
        for _, job_id in self._order:
            yield job_id, self.jobs[job_id]
        for job_id in sorted(id for id in self.jobs if self.jobs[id].timestamp is None):
            yield job_id, self.jobs[job_id]

    # What is told.

    def apply(self, change: Change, revision: int) -> bool:
        """Take note of a change, unless what is known is newer; return whether it may make something due earlier."""
        known = self._revisions.get(change.key, 0)
        if known >= revision:
            if known == revision and change.base is not None:
                self._rebase(change.key, change.base)
            return False
        self._revisions[change.key] = revision
        if change.value is None:
            self._remove(change.key)
            return False
        return self._write(change.key, change.value, change.base, revision)

    def forget_deleted(self, key: str, revision: int) -> None:
        """Take note that no older news of a key will come."""
        if self._revisions.get(key) == revision and not self._has(key):
            del self._revisions[key]

    def remove_jobs(self, revision: int) -> None:
        """Take note that all jobs were deleted."""
        for job_id in list(self.jobs):
            self.apply(Change(f"{self._keys.jobs}{job_id}", None), revision)

    def replace(self, found: Iterable[KeyValue], revision: int) -> None:
        """Become what was found on the server at a revision, except for what is known to be newer."""
        seen = set()
        for each in found:
            seen.add(each.key)
            self.apply(Change(each.key, each.value), each.revision)
        for key, known in list(self._revisions.items()):
            if key not in seen and known <= revision:
                self._remove(key)
                del self._revisions[key]

    def clear(self) -> None:
        """Forget everything."""
        keys = list(self._revisions)
        self._revisions.clear()
        for key in keys:
            self._remove(key)

    def _has(self, key: str) -> bool:
        keys = self._keys
        if key.startswith(keys.jobs):
            return key[len(keys.jobs) :] in self.jobs
        if key.startswith(keys.nodes):
            return key[len(keys.nodes) :] in self.leases
        place: Collection[str] = self.open if key.startswith(keys.open) else self.ready
        return key in place or key == keys.started

    def _write(self, key: str, value: bytes, base: bytes | None, revision: int) -> bool:
        keys = self._keys
        if key.startswith(keys.jobs):
            return self._write_job(key[len(keys.jobs) :], value, base, revision)
        try:
            return self._write_other(key, value, revision)
        except Exception as exc:  # somebody else has written it
            logger.warning("The key %r is damaged, and left alone: %s", key, exc)
            return False

    def _write_other(self, key: str, value: bytes, revision: int) -> bool:
        keys = self._keys
        if key.startswith(keys.open):
            self._remove_open(key)
            entry = OpenEntry(revision, keys.node_of(key), unpack(value))
            self._write_open(key, entry)
        elif key.startswith(keys.ready):
            self.ready[key] = Entry(revision, unpack(value))
            return True
        elif key.startswith(keys.nodes):
            self.leases[key[len(keys.nodes) :]] = Entry(revision, value.decode())
        return False

    def _remove(self, key: str) -> None:
        keys = self._keys
        if key.startswith(keys.jobs):
            job_id = key[len(keys.jobs) :]
            self._remove_time(job_id)
            self.jobs.pop(job_id, None)
        elif key.startswith(keys.nodes):
            self.leases.pop(key[len(keys.nodes) :], None)
        else:
            self._remove_open(key)
            self.ready.pop(key, None)

    def _write_job(
        self, job_id: str, value: bytes, base: bytes | None, revision: int
    ) -> bool:
        old = self.jobs.get(job_id)
        self._remove_time(job_id)
        timestamp = self._read_time(value)
        self.jobs[job_id] = JobEntry(revision, timestamp, base or value)
        if timestamp is None:
            return False
        insort(self._order, (timestamp, job_id))
        return old is None or old.timestamp is None or timestamp < old.timestamp

    def _rebase(self, key: str, base: bytes) -> None:
        """Take other bytes with the same job in them, which was restored from those before."""
        job_id = key[len(self._keys.jobs) :]
        if entry := self.jobs.get(job_id):
            self.jobs[job_id] = entry._replace(data=base)

    def _remove_time(self, job_id: str) -> None:
        entry = self.jobs.get(job_id)
        if entry is not None and entry.timestamp is not None:
            del self._order[bisect_left(self._order, (entry.timestamp, job_id))]

    def _write_open(self, key: str, entry: OpenEntry) -> None:
        self.open[key] = entry
        for row in entry.rows:
            self.places[row[ID]] = key
            claims = self._claims.setdefault(row[JOB_ID], {})
            claims[row[CLAIM_ID]] = claims.get(row[CLAIM_ID], 0) + 1

    def _remove_open(self, key: str) -> None:
        entry = self.open.pop(key, None)
        for row in entry.rows if entry is not None else ():
            if self.places.get(row[ID]) == key:
                del self.places[row[ID]]
            claims = self._claims[row[JOB_ID]]
            claims[row[CLAIM_ID]] -= 1
            if not claims[row[CLAIM_ID]]:
                del claims[row[CLAIM_ID]]
            if not claims:
                del self._claims[row[JOB_ID]]
