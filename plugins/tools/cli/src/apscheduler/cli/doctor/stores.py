"""Do the stores answer, can they be written to, and do their clocks agree with the one here?"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from apscheduler.cli.client import Client, create_client
from apscheduler.cli.doctor.contents import examine_jobs, examine_nodes, examine_runs
from apscheduler.cli.doctor.findings import Finding, ok, problem, warning
from apscheduler.cli.errors import describe_error
from apscheduler.cli.shared import format_seconds
from apscheduler.cli.sources import Source, scheduler_warnings
from apscheduler.config import ConfigurationError
from apscheduler.environment import censor
from apscheduler.jobstores.contract import NativeJobStore

NOTHING = (
    "there is nothing of it yet; the scheduler that starts first creates what it needs"
)
# Clocks that differ by more are worth a word.
LARGE_OFFSET = timedelta(seconds=1)


def examine_stores(source: Source) -> Iterator[Finding]:
    """Look at each store by itself: one that does not answer keeps nobody from the others."""
    config = source.config
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
            client = create_client(source.config, alias)
            store = client._jobstores[alias]
            if isinstance(store, NativeJobStore) and not store.exists():
                store.shutdown()
                yield ok(subject, NOTHING)
                return
            client.start(paused=True)
        except ConfigurationError as exc:
            for each in exc.problems:
                yield problem(
                    subject,
                    f"it is not configured well: {each}",
                    "See 'apscheduler check' for everything that is wrong with a configuration",
                )
            return
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
    yield from examine_jobs(client, store, subject)
    yield from examine_nodes(store, subject, client._now())
    yield from examine_runs(store, subject, client._now())


def _examine_writing(client: Client, store: NativeJobStore, subject: str) -> Finding:
    """Renew a lease that nobody looks at, and drop it: the smallest thing that is written."""
    if not store.keeps_runs:
        return ok(
            subject,
            "it keeps jobs only, and its runs are in memory: that it can be written to was not tried",
        )
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
            "it tells no time of its own: the clocks of all machines that use it have to agree",
        )
    offset = there - (before + (after - before) / 2)
    seconds = offset.total_seconds()
    text = f"its clock differs from the one here by {format_seconds(abs(seconds))}"
    if abs(offset) > LARGE_OFFSET + (after - before):
        return warning(
            subject,
            text,
            "Set the clocks; schedulers live by that of the server meanwhile",
            offset_seconds=seconds,
        )
    return ok(subject, text, offset_seconds=seconds)
