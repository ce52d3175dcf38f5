"""What is in the documents.

A **job** is ``{_id, next_run_time, job_state}`` as in APScheduler 3, and besides

* ``revision``: another text after every change that claims have to know of; documents of APScheduler 3 have none;
* ``runs``: what is open, and for a moment what has ended; each a dictionary made by ``history.encode_run``, with
  ``max_attempts`` if the run is to be repeated when it is lost, ``history`` as the job has it, and ``job_state``: a copy
  of the job, of ready runs, and of those whose job is gone and that are to be repeated; and ``taken`` once its owner is
  dead, who may do nothing about it any more;
* ``ready_at``: when the first ready run is available.

Without ``next_run_time`` and ``job_state`` it is no job any more, only its runs are still going on, and it is deleted
with the last of them.

A **finished run** is such a dictionary in a collection of its own, its identifier ``_id`` instead of ``id``. A **node** is
``{_id, host, boot, pid, expires_at}``. All times are seconds since 1970.
"""

from typing import Any

from pymongo import UpdateOne

from apscheduler.jobstores.history import decode_run
from apscheduler.runs import Run, RunState

Document = dict[str, Any]

NEXT_RUN_TIME, JOB_STATE, REVISION = "next_run_time", "job_state", "revision"
RUNS, READY_AT = "runs", "ready_at"
TAKEN = "taken"

RUNNING, READY = RunState.RUNNING.value, RunState.READY.value
FINAL = [state.value for state in RunState if state.is_final]

BY_TIME = [(NEXT_RUN_TIME, 1), ("_id", 1)]

IS_JOB: Document = {JOB_STATE: {"$exists": True}}
IS_NO_JOB: Document = {NEXT_RUN_TIME: {"$exists": False}}
HAS_NO_RUNS: Document = {f"{RUNS}.0": {"$exists": False}}


def is_job(document: Document) -> bool:
    """Return whether it is more than what is left of a job while its runs are going on."""
    return NEXT_RUN_TIME in document


def runs_of(document: Document) -> list[Document]:
    """Return the runs in the document of a job."""
    return document.get(RUNS) or []


def count_claims(document: Document) -> int:
    """Return how many claims of the job have runs that are going on."""
    return len(
        {run["claim_id"] for run in runs_of(document) if run["state"] == RUNNING}
    )


def with_runs(document: Document, runs: list[Document], revision: str) -> Document:
    """Return what a document becomes with these in the place of its runs."""
    changed = {**document, RUNS: runs, REVISION: revision}
    ready = [run["available_at"] for run in runs if run["state"] == READY]
    if ready:
        changed[READY_AT] = min(ready)
    else:
        changed.pop(READY_AT, None)
    return changed


def without_job(document: Document) -> Document:
    """Return what is left of a document when it is to be no job any more.

    Runs that are to be repeated when they are lost get a copy of the job.
    """
    gone = (NEXT_RUN_TIME, JOB_STATE)
    left = {name: value for name, value in document.items() if name not in gone}
    left[RUNS] = [
        {JOB_STATE: document[JOB_STATE], **run} if "max_attempts" in run else run
        for run in runs_of(document)
    ]
    return left


def update(before: Document, after: Document) -> UpdateOne:
    """Return what turns a document that was read into another, if nobody has changed it meanwhile."""
    same = {"_id": before["_id"], REVISION: before.get(REVISION)}
    if is_job(before):
        # APScheduler 3 does not know of revisions.
        same[NEXT_RUN_TIME] = before[NEXT_RUN_TIME]
    changed = {
        name: value for name, value in after.items() if before.get(name) is not value
    }
    change: Document = {"$set": changed}
    removed = before.keys() - after.keys()
    if removed:
        change["$unset"] = dict.fromkeys(removed, "")
    return UpdateOne(same, change)


def to_finished(run: Document) -> Document:
    """Return the document of a run that has ended."""
    internal = ("id", "max_attempts", JOB_STATE, "available_at")
    kept = {name: value for name, value in run.items() if name not in internal}
    return {"_id": run["id"], **kept}


def to_run(document: Document, alias: str | None) -> Run:
    """Return the run of a document, finished or not."""
    if "_id" in document:
        document = {**document, "id": document["_id"]}
    return decode_run(document, alias)


def storable(document: Document) -> Document:
    """Return the document with texts as BSON takes them: what is no valid Unicode is spelled out."""
    return {
        name: value.encode(errors="backslashreplace").decode()
        if isinstance(value, str) and not value.isascii()
        else value
        for name, value in document.items()
    }
