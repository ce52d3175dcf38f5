"""What the processes of the tests do: claim until nothing is left, or until they are killed."""

import os
import sys
from datetime import UTC, datetime, timedelta

from apscheduler.job import Job
from apscheduler.jobstores.contract import ClaimRequest
from apscheduler.jobstores.zookeeper import ZooKeeperJobStore
from apscheduler.nodes import LEASE_SECONDS, Identity
from apscheduler.runs import Completion, Plan, RunState

T0 = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LEASE = timedelta(seconds=LEASE_SECONDS)


def plan_next_second(job: Job) -> Plan:
    assert job.next_run_time is not None
    return Plan([job.next_run_time], job.next_run_time + SECOND)


def claim_everything(store: ZooKeeperJobStore, rounds: int) -> None:
    """Claim and complete until all fires of so many rounds are gone; print how many were claimed here."""
    me, count = Identity(), 0
    pending: list[Completion] = []
    now = T0 + (rounds - 1) * SECOND
    print("ready", flush=True)
    sys.stdin.readline()
    while True:
        request = ClaimRequest(
            *(now, 5, plan_next_second, me, pending), lease_until=now + LEASE
        )
        batch = store.claim(request)
        was_refused = batch.next_run_time is not None and batch.next_run_time <= now
        if not batch.claims and not batch.more and not was_refused:
            break
        count += len(batch.claims)
        pending = [
            Completion(run_id, claim.job.id, me.node.id, 1, RunState.SUCCEEDED, now)
            for claim in batch.claims
            for run_id in claim.run_times.run_ids
        ]
    print(count, flush=True)


def claim_and_hang(store: ZooKeeperJobStore) -> None:
    """Own a run of every due job, and never complete it."""
    request = ClaimRequest(
        T0, 100, plan_next_second, Identity(), lease_until=T0 + LEASE
    )
    print(len(store.claim(request).claims), os.getpid(), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    command, hosts, path, *arguments = sys.argv[1:]
    store = ZooKeeperJobStore(path, hosts=hosts)
    store.start(None, "zk")
    if command == "claim":
        claim_everything(store, int(arguments[0]))
    else:
        claim_and_hang(store)
    store.shutdown()
