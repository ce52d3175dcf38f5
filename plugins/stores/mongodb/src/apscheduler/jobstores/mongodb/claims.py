"""One claim: a page of due jobs, one bulk of updates, and which of these have succeeded.

A claim of one job is one update of its document: it is moved to its next run time, or ceases to be a job, and the runs
are in it as running. A crash before it leaves the job as it was; after it, the runs belong to a scheduler that is dead,
whose lease was written before. What is missed, coalesced or skipped is added by the same update, and moved to the
finished runs afterwards, by whoever comes first.

A bulk says how many of its updates have found their documents. If that is some of them, the documents are read once
more: a claim has succeeded if its runs are there, or the revision is the one it has written. If the answer is lost, the
same bulk is sent again: it repeats nothing, because what was carried out has changed the revision, and after it
nothing of the first can be carried out any more.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pymongo.errors import PyMongoError

from apscheduler.jobstores import claiming
from apscheduler.jobstores.claiming import DueJob, ReadyRuns, Step, group_ready
from apscheduler.jobstores.contract import ClaimRequest
from apscheduler.jobstores.history import encode_run, encode_started, options_of
from apscheduler.jobstores.mongodb.database import Database, new_revision
from apscheduler.jobstores.mongodb.documents import (
    JOB_STATE,
    NEXT_RUN_TIME,
    READY,
    READY_AT,
    REVISION,
    RUNNING,
    RUNS,
    Document,
    count_claims,
    is_job,
    runs_of,
    to_run,
    update,
    with_runs,
    without_job,
)
from apscheduler.jobstores.mongodb.nodes import NodeDocuments
from apscheduler.jobstores.mongodb.runs import RunDocuments
from apscheduler.jobstores.restore import Restorer

FIELDS = {NEXT_RUN_TIME: 1, JOB_STATE: 1, REVISION: 1, RUNS: 1, READY_AT: 1}
WRITTEN_FIELDS = {
    REVISION: 1,
    **{f"{RUNS}.{name}": 1 for name in ("id", "state", "node")},
}


class ClaimPass(claiming.ClaimPass):
    """Carries out one claim request.

    :param first_due: the earliest run time, None if there is none
    :param first_ready: when the first ready run is available, None if there is none
    """

    def __init__(
        self,
        database: Database,
        runs: RunDocuments,
        nodes: NodeDocuments,
        restorer: Restorer,
        alias: str | None,
        request: ClaimRequest,
        first_due: float | None,
        first_ready: float | None,
    ):
        super().__init__(restorer, alias, request)
        self._database = database
        self._runs = runs
        self._nodes = nodes
        self._node = request.identity.node.id
        self._has_due = first_due is not None and first_due <= self.timestamp
        self._has_ready = first_ready is not None and first_ready <= self.timestamp
        self._last_ready: Document | None = None

    def read_due(self, after: DueJob | None, size: int) -> Sequence[DueJob]:
        if not self._has_due:
            return []
        place = None if after is None else (after.timestamp, after.id)
        return [
            DueJob(
                document["_id"],
                document[NEXT_RUN_TIME],
                document[JOB_STATE],
                count_claims(document),
                document,
            )
            for document in self._read(NEXT_RUN_TIME, place, size)
        ]

    def read_ready(self, after: ReadyRuns | None, size: int) -> Sequence[ReadyRuns]:
        if not self._has_ready:
            return []
        last = self._last_ready
        place = None if last is None else (last[READY_AT], last["_id"])
        rows: list[Any] = []
        for document in self._read(READY_AT, place, size):
            self._last_ready = document
            open_claims = count_claims(document)
            rows += [
                (to_run(run, self.alias), run[JOB_STATE], open_claims, document)
                for run in runs_of(document)
                if run["state"] == READY and run["available_at"] <= self.timestamp
            ]
        return sorted(group_ready(rows), key=lambda ready: ready.timestamp)

    def _read(
        self,
        field: str,
        after: tuple[float, str] | None,
        size: int,
    ) -> list[Document]:
        """Return documents by a time that has come, those of one time by identifier."""
        query: Document = {field: {"$lte": self.timestamp}}
        if after is not None:
            time, job_id = after
            following = {field: time, "_id": {"$gt": job_id}}
            query["$or"] = [{field: {"$gt": time}}, following]
        found = self._database.jobs.find(query, FIELDS)
        return list(found.sort([(field, 1), ("_id", 1)]).limit(size).batch_size(size))

    def write(self, steps: Sequence[Step]) -> Sequence[bool]:
        request = self.request
        if request.lease_until is not None and any(s.claim.run_times for s in steps):
            self._nodes.renew(request.identity.node, request.lease_until)
        revision = new_revision()
        claims: dict[str, _JobClaim] = {}
        refused = set()
        for number, step in enumerate(steps):
            document = _document(step)
            claim = claims.get(document["_id"])
            if claim is None:
                claim = _JobClaim(document, self._node, revision)
                claims[document["_id"]] = claim
            elif claim.before.get(REVISION) != document.get(REVISION):
                # Ready runs and due jobs are read one after the other.
                refused.add(number)
                continue
            claim.take(step)
        written = self._update(claims, revision)
        self._runs.remember(claims[job_id].after for job_id in written)
        self._settle([job_id for job_id in written if claims[job_id].leaves_something])
        return [
            number not in refused and _document(step)["_id"] in written
            for number, step in enumerate(steps)
        ]

    def _update(self, claims: "Mapping[str, _JobClaim]", revision: str) -> set[str]:
        """Update the documents, and return of which jobs that has succeeded."""
        updates = [update(claim.before, claim.after) for claim in claims.values()]
        found = self._database.write(updates)
        if found == len(updates):
            return set(claims)
        if found == 0:
            return set()
        # A revision may be there no more: somebody has changed the job since. Runs end only when this node says so.
        ids = {"_id": {"$in": [*claims]}}
        return {
            document["_id"]
            for document in self._database.jobs.find(ids, WRITTEN_FIELDS)
            if document.get(REVISION) == revision
            or claims[document["_id"]].is_in(document)
        }

    def _settle(self, job_ids: Sequence[str]) -> None:
        if not job_ids:
            return
        try:
            self._runs.settle(job_ids)
        except PyMongoError as exc:  # the claim stands, and this is done later
            self.restorer.logger.debug("Finished runs are still to be moved: %s", exc)

    def find_next(self) -> float | None:
        if self.batch.more:
            return None
        try:
            return self._database.first_time(self.timestamp)
        except PyMongoError as exc:
            if not self.batch.claims:
                raise
            self.restorer.logger.debug("What comes next is still to be found: %s", exc)
            return None  # what was claimed is not given up for that


class _JobClaim:
    """What a pass writes about one job: its next fire, ready runs, or both.

    :ivar before: the document as it was read
    :ivar after: what it is to become
    :ivar leaves_something: there will be something to move or to delete afterwards
    """

    def __init__(self, document: Document, node: str, revision: str):
        self.before = self.after = document
        self.leaves_something = False
        self._node = node
        self._revision = revision
        self._started: set[str] = set()

    def take(self, step: Step) -> None:
        """Add a step."""
        self._started.update(step.claim.run_times.run_ids)
        if isinstance(step.record, ReadyRuns):
            self._restart(step.record)
        else:
            self._move(step)

    def _restart(self, ready: ReadyRuns) -> None:
        """Make ready runs running ones."""
        chosen = {run.id: run for run in ready.runs}
        runs = []
        for run in runs_of(self.after):
            if run["id"] in chosen:
                run = {**run, "state": RUNNING, "node": self._node}
                run["claim_id"] = chosen[run["id"]].claim_id
                del run["available_at"]
                if "max_attempts" not in run:
                    del run[JOB_STATE]
            runs.append(run)
        self.after = with_runs(self.after, runs, self._revision)

    def _move(self, step: Step) -> None:
        """Begin the runs of a fire, and move the job to the next one, if there is one."""
        options = options_of(step.claim.job)
        started = [{**run, **options} for run in encode_started(step.claim, self._node)]
        ended = [{**encode_run(run), **options} for run in step.idle]
        runs = [*runs_of(self.after), *started, *ended]
        after = with_runs(self.after, runs, self._revision)
        if step.timestamp is None:
            after = without_job(after)
        else:
            after[NEXT_RUN_TIME] = step.timestamp
        self.after = after
        self.leaves_something = bool(ended) or not (runs or is_job(after))

    def is_in(self, document: Document) -> bool:
        """Return whether what was to be started has been."""
        return any(
            run["id"] in self._started
            and run["state"] == RUNNING
            and run["node"] == self._node
            for run in runs_of(document)
        )


def _document(step: Step) -> Document:
    """Return the document that a step is about, as it was read."""
    record = step.record
    found: Document = record.token[0] if isinstance(record, ReadyRuns) else record.token
    return found
