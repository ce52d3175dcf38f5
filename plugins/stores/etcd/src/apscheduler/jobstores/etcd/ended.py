"""Runs that have ended: many under one key, since keys are what is dear in etcd.

Each key tells between which scheduled times its runs are, the latest ones first, so that they are found without
reading the others.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from heapq import heappush, heappushpop
from typing import NamedTuple

from apscheduler.jobstores.etcd.documents import Document, pack, unpack
from apscheduler.jobstores.etcd.gateway import either, is_at, key_values, read
from apscheduler.jobstores.etcd.mirror import Change
from apscheduler.jobstores.etcd.storage import Storage, operation
from apscheduler.jobstores.history import decode_run, find_surplus
from apscheduler.jobstores.ledger import matches
from apscheduler.runs import Run, RunFilter

# So many keys are read, or changed, at a time.
GROUP_SIZE = 20
# Keys with fewer runs than this are put together.
FEW_RUNS = 25


class _Block(NamedTuple):
    """What is known of a key: when it was written, and of each run its job and how many of its runs that keeps."""

    revision: int
    runs: list[tuple[str, int | None]]


class Ended:
    """What is done to runs that have ended."""

    def __init__(self, storage: Storage):
        self._storage = storage
        self._gateway = storage.gateway
        self._prefix = storage.keys.ended
        self._blocks: dict[str, _Block] = {}
        self._counts: Counter[str] = Counter()

    def to_changes(self, rows: Sequence[Document]) -> list[Change]:
        """Return what adds runs."""
        if not rows:
            return []
        times = [row["scheduled_time"] for row in rows]
        span = f"{_place_of(max(times))}-{_place_of(min(times))}"
        name = f"{self._prefix}{span}-{self._storage.new_name()}"
        return [Change(name, pack(rows))]

    def find(self, which: RunFilter, wanted: int, alias: str | None) -> Iterator[Run]:
        """Return runs that match: at least so many, if there are, and those the latest."""
        latest: list[float] = []
        blocks = self._gateway.read_prefix(self._prefix, page_size=GROUP_SIZE)
        for block in blocks:
            until, since = _span_of(block.key)
            if len(latest) >= wanted and until < latest[0]:
                return
            if which.since is not None and until < which.since.timestamp():
                return
            if which.until is not None and since >= which.until.timestamp():
                continue
            for row in unpack(block.value):
                run = decode_run(row, alias)
                if matches(run, which):
                    add = heappush if len(latest) < wanted else heappushpop
                    add(latest, row["scheduled_time"])
                    yield run

    # Forgetting.

    def prune(
        self, max_age: timedelta | None, max_per_job: int | None, now: datetime
    ) -> int:
        """Forget runs that need not be kept, of a few keys, and return how many."""
        revisions = {
            each.key: each.revision
            for each in self._gateway.read_prefix(self._prefix, keys_only=True)
        }
        if max_age is not None and (
            forgotten := self._prune_old(revisions, now - max_age)
        ):
            return forgotten
        self._learn(revisions)
        if forgotten := self._prune_surplus(max_per_job, now):
            return forgotten
        self._merge()
        return 0

    def _prune_old(self, revisions: dict[str, int], oldest: datetime) -> int:
        # Those that were scheduled later have ended later, too.
        limit = oldest.timestamp()
        keys = [key for key in revisions if _span_of(key)[1] < limit]
        for start in range(len(keys), 0, -GROUP_SIZE):
            group = keys[max(start - GROUP_SIZE, 0) : start]
            surplus = {}
            for key, (_, rows) in (found := self._read(group)).items():
                ends = [(row["id"], row.get("finished_at")) for row in rows]
                surplus[key] = set(find_surplus(ends, timedelta(), None, oldest))
            if forgotten := self._forget(found, surplus):
                return forgotten
        return 0

    def _prune_surplus(self, max_per_job: int | None, now: datetime) -> int:
        allowed = self._allowed(max_per_job)
        crowded = {
            job_id
            for job_id, most in allowed.items()
            if most is not None and self._counts[job_id] > most
        }
        if not crowded:
            return 0
        keys = [
            key
            for key, block in sorted(self._blocks.items())
            if any(job_id in crowded for job_id, _ in block.runs)
        ]
        ends: dict[str, list[tuple[float, str, str]]] = {id: [] for id in crowded}
        for start in range(0, len(keys), GROUP_SIZE):
            for key, (_, rows) in self._read(keys[start : start + GROUP_SIZE]).items():
                for row in rows:
                    if row["job_id"] in crowded:
                        place = (row["scheduled_time"], row["id"], key)
                        ends[row["job_id"]].append(place)
        surplus: dict[str, set[str]] = {}
        for job_id, places in ends.items():
            for _, run_id, key in sorted(places, reverse=True)[allowed[job_id] :]:
                surplus.setdefault(key, set()).add(run_id)
        oldest = sorted(surplus)[-GROUP_SIZE:]
        return self._forget(self._read(oldest), surplus)

    def _allowed(self, max_per_job: int | None) -> dict[str, int | None]:
        """Return how many runs each job keeps, which its latest run tells if it is not as many as others."""
        allowed: dict[str, int | None] = {}
        for key in sorted(self._blocks):
            for job_id, history in self._blocks[key].runs:
                if job_id not in allowed:
                    allowed[job_id] = max_per_job if history is None else history
        return allowed

    def _learn(self, revisions: dict[str, int]) -> None:
        """Read what is not known yet, and forget what is there no more."""
        for key, block in list(self._blocks.items()):
            if revisions.get(key) != block.revision:
                self._counts.subtract(job_id for job_id, _ in block.runs)
                del self._blocks[key]
        new = [key for key in revisions if key not in self._blocks]
        for start in range(0, len(new), GROUP_SIZE):
            for key, (revision, rows) in self._read(
                new[start : start + GROUP_SIZE]
            ).items():
                rows.sort(key=lambda row: row["scheduled_time"], reverse=True)
                runs = [(row["job_id"], row.get("history")) for row in rows]
                self._blocks[key] = _Block(revision, runs)
                self._counts.update(job_id for job_id, _ in runs)

    def _merge(self) -> None:
        """Put keys with few runs that follow one another under one."""
        group: list[str] = []
        for key in [*sorted(self._blocks), None]:
            if key is not None and len(self._blocks[key].runs) < FEW_RUNS:
                group.append(key)
                if len(group) < GROUP_SIZE:
                    continue
            if len(group) == GROUP_SIZE:
                found = self._read(group)
                rows = [row for _, rows in found.values() for row in rows]
                removals = [Change(key, None) for key in found]
                self._write(found, [*removals, *self.to_changes(rows)])
                return
            group = []

    def _read(self, keys: Sequence[str]) -> dict[str, tuple[int, list[Document]]]:
        """Return for each key that is there when it was written, and its runs."""
        if not keys:
            return {}
        answer = self._gateway.transact(either((), list(map(read, keys))))
        return {
            each.key: (each.revision, unpack(each.value))
            for part in answer.parts
            for each in key_values(part)
        }

    def _forget(
        self,
        found: dict[str, tuple[int, list[Document]]],
        surplus: dict[str, set[str]],
    ) -> int:
        """Take runs out of keys, and return how many: none if somebody else was faster."""
        changes = []
        forgotten = 0
        for key, (_, rows) in found.items():
            kept = [row for row in rows if row["id"] not in surplus[key]]
            if len(kept) < len(rows):
                changes.append(Change(key, pack(kept) if kept else None))
                forgotten += len(rows) - len(kept)
        return forgotten if changes and self._write(found, changes) else 0

    def _write(
        self, found: dict[str, tuple[int, list[Document]]], changes: Sequence[Change]
    ) -> bool:
        compare = [is_at(key, revision) for key, (revision, _) in found.items()]
        transaction = either(compare, list(map(operation, changes)))
        return self._gateway.transact(transaction).succeeded


def _place_of(timestamp: float) -> str:
    """Return seconds since 1970 as text of fixed length, later times first."""
    return f"{2**62 - round(timestamp * 1e6):016x}"


def _span_of(key: str) -> tuple[float, float]:
    """Return the latest and the earliest scheduled time of the runs under a key."""
    last, first, *_ = key.rpartition("/")[2].split("-")
    return (2**62 - int(last, 16)) / 1e6, (2**62 - int(first, 16)) / 1e6
