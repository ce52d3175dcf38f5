"""Runs as plain dictionaries, for stores that keep documents, and what is done to them the same way everywhere."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from apscheduler.job import Job
from apscheduler.jobstores.contract import Claim
from apscheduler.runs import Completion, Run, RunState
from apscheduler.util import utc_timestamp_to_datetime

# Attributes of a run that are times.
TIMES = ("scheduled_time", "first_time", "available_at", "started_at", "finished_at")
OTHERS = (
    *("id", "job_id", "claim_id", "node", "attempt", "count"),
    *("duration", "exception", "traceback"),
)


def encode_run(run: Run) -> dict[str, Any]:
    """Return what ``decode_run`` makes this run of: texts and numbers only, times as seconds since 1970."""
    document: dict[str, Any] = {"state": run.state.value}
    for name in OTHERS:
        value = getattr(run, name)
        if value is not None:
            document[name] = value
    for name in TIMES:
        time = getattr(run, name)
        if time is not None:
            document[name] = time.timestamp()
    return document


def decode_run(document: dict[str, Any], alias: str | None) -> Run:
    """Return the run of a document, for a store with this alias."""
    times = {name: utc_timestamp_to_datetime(document.get(name)) for name in TIMES}
    others = {name: document.get(name) for name in OTHERS}
    state = RunState(document["state"])
    return Run(jobstore=alias, state=state, **others, **times)  # type: ignore[arg-type]  # as they were encoded


def encode_started(claim: Claim, node: str) -> list[dict[str, Any]]:
    """Return the documents of the runs that a claim starts, without making a record of each."""
    times = claim.run_times
    return [
        {
            "state": RunState.RUNNING.value,
            "id": run_id,
            "job_id": claim.job.id,
            "claim_id": times.claim_id,
            "node": node,
            "attempt": times.attempt,
            "count": 1,
            "scheduled_time": run_time.timestamp(),
        }
        for run_id, run_time in zip(times.run_ids, times, strict=True)
    ]


def options_of(job: Job) -> dict[str, Any]:
    """Return the options of a job that matter as long as its runs are open: to be kept with them, it may be gone."""
    options: dict[str, Any] = {}
    if job.on_lost == "retry":
        options["max_attempts"] = job.max_attempts
    if job.history is not None:
        options["history"] = job.history
    return options


def encode_outcome(completion: Completion) -> dict[str, Any]:
    """Return what changes in the document of a run that has ended."""
    outcome: dict[str, Any] = {
        "state": completion.state.value,
        "finished_at": completion.finished_at.timestamp(),
    }
    if completion.started_at is not None:
        outcome["started_at"] = completion.started_at.timestamp()
    for name in ("duration", "exception", "traceback"):
        value = getattr(completion, name)
        if value is not None:
            outcome[name] = value
    return outcome


def is_owner(document: dict[str, Any], completion: Completion) -> bool:
    """Return whether who reports the outcome of a running run is the one who runs it."""
    owner = (completion.node, completion.attempt, RunState.RUNNING.value)
    return (document.get("node"), document["attempt"], document["state"]) == owner


def end_or_retry(run: Run, max_attempts: int | None, now: datetime) -> bool:
    """Change a run whose scheduler has died: ready to be started again if the job wants that, otherwise lost.

    :param max_attempts: how often it may be started; None if its job does not want it started again
    :return: whether it is ready
    """
    if max_attempts is None or run.attempt >= max_attempts:
        run.state, run.finished_at = RunState.LOST, now
        return False
    run.state, run.node, run.available_at = RunState.READY, None, now
    run.attempt += 1
    return True


def find_surplus(
    finished: Iterable[tuple[str, float | None]],
    max_age: timedelta | None,
    max_count: int | None,
    now: datetime,
) -> list[str]:
    """Return which of the finished runs of one job need not be kept.

    :param finished: identifier and time of the end of each, the latest first
    """
    oldest = float("-inf") if max_age is None else (now - max_age).timestamp()
    return [
        run_id
        for number, (run_id, finished_at) in enumerate(finished)
        if (max_count is not None and number >= max_count)
        or (finished_at is not None and finished_at < oldest)
    ]
