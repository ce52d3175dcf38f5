"""The record of runs: what is asked about it, and what is forgotten of it."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from apscheduler.jobstores.ledger import matches
from apscheduler.jobstores.redis.documents import parse
from apscheduler.jobstores.redis.run_scripts import (
    FINISHED_RUNS,
    OPEN_RUNS,
    PRUNE_OLD,
    PRUNE_SURPLUS,
)
from apscheduler.jobstores.redis.scripts import Runner
from apscheduler.runs import Run, RunFilter, RunState

# So many runs are read at a time; and forgotten at a time, since everybody else waits for that.
PAGE_SIZE = 500
PRUNE_BATCH = 500


def get_runs(
    runner: Runner, which: RunFilter, limit: int, offset: int, alias: str | None
) -> list[Run]:
    """Return runs that match, latest scheduled time first, of equal times the latest record first."""
    wanted = offset + limit
    # In this order: a run that ends meanwhile is found twice, not missed.
    found = {run.id: run for run in _open_runs(runner, which, alias)}
    if which.states is None or any(state.is_final for state in which.states):
        for number, run in enumerate(_finished_runs(runner, which, alias), start=1):
            found[run.id] = run
            if number >= wanted:
                break
    runs = sorted(
        found.values(), key=lambda run: (run.scheduled_time, run.id), reverse=True
    )
    return runs[offset:wanted]


def _open_runs(runner: Runner, which: RunFilter, alias: str | None) -> Iterator[Run]:
    states = (RunState.RUNNING, RunState.READY)
    if which.states is not None and not which.states.intersection(states):
        return
    for state, flat in zip(states, runner.run(OPEN_RUNS), strict=True):
        for document in flat[1::2]:
            run, _ = parse(document, alias, state)
            if matches(run, which):
                yield run


def _finished_runs(
    runner: Runner, which: RunFilter, alias: str | None
) -> Iterator[Run]:
    given: dict[str, Any] = {"size": PAGE_SIZE, "min": "-inf", "max": "+inf"}
    if which.job_id is not None:
        given["job_id"] = which.job_id
    if which.since is not None:
        given["min"] = repr(which.since.timestamp())
    if which.until is not None:
        given["max"] = f"({which.until.timestamp()!r}"
    offset, is_last = 0, False
    while not is_last:
        ids, documents = runner.run(FINISHED_RUNS, given | {"offset": offset})
        for document in documents:
            if document is None:
                continue
            run, _ = parse(document, alias)
            if matches(run, which):
                yield run
        offset, is_last = offset + PAGE_SIZE, len(ids) < PAGE_SIZE


def prune_runs(
    runner: Runner,
    max_age: timedelta | None,
    max_per_job: int | None,
    now: datetime,
) -> int:
    """Forget up to ``PRUNE_BATCH`` finished runs that need not be kept, and return how many."""
    if max_age is not None:
        forgotten = _prune_old(runner, (now - max_age).timestamp())
        if forgotten:
            return forgotten
    given = {"size": PRUNE_BATCH}
    if max_per_job is not None:
        given["allowed"] = max_per_job
    return int(runner.run(PRUNE_SURPLUS, given))


def _prune_old(runner: Runner, before: float) -> int:
    # By the times that runs were scheduled for, which are not later than those at which they ended.
    given: dict[str, Any] = {"before": repr(before), "size": PRUNE_BATCH}
    offset = 0
    while True:
        looked_at, forgotten = runner.run(PRUNE_OLD, given | {"offset": offset})
        if forgotten or looked_at < PRUNE_BATCH:
            return int(forgotten)
        offset += PRUNE_BATCH
