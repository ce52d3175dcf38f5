"""One claim: what is due and ready, as mirrored; each step compares the versions of job and ledger."""

import random
from collections.abc import Sequence

from apscheduler.jobstores.claiming import (
    ClaimPass,
    DueJob,
    ReadyRuns,
    Step,
    group_ready,
)
from apscheduler.jobstores.contract import ClaimRequest
from apscheduler.jobstores.restore import Restorer
from apscheduler.jobstores.zookeeper.connecting import HeadRefused, NoNodeError, Write
from apscheduler.jobstores.zookeeper.keeping import NodeJobStore
from apscheduler.jobstores.zookeeper.ledgers import Ledger, ready_runs
from apscheduler.jobstores.zookeeper.nodes import Leases
from apscheduler.jobstores.zookeeper.storage import (
    CONFLICTS,
    JobNode,
    LedgerEntry,
    Storage,
)


class ZooKeeperClaimPass(ClaimPass):
    """Carries out one claim request."""

    def __init__(
        self,
        store: NodeJobStore,
        storage: Storage,
        restorer: Restorer,
        alias: str | None,
        request: ClaimRequest,
    ):
        super().__init__(restorer, alias, request)
        self._store = store
        self._storage = storage
        self._leases = Leases(storage)
        self._jobs, self._ledgers = self._storage.refresh()
        self._due = sorted(
            (each.value.timestamp, each.name)
            for each in self._jobs.values()
            if each.value.timestamp is not None
            and each.value.timestamp <= self.timestamp
        )
        self._step_aside()
        self._ready = self._find_ready()
        # What this pass has written so far: job → its run time.
        self._moved: dict[str, float | None] = {}

    def _step_aside(self) -> None:
        """Leave the first due jobs to those who were faster before, so that not all want the same ones."""
        limit, losses = self.request.limit, self._storage.losses
        spare = min(len(self._due) - limit, limit * losses)
        if losses and spare > 0:
            del self._due[: random.randint(0, spare)]
            self.batch.more = True

    def _find_ready(self) -> list[ReadyRuns]:
        rows = [
            (run, data, each.value.open_claims, (each, run.id))
            for each in self._ledgers.values()
            if each.value.open
            for run, data in ready_runs(each.value, self.alias)
        ]
        return sorted(group_ready(rows), key=lambda ready: ready.timestamp)

    def read_due(self, after: DueJob | None, size: int) -> Sequence[DueJob]:
        start = 0 if after is None else after.token[1] + 1
        page = []
        for number, (_, job_id) in enumerate(self._due[start : start + size], start):
            entry, ledger = self._jobs[job_id], self._ledgers.get(job_id)
            open_claims = 0 if ledger is None else ledger.value.open_claims
            assert entry.value.timestamp is not None
            page.append(
                DueJob(
                    *(job_id, entry.value.timestamp, entry.value.base),
                    *(open_claims, (entry, number)),
                )
            )
        return page

    def read_ready(self, after: ReadyRuns | None, size: int) -> Sequence[ReadyRuns]:
        if after is not None:  # the first page was all
            return []
        return [each for each in self._ready if each.timestamp <= self.timestamp]

    def find_next(self) -> float | None:
        times = [
            self._moved.get(each.name, each.value.timestamp)
            for each in self._jobs.values()
        ]
        times += [each.timestamp for each in self._ready]
        return min(
            (time for time in times if time is not None and time > self.timestamp),
            default=None,
        )

    def write(self, steps: Sequence[Step]) -> Sequence[bool]:
        # Two steps about one job compare the same versions: the later one has its turn in the next claim.
        chosen: dict[str, Step] = {}
        for step in steps:
            chosen.setdefault(step.claim.job.id, step)
        writes = [self._writes_of(step) for step in chosen.values()]
        failures = self._commit(writes, any(s.claim.run_times for s in steps))
        carried_out = set()
        for step, failure in zip(chosen.values(), failures, strict=True):
            if failure is None:
                carried_out.add(id(step))
                if isinstance(step.record, DueJob):
                    self._moved[step.claim.job.id] = step.timestamp
            elif not isinstance(failure, CONFLICTS):
                raise failure
        if any(isinstance(failure, NoNodeError) for failure in failures):
            self._storage.create()  # perhaps somebody has removed what the nodes are below
        self._storage.losses = 0 if carried_out else self._storage.losses + 1
        return [id(step) in carried_out for step in steps]

    def _commit(
        self, writes: Sequence[Sequence[Write]], starts_runs: bool
    ) -> list[Exception | None]:
        commit, request = self._storage.commit, self.request
        if not starts_runs or request.lease_until is None:
            return commit(writes)
        node = request.identity.node
        failures = commit(writes, [self._leases.renewal(node, request.lease_until)])
        refused = [n for n, each in enumerate(failures) if type(each) is HeadRefused]
        if refused:  # somebody has taken this node for dead and ended its lease
            self._leases.forget(node)
            head = [self._leases.renewal(node, request.lease_until)]
            again = commit([writes[number] for number in refused], head)
            for number, failure in zip(refused, again, strict=True):
                failures[number] = failure
        return failures

    def _writes_of(self, step: Step) -> list[Write]:
        job_id = step.claim.job.id
        entry = self._ledgers.get(job_id)
        ledger = Ledger() if entry is None else entry.value.copy()
        if isinstance(step.record, ReadyRuns):
            ledger.start_ready(step.record.runs)
            return self._write_ledger(job_id, ledger, entry)
        job_entry = step.record.token[0]
        path = self._storage.jobs.path_of(job_id)
        data = self._store._dump(step.claim.job)
        if step.timestamp is None:
            write = Write("delete", path, version=job_entry.version)
        else:
            node = JobNode(step.timestamp, job_entry.value.base)
            self._storage.written[job_id] = (data, node)
            write = Write("set_data", path, data, job_entry.version)
        owner = self.request.identity.node.id
        ledger.start(step.claim, owner, step.idle, data)
        return [write, *self._write_ledger(job_id, ledger, entry)]

    def _write_ledger(
        self, job_id: str, ledger: Ledger, entry: LedgerEntry | None
    ) -> list[Write]:
        version = None if entry is None else entry.version
        return self._storage.write_ledger(job_id, ledger, version)
