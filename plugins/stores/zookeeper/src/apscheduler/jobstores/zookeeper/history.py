"""Runs found and pruned."""

import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial

from apscheduler.jobstores.history import decode_run, find_surplus
from apscheduler.jobstores.zookeeper.connecting import Write
from apscheduler.jobstores.zookeeper.ledgers import (
    Archive,
    Document,
    Ledger,
    dump_archive,
    parse_archive,
)
from apscheduler.jobstores.zookeeper.storage import Storage
from apscheduler.runs import Run, RunFilter, RunState

# So many ledgers are pruned at a time.
PRUNED_LEDGERS = 100
# An empty ledger of a job that is gone is removed after this time: no claim takes so long from reading to writing.
IDLE_SECONDS = 600.0


def get_runs(
    storage: Storage, which: RunFilter, limit: int, offset: int, alias: str | None
) -> list[Run]:
    """Return runs that match, latest scheduled time first."""
    ledgers = storage.refresh_ledgers()
    if which.job_id is not None:
        chosen = [ledgers[which.job_id]] if which.job_id in ledgers else []
    else:
        chosen = list(ledgers.values())
    documents: list[Document] = []
    paths: list[str] = []
    for entry in chosen:
        documents += entry.value.open
        documents += entry.value.ended
        paths += [
            storage.archive_path(entry.name, archive.number)
            for archive in entry.value.archives
            if _may_match(archive, which)
        ]
    for found in storage.connection.get_all(paths):
        documents += [] if found is None else parse_archive(found[0])
    matching = [each for each in documents if _matches(each, which)]
    matching.sort(key=lambda each: (each["scheduled_time"], each["id"]), reverse=True)
    return [decode_run(each, alias) for each in matching[offset : offset + limit]]


def _may_match(archive: Archive, which: RunFilter) -> bool:
    if which.states is not None and not any(s.is_final for s in which.states):
        return False
    if which.since is not None and archive.last < which.since.timestamp():
        return False
    return which.until is None or archive.first < which.until.timestamp()


def _matches(document: Document, which: RunFilter) -> bool:
    if which.states is not None and RunState(document["state"]) not in which.states:
        return False
    wanted = {"id": which.run_id, "node": which.node, "attempt": which.attempt}
    for name, value in wanted.items():
        if value is not None and document.get(name) != value:
            return False
    scheduled: float = document["scheduled_time"]
    if which.since is not None and scheduled < which.since.timestamp():
        return False
    return which.until is None or scheduled < which.until.timestamp()


def prune_runs(
    storage: Storage, max_age: timedelta | None, max_per_job: int | None, now: datetime
) -> int:
    """Forget finished runs that are too old or too many, of some jobs at a time; return how many."""
    jobs, ledgers = storage.refresh()
    oldest = float("-inf") if max_age is None else (now - max_age).timestamp()
    surplus, idle = [], []
    idle_since = time.time() - IDLE_SECONDS
    for entry in ledgers.values():
        if _has_surplus(entry.value, oldest, max_per_job):
            surplus.append(entry.name)
        elif (
            entry.value.is_empty
            and entry.name not in jobs
            and entry.modified_at < idle_since
        ):
            path = storage.ledgers.path_of(entry.name)
            idle.append([Write("delete", path, version=entry.version)])
    storage.commit(idle[:PRUNED_LEDGERS])
    storage.log.remove_strays()
    pruned = 0
    for job_id in surplus[:PRUNED_LEDGERS]:
        pruning = _Pruning(storage, job_id, max_age, max_per_job, now)
        storage.change_ledgers({job_id: pruning.prune}, pruning.writes)
        pruned += pruning.count
    return pruned


def _limit(ledger: Ledger, max_per_job: int | None) -> int | None:
    return max_per_job if ledger.history is None else ledger.history


def _has_surplus(ledger: Ledger, oldest: float, max_per_job: int | None) -> bool:
    limit = _limit(ledger, max_per_job)
    count = len(ledger.ended) + sum(each.count for each in ledger.archives)
    if limit is not None and count > limit:
        return True
    return any(each["finished_at"] < oldest for each in ledger.ended) or any(
        each.oldest < oldest for each in ledger.archives
    )


class _Pruning:
    """What is forgotten of one job."""

    def __init__(
        self,
        storage: Storage,
        job_id: str,
        max_age: timedelta | None,
        max_per_job: int | None,
        now: datetime,
    ):
        self.count = 0
        self._storage = storage
        self._job_id = job_id
        self._max_per_job = max_per_job
        self._find = partial(find_surplus, max_age=max_age, now=now)
        self._writes: list[Write] = []

    def prune(self, ledger: Ledger) -> bool:
        """Change a ledger as it was read, and return whether there was something to forget."""
        archived = {
            archive.number: found for archive, found in self._read(ledger.archives)
        }
        documents = [*ledger.ended, *(e for each in archived.values() for e in each)]
        documents.sort(key=lambda each: each["finished_at"], reverse=True)
        ended = [(each["id"], each["finished_at"]) for each in documents]
        limit = _limit(ledger, self._max_per_job)
        surplus = set(self._find(ended, max_count=limit))
        self.count, self._writes = len(surplus), []
        ledger.ended = _without(ledger.ended, surplus)
        ledger.archives = [
            self._rewrite(archive, archived[archive.number], surplus)
            for archive in ledger.archives
        ]
        ledger.archives = [each for each in ledger.archives if each.count]
        return bool(surplus)

    def writes(self, job_id: str) -> Iterable[Write]:
        """Return what happens to the archives."""
        return self._writes

    def _read(
        self, archives: list[Archive]
    ) -> Iterator[tuple[Archive, list[Document]]]:
        paths = [self._path_of(archive) for archive in archives]
        found = self._storage.connection.get_all(paths)
        for archive, each in zip(archives, found, strict=True):
            yield archive, [] if each is None else parse_archive(each[0])

    def _rewrite(
        self, archive: Archive, documents: list[Document], surplus: set[str]
    ) -> Archive:
        kept = _without(documents, surplus)
        path = self._path_of(archive)
        if not kept:
            if documents:
                self._writes.append(Write("delete", path))
            return Archive(archive.number, 0, 0.0, 0.0, 0.0)
        if len(kept) == len(documents):
            return archive
        self._writes.append(Write("set_data", path, dump_archive(kept)))
        return Archive.of(archive.number, kept)

    def _path_of(self, archive: Archive) -> str:
        return self._storage.archive_path(self._job_id, archive.number)


def _without(documents: list[Document], surplus: set[str]) -> list[Document]:
    return [each for each in documents if each["id"] not in surplus]
