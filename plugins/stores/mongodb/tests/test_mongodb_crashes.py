"""Processes die, at random and before every single command: no fire is lost, none runs twice."""

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from apscheduler.jobstores.mongodb import MongoDBJobStore
from apscheduler.runs import RunFilter, RunState
from apscheduler.testing.jobs import PATIENCE, make_stored_job

WORKERS = Path(__file__).with_name("mongodb_workers.py")
T0 = datetime(2026, 6, 1, 12, tzinfo=UTC)
FIRES = 4
KILLS = 4


@pytest.fixture
def store(mongodb_url: str, mongodb_database_name: str) -> Iterator[MongoDBJobStore]:
    store = MongoDBJobStore(mongodb_database_name, host=mongodb_url)
    store.start(None, "mongo")
    yield store
    store.shutdown()


def start_worker(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(WORKERS), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("first", ["0", "1"], ids=["even", "odd"])
def test_a_crash_before_any_command_neither_loses_nor_repeats_a_run(
    mongodb_url: str, mongodb_database_name: str, tmp_path: Path, first: str
) -> None:
    arguments = (mongodb_url, mongodb_database_name, str(tmp_path / "log"), first, "2")

    with start_worker("crash", *arguments) as worker:
        printed, errors = worker.communicate(timeout=120)

    assert worker.returncode == 0, errors
    assert int(printed) > 25


def test_processes_that_are_killed_at_random_leave_every_fire_to_others(
    store: MongoDBJobStore,
    mongodb_url: str,
    mongodb_database_name: str,
    tmp_path: Path,
) -> None:
    marked = [f"m{n:02}" for n in range(15)]
    retried = [f"r{n:02}" for n in range(10)]
    store.add_jobs([make_stored_job(name, T0, max_instances=99) for name in marked])
    store.add_jobs(
        [
            make_stored_job(
                name, T0, max_instances=99, on_lost="retry", max_attempts=99
            )
            for name in retried
        ]
    )
    log = tmp_path / "log"
    log.touch()
    arguments = ("work", mongodb_url, mongodb_database_name, str(log))

    with ExitStack() as stack:
        workers = [stack.enter_context(start_worker(*arguments)) for _ in range(3)]
        for number in range(KILLS):
            wait_for_lines(log, (number + 1) * 12)
            victim = workers.pop(random.randrange(len(workers)))
            victim.kill()
            victim.communicate(timeout=PATIENCE)
            workers.append(stack.enter_context(start_worker(*arguments)))
        errors = [worker.communicate(timeout=60)[1] for worker in workers]

    assert [worker.returncode for worker in workers] == [0, 0, 0], errors
    executed: Counter[tuple[str, datetime]] = Counter()
    for line in log.read_text().splitlines():
        name, timestamp = line.split()
        executed[name, datetime.fromtimestamp(float(timestamp), UTC)] += 1
    runs = store.get_runs(RunFilter(), 10_000)
    fires = {
        (name, T0 + n * timedelta(seconds=1))
        for name in marked + retried
        for n in range(FIRES)
    }
    assert Counter((run.job_id, run.scheduled_time) for run in runs) == dict.fromkeys(
        fires, 1
    )
    for run in runs:
        times = executed[run.job_id, run.scheduled_time]
        if run.job_id in retried:
            assert run.state is RunState.SUCCEEDED
            assert 1 <= times <= run.attempt
        else:
            assert run.state in (RunState.SUCCEEDED, RunState.LOST)
            assert times <= 1
            assert times == 1 or run.state is RunState.LOST
    assert store.get_all_jobs() == []


def wait_for_lines(log: Path, number: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while len(log.read_text().splitlines()) < number:
        assert time.monotonic() < deadline, "nobody works"
        time.sleep(0.005)
