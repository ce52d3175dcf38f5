"""Several processes on one file: every fire once, nothing lost when one of them dies or forks."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from apscheduler.jobstores.contract import ClaimRequest
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.nodes import Identity
from apscheduler.runs import Plan, RunFilter, RunState
from apscheduler.testing.jobs import make_stored_job

WORKERS = Path(__file__).with_name("workers.py")
T0 = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'jobs.db'}"


@pytest.fixture
def store(url: str) -> Iterator[SQLAlchemyJobStore]:
    store = SQLAlchemyJobStore(url)
    store.start(None, "sql")
    yield store
    store.shutdown()


def start_worker(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(WORKERS), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_processes_claim_every_fire_exactly_once(
    store: SQLAlchemyJobStore, url: str
) -> None:
    names = [f"{n:02}" for n in range(30)]
    store.add_jobs([make_stored_job(name, T0, max_instances=99) for name in names])

    with ExitStack() as stack:
        workers = [
            stack.enter_context(start_worker("claim", url, "10")) for _ in range(3)
        ]
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        counts = [worker.communicate("go\n", 50)[0] for worker in workers]

    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert sum(map(int, counts)) == 300
    runs = store.get_runs(RunFilter(), 1000)
    fires = Counter((run.job_id, run.scheduled_time) for run in runs)
    expected = {
        (name, T0 + timedelta(seconds=n)): 1 for name in names for n in range(10)
    }
    assert fires == expected
    assert {run.state for run in runs} == {RunState.SUCCEEDED}


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
