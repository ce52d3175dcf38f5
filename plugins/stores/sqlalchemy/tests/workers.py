"""What the processes of the tests do: claim from a database until nothing is left, or until they are killed."""

import os
import sys
from datetime import UTC, datetime, timedelta

from apscheduler.job import Job
from apscheduler.jobstores.contract import ClaimRequest
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.nodes import LEASE_SECONDS, Identity
from apscheduler.runs import Completion, Plan, RunState

T0 = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LEASE = timedelta(seconds=LEASE_SECONDS)


def plan_next_second(job: Job) -> Plan:
    assert job.next_run_time is not None
    return Plan([job.next_run_time], job.next_run_time + SECOND)


def open_store(url: str) -> SQLAlchemyJobStore:
    # Writers of a file take turns, and there are several.
    patient = {"timeout": 50} if url.startswith("sqlite") else {}
    store = SQLAlchemyJobStore(url, engine_options={"connect_args": patient})
    store.start(None, "sql")
    return store


def claim_everything(url: str, rounds: int, log: str) -> None:
    """Claim and complete until all fires of so many rounds are gone; note what is started before it is completed."""
    store = open_store(url)
    me = Identity()
    pending: list[Completion] = []
    now = T0 + (rounds - 1) * SECOND
    print("ready", flush=True)
    sys.stdin.readline()
    started = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    while True:
        request = ClaimRequest(
            *(now, 5, plan_next_second, me),
            completions=pending,
            lease_until=now + LEASE,
        )
        batch = store.claim(request)
        # What others have locked is looked at again soon.
        is_over = batch.next_run_time is None or batch.next_run_time >= now + SECOND
        if not batch.claims and not batch.more and is_over:
            break
        pending = []
        for claim in batch.claims:
            for time, run_id in zip(
                claim.run_times, claim.run_times.run_ids, strict=True
            ):
                # One write is one line, also when the process is killed.
                os.write(started, f"{claim.job.id} {time.timestamp()}\n".encode())
                done = (run_id, claim.job.id, me.node.id, claim.run_times.attempt)
                pending.append(Completion(*done, RunState.SUCCEEDED, now))
    store.shutdown()


def claim_and_hang(url: str) -> None:
    """Own a run of every due job, and never complete it."""
    store = open_store(url)
    request = ClaimRequest(
        T0, 100, plan_next_second, Identity(), lease_until=T0 + LEASE
    )
    print(len(store.claim(request).claims), os.getpid(), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "claim":
        claim_everything(arguments[0], int(arguments[1]), arguments[2])
    else:
        claim_and_hang(arguments[0])
