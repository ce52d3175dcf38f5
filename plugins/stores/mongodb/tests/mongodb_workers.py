"""What the processes of the tests do: claim until they are killed, at random or before a certain command."""

import os
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pymongo
from pymongo.monitoring import CommandListener, CommandStartedEvent

from apscheduler.job import Job
from apscheduler.jobstores.contract import Claim, ClaimRequest
from apscheduler.jobstores.mongodb import MongoDBJobStore
from apscheduler.nodes import LEASE_SECONDS, Identity
from apscheduler.runs import Completion, FireRange, Plan, Run, RunFilter, RunState
from apscheduler.testing.jobs import make_stored_job

T0 = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LEASE = timedelta(seconds=LEASE_SECONDS)
EVERYTHING = RunFilter()

# How often each job of the random killing fires.
FIRES = 4


def open_store(url: str, database: str, **options: Any) -> MongoDBJobStore:
    store = MongoDBJobStore(database, host=url, **options)
    store.start(None, "mongo")
    return store


def plan_next_second(job: Job) -> Plan:
    """Run once; the last of the fires is followed by none."""
    assert job.next_run_time is not None
    following = job.next_run_time + SECOND
    is_over = following >= T0 + FIRES * SECOND
    return Plan([job.next_run_time], None if is_over else following)


def outcomes(claim: Claim, identity: Identity, now: datetime) -> list[Completion]:
    return [
        Completion(
            *(run_id, claim.job.id, identity.node.id, claim.run_times.attempt),
            *(RunState.SUCCEEDED, now),
        )
        for run_id in claim.run_times.run_ids
    ]


class Log:
    """What has been run, by whatever process: one line each."""

    def __init__(self, path: str):
        self.path = Path(path)

    def note(self, claim: Claim) -> None:
        with self.path.open("a") as file:
            for time in claim.run_times:
                file.write(f"{claim.job.id} {time.timestamp()}\n")

    def count(self) -> Counter[tuple[str, datetime]]:
        lines = [line.rsplit(maxsplit=1) for line in self.path.read_text().splitlines()]
        return Counter(
            (job_id, datetime.fromtimestamp(float(time), UTC)) for job_id, time in lines
        )


def work(url: str, database: str, path: str) -> None:
    """Claim, run and complete until everything has ended, also what others have left."""
    store, me, log = open_store(url, database), Identity(), Log(path)
    now = T0 + FIRES * SECOND
    pending: list[Completion] = []
    while True:
        store.take_over(me.node, now)
        request = ClaimRequest(now, 3, plan_next_second, me, pending)
        request.lease_until = now + LEASE
        batch = store.claim(request)
        pending = []
        for claim in batch.claims:
            log.note(claim)
            pending += outcomes(claim, me, now)
        if batch.claims or batch.more:
            continue
        open_states = frozenset([RunState.RUNNING, RunState.READY])
        if not store.get_due_jobs(now) and not store.get_runs(
            RunFilter(states=open_states), 1
        ):
            break
    store.drop_lease(me.node)
    store.shutdown()


# Dying before a certain command.


class Assassin(CommandListener):
    """Kills this process before a command is sent; the first one is number 0."""

    def __init__(self, number: int):
        self.left = number

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name in ("endSessions", "ping"):
            return
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1

    def succeeded(self, event: Any) -> None: ...

    def failed(self, event: Any) -> None: ...


# The fires of every job until T0 + 2 s, and which of them run.
SCHEDULE = {
    "again": [T0, T0 + SECOND, T0 + 2 * SECOND],
    "again, retried": [T0, T0 + SECOND, T0 + 2 * SECOND],
    "last": [T0],
    "last, retried": [T0],
    "late": [T0, T0 + SECOND, T0 + 2 * SECOND],
    "not at all": [T0 - 9 * SECOND],
    "handed back": [T0],
    "ready": [T0],
    "removed": [T0],
    "orphan": [T0],
    "orphan, retried": [T0],
    "added": [T0 + 2 * SECOND],
    "added too": [T0 + 2 * SECOND],
}
RETRY: dict[str, Any] = {"on_lost": "retry", "max_instances": 9}
RETRIED = {"again, retried": RETRY, "last, retried": RETRY, "orphan, retried": RETRY}


def plan_kind(job: Job) -> Plan:
    time = job.next_run_time
    assert time is not None
    if job.id == "not at all":
        return Plan([], None, missed=FireRange(time, time, 1))
    if job.id == "late" and time == T0:
        return Plan([T0 + SECOND], T0 + 2 * SECOND, missed=FireRange(T0, T0, 1))
    times = SCHEDULE[job.id]
    return Plan([time], next((other for other in times if other > time), None))


def prepare(url: str, database: str) -> None:
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        client.drop_database(database)
    store = open_store(url, database)
    store.add_jobs(
        [
            make_stored_job(job_id, times[0], **RETRIED.get(job_id, {}))
            for job_id, times in SCHEDULE.items()
            if not job_id.startswith(("added", "ready"))
        ]
    )
    # Somebody has died.
    dead = ClaimRequest(
        T0, 100, lambda job: plan_kind(job) if "orphan" in job.id else None, Identity()
    )
    dead.lease_until = T0 - SECOND
    assert len(store.claim(dead).claims) == 2
    run = Run(Identity().new_id(), "ready", None, RunState.READY, T0, available_at=T0)
    store.add_ready_run(make_stored_job("ready"), run)
    store.shutdown()


def live(url: str, database: str, log: Log, **options: Any) -> None:
    """Do everything that writes, once."""
    store, me = open_store(url, database, **options), Identity()

    def claim(now: datetime, completions: list[Completion]) -> list[Claim]:
        request = ClaimRequest(now, 100, plan_kind, me, completions)
        request.lease_until = now + LEASE
        return store.claim(request).claims

    store.take_over(me.node, T0)
    done: list[Completion] = []
    for found in claim(T0, []):
        if found.job.id == "handed back":
            store.hand_back([found])
            continue
        log.note(found)
        done += outcomes(found, me, T0)
        if found.job.id == "removed":
            # It has ended; what is left of it goes with its run.
            store.add_job(make_stored_job("removed", None))
            store.remove_job("removed")
    store.complete(done[::2])
    store.add_jobs(
        [make_stored_job(name, T0 + 2 * SECOND) for name in ("added", "added too")]
    )
    more = claim(T0 + SECOND, done[1::2])
    for found in more:
        log.note(found)
        store.complete(outcomes(found, me, T0 + SECOND))
    store.renew_lease(me.node, T0 + 2 * LEASE)
    store.drop_lease(me.node)
    store.prune_runs(None, None, T0)
    store.shutdown()


def survive(url: str, database: str, log: Log) -> None:
    """Take over, finish everything, and check that nothing is missing, double or left over."""
    store, me = open_store(url, database), Identity()
    for job_id in ("added", "added too"):
        if not store.lookup_job(job_id) and not store.get_runs(RunFilter(job_id), 1):
            store.add_job(make_stored_job(job_id, T0 + 2 * SECOND))
    stored = store.read_job("removed")
    if stored is not None and stored.job.next_run_time is None:
        store.remove_job("removed")
    # Owners without a lease are given one, which has to be over.
    for now in [T0 + 2 * SECOND] * 4 + [T0 + 2 * LEASE] * 4:
        store.take_over(me.node, now)
        request = ClaimRequest(now, 100, plan_kind, me, lease_until=now + LEASE)
        for claim in store.claim(request).claims:
            log.note(claim)
            store.complete(outcomes(claim, me, now))
    store.drop_lease(me.node)
    store.prune_runs(None, None, now)
    check(store, log)
    store.shutdown()


def check(store: MongoDBJobStore, log: Log) -> None:
    runs = store.get_runs(EVERYTHING, 1000)
    recorded = Counter((run.job_id, run.scheduled_time) for run in runs)
    expected = Counter((job_id, t) for job_id, ts in SCHEDULE.items() for t in ts)
    assert recorded == expected, (recorded - expected, expected - recorded)
    executed = log.count()
    for run in runs:
        fire = (run.job_id, run.scheduled_time)
        assert run.state.is_final, run
        if run.state is RunState.SUCCEEDED:
            assert executed[fire] >= 1, run
        if run.state in (RunState.MISSED, RunState.SKIPPED):
            assert executed[fire] == 0, run
        if run.job_id in RETRIED:
            assert run.state is RunState.SUCCEEDED, run
        else:
            assert executed[fire] <= 1, (run, executed[fire])
    assert executed.keys() <= expected.keys()
    jobs = store.collection
    assert list(jobs.find()) == [], list(jobs.find())
    nodes = jobs.database[f"{jobs.name}_nodes"]
    assert list(nodes.find()) == []


def in_child(action: Callable[[], None]) -> int:
    """Carry out an action in a forked process, and return its exit code; negative if it was killed."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            action()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def crash_everywhere(url: str, database: str, path: str, first: str, step: str) -> None:
    """Die before each command in turn, until one does not come any more; print how many there were."""
    number = int(first)
    while True:
        log = Log(path)
        log.path.write_text("")
        assert in_child(lambda: prepare(url, database)) == 0
        listeners = {"event_listeners": [Assassin(number)]}
        died = in_child(lambda: live(url, database, log, **listeners))  # noqa: B023
        assert died in (0, -signal.SIGKILL), died
        # With everybody else gone, so that nobody knows them.
        assert in_child(lambda: survive(url, database, log)) == 0, f"command {number}"  # noqa: B023
        if died == 0:
            break
        number += int(step)
    print(number, flush=True)


if __name__ == "__main__":
    commands: dict[str, Callable[..., None]] = {"work": work, "crash": crash_everywhere}
    commands[sys.argv[1]](*sys.argv[2:])
