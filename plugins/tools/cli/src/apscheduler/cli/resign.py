"""``apscheduler resign``: writes what is in job stores anew, as the serializer of the configuration does."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from apscheduler.cli.client import Client
from apscheduler.cli.errors import FAILURE, CommandError, describe_error, explained
from apscheduler.cli.output import Output, output_options
from apscheduler.cli.shared import count
from apscheduler.cli.sources import Source, jobstore_option, source_options
from apscheduler.config import create_scheduler
from apscheduler.jobstores.serializing import SerializingJobStore
from apscheduler.plugins import installed_components, load_component
from apscheduler.resigning import Resigned, resign
from apscheduler.serializers import Serializer

WRITTEN, WOULD_BE, CURRENT, REFUSED = "written", "to write", "current", "refused"


@click.command(name="resign")
@source_options
@jobstore_option
@click.option(
    "--from",
    "origins",
    metavar="NAME|FILE",
    multiple=True,
    help="What the store may have been written with: the name of a serializer, such as pickle, or a configuration "
    "whose store of the same alias has it. May be repeated. Whatever it accepts is trusted.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@output_options
def resign_command(
    source: Source,
    jobstore: str | None,
    origins: tuple[str, ...],
    dry_run: bool,
    output: Output,
) -> None:
    """Write the state of every job anew, as the serializer in the configuration does it.

    This signs what was stored without a key, signs with a new key what was signed with one of the old_keys, or changes
    the format. Copies of jobs that are kept with runs that wait, or are to be repeated, are included. Each is written
    only if nobody has changed it meanwhile, and what is as it should be is left as it is: schedulers may go on, and
    the command may be repeated. No function is imported. Pickled states are unpickled only if the format changes.

    \b
    apscheduler resign --config jobs.ini --from pickle
    apscheduler resign --config jobs.ini --from old.ini --dry-run

    Exit codes: 0 everything is as the serializer writes it, 1 something is not, 2 the command line is wrong.
    """
    found: list[dict[str, Any]] = []
    with source.open(jobstore) as client:
        for alias, store in _stores(client, jobstore):
            known = [_serializer(origin, alias) for origin in origins]
            with _progress(output, alias) as note:
                for each in resign(store, known, dry_run):
                    found.append(_to_document(alias, each, dry_run))
                    note(len(found))
                    _report(output, alias, each)
    counts = Counter(each["outcome"] for each in found)
    if output.is_json:
        output.document({"dry_run": dry_run, "counts": counts, "states": found})
    words = [f"{counts[word]} {word}" for word in (WRITTEN, WOULD_BE, CURRENT, REFUSED)]
    shown = [text for text in words if not text.startswith("0 ")]
    output.say(f"{count(len(found), 'state')}: {', '.join(shown) or 'nothing to do'}.")
    if counts[REFUSED]:
        raise SystemExit(FAILURE)


def _stores(
    client: Client, jobstore: str | None
) -> Iterator[tuple[str, SerializingJobStore]]:
    """Return the stores that have serializers.

    :raises CommandError: if there is none
    """
    stores = {alias: client._native_store(alias) for alias in client._jobstores}
    able = {
        alias: store
        for alias, store in stores.items()
        if isinstance(store, SerializingJobStore)
    }
    if not able:
        names = ", ".join(map(repr, stores))
        raise CommandError(f"Job store {names} has no serializer: nothing can be done")
    yield from able.items()


def _serializer(origin: str, alias: str) -> Serializer:
    """Return what the store was written with: a serializer of a name, or that of a configuration."""
    with explained(f"--from {origin} cannot be used"):
        known = installed_components("serializer")
        if origin in known:
            made: Serializer = load_component("serializer", origin)()
            return made
        if not Path(origin).suffix and not Path(origin).exists():
            raise LookupError(
                f"There is no such serializer, nor a configuration of that name; there is {', '.join(sorted(known))}"
            )
        stores = Source(origin).config.get("jobstores")
        if not isinstance(stores, Mapping) or alias not in stores:
            raise LookupError(f"It has no job store {alias!r}")
        config = {"jobstores": {alias: stores[alias]}, "scheduler": {"class": Client}}
        store = create_scheduler(config)._jobstores[alias]
        if not isinstance(store, SerializingJobStore):
            raise TypeError(f"Job store {alias!r} there has no serializer")
        return store.serializer


def _outcome(each: Resigned, dry_run: bool) -> str:
    if each.error is not None:
        return REFUSED
    if each.was_current:
        return CURRENT
    return WOULD_BE if dry_run else WRITTEN


def _to_document(alias: str, each: Resigned, dry_run: bool) -> dict[str, Any]:
    return {
        "jobstore": alias,
        "job": each.job_id,
        "run": each.run_id,
        "outcome": _outcome(each, dry_run),
        "error": each.error and describe_error(each.error),
    }


def _report(output: Output, alias: str, each: Resigned) -> None:
    if each.error is not None:
        what = f"job {each.job_id!r}" + (
            f", its copy with run {each.run_id}" if each.run_id else ""
        )
        text = f"{what} in store {alias!r}: {describe_error(each.error)}"
        output.line(REFUSED, "bold red", text)


@contextmanager
def _progress(output: Output, alias: str) -> Iterator[Any]:
    """Show on a terminal how many states were looked at."""
    if output.is_json or not output.console.is_terminal:
        yield lambda number: None
        return
    with output.console.status(f"Job store {alias!r}") as status:
        yield lambda number: status.update(
            f"Job store {alias!r}: {count(number, 'state')}"
        )
