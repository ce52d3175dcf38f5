"""``apscheduler export`` and ``import``: jobs as JSON, to move them from one store to another."""

import json
import sys

import click

from apscheduler import transfer
from apscheduler.cli.client import Client
from apscheduler.cli.errors import CommandError, explained
from apscheduler.cli.output import Output, output_options, progress
from apscheduler.cli.sources import Source, jobstore_option, source_options
from apscheduler.job import Job
from apscheduler.jobstores.contract import NativeJobStore

BATCH = 500


@click.command(
    "export",
    help="""Write the jobs of a store to FILE as JSON; - is standard output. Runs are not part of it.

    The functions of the jobs need not be importable here, the classes of their arguments must.

    \b
    apscheduler export jobs.json --config jobs.ini
    apscheduler export - --store sqlite:///jobs.db
    """,
)
@click.argument("file", type=click.Path(allow_dash=True, dir_okay=False))
@source_options
@jobstore_option
@output_options
def export_jobs(
    file: str, source: Source, jobstore: str | None, output: Output
) -> None:
    """Export jobs."""
    if file == "-" and output.is_json:
        raise click.UsageError("Standard output is for the jobs: leave out --json")
    with source.open(jobstore) as client:
        jobs = client.get_jobs()
        with explained(f"The jobs cannot be exported to {file!r}"):
            if file == "-":
                transfer.write_jobs(jobs, sys.stdout)
            else:
                transfer.write_jobs(progress(jobs, "Export"), file)
    if file != "-":
        output.say(f"{_count(len(jobs))} exported to {file}.")
        if output.is_json:
            output.document({"exported": len(jobs), "file": file})


@click.command(
    "import",
    help="""Add the jobs that 'apscheduler export' has written to FILE; - is standard input.

    The file must be trusted: reading it runs code that it names, unless the store has an allow-list. Nothing is added
    if there are jobs with the same ids, unless --replace or --skip says what to do about them. A long import that
    breaks off is taken up again by --skip.

    \b
    apscheduler import jobs.json --store postgresql://localhost/jobs
    apscheduler import jobs.json --skip --config jobs.ini --jobstore other
    """,
)
@click.argument("file", type=click.Path(allow_dash=True, dir_okay=False))
@click.option("--replace", is_flag=True, help="Replace jobs with the same ids.")
@click.option("--skip", is_flag=True, help="Leave jobs with the same ids as they are.")
@source_options
@jobstore_option
@output_options
def import_jobs(
    file: str,
    replace: bool,
    skip: bool,
    source: Source,
    jobstore: str | None,
    output: Output,
) -> None:
    """Import jobs."""
    if replace and skip:
        raise click.UsageError("Give either --replace or --skip, not both")
    with source.prepare(jobstore) as client:
        alias = jobstore or _only(client)
        jobs = _read(file, client, alias)  # before its store is created
        with source.opened(client, creates=True):
            store = client._native_store(alias)
            there = {record.id for record in store.get_job_records()}
            new = [job for job in jobs if job.id not in there]
            known = [job for job in jobs if job.id in there]
            if known and not (replace or skip):
                raise CommandError(
                    f"There is a job {known[0].id!r} already, and {len(known) - 1} more of those in {file!r}; nothing "
                    "was added. Give --replace or --skip"
                )
            _write(store, new, known if replace else [])
    done = {
        "added": len(new),
        "replaced": len(known) if replace else 0,
        "skipped": 0 if replace else len(known),
    }
    output.say(", ".join(f"{n} {word}" for word, n in done.items()) + ".")
    if output.is_json:
        output.document(done)


def _only(client: Client) -> str:
    aliases = client._matching_stores(None)
    return aliases[0] if len(aliases) == 1 else "default"


def _read(file: str, client: Client, alias: str) -> list[Job]:
    with explained(f"The jobs in {file!r} cannot be imported"):
        store = client._lookup_jobstore(alias)
        allowed = getattr(getattr(store, "serializer", None), "allowed", None)
        try:
            jobs = transfer.read_jobs(sys.stdin if file == "-" else file, allowed)
        except (json.JSONDecodeError, UnicodeDecodeError) as exc:
            raise ValueError(
                f"it is no JSON ({exc}), as 'apscheduler export' writes it"
            ) from exc
    for job in jobs:
        job._scheduler, job._jobstore_alias = client, alias
    return jobs


def _write(store: NativeJobStore, new: list[Job], known: list[Job]) -> None:
    batches = [new[start : start + BATCH] for start in range(0, len(new), BATCH)]
    done = 0
    for batch in progress(batches, "Import"):
        with explained(f"{done} jobs were added, then"):
            store.add_jobs(batch)
        done += len(batch)
    for job in progress(known, "Replace"):
        with explained(f"Job {job.id!r} cannot be replaced"):
            store.update_job(job)


def _count(number: int) -> str:
    return f"{number} job{'' if number == 1 else 's'}"
