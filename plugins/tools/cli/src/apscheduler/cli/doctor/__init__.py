"""``apscheduler doctor``: what is wrong with an installation, with stores and with the jobs in them."""

import sys
from collections.abc import Iterator

import click

from apscheduler.cli.doctor.findings import Finding
from apscheduler.cli.doctor.installation import examine_installation
from apscheduler.cli.doctor.stores import examine_stores
from apscheduler.cli.errors import FAILURE
from apscheduler.cli.output import Output, output_options
from apscheduler.cli.sources import Source, file_or_source_options

STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


@click.command(
    help="""Find out what is wrong: another apscheduler package in the way, distributions that do not fit together,
    stores that do not answer or cannot be written to, clocks that differ, runs of schedulers that died, jobs that
    cannot run here. Each line that is not ok says what to do.

    It tells which schedulers own runs in a store, and whether they are alive. Where there is nothing of a store yet,
    nothing is created. The functions of jobs are imported.

    \b
    apscheduler doctor jobs.ini
    apscheduler doctor --store postgresql://localhost/jobs --json

    Exit codes: 0 all is well, though there may be warnings; 1 there are problems; 2 the command line is wrong."""
)
@file_or_source_options
@output_options
def doctor(source: Source, output: Output) -> None:
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


def _examine(source: Source) -> Iterator[Finding]:
    source.make_importable()
    yield from examine_installation(sys.path)
    yield from examine_stores(source)
