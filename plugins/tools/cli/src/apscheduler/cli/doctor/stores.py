"""Do the stores answer, can they be written to, and what is in them?"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from apscheduler.cli.client import Client, open_client
from apscheduler.cli.doctor.findings import Finding, ok, problem, warning
from apscheduler.cli.errors import ConfigurationFailure, describe_error
from apscheduler.cli.jobs.listing import why_unavailable
from apscheduler.cli.shared import format_seconds
from apscheduler.cli.sources import Source, scheduler_warnings
from apscheduler.config import ConfigurationError
from apscheduler.environment import censor
from apscheduler.jobstores.contract import JobRecord, NativeJobStore
from apscheduler.nodes import LEASE_SECONDS
from apscheduler.runs import RunFilter, RunState

# So many things are listed one by one.
MAX_LISTED = 10
# Clocks that differ by more are worth a word.
LARGE_OFFSET = timedelta(seconds=1)
# A job that is due for longer has no scheduler that takes it.
LONG_DUE = timedelta(minutes=1)
LONG_RUN = timedelta(days=1)
MAX_RUNS = 10_000


def examine_stores(source: Source) -> Iterator[Finding]:
    """Look at each store by itself: one that does not answer keeps nobody from the others."""
    config = source.config
    source.make_importable()
    stores = config.get("jobstores") or {}
    if not stores:
        yield warning(
            "job stores",
            "none is configured: jobs are kept in memory, and forgotten when the process ends",
            "Configure one that keeps them, such as sqlalchemy, if they are to be kept",
        )
    for alias in stores:
        yield from _examine(source, alias)


def _examine(source: Source, alias: str) -> Iterator[Finding]:
    subject = f"job store {alias!r}"
    notes: list[str] = []
    with scheduler_warnings(notes.append):
        try:
            client = open_client(source.config, alias)
        except ConfigurationError as exc:
            raise ConfigurationFailure(exc) from exc
        except Exception as exc:
            yield problem(
                subject,
                f"it cannot be opened: {censor(describe_error(exc), source.config)}",
                "Check its address, that its server is running, and the rights of the user",
            )
            return
        try:
            yield from _examine_opened(client, alias, subject)
        except Exception as exc:  # the server may go away at any time
            text = censor(describe_error(exc), source.config)
            yield problem(
                subject, f"it fails: {text}", "Look into the logs of its server"
            )
        finally:
            client.shutdown()
    for note in notes:
        yield warning(subject, note.partition(": ")[2].rstrip("."), "")


def _examine_opened(client: Client, alias: str, subject: str) -> Iterator[Finding]:
    store = client._native_store(alias)
    if not store.performs_io:
        yield ok(subject, "it is in the memory of the process that runs it")
        return
    yield ok(subject, f"it answers ({type(client._lookup_jobstore(alias)).__name__})")
    yield _examine_writing(client, store, subject)
    if store.shareable:
        yield ok(subject, "several schedulers may use it")
    else:
        yield warning(
            subject,
            "only one scheduler may use it at a time",
            "Run no second one on it",
        )
    yield _compare_clocks(store, subject)
    records = store.get_job_records()
    yield from _examine_jobs(records, subject, client._now())
    yield from _examine_runs(store, subject, client._now())


def _examine_writing(client: Client, store: NativeJobStore, subject: str) -> Finding:
    """Renew a lease that nobody looks at, and drop it: the smallest thing that is written."""
    node = client._engine.identity.node
    try:
        store.renew_lease(node, client._now() + timedelta(seconds=1))
        store.drop_lease(node)
    except Exception as exc:
        return problem(
            subject,
            f"it cannot be written to: {describe_error(exc)}",
            "Give the user the right to write, or make room on the server",
        )
    return ok(subject, "it can be written to")


def _compare_clocks(store: NativeJobStore, subject: str) -> Finding:
    before = datetime.now(UTC)
    there = store.read_clock()
    after = datetime.now(UTC)
    if there is None:
        return ok(
            subject,
            "its server tells no time, so that the clocks of all machines should agree",
        )
    offset = there - (before + (after - before) / 2)
    text = f"its clock differs from the one here by {format_seconds(abs(offset.total_seconds()))}"
    if abs(offset) > LARGE_OFFSET + (after - before):
        return warning(
            subject,
            text,
            "Set the clocks; schedulers live by that of the server meanwhile",
        )
    return ok(subject, text)


def _examine_jobs(
    records: list[JobRecord], subject: str, now: datetime
) -> Iterator[Finding]:
    paused = sum(record.next_run_time is None for record in records)
    yield ok(subject, f"it has {_count(len(records), 'job')}, {paused} of them paused")
    unavailable = [(each, why_unavailable(each)) for each in records]
    broken = [(each.id, why) for each, why in unavailable if why is not None]
    for job_id, why in broken[:MAX_LISTED]:
        yield problem(
            subject,
            f"job {job_id!r} cannot run here: {why}",
            "Install its code, or run this where the scheduler runs; or remove the job by 'apscheduler jobs remove'",
        )
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
            f"{_count(len(late), 'job')} should have run a while ago, such as {late[0]!r}",
            "See whether a scheduler runs on this store, and has the code and the executors of its jobs",
        )


def _examine_runs(
    store: NativeJobStore, subject: str, now: datetime
) -> Iterator[Finding]:
    """Look for runs that go on for very long, and for runs that nobody takes."""
    open_runs = store.get_runs(
        RunFilter(states=frozenset({RunState.READY, RunState.RUNNING})), MAX_RUNS
    )
    running = [run for run in open_runs if run.state is RunState.RUNNING]
    nodes = {run.node for run in running}
    yield ok(
        subject,
        f"{_count(len(running), 'run')} going on, of {_count(len(nodes), 'scheduler')}",
    )
    old = [run for run in running if run.scheduled_time < now - LONG_RUN]
    if old:
        yield warning(
            subject,
            f"{_count(len(old), 'run')} going on for more than a day, such as of job {old[0].job_id!r}",
            "See whether it hangs; runs of a scheduler that died are taken over by any that runs on this store",
        )
    soon = now - timedelta(seconds=LEASE_SECONDS)
    waiting = [
        run
        for run in open_runs
        if run.state is RunState.READY and (run.available_at or now) < soon
    ]
    if waiting:
        yield warning(
            subject,
            f"{_count(len(waiting), 'run')} {'waits' if len(waiting) == 1 else 'wait'} to be started, such as of job "
            f"{waiting[0].job_id!r}",
            "See whether a scheduler runs on this store",
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
