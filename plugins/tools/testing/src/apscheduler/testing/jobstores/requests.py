"""What schedulers ask of a store, in short words for tests."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from apscheduler.job import Job
from apscheduler.jobstores.contract import (
    Claim,
    ClaimBatch,
    ClaimRequest,
    NativeJobStore,
)
from apscheduler.nodes import LEASE_SECONDS, Identity
from apscheduler.runs import Completion, Plan, Run, RunFilter, RunState
from apscheduler.testing.jobstores.basic import (
    SECOND,
    T0,
    TICK,
)

LEASE = timedelta(seconds=LEASE_SECONDS)
EVERYTHING = RunFilter()


def run_once(job: Job) -> Plan:
    """Run the job for the last time."""
    assert job.next_run_time is not None
    return Plan([job.next_run_time], None)


def run_every_minute(job: Job) -> Plan:
    """Run the job, and again a minute later."""
    assert job.next_run_time is not None
    return Plan([job.next_run_time], job.next_run_time + timedelta(minutes=1))


def run_again(job: Job) -> Plan:
    """Run the job, and again a microsecond later, which may be at once."""
    assert job.next_run_time is not None
    return Plan([job.next_run_time], job.next_run_time + TICK)


def claim(
    store: NativeJobStore,
    identity: Identity,
    now: datetime = T0,
    plan: Callable[[Job], Plan | None] = run_every_minute,
    limit: int = 100,
    **options: Any,
) -> ClaimBatch:
    """Claim as a scheduler would."""
    return store.claim(ClaimRequest(now, limit, plan, identity, **options))


def completions(
    found: Claim,
    identity: Identity,
    state: RunState = RunState.SUCCEEDED,
    finished_at: datetime = T0 + SECOND,
    **options: Any,
) -> list[Completion]:
    """Return outcomes for all runs of a claim."""
    return [
        Completion(
            run_id,
            found.job.id,
            identity.node.id,
            found.run_times.attempt,
            state,
            finished_at,
            **options,
        )
        for run_id in found.run_times.run_ids
    ]


def claimed_ids(batch: ClaimBatch) -> list[str]:
    """Return the identifiers of the jobs that were claimed."""
    return [found.job.id for found in batch.claims]


def states(store: NativeJobStore, job_id: str | None = None) -> list[RunState]:
    """Return the states of the runs in the store, latest first."""
    return [run.state for run in store.get_runs(RunFilter(job_id), 1000)]


def ready_run(
    identity: Identity, job_id: str = "a", at: datetime = T0, **options: Any
) -> Run:
    """Return a run that waits to be claimed."""
    return Run(
        identity.new_id(),
        job_id,
        None,
        RunState.READY,
        at,
        available_at=at,
        **options,
    )
