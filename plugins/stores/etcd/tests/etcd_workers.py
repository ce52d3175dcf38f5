"""What the processes of the tests do: claim until nothing is left, or until they are killed."""

import os
import sys
from datetime import UTC, datetime, timedelta

from apscheduler.job import Job
from apscheduler.jobstores.contract import ClaimRequest
from apscheduler.jobstores.etcd import EtcdJobStore
from apscheduler.nodes import LEASE_SECONDS, Identity
from apscheduler.runs import Completion, Plan, RunState

T0 = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LEASE = timedelta(seconds=LEASE_SECONDS)


def plan_next_second(job: Job) -> Plan:
    assert job.next_run_time is not None
    return Plan([job.next_run_time], job.next_run_time + SECOND)


def start_store(port: str, path: str) -> EtcdJobStore:
    store = EtcdJobStore(path, host="127.0.0.1", port=int(port))
    store.start(None, "etcd")
    return store


def claim_everything(port: str, path: str, rounds: int) -> None:
    """Claim and complete until all fires of so many rounds are gone; print each as it is started."""
    store = start_store(port, path)
    me = Identity()
    pending: list[Completion] = []
    now = T0 + (rounds - 1) * SECOND
    print("ready", flush=True)
    sys.stdin.readline()
    while True:
        request = ClaimRequest(
            now, 5, plan_next_second, me, completions=pending, lease_until=now + LEASE
        )
        batch = store.claim(request)
        if not batch.claims and (batch.next_run_time or now) > now:
            break
        pending = [
            Completion(run_id, claim.job.id, me.node.id, 1, RunState.SUCCEEDED, now)
            for claim in batch.claims
            for run_id in claim.run_times.run_ids
        ]
        for claim in batch.claims:
            for run_time in claim.run_times:
                print(claim.job.id, (run_time - T0).seconds, flush=True)
    store.shutdown()


def claim_and_hang(port: str, path: str) -> None:
    """Own a run of every due job, and never complete it."""
    store = start_store(port, path)
    request = ClaimRequest(
        T0, 100, plan_next_second, Identity(), lease_until=T0 + LEASE
    )
    print(len(store.claim(request).claims), os.getpid(), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "claim":
        claim_everything(arguments[0], arguments[1], int(arguments[2]))
    else:
        claim_and_hang(*arguments)
