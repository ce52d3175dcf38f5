"""One claim: what is due and ready is planned from a copy, and moved on where nobody has changed it meanwhile."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from apscheduler.job import Job
from apscheduler.jobstores.claiming import (
    ClaimPass,
    DueJob,
    ReadyRuns,
    Step,
    group_ready,
)
from apscheduler.jobstores.contract import ClaimBatch, ClaimRequest
from apscheduler.jobstores.etcd import storage as storing
from apscheduler.jobstores.etcd.documents import (
    Document,
    Row,
    copy_in,
    ended_row,
    extra_in,
    pack,
    ready_runs,
    started_rows,
)
from apscheduler.jobstores.etcd.ended import Ended
from apscheduler.jobstores.etcd.gateway import Part, is_at
from apscheduler.jobstores.etcd.mirror import Change
from apscheduler.jobstores.etcd.runs import Runs
from apscheduler.jobstores.etcd.storage import (
    GROUP_BYTES,
    GROUP_SIZE,
    SENDERS,
    Storage,
    operation,
)
from apscheduler.jobstores.restore import Restorer

# Runs that wait and are to start together may be under several keys, of which so many are taken at a time.
MAX_PARTS = 20


class _Write:
    """What is to be written about one job.

    :ivar keys: what has to be as it was read: key → when it was written
    """

    def __init__(self, step: Step):
        self.step = step
        self.keys: dict[str, int] = {}
        self.changes: list[Change] = []
        self.rows: list[Row] = []
        self.ended: list[Document] = []

    @property
    def size(self) -> int:
        """How many bytes it takes, more or less."""
        changed = sum(len(change.value or b"") for change in self.changes)
        copied = sum(len(extra_in(row).get("job", "")) for row in self.rows)
        return 400 + changed + copied + 300 * len(self.rows)


class _Group:
    """What a server takes at once."""

    def __init__(self) -> None:
        self.writes: list[_Write] = []
        self._keys = self._bytes = 0

    def has_room(self, write: _Write) -> bool:
        """Return whether there is room for one more; there is always for one."""
        return not self.writes or (
            self._keys + len(write.keys) <= GROUP_SIZE
            and self._bytes + write.size <= GROUP_BYTES
        )

    def add(self, write: _Write) -> None:
        """Add what there is room for."""
        self.writes.append(write)
        self._keys, self._bytes = self._keys + len(write.keys), self._bytes + write.size


class EtcdClaimPass(ClaimPass):
    """Carries out one claim request.

    :param dump: makes the bytes of a job
    """

    def __init__(
        self,
        storage: Storage,
        runs: Runs,
        ended: Ended,
        restorer: Restorer,
        alias: str | None,
        request: ClaimRequest,
        dump: Callable[[Job], bytes],
    ):
        super().__init__(restorer, alias, request)
        self._storage = storage
        self._mirror = storage.mirror
        self._runs = runs
        self._ended = ended
        self._dump = dump
        self._ready: list[ReadyRuns] | None = None
        # When this pass itself has written keys.
        self._written: dict[str, int] = {}
        # What is to be sent next, and what is on its way.
        self._group = _Group()
        self._sent: list[Future[dict[int, bool]]] = []
        self._senders: ThreadPoolExecutor | None = None

    # Reading.

    def read_due(self, after: DueJob | None, size: int) -> Sequence[DueJob]:
        place = None if after is None else (after.timestamp, after.id)
        mirror = self._mirror
        with mirror.lock:
            return [
                DueJob(
                    *(job_id, entry.timestamp or 0.0, entry.data),
                    *(mirror.count_claims(job_id), entry.revision),
                )
                for job_id, entry in mirror.page_due(self.timestamp, place, size)
            ]

    def read_ready(self, after: ReadyRuns | None, size: int) -> Sequence[ReadyRuns]:
        if self._ready is None:
            self._ready = self._find_ready()
        start = 0 if after is None else self._ready.index(after) + 1
        return self._ready[start : start + size]

    def _find_ready(self) -> list[ReadyRuns]:
        mirror, keys = self._mirror, self._storage.keys
        rows = []
        with mirror.lock:
            started_at = mirror.revision_of(keys.started)
            by_age = sorted(mirror.ready.items(), key=lambda item: item[1].revision)
            for key, entry in by_age:
                for run in ready_runs(entry.value, self.alias):
                    if (run.available_at or run.scheduled_time) <= self.request.now:
                        # Neither may others start the job meanwhile, be it that it is due or waits.
                        job_key = f"{keys.jobs}{run.job_id}"
                        token = {
                            job_key: mirror.revision_of(job_key),
                            keys.started: started_at,
                            key: entry.revision,
                        }
                        open_claims = mirror.count_claims(run.job_id)
                        rows.append((run, copy_in(entry.value), open_claims, token))
        groups = group_ready(rows)
        for group in groups:
            pairs = list(zip(group.runs, group.token, strict=True))
            group.token = {}
            for _, token in pairs:
                if len(group.token) < MAX_PARTS:
                    group.token |= token
            group.runs = [
                run for run, token in pairs if token.keys() <= group.token.keys()
            ]
        return sorted(groups, key=lambda group: group.timestamp)

    def find_next(self) -> float | None:
        mirror = self._mirror
        with mirror.lock:
            times = [
                (run.available_at or run.scheduled_time).timestamp()
                for entry in mirror.ready.values()
                for run in ready_runs(entry.value, None)
            ]
            job_time = mirror.next_time(self.timestamp)
        later = [time for time in times if time > self.timestamp]
        return min(later if job_time is None else [*later, job_time], default=None)

    # Writing.

    def carry_out(self) -> ClaimBatch:
        try:
            return super().carry_out()
        finally:
            if self._senders is not None:
                self._senders.shutdown()

    def _take_due(self, due: DueJob) -> None:
        before = len(self._steps)
        super()._take_due(due)
        for step in self._steps[before:]:
            self._line_up(step, due)

    def _line_up(self, step: Step, due: DueJob) -> None:
        """Send what is full while others are planned."""
        try:
            write = self._prepare_due(step, due)
        except Exception as exc:  # its arguments can be read, but not written any more
            self.restorer.set_aside(due.id, due.data, exc)
            return
        if not self._group.has_room(write):
            if self._senders is None:
                self._senders = ThreadPoolExecutor(SENDERS, "APScheduler etcd")
            sent = self._senders.submit(self._write_together, self._group.writes)
            self._sent.append(sent)
            self._group = _Group()
        self._group.add(write)

    def write(self, steps: Sequence[Step]) -> Sequence[bool]:
        results = self._write_together(self._group.writes)
        for sent in self._sent:
            results.update(sent.result())
        # Ready runs are few, and each compares what those before it have written.
        group = _Group()
        for step in steps:
            if isinstance(step.record, ReadyRuns):
                write = self._prepare_ready(step, step.record)
                if not group.has_room(write):
                    results.update(self._write_together(group.writes))
                    group = _Group()
                group.add(write)
        results.update(self._write_together(group.writes))
        return [results.get(id(step), False) for step in steps]

    def _prepare_due(self, step: Step, due: DueJob) -> _Write:
        job = step.claim.job
        write = _Write(step)
        key = f"{self._storage.keys.jobs}{due.id}"
        write.keys[key] = due.token
        value = None if step.timestamp is None else self._dump(job)
        write.changes.append(Change(key, value, due.data))
        copy = due.data if job.on_lost == "retry" else None
        write.rows = started_rows(step.claim, copy)
        write.ended = [ended_row(run, job.history) for run in step.idle]
        return write

    def _prepare_ready(self, step: Step, ready: ReadyRuns) -> _Write:
        keys = self._storage.keys
        write = _Write(step)
        write.keys = ready.token
        write.changes = [
            Change(key, None) for key in write.keys if key.startswith(keys.ready)
        ]
        write.changes.append(Change(keys.started, b""))
        copy = ready.data if step.claim.job.on_lost == "retry" else None
        write.rows = started_rows(step.claim, copy)
        return write

    def _write_together(self, group: Sequence[_Write]) -> dict[int, bool]:
        """Write, and return of each step, by its identity, whether it was carried out."""
        if not group:
            return {}
        compare = {
            key: self._written.get(key, revision)
            for write in group
            for key, revision in write.keys.items()
        }
        changes = {change.key: change for write in group for change in write.changes}
        ended = [row for write in group for row in write.ended]
        rows = [row for write in group for row in write.rows]
        answer = self._storage.commit(
            [is_at(key, revision) for key, revision in compare.items()],
            [*changes.values(), *self._start(rows), *self._ended.to_changes(ended)],
            self._lease(rows),
            is_news=False,
        )
        if not answer.succeeded:  # somebody else was faster with one of them at least
            return self._write_each(group)
        for key, change in changes.items():
            self._written[key] = 0 if change.value is None else answer.revision
        return {id(write.step): True for write in group}

    def _write_each(self, group: Sequence[_Write]) -> dict[int, bool]:
        """Write each job by itself, and return whether it was still as it had been read."""
        started = self._storage.keys.started
        chosen: dict[str, _Write] = {}
        for write in group:
            chosen.setdefault(write.step.claim.job.id, write)
        steps = [
            storing.Step(
                [
                    is_at(key, self._written.get(key, revision))
                    for key, revision in write.keys.items()
                ],
                [
                    *(change for change in write.changes if change.key != started),
                    *self._start(write.rows),
                    *self._ended.to_changes(write.ended),
                ],
            )
            for write in chosen.values()
        ]
        others = self._lease([row for write in group for row in write.rows])
        if any(started in write.keys for write in group):
            others.append(operation(Change(started, b"")))
        done = self._storage.commit_each(steps, others)
        writes = list(chosen.values())
        self._doubt(
            [write for write, is_done in zip(writes, done, strict=True) if not is_done]
        )
        return dict(zip([id(write.step) for write in writes], done, strict=True))

    def _doubt(self, refused: Sequence[_Write]) -> None:
        """Read everything anew if what was refused looks as it did: then the copy is wrong."""
        if not refused:
            return
        self._storage.sync()
        mirror = self._mirror
        with mirror.lock:
            is_wrong = any(
                all(mirror.revision_of(key) == at for key, at in write.keys.items())
                for write in refused
            )
        if is_wrong:
            self._storage.load()

    def _start(self, rows: list[Row]) -> list[Change]:
        """Return what records that runs are going on."""
        if not rows:
            return []
        node = self.request.identity.node
        name = f"{self._storage.keys.open}{node.id}/{self._storage.new_name()}"
        return [Change(name, pack(rows))]

    def _lease(self, rows: list[Row]) -> list[Part]:
        """Return what records that the owner of runs is alive."""
        if not rows or self.request.lease_until is None:
            return []
        node = self.request.identity.node
        return [self._runs.lease_operation(node, self.request.lease_until)]
