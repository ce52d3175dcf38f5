"""``apscheduler rewrite``: changes an option of many stored jobs."""

import functools
from typing import Any

import click

from apscheduler.cli.client import Client
from apscheduler.cli.jobs.adding import describe_options, given_options, job_options
from apscheduler.cli.jobs.changing import carry_out, choose, confirm, selecting
from apscheduler.cli.output import Output
from apscheduler.cli.sources import Source


@click.command(
    help="""Change options of stored jobs: for example the grace time of jobs that APScheduler 3 has stored, which is
    1 second there unless it was set.

    The code of the jobs need not be importable here, and their next run times stay as they are. Each job is written
    only if nobody has changed it meanwhile; otherwise it is read again.

    \b
    apscheduler rewrite --all --grace-time any --config jobs.ini
    apscheduler rewrite --match 'report-*' --max-instances 2 --yes --store sqlite:///jobs.db
    apscheduler rewrite report --history default --config jobs.ini
    apscheduler rewrite report --executor slow --config jobs.ini --dry-run
    """
)
@click.option("--dry-run", is_flag=True, help="Only say which jobs would be changed.")
@job_options
@selecting
def rewrite(
    ids: tuple[str, ...],
    match: tuple[str, ...],
    every: bool,
    yes: bool,
    dry_run: bool,
    source: Source,
    jobstore: str | None,
    output: Output,
    **options: Any,
) -> None:
    """Change options of jobs."""
    given = given_options(options)
    if not given:
        raise click.UsageError("Give an option to change, such as --grace-time any")
    with source.open(jobstore) as client:
        chosen = choose(client, ids, match, every)
        if (match or every) and not dry_run:
            confirm("rewrite", len(chosen), yes, output)
        action = functools.partial(_change, given, dry_run)
        carry_out(client, chosen, action, "rewrite", output)


def _change(
    given: dict[str, Any], dry_run: bool, client: Client, alias: str, job_id: str
) -> tuple[dict[str, Any], str]:
    words = describe_options(given)
    if dry_run:
        return {"would_change": given}, f"would get {words}"
    client.modify_job(job_id, alias, **given)
    return {"changed": given}, f"has {words}"
