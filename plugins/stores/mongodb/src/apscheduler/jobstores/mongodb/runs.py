"""Runs: open ones in the documents of their jobs, finished ones in a collection of their own.

Everything that happens to open runs is one change of one document, made only if its revision is still the one that
was read. What has ended is first added to the finished runs and then taken out of the document: a crash in between
leaves it in both, and whoever finds it there next takes it out. Of two outcomes of one run the first one stands.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from pymongo import InsertOne, UpdateOne
from pymongo.errors import AutoReconnect, BulkWriteError, DuplicateKeyError

from apscheduler.job import Job
from apscheduler.jobstores.contract import Claim
from apscheduler.jobstores.history import (
    encode_outcome,
    encode_run,
    is_owner,
    options_of,
)
from apscheduler.jobstores.mongodb.database import Database, again, new_revision
from apscheduler.jobstores.mongodb.documents import (
    FINAL,
    HAS_NO_RUNS,
    IS_NO_JOB,
    JOB_STATE,
    NEXT_RUN_TIME,
    READY,
    READY_AT,
    REVISION,
    RUNNING,
    RUNS,
    TAKEN,
    Document,
    is_job,
    runs_of,
    storable,
    to_finished,
    update,
    with_runs,
)
from apscheduler.runs import Completion, Run

# A document that somebody else has changed meanwhile is read and changed again; so often in a row is no coincidence.
MAX_TRIES = 100
# Documents with open runs that are remembered.
MAX_REMEMBERED = 10_000
# The server refuses a second document with the same identifier.
DUPLICATE = 11000

# What is read of the document of a job whose runs are to be changed.
FIELDS = {RUNS: 1, REVISION: 1, READY_AT: 1, NEXT_RUN_TIME: 1}


class RunDocuments:
    """What is done to runs."""

    def __init__(self, database: Database):
        self._database = database
        # Documents as this process has written them; somebody may have changed them since.
        self._written: OrderedDict[str, Document] = OrderedDict()

    def change(
        self,
        job_ids: Iterable[str],
        edit: Callable[[Document], list[Document] | None],
        with_state: bool = False,
    ) -> None:
        """Change the runs in documents; those that have ended by that become finished runs.

        :param edit: returns what the runs of a document become, None if it stays as it is; it is asked again when
            somebody else was faster, and must find nothing to do where its change has been made
        :param with_state: read the documents in any case, as they are now, and the state of the jobs with them
        """
        database, ids = self._database, set(job_ids)
        known = [] if with_state else self._recall(ids)
        fields = {**FIELDS, JOB_STATE: 1} if with_state else FIELDS
        emptied: list[str] = []
        mine: set[str] = set()
        for _ in range(MAX_TRIES):
            unknown = ids.difference(document["_id"] for document in known)
            if unknown:
                found = database.jobs.find({"_id": {"$in": [*unknown]}}, fields)
                known.extend(found)
            updates = []
            finished: list[Document] = []
            revision = new_revision()
            for document in known:
                runs = None if document.get(REVISION) in mine else edit(document)
                if runs is None:
                    continue
                finished += [run for run in runs if run["state"] in FINAL]
                left = [run for run in runs if run["state"] not in FINAL]
                updates.append(update(document, with_runs(document, left, revision)))
                if not left and not is_job(document):
                    emptied.append(document["_id"])
            mine.add(revision)
            known = []
            self._finish(finished)
            if database.write(updates) == len(updates):
                break
        else:
            raise RuntimeError(
                f"Runs of the jobs {ids!r} could not be changed: others were faster {MAX_TRIES} times in a row"
            )
        self.delete_emptied(emptied)

    def remember(self, documents: Iterable[Document]) -> None:
        """Keep what was just written, so that it need not be read when its runs end."""
        for document in documents:
            kept = {n: v for n, v in document.items() if n != JOB_STATE}
            self._written[document["_id"]] = kept
        while len(self._written) > MAX_REMEMBERED:
            try:
                self._written.popitem(last=False)
            except KeyError:  # another thread was faster
                break

    def _recall(self, job_ids: Iterable[str]) -> list[Document]:
        found = (self._written.pop(job_id, None) for job_id in job_ids)
        return [document for document in found if document is not None]

    def _finish(self, runs: Iterable[Document]) -> None:
        """Add to the finished runs, unless they are there."""
        writes: list[InsertOne[Document] | UpdateOne] = []
        for run in runs:
            if run.get("history") == 0:
                continue
            document = storable(to_finished(run))
            if run["attempt"] == 1:
                writes.append(InsertOne(document))
            else:  # somebody who was slow may have told of an earlier attempt
                earlier = {"_id": run["id"], "attempt": {"$lt": run["attempt"]}}
                del document["_id"]
                writes.append(UpdateOne(earlier, {"$set": document}, upsert=True))
        if not writes:
            return
        collection = self._database.runs
        try:
            again(lambda _: collection.bulk_write(writes, ordered=False))
        except BulkWriteError as exc:
            errors = exc.details["writeErrors"] or [{}]
            if any(error.get("code") != DUPLICATE for error in errors):
                raise

    def delete_emptied(self, job_ids: Sequence[str]) -> None:
        """Delete those of the documents that are no job and have no runs."""
        if job_ids:
            found = {"_id": {"$in": job_ids}, **IS_NO_JOB, **HAS_NO_RUNS}
            again(lambda _: self._database.jobs.delete_many(found))

    def settle(self, job_ids: Iterable[str]) -> None:
        """Move what has ended to where it belongs, and delete what is empty after that."""

        def edit(document: Document) -> list[Document] | None:
            runs = runs_of(document)
            has_ended = any(run["state"] in FINAL for run in runs)
            return runs if has_ended or not (runs or is_job(document)) else None

        self.change(job_ids, edit)

    def complete(self, completions: Sequence[Completion]) -> None:
        """Record outcomes, of runs that are still owned by those who report them."""
        outcomes: dict[str, Completion] = {}
        for completion in completions:
            outcomes.setdefault(completion.run_id, completion)

        def edit(document: Document) -> list[Document] | None:
            has_changed = False
            runs = []
            for run in runs_of(document):
                outcome = None if TAKEN in run else outcomes.get(run["id"])
                if outcome is not None and is_owner(run, outcome):
                    has_changed = True
                    run = {**run, **encode_outcome(outcome)}
                    if not outcome.keep:
                        run["history"] = 0
                runs.append(run)
            return runs if has_changed else None

        if completions:
            self.change({outcome.job_id for outcome in completions}, edit)

    def hand_back(self, claims: "Sequence[tuple[Claim, bytes]]") -> None:
        """Make running runs ready, unless somebody has taken them over; each claim with a copy of its job."""
        given = {
            run_id: (claim.run_times, data)
            for claim, data in claims
            for run_id in claim.run_times.run_ids
        }

        def edit(document: Document) -> list[Document] | None:
            has_changed = False
            runs = []
            for run in runs_of(document):
                times, data = given.get(run["id"], (None, b""))
                claimed = (run.get("claim_id"), run["attempt"], run["state"])
                if (
                    times
                    and claimed == (times.claim_id, times.attempt, RUNNING)
                    and TAKEN not in run
                ):
                    has_changed = True
                    run = {**run, "state": READY, JOB_STATE: data}
                    run["available_at"] = times[0].timestamp()
                    del run["node"]
                runs.append(run)
            return runs if has_changed else None

        self.change({claim.job.id for claim, _ in claims}, edit)

    def add_ready(self, job: Job, run: Run, data: bytes) -> None:
        """Add a run that waits to be claimed, with a copy of its job."""
        available_at = (run.available_at or run.scheduled_time).timestamp()
        ready = {
            **encode_run(run),
            **options_of(job),
            "state": READY,
            "available_at": available_at,
            JOB_STATE: data,
        }
        change = {
            "$push": {RUNS: ready},
            "$min": {READY_AT: available_at},
            "$set": {REVISION: new_revision()},
        }

        def add(is_repeated: bool) -> None:
            # Somebody may have run it meanwhile: that it is not there does not mean that it was not added.
            if is_repeated:
                if not self._is_known(job.id, run.id):
                    raise AutoReconnect(
                        f"The connection to MongoDB broke while a run of job {job.id!r} was added"
                    )
                return
            try:
                self._database.jobs.update_one({"_id": job.id}, change, upsert=True)
            except DuplicateKeyError:  # somebody else has begun the document
                self._database.jobs.update_one({"_id": job.id}, change)

        again(add)

    def _is_known(self, job_id: str, run_id: str) -> bool:
        database = self._database
        return (
            database.jobs.find_one({"_id": job_id, f"{RUNS}.id": run_id}, {"_id": 1})
            or database.runs.find_one({"_id": run_id}, {"_id": 1})
        ) is not None
