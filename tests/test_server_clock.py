"""Schedulers on machines whose clocks are wrong live by the clock of the server that their jobs are on."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.runs import RunFilter, RunState

SOON = 30

# Runs on a machine whose clock is wrong. Jobs tell when they run by a clock that is right: the monotonic one.
PROGRAM = """
import sys, time
from datetime import UTC, datetime, timedelta
from apscheduler.schedulers.background import BackgroundScheduler

what, url, true_time, name = sys.argv[1:]
store = {"type": "sqlalchemy", "url": url}
defaults = {"misfire_grace_time": 60}
scheduler = BackgroundScheduler(timezone="UTC", jobstores={"default": store}, job_defaults=defaults)
scheduler.start()
if what == "given":
    due = datetime.fromtimestamp(float(true_time) + 3, UTC)
    scheduler.add_job("time:monotonic", "date", run_date=due, id=name)
elif what == "at once":
    scheduler.add_job("time:monotonic", id=name)
elif what == "interval":
    scheduler.add_job("time:monotonic", "interval", seconds=1, id=name)
elif what == "now":
    scheduler.run_job(scheduler.add_job("time:monotonic", "date", run_date="2100-01-01", id=name).id)
print("started", flush=True)
sys.stdin.readline()
scheduler.shutdown()
"""


@pytest.fixture(scope="session")
def libfaketime() -> str:
    """Return the path of the library that makes the clock of a process wrong."""
    found = list(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        reason = "libfaketime is not installed (on Debian: apt-get install libfaketime)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return str(found[0])


class Machines:
    """Runs programs whose clocks are wrong, on one database."""

    def __init__(self, stack: ExitStack, url: str, library: str):
        self.stack, self.url, self.library = stack, url, library
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, minutes: int, what: str, name: str) -> None:
        """Start a scheduler on a machine whose clock is ahead by so many minutes."""
        arguments = [what, self.url, str(datetime.now(UTC).timestamp()), name]
        process = self.stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-W", "error", "-c", PROGRAM, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={
                    **os.environ,
                    "LD_PRELOAD": self.library,
                    "FAKETIME": f"{minutes:+}m",
                    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                },
            )
        )
        self.stack.callback(process.kill)
        self.processes.append(process)

    def wait_until_started(self) -> None:
        for process in self.processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"

    def end(self) -> None:
        for process in self.processes:
            process.communicate("\n", SOON)
            assert process.returncode == 0


@pytest.fixture(params=["postgresql", "mysql"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_database_url"))


@pytest.fixture
def store(url: str) -> Iterator[SQLAlchemyJobStore]:
    """The store of a machine whose clock is right."""
    store = SQLAlchemyJobStore(url)
    store.start(None, "default")
    yield store
    store.shutdown()


@pytest.fixture
def machines(
    url: str, store: SQLAlchemyJobStore, libfaketime: str
) -> Iterator[Machines]:
    with ExitStack() as stack:
        yield Machines(stack, url, libfaketime)


def wait_for_runs(store: SQLAlchemyJobStore, *job_ids: str) -> None:
    """Wait until each of these jobs has run."""
    wanted = RunFilter(states=frozenset([RunState.SUCCEEDED, RunState.MISSED]))
    deadline = datetime.now(UTC) + timedelta(seconds=SOON)
    while {run.job_id for run in store.get_runs(wanted, 100)} != set(job_ids):
        assert datetime.now(UTC) < deadline
        time.sleep(0.05)


def test_a_fire_is_on_time_and_happens_once_whatever_the_clocks_show(
    store: SQLAlchemyJobStore, machines: Machines
) -> None:
    for minutes in (-5, 0, 5):
        machines.start(minutes, "given", f"job{minutes}")
    machines.wait_until_started()

    wait_for_runs(store, "job-5", "job0", "job5")
    machines.end()

    runs = store.get_runs(RunFilter(), 10)
    assert Counter(run.state for run in runs) == {RunState.SUCCEEDED: 3}
    for run in runs:
        assert run.started_at is not None
        late = run.started_at - run.scheduled_time
        assert timedelta(seconds=-0.1) < late < timedelta(minutes=1)
        assert abs(datetime.now(UTC) - run.started_at) < timedelta(minutes=1)


@pytest.mark.parametrize("minutes", [-5, 5])
def test_what_is_counted_from_now_is_counted_from_the_time_of_the_server(
    store: SQLAlchemyJobStore, machines: Machines, minutes: int
) -> None:
    begun = datetime.now(UTC)
    kinds = ("at once", "interval", "now")
    for kind in kinds:
        machines.start(minutes, kind, kind)
    machines.wait_until_started()

    wait_for_runs(store, *kinds)
    machines.end()

    runs = store.get_runs(RunFilter(), 1000)
    assert not any(run.state is RunState.MISSED for run in runs)
    ended = datetime.now(UTC)
    tolerance = timedelta(seconds=1)
    for run in runs:
        assert begun - tolerance < run.scheduled_time < ended + tolerance
        if run.finished_at is None:  # shutting down has kept it from starting
            continue
        assert begun - tolerance < run.finished_at < ended + tolerance
