"""The functions of the jobs: each writes down that it starts and that it ends."""

import time
from pathlib import Path

from apscheduler.runs import current_run
from apscheduler.testing.cluster.ledger import Ledger

WORK = f"{__name__}:work"
FAIL = f"{__name__}:fail"
HOLD = f"{__name__}:hold"

#: Where the functions of this process write.
ledger: Ledger | None = None


def work(seconds: float = 0.0) -> None:
    """Take so long."""
    run_id = note_start()
    if seconds:
        time.sleep(seconds)
    note_end(run_id)


def fail() -> None:
    """Raise an error."""
    note_end(note_start())
    raise RuntimeError("as it should")


def hold(path: str, attempts: int = 1) -> None:
    """Fail when there is a file; attempts after these succeed at once, so that outcomes can be told apart."""
    run = current_run()
    assert run is not None
    run_id = note_start()
    is_held = run.attempt <= attempts
    while is_held and not Path(path).exists():
        time.sleep(0.005)
    note_end(run_id)
    if is_held:
        raise RuntimeError(f"the outcome of attempt {run.attempt}")


def note_start() -> str:
    run = current_run()
    assert run is not None
    assert ledger is not None
    fire = run.scheduled_time.timestamp()
    ledger.write("start", run=run.id, job=run.job_id, attempt=run.attempt, fire=fire)
    return run.id


def note_end(run_id: str) -> None:
    assert ledger is not None
    ledger.write("end", run=run_id)
