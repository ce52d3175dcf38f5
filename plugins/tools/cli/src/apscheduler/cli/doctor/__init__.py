"""``apscheduler doctor``: what is wrong with an installation, with stores and with the jobs in them."""

import functools
import os
import sys
from collections.abc import Iterator

import click

from apscheduler.cli.doctor.findings import Finding, ok
from apscheduler.cli.doctor.installation import examine_installation
from apscheduler.cli.doctor.stores import examine_stores
from apscheduler.cli.errors import FAILURE
from apscheduler.cli.output import Output, output_options
from apscheduler.cli.sources import Source, file_or_source_options

optional_source = functools.partial(file_or_source_options, is_required=False)

STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


@click.command(
    help="""Find out what is wrong: another apscheduler package in the way, distributions that do not fit together,
    plugins that are broken, stores that do not answer or cannot be written to, clocks that differ, runs of schedulers
    that died, jobs that cannot run here. Each line that is not ok says what to do.

    It tells which schedulers own runs in a store, and whether they are alive. Where there is nothing of a store yet,
    nothing is created. The functions of jobs are imported. Without a configuration or a store it looks at the
    installation alone.

    \b
    apscheduler doctor
    apscheduler doctor jobs.ini
    apscheduler doctor --store postgresql://localhost/jobs --json

    Exit codes: 0 all is well, though there may be warnings; 1 there are problems; 2 the command line is wrong."""
)
@optional_source
@output_options
def doctor(source: Source | None, output: Output) -> None:
    """Look for problems."""
    findings = []
    for finding in _examine(source):
        findings.append(finding)
        text = f"{finding.subject}: {finding.text}"
        if finding.remedy:
            text += f". {finding.remedy}"
        output.line(finding.level, STYLES[finding.level], text)
    problems = [each for each in findings if each.level == "problem"]
    if output.is_json:
        output.document(
            {"ok": not problems, "findings": [each.as_document() for each in findings]}
        )
    if problems:
        raise SystemExit(FAILURE)


def _examine(source: Source | None) -> Iterator[Finding]:
    if source is None:
        yield from examine_installation([os.getcwd(), *sys.path])
        yield ok(
            "job stores",
            "none was examined: give a configuration or --store URL to have stores and their jobs looked at",
        )
        return
    source.make_importable()
    yield from examine_installation(sys.path)
    yield from examine_stores(source)
