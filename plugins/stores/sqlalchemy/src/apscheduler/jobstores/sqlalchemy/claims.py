"""One claim, which keeps what it reads locked from reading to commit: nothing it has planned is out of date."""

from collections.abc import Sequence

from sqlalchemy import Connection

from apscheduler.jobstores.claiming import (
    PAGE_SIZE,
    ClaimPass,
    DueJob,
    ReadyRuns,
    Step,
    group_ready,
)
from apscheduler.jobstores.contract import ClaimRequest
from apscheduler.jobstores.restore import Restorer
from apscheduler.jobstores.sqlalchemy.claim_statements import Rest
from apscheduler.jobstores.sqlalchemy.runs import OpenRuns
from apscheduler.jobstores.sqlalchemy.statements import Values
from apscheduler.jobstores.sqlalchemy.storage import Storage
from apscheduler.jobstores.sqlalchemy.tables import (
    Place,
    running_rows,
    special_rows,
    to_row,
    to_run,
)


class LockingClaim(ClaimPass):
    """Carries out one claim request in the transaction of the caller.

    :param connections: to the jobs and to the runs, usually the same one
    """

    def __init__(
        self,
        storage: Storage,
        connections: tuple[Connection, Connection],
        restorer: Restorer,
        alias: str | None,
        request: ClaimRequest,
    ):
        super().__init__(restorer, alias, request)
        self._storage = storage
        self._statements = storage.claims
        self._jobs, self._runs = connections
        self._node = request.identity.node
        # Whether something was left because others had locked it: they are about to claim or to change it.
        self.met_locks = False
        # Jobs whose open claims have been counted, and how many are written of those that have any.
        self._counted: set[str] = set()
        self._open: dict[str, int] = {}
        # Jobs of which nothing may be started now, and those whose ready runs are locked.
        self._held: set[str] = set()
        self._secured: set[str] = set()
        # How much of what is due was looked at and left.
        self._jobs_left = self._ready_left = 0
        self._ready_place: Place | None = None

    def is_held(self, job_id: str) -> bool:
        return job_id in self._held

    def count_open(self, record: DueJob | ReadyRuns) -> int:
        # Not what was counted when the record was read: it may have been counted again.
        return self._open.get(_job_id(record), 0)

    def read_due(self, after: DueJob | None, size: int) -> Sequence[DueJob]:
        place = None if after is None else (after.timestamp, after.id)
        rows = self._statements.read_due(self._jobs, self.timestamp, place, size)
        self._count([row.id for row in rows])
        self._jobs_left += len(rows)
        # Some drivers give a view of the bytes.
        return [DueJob(job_id, time, bytes(data)) for job_id, time, data in rows]

    def read_ready(self, after: ReadyRuns | None, size: int) -> Sequence[ReadyRuns]:
        runs = self._storage.runs
        found = []
        groups: list[ReadyRuns] = []
        number = size
        while len(groups) < size:
            rows = runs.read_ready(
                self._runs, self.timestamp, self._ready_place, number
            )
            if rows:
                self._secure([row.job_id for row in rows])
                self._ready_place = rows[-1].available_at, rows[-1].id
            self._ready_left += len(rows)
            found += [
                (to_run(row, self.alias), bytes(row.job_state), 0, None) for row in rows
            ]
            groups = group_ready(found)
            if len(rows) < number:
                break
            number = PAGE_SIZE  # many rows may be few groups
        return groups

    def _count(self, job_ids: Sequence[str]) -> None:
        """Count the open claims of due jobs, whose records are locked."""
        unknown = [job_id for job_id in job_ids if job_id not in self._counted]
        if not unknown:
            return
        opened = self._storage.runs.count_open(self._runs, unknown)
        self._note(unknown, opened)
        if opened.ready:
            self._lock_ready([job_id for job_id in unknown if job_id in opened.ready])

    def _note(self, job_ids: Sequence[str], opened: OpenRuns) -> None:
        self._counted.update(job_ids)
        for job_id in job_ids if opened.claims or self._open else ():
            self._open[job_id] = opened.claims.get(job_id, 0)

    def _secure(self, job_ids: Sequence[str]) -> None:
        """Keep others from starting anything of the jobs of ready runs, and count their open claims."""
        unknown = list(dict.fromkeys(i for i in job_ids if i not in self._secured))
        if not unknown:
            return
        if not self._statements.is_shared:
            self._count(unknown)
            return
        locked, existing = self._statements.lock_jobs(self._jobs, unknown)
        self._hold({i for i in unknown if i in existing and i not in locked})
        self._lock_ready(unknown)

    def _lock_ready(self, job_ids: Sequence[str]) -> None:
        """Lock all ready runs of these jobs, and count again.

        Whoever claims anything of a job holds its record, if there is one, and all of its ready runs that can be
        seen. Of two that do so at once, the later finds something locked: be it the record, be it a ready run, also
        where the job was removed or added meanwhile. What the earlier has started can be seen once its locks are gone.
        """
        if not job_ids or not self._statements.is_shared:
            return
        runs = self._storage.runs
        locked = runs.lock_ready(self._runs, job_ids)
        opened = runs.count_open(self._runs, job_ids)
        self._note(job_ids, opened)
        self._hold({i for i in job_ids if opened.ready.get(i, 0) > locked.get(i, 0)})
        self._secured.update(job_ids)

    def _hold(self, job_ids: set[str]) -> None:
        self._held |= job_ids
        self.met_locks |= bool(job_ids)

    def write(self, steps: Sequence[Step]) -> Sequence[bool]:
        moved: list[Values] = []
        finished: list[Values] = []
        restarted: list[Values] = []
        begun: list[Values] = []
        recorded: list[Values] = []
        node = self._node.id
        for step in steps:
            record, job, run_times = step.record, step.claim.job, step.claim.run_times
            if isinstance(record, ReadyRuns):
                restarted += [(node, run.claim_id, run.id) for run in record.runs]
                continue
            if step.timestamp is None:
                finished.append((record.id,))
            else:
                moved.append((step.timestamp, record.id))
            if step.timestamp is None or step.timestamp > self.timestamp:
                self._jobs_left -= 1
            if job.on_lost == "retry" or job.history is not None:
                recorded += special_rows(job, run_times, node, record.data)
            else:
                begun += running_rows(job, run_times, node)
            recorded += [to_row(run, job, None) for run in step.idle]
        self._ready_left -= len(restarted)
        jobs, runs = self._statements, self._storage.runs
        for writer, connection, rows in (
            (jobs.move, self._jobs, moved),
            (jobs.finish, self._jobs, finished),
            (runs.restart, self._runs, restarted),
            (runs.begin, self._runs, begun),
            (runs.insert, self._runs, recorded),
        ):
            if rows:
                writer.execute(connection, rows)
        lease_until = self.request.lease_until
        if lease_until is not None and any(step.claim.run_times for step in steps):
            self._storage.nodes.renew(self._runs, self._node, lease_until)
        return [True] * len(steps)

    def find_next(self) -> float | None:
        rest = self._find_rest()
        # A locked row is neither missing nor done.
        self.met_locks |= rest.jobs > self._jobs_left or rest.ready > self._ready_left
        times = [t for t in (rest.first_job, rest.first_ready) if t is not None]
        return min(times, default=None)

    def _find_rest(self) -> Rest:
        statements = self._statements
        # What was not looked at is known to be there.
        if statements.is_shared and not self.batch.more:
            limits = (self._jobs_left + 1, self._ready_left + 1)
            return statements.find_rest(self._jobs, self.timestamp, *limits)
        return Rest(*statements.find_times(self._jobs, self._runs, self.timestamp))


def _job_id(record: DueJob | ReadyRuns) -> str:
    return record.id if isinstance(record, DueJob) else record.job_id
