"""``apscheduler jobs``: look at the jobs in a store, and change them."""

import click

from apscheduler.cli.jobs.adding import add, reschedule
from apscheduler.cli.jobs.changing import pause, remove, resume, run_now
from apscheduler.cli.jobs.listing import list_jobs
from apscheduler.cli.jobs.showing import show


@click.group(
    help="""Look at the jobs in a store, and change them.

    Whatever is done here runs no job by itself; the schedulers of the store notice at once. The code of the jobs need
    not be importable here, except to add one.

    \b
    apscheduler jobs list --store sqlite:///jobs.db
    apscheduler jobs show report --config jobs.ini
    apscheduler jobs pause report backup --config jobs.ini
    """
)
def jobs() -> None:
    """Hold the commands."""


for command in (add, list_jobs, pause, remove, reschedule, resume, run_now, show):
    jobs.add_command(command)
