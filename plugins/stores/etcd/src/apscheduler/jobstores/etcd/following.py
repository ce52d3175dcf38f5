"""A copy of what is on the server, and how it is kept up to date."""

import os
import threading
from collections.abc import Callable, Sequence
from itertools import count
from logging import Logger

from etcd3gw.exceptions import Etcd3Exception

from apscheduler.jobstores.etcd.documents import read_time
from apscheduler.jobstores.etcd.gateway import (
    Answer,
    Gateway,
    Part,
    decode,
    either,
    end_of,
    key_values,
    read,
    to_key_value,
)
from apscheduler.jobstores.etcd.mirror import Change, Keys, Mirror
from apscheduler.jobstores.etcd.watching import Watcher
from apscheduler.serializers import Serializer

# What the watch does not tell within this time is read.
WAIT_SECONDS = 1.0
# A snapshot may be forgotten by the server while it is read; so often in a row is no coincidence.
MAX_LOADS = 5

JOBS, LIVE = 0, 1


class Follower:
    """A copy of what claims have to know.

    Whoever writes also writes a tick, so that it can be told how far a copy has to be to have everything that was
    written before.
    """

    def __init__(
        self, gateway: Gateway, path: str, serializer: Serializer, logger: Logger
    ):
        self.gateway = gateway
        self.keys = Keys(path)
        self.serializer = serializer
        self.logger = logger
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self.mirror = Mirror(self.keys, lambda data: read_time(data, self.serializer))
        self._writer = os.urandom(6).hex()
        self._numbers = count(1)
        self._callbacks: list[Callable[[], None]] = []
        self._watcher: Watcher | None = None
        # Up to which revision changes have been told by the watch, and how far the copy is.
        self._told = [0, 0]
        self._complete = [0, 0]
        self._loaded_at = 0
        # What was written here, and was not told yet.
        self._own: set[int] = set()
        self._caught_up = threading.Condition(self.mirror.lock)
        self._start_lock = threading.Lock()

    def new_name(self) -> str:
        """Return a name that nobody else hands out."""
        return f"{self._writer}-{next(self._numbers):x}"

    # The copy.

    @property
    def is_watching(self) -> bool:
        """Whether the copy is kept up to date; it is not in a process that was forked."""
        if self._pid != os.getpid():
            self._forget()
        return self._watcher is not None

    def watch(self) -> None:
        """Begin to keep the copy up to date."""
        if self.is_watching:
            return
        with self._start_lock:
            if self._watcher is not None:
                return
            self.load()
            self._told = list(self._complete)
            self._watcher = Watcher(
                self.gateway.client,
                (self.keys.jobs, self.keys.live),
                lambda: (self._told[JOBS] + 1, self._told[LIVE] + 1),
                self._hear,
                self._reload,
                self.logger,
            )

    def stop(self) -> None:
        """End the watch, and forget the copy."""
        if self.is_watching:
            assert self._watcher is not None
            self._watcher.stop()
        self._forget()

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have a function called when others change what is due; return one that ends that."""
        self._callbacks.append(callback)
        try:
            self.watch()
        except Etcd3Exception as exc:  # tried again with the next claim
            self.logger.debug("No connection to hear of changes: %s", exc)

        def unsubscribe() -> None:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

        return unsubscribe

    def sync(self, with_leases: bool = False) -> None:
        """Have the copy contain everything that was written before.

        :param with_leases: also leases that were written here, of which only the server knows whether they are kept
        """
        if not self.is_watching:
            self.watch()
            return
        known = max(self._complete)
        answer = self.gateway.transact(either((), self._read_ticks()))
        if answer.revision < known:  # another server, or an old backup of it
            self._start_anew()
            return
        ticks = self._ticks_in(answer)
        watcher = self._watcher

        def is_complete() -> bool:
            progress = self._told if with_leases else self._complete
            pairs = zip(progress, ticks, strict=True)
            return all(max(have, self._loaded_at) >= tick for have, tick in pairs)

        with self._caught_up:
            if is_complete() or watcher is None:
                return
            watcher.hurry()
            if self._caught_up.wait_for(is_complete, WAIT_SECONDS):
                return
        self.load()

    def load(self) -> None:
        """Read everything."""
        keys, gateway = self.keys, self.gateway
        for tries_left in reversed(range(MAX_LOADS)):
            revision = gateway.transact(either((), [read(keys.tick)])).revision
            try:
                found = [
                    each
                    for prefix in (keys.jobs, keys.live)
                    for each in gateway.read_prefix(prefix, revision)
                ]
                break
            except Etcd3Exception as exc:
                if not tries_left or "compacted" not in str(exc):
                    raise
        with self._caught_up:
            self.mirror.replace(found, revision)
            self._complete = [max(each, revision) for each in self._complete]
            self._loaded_at = max(self._loaded_at, revision)
            self._caught_up.notify_all()

    def _start_anew(self) -> None:
        self.logger.warning(
            "The server has gone back to an earlier state; everything is read anew"
        )
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.stop()
        with self._caught_up:
            self.mirror.clear()
            self._told, self._complete, self._loaded_at = [0, 0], [0, 0], 0
            self._own.clear()
        self.watch()

    def _reload(self) -> None:
        self.load()
        with self._caught_up:
            self._told = list(self._complete)
        self._call()

    def _hear(self, which: int, events: list[Part]) -> None:
        """Take note of changes that the watch tells."""
        is_news = False
        with self._caught_up:
            for event in events:
                raw = event["kv"]
                revision = int(raw["mod_revision"])
                if revision <= self._loaded_at:
                    continue
                if which == JOBS and revision in self._own and "value" in raw:
                    continue
                if event.get("type") == "DELETE":
                    key = decode(raw["key"]).decode(errors="surrogateescape")
                    self.mirror.apply(Change(key, None), revision)
                    self.mirror.forget_deleted(key, revision)
                    continue
                key, value, _ = to_key_value(raw)
                if key == self.keys.tick:
                    kind, _, writer = value.decode().partition(" ")
                    is_news |= kind == "change" and writer != self._writer
                elif not key.startswith(self.keys.job_ticks):
                    is_news |= self.mirror.apply(Change(key, value), revision)
            if which == LIVE:  # whatever is written comes here in the end
                self._own = {each for each in self._own if each > revision}
            self._told[which] = max(self._told[which], revision)
            self._complete[which] = max(self._complete[which], revision)
            self._caught_up.notify_all()
        if is_news:
            self._call()

    def _call(self) -> None:
        for callback in list(self._callbacks):
            try:
                callback()
            except Exception:
                self.logger.exception("Error telling the scheduler of a change")

    # How far it is.

    def _read_ticks(self) -> list[Part]:
        keys = self.keys
        latest = {"sort_target": "MOD", "sort_order": "DESCEND", "limit": 1}
        return [
            read(keys.job_ticks, end_of(keys.job_ticks), keys_only=True, **latest),
            read(keys.tick, keys_only=True),
        ]

    def _ticks_in(self, answer: Answer) -> tuple[int, int]:
        """Return when jobs, and anything, had been written last before a transaction."""
        jobs, live = (
            max((each.revision for each in key_values(part)), default=0)
            for part in answer.parts[:2]
        )
        return jobs, live

    def _has_jobs(self, changes: Sequence[Change]) -> bool:
        return any(change.key.startswith(self.keys.jobs) for change in changes)

    def _wrote(self, answer: Answer, changes: Sequence[Change]) -> None:
        """Take note of what was written here, which the watch tells later."""
        before = self._ticks_in(answer)
        with self._caught_up:
            for change in changes:
                self.mirror.apply(change, answer.revision)
            self._own.add(answer.revision)
            for which in (JOBS, LIVE) if self._has_jobs(changes) else (LIVE,):
                # Nothing was written in between.
                if before[which] <= self._complete[which]:
                    self._complete[which] = max(self._complete[which], answer.revision)
