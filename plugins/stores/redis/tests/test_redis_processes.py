"""Several processes on one server: every fire once, nothing lost when some of them are killed or fork."""

import json
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
from typing import Any

import pytest

from apscheduler.jobstores.redis import RedisJobStore
from apscheduler.nodes import Identity
from apscheduler.runs import RunFilter, RunState
from apscheduler.testing.jobs import PATIENCE, make_stored_job
from apscheduler.testing.jobstores.basic import T0
from apscheduler.testing.jobstores.requests import claim, run_once

WORKERS = Path(__file__).with_name("redis_workers.py")
ROUNDS = 20


@pytest.fixture
def options(redis_url: str, keys: dict[str, Any]) -> str:
    return json.dumps({"url": redis_url, **keys})


def start_worker(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(WORKERS), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def start_workers(
    stack: ExitStack, number: int, *arguments: str
) -> "list[subprocess.Popen[str]]":
    workers = [stack.enter_context(start_worker(*arguments)) for _ in range(number)]
    for worker in workers:
        stack.callback(worker.kill)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    return workers


def go(worker: "subprocess.Popen[str]") -> None:
    assert worker.stdin is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()


def read_started(log: Path) -> Counter[tuple[str, float]]:
    lines = log.read_text().splitlines()
    return Counter((line.split()[0], float(line.split()[1])) for line in lines)


def all_fires(names: list[str]) -> set[tuple[str, float]]:
    return {(name, T0.timestamp() + n) for name in names for n in range(ROUNDS)}


def test_processes_claim_every_fire_exactly_once(
    store: RedisJobStore, options: str, tmp_path: Path
) -> None:
    names = [f"{n:02}" for n in range(30)]
    store.add_jobs([make_stored_job(name, T0, max_instances=99) for name in names])
    log = tmp_path / "started"

    with ExitStack() as stack:
        workers = start_workers(stack, 3, "claim", options, str(ROUNDS), str(log))
        for worker in workers:
            go(worker)
        for worker in workers:
            assert worker.wait(50) == 0

    started = read_started(log)
    assert set(started) == all_fires(names)
    assert set(started.values()) == {1}
    runs = store.get_runs(RunFilter(), 10_000)
    fires = Counter((run.job_id, run.scheduled_time.timestamp()) for run in runs)
    assert fires == started
    assert {run.state for run in runs} == {RunState.SUCCEEDED}


def test_nothing_is_lost_or_started_twice_when_processes_are_killed(
    store: RedisJobStore, options: str, tmp_path: Path
) -> None:
    """What a killed process had claimed is recorded as lost; everything else runs once, all instances are free."""
    names = [f"{n:02}" for n in range(30)]
    store.add_jobs([make_stored_job(name, T0, max_instances=99) for name in names])
    log = tmp_path / "started"
    chance = random.Random(7)

    with ExitStack() as stack:
        doomed = start_workers(stack, 4, "claim", options, str(ROUNDS), str(log))
        for worker in doomed:
            go(worker)
        deadline = time.monotonic() + PATIENCE
        while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
            threading.Event().wait(0.001)
        for worker in doomed:
            threading.Event().wait(chance.uniform(0, 0.01))
            worker.kill()
        for worker in doomed:
            worker.wait(PATIENCE)
        (survivor,) = start_workers(stack, 1, "claim", options, str(ROUNDS), str(log))
        go(survivor)
        assert survivor.wait(50) == 0
    lost = store.take_over(Identity().node, T0)

    assert {run.state for run in lost} <= {RunState.LOST}
    started = read_started(log)
    assert set(started.values()) == {1}
    runs = store.get_runs(RunFilter(), 10_000)
    fires = Counter((run.job_id, run.scheduled_time.timestamp()) for run in runs)
    assert set(fires) == all_fires(names) >= set(started)
    assert set(fires.values()) == {1}
    missing = set(fires) - set(started)
    assert missing <= {(r.job_id, r.scheduled_time.timestamp()) for r in lost}
    assert {run.state for run in runs} == {RunState.SUCCEEDED} | {
        run.state for run in lost
    }
    left = store.redis.exists(*(f"{store.jobs_key}.{n}" for n in ("open", "running")))
    assert left == 0


def test_runs_of_a_killed_process_are_taken_over_at_once(
    store: RedisJobStore, options: str
) -> None:
    store.add_job(make_stored_job("marked", T0))
    store.add_job(make_stored_job("retried", T0, on_lost="retry"))
    me = Identity()
    with start_worker("hang", options) as worker:
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
    store: RedisJobStore,
) -> None:
    store.add_job(make_stored_job("a", T0))
    claim(store, Identity(), plan=run_once)
    me = Identity().node

    times = [
        len(store.take_over(me, T0 + timedelta(seconds=seconds)))
        for seconds in (0, 19, 21, 22)
    ]

    assert times == [0, 0, 1, 0]


def test_a_node_that_renews_its_lease_at_the_last_moment_keeps_its_runs(
    store: RedisJobStore, other_store: RedisJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = Identity()
    store.add_job(make_stored_job("a", T0))
    claim(store, owner, lease_until=T0)
    now = T0 + timedelta(seconds=1)
    run_script = other_store._runner.run

    def renew_first(script: object, given: object = None, *blobs: bytes) -> object:
        if isinstance(given, dict) and "nodes" in given:
            store.renew_lease(owner.node, now + timedelta(seconds=20))
        return run_script(script, given, *blobs)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(other_store._runner, "run", renew_first)

    assert other_store.take_over(Identity().node, now) == []
    assert [run.state for run in store.get_runs(RunFilter(), 9)] == [RunState.RUNNING]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_uses_connections_of_its_own(store: RedisJobStore) -> None:
    store.add_job(make_stored_job("parent", T0))
    end = store.subscribe(lambda: None)
    writer = store._runner.writer

    pid = os.fork()
    if pid == 0:
        failure = 1
        try:
            assert store._runner.writer != writer
            store.add_job(make_stored_job("child", T0))
            assert len(store.get_all_jobs()) == 2
            failure = 0
        finally:
            os._exit(failure)
    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert [job.id for job in store.get_all_jobs()] == ["child", "parent"]
    assert end is not None
    end()
