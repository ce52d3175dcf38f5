"""One claim: what is due and ready is read, planned, and moved on where nobody has changed it meanwhile."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from apscheduler.jobstores.claiming import (
    ClaimPass,
    DueJob,
    ReadyRuns,
    Step,
    group_ready,
)
from apscheduler.jobstores.contract import ClaimRequest
from apscheduler.jobstores.redis.claim_scripts import LOOK, MORE_DUE, MORE_READY, MOVE
from apscheduler.jobstores.redis.documents import (
    finished_document,
    outcome_of,
    parse,
    running_documents,
)
from apscheduler.jobstores.redis.nodes import lease_document
from apscheduler.jobstores.redis.scripts import Runner, Script, decode, encode
from apscheduler.jobstores.restore import Restorer
from apscheduler.runs import Run, RunState


class RedisClaimPass(ClaimPass):
    """Carries out one claim request: in two round trips, or in one if nothing is due.

    :param report: is told of identifiers that had a run time but no job
    """

    def __init__(
        self,
        runner: Runner,
        restorer: Restorer,
        alias: str | None,
        request: ClaimRequest,
        report: Callable[[Sequence[str]], None],
    ):
        super().__init__(restorer, alias, request)
        self._runner = runner
        self._report = report
        self._now = repr(self.timestamp)
        self._next_times: Sequence[bytes] = (b"", b"")
        self._due = _Rows(MORE_DUE)
        self._ready = _Rows(MORE_READY)

    def look(self) -> bool:
        """Write the completions, and return whether anything is due or ready."""
        given = {
            "completions": [outcome_of(each) for each in self.request.completions],
            "now": self._now,
            "size": self._page_size(),
        }
        due, ready, self._next_times = self._runner.run(LOOK, given)
        self._due.first, self._ready.first = due, ready
        return bool(due[0] or ready[0])

    def read_due(self, after: DueJob | None, size: int) -> Sequence[DueJob]:
        jobs: list[DueJob] = []
        has_more = True
        while has_more and len(jobs) < size:
            answer, has_more = self._read(self._due, size - len(jobs))
            if stray := answer[3]:
                self._report([decode(job_id) for job_id in stray])
            data, start = b"".join(answer[2]), 0
            for job_id, time, open_claims, length in self._due.take(answer[1]):
                state = data[start : start + length]
                start += length
                jobs.append(DueJob(job_id, float(time), state, open_claims, time))
        return jobs

    def read_ready(self, after: ReadyRuns | None, size: int) -> Sequence[ReadyRuns]:
        rows: list[tuple[Run, bytes, int, Any]] = []
        groups: list[ReadyRuns] = []
        has_more = True
        while has_more and len(groups) < size:
            answer, has_more = self._read(self._ready, size - len(groups))
            data, start = b"".join(answer[2]), 0
            for _, _, open_claims, *lengths in self._ready.take(answer[1]):
                middle = start + lengths[0]
                end = middle + lengths[1]
                document, copy = data[start:middle], data[middle:end]
                start = end
                run, _ = parse(document, self.alias, RunState.READY)
                rows.append((run, copy, open_claims, document))
            groups = group_ready(rows)
        return groups

    def write(self, steps: Sequence[Step]) -> Sequence[bool]:
        node = self.request.identity.node
        given: dict[str, Any] = {"node": node.id, "now": self._now}
        if self.request.lease_until is not None:
            given["lease"] = lease_document(node, self.request.lease_until)
        blobs: list[bytes] = []
        given["steps"] = [
            self._describe_ready(step, step.record)
            if isinstance(step.record, ReadyRuns)
            else self._describe_due(step, step.record, blobs)
            for step in steps
        ]
        answer: bytes = self._runner.run(MOVE, given, b"".join(blobs))
        results, *self._next_times = answer.split(b" ")
        return [result == ord("1") for result in results]

    def find_next(self) -> float | None:
        times = [float(time) for time in self._next_times if time]
        return min(times, default=None)

    # Steps are lists, whose items the script knows by their places: names would be half of what is sent.

    def _describe_due(self, step: Step, due: DueJob, blobs: list[bytes]) -> list[Any]:
        claim = step.claim
        job = claim.job
        blobs.append(due.data)
        started: list[Any] = []
        if claim.run_times:
            node = self.request.identity.node.id
            for run_id, document in running_documents(claim, node):
                encoded = encode(document)
                started += (run_id, len(encoded))
                blobs.append(encoded)
        more: dict[str, Any] = {}
        if job.on_lost == "retry":
            more["copies"] = True
        if step.idle:
            more["idle"] = [
                (run.id, finished_document(run), repr(run.scheduled_time.timestamp()))
                for run in step.idle
            ]
            if job.history is not None:
                more["history"] = job.history
        return [
            *(False, due.id, due.token),
            False if step.timestamp is None else repr(step.timestamp),
            *(claim.skipped, bool(claim.plan.run_times) and job.max_instances),
            *(started, len(due.data), more or False),
        ]

    def _describe_ready(self, step: Step, ready: ReadyRuns) -> list[Any]:
        job = step.claim.job
        started: list[str] = []
        for run in running_documents(step.claim, self.request.identity.node.id):
            started += run
        waited = [decode(document) for document in ready.token]
        copies = job.on_lost == "retry"
        return [True, ready.job_id, job.max_instances, started, waited, copies]

    def _read(self, rows: "_Rows", size: int) -> tuple[Any, bool]:
        """Return the next page, and whether there may be more."""
        answer, rows.first = rows.first, None
        if answer is None:
            given = {"now": self._now, "size": size}
            if rows.last is not None:
                given["after"] = rows.last
            answer = self._runner.run(rows.script, given)
        return answer, answer[0] >= size


class _Rows:
    """Rows that are read page by page.

    :ivar first: the first page, where it has been read
    :ivar last: the identifier and the time of the row that the next page follows
    """

    def __init__(self, script: Script):
        self.script = script
        self.first: Any = None
        self.last: list[str] | None = None

    def take(self, lists: bytes) -> Iterator[Any]:
        """Return the rows of a page, and note where it ends."""
        ids, times, *others = json.loads(decode(lists))
        if ids:
            self.last = [ids[-1], times[-1]]
        return zip(ids, times, *others, strict=True)
