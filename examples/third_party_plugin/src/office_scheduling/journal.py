"""A hook plugin that keeps a journal of runs, for every scheduler in the environment that it is installed in."""

import os
from pathlib import Path

from apscheduler.hooks import hookimpl
from apscheduler.runs import Run


@hookimpl
def apscheduler_run_finished(run: Run) -> None:
    write(f"{run.job_id} took {run.duration:.3f} s")


@hookimpl
def apscheduler_run_failed(run: Run) -> None:
    write(f"{run.job_id} failed: {run.exception}")


def write(line: str) -> None:
    path = os.environ.get("OFFICE_JOURNAL")
    if path:
        with Path(path).open("a", encoding="utf-8") as journal:
            journal.write(f"{line}\n")
