"""Runs that are going on or wait, and the leases of those who own them."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from apscheduler.job import Job
from apscheduler.jobstores.contract import Claim
from apscheduler.jobstores.etcd.documents import (
    ATTEMPT,
    CLAIM_ID,
    ID,
    Document,
    Row,
    copy_in,
    ended_row,
    extra_in,
    finish,
    lease_text,
    options_in,
    pack,
    ready_document,
    ready_runs,
    running_run,
    to_lease,
    unpack,
)
from apscheduler.jobstores.etcd.ended import Ended
from apscheduler.jobstores.etcd.gateway import (
    Part,
    either,
    end_of,
    is_at,
    is_less,
    key_values,
    nested,
    put,
    read,
)
from apscheduler.jobstores.etcd.mirror import Change, Entry, OpenEntry
from apscheduler.jobstores.etcd.storage import GROUP_BYTES, GROUP_SIZE, Storage
from apscheduler.jobstores.history import end_or_retry, options_of
from apscheduler.jobstores.ledger import matches
from apscheduler.nodes import LEASE_SECONDS, Lease, Node
from apscheduler.runs import Completion, Run, RunFilter, RunState

# A change is tried anew when somebody else was faster; so often in a row is no coincidence.
MAX_TRIES = 50
# After so many tries the copy is read anew, in case that it is wrong.
TRUSTED_TRIES = 3


class _Edit(NamedTuple):
    """What becomes of runs that are going on.

    :ivar kept: those that go on
    :ivar ended: those that are over
    :ivar ready: what writes those that wait from now on
    """

    kept: list[Row]
    ended: list[Document]
    ready: list[Change]

    def to_changes(self, key: str) -> list[Change]:
        """Return what writes those that go on, and those that wait."""
        return [Change(key, pack(self.kept) if self.kept else None), *self.ready]


_Edited = tuple[str, OpenEntry, _Edit]


class Runs:
    """What is done to runs."""

    def __init__(self, storage: Storage, ended: Ended):
        self._storage = storage
        self._ended = ended
        # Those who change the same key in one process would only be in each other's way.
        self._lock = threading.Lock()

    def reset(self) -> None:
        """Forget who was at work in the process from which this one was forked."""
        self._lock = threading.Lock()

    def complete(self, completions: Sequence[Completion]) -> None:
        """Record outcomes, of runs that are still owned by those who report them."""
        outcomes: dict[str, Completion] = {}
        for completion in completions:
            outcomes.setdefault(completion.run_id, completion)

        def edit(entry: OpenEntry) -> _Edit | None:
            kept, ended = [], []
            for row in entry.rows:
                outcome = outcomes.get(row[ID])
                owner = (entry.node, row[ATTEMPT])
                if outcome is None or (outcome.node, outcome.attempt) != owner:
                    kept.append(row)
                elif outcome.keep:
                    run = finish(running_run(row, entry.node, None), outcome)
                    ended.append(ended_row(run, extra_in(row).get("history")))
            return None if len(kept) == len(entry.rows) else _Edit(kept, ended, [])

        if outcomes:
            self._change(outcomes, edit)

    def hand_back(self, claims: Sequence[tuple[Claim, bytes]]) -> None:
        """Make running runs ready, unless somebody has taken them over; each claim with a copy of its job."""
        given = {
            run_id: (claim, copy)
            for claim, copy in claims
            for run_id in claim.run_times.run_ids
        }

        def edit(entry: OpenEntry) -> _Edit | None:
            kept: list[Row] = []
            waiting: dict[str, list[Row]] = {}
            for row in entry.rows:
                times = given[row[ID]][0].run_times if row[ID] in given else None
                if times and (times.claim_id, times.attempt) == (
                    *(row[CLAIM_ID], row[ATTEMPT]),
                ):
                    waiting.setdefault(row[CLAIM_ID], []).append(row)
                else:
                    kept.append(row)
            if not waiting:
                return None
            ready = []
            for rows in waiting.values():
                claim, copy = given[rows[0][ID]]
                runs = [running_run(row, entry.node, None) for row in rows]
                for run in runs:
                    run.state, run.available_at = RunState.READY, claim.run_times[0]
                ready.append(self._ready(runs, copy, options_in(rows[0])))
            return _Edit(kept, [], ready)

        if given:
            self._change(given, edit)

    def add_ready(self, job: Job, run: Run, copy: bytes) -> None:
        """Keep a run that waits."""
        self._storage.commit((), [self._ready([run], copy, options_of(job))])

    def _ready(self, runs: Sequence[Run], copy: bytes, options: Document) -> Change:
        name = f"{self._storage.keys.ready}{self._storage.new_name()}"
        return Change(name, ready_document(runs, copy, options))

    def _change(
        self, run_ids: Iterable[str], edit: Callable[[OpenEntry], _Edit | None]
    ) -> None:
        """Change what these runs are in, again where somebody else was faster.

        :param edit: returns None if there is nothing to do
        """
        storage = self._storage
        is_fresh = not storage.is_watching
        if is_fresh:
            storage.watch()
        ids = list(run_ids)
        with self._lock:
            for number in range(MAX_TRIES):
                entries, is_complete = self._find(ids)
                if (is_complete or is_fresh) and self._write(entries, edit):
                    return
                storage.load() if number >= TRUSTED_TRIES else storage.sync()
                is_fresh = True
        raise RuntimeError(
            f"The runs {ids!r} could not be changed: others were faster {MAX_TRIES} times in a row"
        )

    def _find(self, run_ids: Sequence[str]) -> tuple[dict[str, OpenEntry], bool]:
        """Return what these runs are in, and whether all were found."""
        mirror = self._storage.mirror
        with mirror.lock:
            places = [mirror.places.get(run_id) for run_id in run_ids]
            keys = dict.fromkeys(key for key in places if key is not None)
            return {key: mirror.open[key] for key in keys}, None not in places

    def _write(
        self,
        entries: Mapping[str, OpenEntry],
        edit: Callable[[OpenEntry], _Edit | None],
    ) -> bool:
        """Write what has changed; return False if somebody else was faster."""
        edits = [
            (key, entry, edited)
            for key, entry in entries.items()
            if (edited := edit(entry)) is not None
        ]
        for group in _grouped(edits):
            compare = [is_at(key, entry.revision) for key, entry, _ in group]
            changes = [
                change for key, _, edited in group for change in edited.to_changes(key)
            ]
            ended = [row for _, _, edited in group for row in edited.ended]
            changes += self._ended.to_changes(ended)
            is_news = any(edited.ready for _, _, edited in group)
            if not self._storage.commit(compare, changes, is_news=is_news).succeeded:
                return False
        return True

    def get_runs(
        self, which: RunFilter, limit: int, offset: int, alias: str | None
    ) -> list[Run]:
        """Return runs that match, latest scheduled time first, of equal times the latest record first."""
        wanted = offset + limit
        # In this order: a run that ends meanwhile is found twice, not missed.
        found = {run.id: run for run in self._open_runs(alias) if matches(run, which)}
        if which.states is None or any(state.is_final for state in which.states):
            for run in self._ended.find(which, wanted, alias):
                found[run.id] = run
        runs = sorted(
            found.values(), key=lambda run: (run.scheduled_time, run.id), reverse=True
        )
        return runs[offset:wanted]

    def _open_runs(self, alias: str | None) -> Iterator[Run]:
        keys = self._storage.keys
        reads = [read(prefix, end_of(prefix)) for prefix in (keys.open, keys.ready)]
        answer = self._storage.gateway.transact(either((), reads))
        running, waiting = map(key_values, answer.parts)
        for each in running:
            node = keys.node_of(each.key)
            for row in unpack(each.value):
                yield running_run(row, node, alias)
        for each in waiting:
            yield from ready_runs(unpack(each.value), alias)

    # Leases.

    def renew(self, node: Node, expires_at: datetime) -> None:
        """Record that a node is alive."""
        operation = self.lease_operation(node, expires_at)
        self._storage.commit((), (), [operation], is_news=False)

    def lease_operation(self, node: Node, expires_at: datetime) -> Part:
        """Return what writes a lease, unless it is there and ends later."""
        key, lease = (
            f"{self._storage.keys.nodes}{node.id}",
            lease_text(node, expires_at),
        )
        write = [put(key, lease)]
        return nested([is_at(key, 0)], write, [nested([is_less(key, lease)], write)])

    def drop(self, node: Node) -> None:
        """Forget a lease."""
        key = f"{self._storage.keys.nodes}{node.id}"
        self._storage.commit((), [Change(key, None)], is_news=False)

    def read_leases(self) -> list[Lease]:
        """Return all leases."""
        prefix = self._storage.keys.nodes
        reading = either((), [read(prefix, end_of(prefix))])
        (found,) = self._storage.gateway.transact(reading).parts
        return [
            to_lease(each.key.removeprefix(prefix), each.value.decode())
            for each in key_values(found)
        ]

    def take_over(self, me: Node, now: datetime, alias: str | None) -> list[Run]:
        """Make the runs of dead nodes ready or lost, and return them."""
        mirror = self._storage.mirror
        self._storage.sync(with_leases=True)
        with mirror.lock:
            leases = dict(mirror.leases)
            entries = dict(mirror.open)
        for node_id in {entry.node for entry in entries.values()} - {*leases, me.id}:
            self._give_lease(node_id, now)
        taken: list[Run] = []
        for node_id, lease in leases.items():
            if node_id == me.id or not to_lease(node_id, lease.value).is_over(now):
                continue
            taken += self._bury(node_id, lease, entries, now, alias)
        return sorted(taken, key=lambda run: (run.scheduled_time, run.id))

    def _give_lease(self, node_id: str, now: datetime) -> None:
        """Let a node show that it is alive, before it is taken for dead."""
        key = f"{self._storage.keys.nodes}{node_id}"
        expires_at = now + timedelta(seconds=LEASE_SECONDS)
        lease = lease_text(Node(node_id, "", "", 0), expires_at)
        change = Change(key, lease.encode())
        self._storage.commit([is_at(key, 0)], [change], is_news=False)

    def _bury(
        self,
        node_id: str,
        lease: Entry,
        entries: Mapping[str, OpenEntry],
        now: datetime,
        alias: str | None,
    ) -> list[Run]:
        """Take the runs of a node and then its lease, as long as that is not renewed."""
        lease_key = f"{self._storage.keys.nodes}{node_id}"
        is_unrenewed = is_at(lease_key, lease.revision)
        taken: list[Run] = []
        for key, entry in entries.items():
            if entry.node != node_id:
                continue
            runs = [running_run(row, node_id, alias) for row in entry.rows]
            edited = self._take(entry, runs, now)
            changes = [*edited.to_changes(key), *self._ended.to_changes(edited.ended)]
            compare = [is_unrenewed, is_at(key, entry.revision)]
            if self._storage.commit(compare, changes).succeeded:
                taken += runs
        self._storage.commit([is_unrenewed], [Change(lease_key, None)], is_news=False)
        return taken

    def _take(self, entry: OpenEntry, runs: Sequence[Run], now: datetime) -> _Edit:
        """Change runs, and return what becomes of them."""
        ended: list[Document] = []
        waiting: dict[tuple[str, int], list[tuple[Run, Row]]] = {}
        for run, row in zip(runs, entry.rows, strict=True):
            extra = extra_in(row)
            if end_or_retry(run, extra.get("max_attempts"), now):
                claim = (row[CLAIM_ID], row[ATTEMPT])
                waiting.setdefault(claim, []).append((run, row))
            else:
                ended.append(ended_row(run, extra.get("history")))
        ready = [
            self._ready(
                [run for run, _ in each], copy_in(each[0][1]), options_in(each[0][1])
            )
            for each in waiting.values()
        ]
        return _Edit([], ended, ready)


def _grouped(edits: Sequence[_Edited]) -> Iterator[list[_Edited]]:
    """Return edits in groups that a server takes at once."""
    group: list[_Edited] = []
    size = number = 0
    for each in edits:
        ready = each[2].ready
        errors = sum(len(row.get("traceback", "")) for row in each[2].ended)
        each_size = 1000 + errors + sum(len(change.value or b"") for change in ready)
        if group and (
            number + 1 + len(ready) > GROUP_SIZE or size + each_size > GROUP_BYTES
        ):
            yield group
            group, size, number = [], 0, 0
        group.append(each)
        size, number = size + each_size, number + 1 + len(ready)
    if group:
        yield group
