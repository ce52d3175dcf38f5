"""What the processes of the tests do: claim from Redis until nothing is left, or until they are killed."""

import json
import os
import sys
from datetime import UTC, datetime, timedelta

from apscheduler.job import Job
from apscheduler.jobstores.contract import ClaimRequest
from apscheduler.jobstores.redis import RedisJobStore
from apscheduler.nodes import LEASE_SECONDS, Identity
from apscheduler.runs import Completion, Plan, RunState

T0 = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LEASE = timedelta(seconds=LEASE_SECONDS)


def plan_next_second(job: Job) -> Plan:
    assert job.next_run_time is not None
    return Plan([job.next_run_time], job.next_run_time + SECOND)


def claim_everything(store: RedisJobStore, rounds: int, log: str) -> None:
    """Claim and complete until all fires of so many rounds are gone; note what is started before it is completed."""
    me = Identity()
    pending: list[Completion] = []
    now = T0 + (rounds - 1) * SECOND
    print("ready", flush=True)
    sys.stdin.readline()
    started = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    while True:
        request = ClaimRequest(
            now,
            5,
            plan_next_second,
            me,
            completions=pending,
            lease_until=now + LEASE,
        )
        batch = store.claim(request)
        if not batch.claims and not batch.more:
            break
        pending = []
        for claim in batch.claims:
            for time, run_id in zip(
                claim.run_times, claim.run_times.run_ids, strict=True
            ):
                # One write is one line, also when the process is killed.
                os.write(started, f"{claim.job.id} {time.timestamp()}\n".encode())
                pending.append(
                    Completion(
                        run_id,
                        claim.job.id,
                        me.node.id,
                        claim.run_times.attempt,
                        RunState.SUCCEEDED,
                        now,
                    )
                )
    store.shutdown()


def claim_and_hang(store: RedisJobStore) -> None:
    """Own a run of every due job, and never complete it."""
    request = ClaimRequest(
        T0, 100, plan_next_second, Identity(), lease_until=T0 + LEASE
    )
    print(len(store.claim(request).claims), os.getpid(), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    command, options, *arguments = sys.argv[1:]
    made = RedisJobStore(**json.loads(options))
    made.start(None, "redis")
    if command == "claim":
        claim_everything(made, int(arguments[0]), arguments[1])
    else:
        claim_and_hang(made)
