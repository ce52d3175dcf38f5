"""What is in a store: jobs that cannot run, schedulers that died, runs that were lost or that nobody takes."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

from apscheduler.cli.availability import find_obstacle
from apscheduler.cli.client import Client
from apscheduler.cli.doctor.findings import Finding, ok, problem, warning
from apscheduler.cli.shared import count, format_seconds
from apscheduler.jobstores.contract import NativeJobStore
from apscheduler.nodes import LEASE_SECONDS, Lease
from apscheduler.runs import Run, RunFilter, RunState

# So many things are listed one by one.
MAX_LISTED = 10
# A job that is due for longer has no scheduler that takes it.
LONG_DUE = timedelta(minutes=1)
LONG_RUN = timedelta(days=1)
# Runs that were lost within this time are told.
LATELY = timedelta(days=1)
MAX_RUNS = 10_000

LEASE = timedelta(seconds=LEASE_SECONDS)


def examine_jobs(
    client: Client, store: NativeJobStore, subject: str
) -> Iterator[Finding]:
    """Look for jobs that cannot run, and for those that are long due."""
    now, records = client._now(), store.get_job_records()
    paused = sum(record.next_run_time is None for record in records)
    yield ok(subject, f"it has {count(len(records), 'job')}, {paused} of them paused")
    obstacles = [(each.id, find_obstacle(client, each)) for each in records]
    broken = [(job_id, found) for job_id, found in obstacles if found is not None]
    for job_id, found in broken[:MAX_LISTED]:
        text = f"job {job_id!r} cannot run here: {found.reason}"
        yield problem(subject, text, found.remedy)
    if len(broken) > MAX_LISTED:
        yield problem(
            subject,
            f"{len(broken) - MAX_LISTED} more jobs cannot run here",
            "See 'apscheduler jobs list --state unavailable'",
        )
    late = [
        each.id
        for each in records
        if each.next_run_time is not None and each.next_run_time < now - LONG_DUE
    ]
    if late:
        yield warning(
            subject,
            f"{count(len(late), 'job')} should have run a while ago, such as {late[0]!r}",
            "See whether a scheduler runs on this store, and has the code and the executors of its jobs",
        )


def examine_nodes(
    store: NativeJobStore, subject: str, now: datetime
) -> Iterator[Finding]:
    """Look for schedulers that died and whose runs nobody has taken over."""
    running = store.get_runs(RunFilter(states=frozenset({RunState.RUNNING})), MAX_RUNS)
    owned = Counter(run.node for run in running)
    yield ok(
        subject,
        f"{count(len(running), 'run')} going on, of {count(len(owned), 'scheduler')}",
    )
    if not store.shareable:  # no other scheduler needs to know
        return
    leases = sorted(store.read_leases(), key=lambda lease: lease.expires_at)
    for lease in leases[:MAX_LISTED]:
        yield _describe_node(lease, owned[lease.node.id], subject, now)
    if len(leases) > MAX_LISTED:
        yield ok(subject, f"and {len(leases) - MAX_LISTED} more schedulers")
    known = {lease.node.id for lease in leases}
    unknown = sum(number for node, number in owned.items() if node not in known)
    if unknown:
        yield warning(
            subject,
            f"{count(unknown, 'run')} going on without a sign of life of the scheduler",
            "It is taken over by any scheduler on this store, half a minute after that has started",
        )


def _describe_node(
    lease: Lease, open_runs: int, subject: str, now: datetime
) -> Finding:
    node, is_dead = lease.node, lease.is_over(now)
    renewed = lease.expires_at - LEASE
    age = max(0.0, (now - renewed).total_seconds())
    details = {
        "node": node.id,
        "host": node.host,
        "pid": node.pid,
        "is_dead": is_dead,
        "renewed_at": renewed,
        "open_runs": open_runs,
    }
    where = f" (process {node.pid} on {node.host})" if node.host else ""
    text = (
        f"scheduler {node.id}{where} owns {count(open_runs, 'run')}, and has shown that it is alive "
        f"{format_seconds(age)} ago"
    )
    if not is_dead:
        return ok(subject, text, **details)
    why = "its process is gone" if node.is_gone() else "it has not for too long"
    return warning(
        subject,
        f"{text}; it is dead, since {why}",
        "Its runs are taken over by any scheduler on this store; see that one runs",
        **details,
    )


def examine_runs(
    store: NativeJobStore, subject: str, now: datetime
) -> Iterator[Finding]:
    """Look for runs that go on for very long, that nobody takes, and that were lost."""
    old = store.get_runs(
        RunFilter(states=frozenset({RunState.RUNNING}), until=now - LONG_RUN), MAX_RUNS
    )
    if old:
        yield warning(
            subject,
            f"{count(len(old), 'run')} going on for more than a day, such as of job {old[0].job_id!r}",
            "See whether it hangs; runs of a scheduler that died are taken over by any that runs on this store",
        )
    ready = store.get_runs(RunFilter(states=frozenset({RunState.READY})), MAX_RUNS)
    soon = now - LEASE
    waiting = [run for run in ready if (run.available_at or now) < soon]
    if waiting:
        yield warning(
            subject,
            f"{count(len(waiting), 'run')} {'waits' if len(waiting) == 1 else 'wait'} to be started, such as of job "
            f"{waiting[0].job_id!r}",
            "See whether a scheduler runs on this store",
        )
    lost = _lost_lately(store, now)
    if lost:
        yield warning(
            subject,
            f"{count(len(lost), 'run')} lost within a day, such as of job {lost[0].job_id!r}: whether it did its work "
            "is unknown",
            "See 'apscheduler runs list --state lost'; on_lost=\"retry\" has such runs started again",
        )


def _lost_lately(store: NativeJobStore, now: datetime) -> list[Run]:
    lost = store.get_runs(RunFilter(states=frozenset({RunState.LOST})), MAX_RUNS)
    return [run for run in lost if (run.finished_at or now) > now - LATELY]
