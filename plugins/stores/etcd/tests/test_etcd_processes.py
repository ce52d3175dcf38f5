"""Several processes on one path: every fire once, nothing lost when some of them are killed."""

import subprocess
import sys
import threading
from collections import Counter
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

from apscheduler.jobstores.contract import ClaimRequest
from apscheduler.jobstores.etcd import EtcdJobStore
from apscheduler.nodes import Identity
from apscheduler.runs import Plan, RunFilter, RunState
from apscheduler.testing.jobs import make_stored_job
from apscheduler.testing.jobstores.basic import SECOND, T0

WORKERS = Path(__file__).with_name("etcd_workers.py")
ROUNDS = 8
SUCCEEDED = RunFilter(states=frozenset([RunState.SUCCEEDED]))


def start_worker(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(WORKERS), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_processes_claim_every_fire_once_though_some_are_killed(
    store: EtcdJobStore, address: dict[str, Any]
) -> None:
    names = [f"{n:02}" for n in range(30)]
    store.add_jobs([make_stored_job(name, T0, max_instances=99) for name in names])
    place = ("claim", str(address["port"]), store.path, str(ROUNDS))
    started: Counter[tuple[str, int]] = Counter()
    lock = threading.Lock()

    def listen(worker: "subprocess.Popen[str]", fires_to_live: int) -> None:
        assert worker.stdout is not None
        for number, line in enumerate(worker.stdout, start=1):
            name, seconds = line.split()
            with lock:
                started[name, int(seconds)] += 1
            if number == fires_to_live:
                worker.kill()

    with ExitStack() as stack:
        workers = [stack.enter_context(start_worker(*place)) for _ in range(4)]
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        threads = [
            threading.Thread(target=listen, args=arguments)
            for arguments in zip(workers, (7, 23, 0, 0), strict=True)
        ]
        for thread in threads:
            thread.start()
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        for thread in threads:
            thread.join(50)
    assert [worker.wait(20) for worker in workers[2:]] == [0, 0]
    lost = store.take_over(Identity().node, T0)

    # What a killed process had claimed, and could not tell of any more, is among the lost.
    runs = store.get_runs(RunFilter(), 1000)
    fires = Counter((run.job_id, (run.scheduled_time - T0).seconds) for run in runs)
    assert fires == {(name, n): 1 for name in names for n in range(ROUNDS)}
    assert max(started.values()) == 1
    unknown = {(run.job_id, (run.scheduled_time - T0).seconds) for run in lost}
    assert set(fires) - set(started) <= unknown
    assert {run.state for run in runs} <= {RunState.SUCCEEDED, RunState.LOST}


def test_runs_of_a_killed_process_are_taken_over_at_once(
    store: EtcdJobStore, address: dict[str, Any]
) -> None:
    store.add_job(make_stored_job("marked", T0))
    store.add_job(make_stored_job("retried", T0, on_lost="retry"))
    me = Identity()
    with start_worker("hang", str(address["port"]), store.path) as worker:
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
    (again,) = store.claim(
        ClaimRequest(T0, 9, lambda job: None, me, lease_until=T0)
    ).claims
    assert (again.job.id, again.run_times.attempt) == ("retried", 2)


def test_runs_of_a_node_without_a_lease_are_taken_after_the_time_of_one(
    store: EtcdJobStore,
) -> None:
    store.add_job(make_stored_job("a", T0))
    store.claim(ClaimRequest(T0, 1, lambda job: Plan([T0], None), Identity()))
    me = Identity().node

    times = [
        len(store.take_over(me, T0 + seconds * SECOND)) for seconds in (0, 19, 21, 22)
    ]

    assert times == [0, 0, 1, 0]


def test_two_nodes_take_over_a_run_once(
    store: EtcdJobStore, other_store: EtcdJobStore
) -> None:
    for number in range(20):
        store.add_job(make_stored_job(f"{number}", T0))
        store.claim(
            ClaimRequest(
                T0, 1, lambda job: Plan([T0], None), Identity(), lease_until=T0
            )
        )
    taken: list[str] = []
    barrier = threading.Barrier(2)

    def take(taker: EtcdJobStore) -> None:
        barrier.wait(20)
        found = taker.take_over(Identity().node, T0 + timedelta(minutes=1))
        taken.extend(run.job_id for run in found)

    threads = [threading.Thread(target=take, args=(s,)) for s in (store, other_store)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)

    assert sorted(taken) == sorted(f"{number}" for number in range(20))
