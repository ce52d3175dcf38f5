"""Several processes on one database: every fire once, nothing lost when some of them are killed or fork."""

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from apscheduler.jobstores.contract import ClaimRequest
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.nodes import Identity
from apscheduler.runs import Plan, RunFilter, RunState
from apscheduler.testing.jobs import PATIENCE, make_stored_job
from apscheduler.testing.jobstores.basic import T0

WORKERS = Path(__file__).with_name("workers.py")
ROUNDS = 8
NAMES = [f"{n:02}" for n in range(20)]


@pytest.fixture(params=["sqlite", "postgresql_database_url", "mysql_database_url"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'jobs.db'}"
    found: str = request.getfixturevalue(request.param)
    return found


def start_worker(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(WORKERS), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def start_claiming(
    stack: ExitStack, number: int, url: str, log: Path
) -> "list[subprocess.Popen[str]]":
    """Start processes that claim at the same time."""
    workers = [
        stack.enter_context(start_worker("claim", url, str(ROUNDS), str(log)))
        for _ in range(number)
    ]
    for worker in workers:
        stack.callback(worker.kill)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    return workers


def add_jobs(store: SQLAlchemyJobStore) -> set[tuple[str, float]]:
    """Add jobs, and return their fires."""
    store.add_jobs([make_stored_job(name, T0, max_instances=99) for name in NAMES])
    return {(name, T0.timestamp() + n) for name in NAMES for n in range(ROUNDS)}


def read_started(log: Path) -> Counter[tuple[str, float]]:
    lines = log.read_text().splitlines()
    return Counter((line.split()[0], float(line.split()[1])) for line in lines)


def test_processes_claim_every_fire_exactly_once(
    store: SQLAlchemyJobStore, url: str, tmp_path: Path
) -> None:
    all_fires = add_jobs(store)
    log = tmp_path / "started"

    with ExitStack() as stack:
        for worker in start_claiming(stack, 3, url, log):
            assert worker.wait(50) == 0

    started = read_started(log)
    assert set(started) == all_fires
    assert set(started.values()) == {1}
    runs = store.get_runs(RunFilter(), 1000)
    fires = Counter((run.job_id, run.scheduled_time.timestamp()) for run in runs)
    assert fires == started
    assert {run.state for run in runs} == {RunState.SUCCEEDED}


def test_nothing_is_lost_or_started_twice_when_processes_are_killed(
    store: SQLAlchemyJobStore, url: str, tmp_path: Path
) -> None:
    """What a killed process had claimed is recorded as lost; everything else runs once."""
    all_fires = add_jobs(store)
    log = tmp_path / "started"
    chance = random.Random()

    with ExitStack() as stack:
        doomed = start_claiming(stack, 4, url, log)
        deadline = time.monotonic() + PATIENCE
        while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
            threading.Event().wait(0.001)
        for worker in doomed:
            threading.Event().wait(chance.uniform(0, 0.02))
            worker.kill()
        for worker in doomed:
            worker.wait(PATIENCE)
        (survivor,) = start_claiming(stack, 1, url, log)
        assert survivor.wait(50) == 0
    lost = store.take_over(Identity().node, T0)

    assert {run.state for run in lost} <= {RunState.LOST}
    started = read_started(log)
    assert set(started.values()) == {1}
    runs = store.get_runs(RunFilter(), 1000)
    fires = Counter((run.job_id, run.scheduled_time.timestamp()) for run in runs)
    assert set(fires) == all_fires >= set(started)
    assert set(fires.values()) == {1}
    lost_fires = {(run.job_id, run.scheduled_time.timestamp()) for run in lost}
    assert all_fires - set(started) <= lost_fires
    assert {run.state for run in runs} <= {RunState.SUCCEEDED, RunState.LOST}


def test_runs_of_a_killed_process_are_taken_over_at_once(
    store: SQLAlchemyJobStore, url: str
) -> None:
    store.add_job(make_stored_job("marked", T0))
    store.add_job(make_stored_job("retried", T0, on_lost="retry"))
    me = Identity()
    with start_worker("hang", url) as worker:
        assert worker.stdout is not None
        claimed, pid = map(int, worker.stdout.readline().split())
        assert (claimed, pid) == (2, worker.pid)
        assert store.take_over(me.node, T0) == [], "it is alive"

        worker.kill()
        worker.wait(20)

    taken = store.take_over(me.node, T0)
    assert {run.job_id: (run.state, run.attempt) for run in taken} == {
        "marked": (RunState.LOST, 1),
        "retried": (RunState.READY, 2),
    }
    assert store.take_over(me.node, T0) == []


def test_runs_of_a_node_without_a_lease_are_taken_after_the_time_of_one(
    store: SQLAlchemyJobStore,
) -> None:
    store.add_job(make_stored_job("a", T0))
    store.claim(ClaimRequest(T0, 1, lambda job: Plan([T0], None), Identity()))
    me = Identity().node

    times = [
        len(store.take_over(me, T0 + timedelta(seconds=seconds)))
        for seconds in (0, 19, 21, 22)
    ]

    assert times == [0, 0, 1, 0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_uses_connections_of_its_own(
    store: SQLAlchemyJobStore,
) -> None:
    store.add_job(make_stored_job("parent", T0))
    pool = store.engine.pool

    pid = os.fork()
    if pid == 0:
        failure = 1
        try:
            assert store.engine.pool is not pool
            store.add_job(make_stored_job("child", T0))
            assert len(store.get_all_jobs()) == 2
            failure = 0
        finally:
            os._exit(failure)
    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert store.engine.pool is pool
    assert [job.id for job in store.get_all_jobs()] == ["child", "parent"]
    store.remove_job("child")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_process_that_forks_while_it_writes_locks_nobody_out(
    store: SQLAlchemyJobStore,
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def write() -> None:
        with store._database.write(store.jobs_t):
            begun.set()
            may_end.wait(0.3)  # longer than a fork takes

    writer = threading.Thread(target=write)
    writer.start()
    assert begun.wait(PATIENCE)

    pid = os.fork()
    if pid == 0:
        failure = 1
        try:
            store.add_job(make_stored_job("child", T0))
            failure = 0
        finally:
            os._exit(failure)
    may_end.set()
    writer.join()
    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert [job.id for job in store.get_all_jobs()] == ["child"]
    store.add_job(make_stored_job("parent", T0))
