"""Several stores on one path: every fire once, and nobody overwrites what he has not read."""

import os
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from apscheduler.job import Job
from apscheduler.jobstores.zookeeper import ZooKeeperJobStore
from apscheduler.nodes import Identity
from apscheduler.runs import Plan, RunState
from apscheduler.testing.jobs import make_stored_job
from apscheduler.testing.jobstores.basic import SECOND, T0, TICK, ids
from apscheduler.testing.jobstores.requests import (
    LEASE,
    claim,
    claimed_ids,
    completions,
    ready_run,
    run_every_minute,
    run_once,
    states,
)

MINUTE = timedelta(minutes=1)


@pytest.fixture
def path(zookeeper_path: str) -> str:
    return f"{zookeeper_path}/jobs"


def open_store(hosts: str, path: str) -> ZooKeeperJobStore:
    store = ZooKeeperJobStore(path, hosts=hosts)
    store.start(None, "zk")
    return store


@pytest.fixture
def store(zookeeper_url: str, path: str) -> Iterator[ZooKeeperJobStore]:
    store = open_store(zookeeper_url, path)
    yield store
    store.shutdown()


@pytest.fixture
def other(zookeeper_url: str, path: str) -> Iterator[ZooKeeperJobStore]:
    other = open_store(zookeeper_url, path)
    yield other
    other.shutdown()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_uses_a_connection_of_its_own(
    store: ZooKeeperJobStore,
) -> None:
    store.add_job(make_stored_job("parent", T0))
    store.get_all_jobs()
    client = store.client

    pid = os.fork()
    if pid == 0:
        failure = 1
        try:
            assert store.client is not client
            store.add_job(make_stored_job("child", T0 + SECOND))
            assert ids(store.get_all_jobs()) == ["parent", "child"]
            store.shutdown()
            failure = 0
        finally:
            os._exit(failure)
    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert store.client is client
    assert ids(store.get_all_jobs()) == ["parent", "child"]
    store.remove_job("child")


def claim_while(
    store: ZooKeeperJobStore,
    meanwhile: Callable[[], object],
    plan: Callable[[Job], Plan] = run_every_minute,
    **options: Any,
) -> Any:
    """Claim, and have something happen between reading and writing."""

    def act(job: Job) -> Plan:
        meanwhile()
        return plan(job)

    return claim(store, Identity(), plan=act, **options)


@pytest.mark.parametrize("plan", [run_every_minute, run_once])
def test_a_plan_for_a_job_that_was_replaced_meanwhile_is_dropped(
    plan: Callable[[Job], Plan], store: ZooKeeperJobStore, other: ZooKeeperJobStore
) -> None:
    """The new node has the version of the old one."""
    store.add_job(make_stored_job("a", T0))
    store.get_all_jobs()

    def replace() -> None:
        other.remove_job("a")
        other.add_job(make_stored_job("a", T0 + MINUTE, name="new"))

    batch = claim_while(store, replace, plan)

    assert batch.claims == []
    assert batch.next_run_time == T0, "it is looked at again at once"
    assert [(j.name, j.next_run_time) for j in store.get_all_jobs()] == [
        ("new", T0 + MINUTE)
    ]
    assert states(store) == []


def test_a_plan_is_dropped_too_if_the_job_had_run_before(
    store: ZooKeeperJobStore, other: ZooKeeperJobStore
) -> None:
    me = Identity()
    for _ in range(2):
        store.add_job(make_stored_job("a", T0))
        (found,) = claim(store, me, plan=run_once).claims
        store.complete(completions(found, me))
    store.add_job(make_stored_job("a", T0))

    def replace() -> None:
        other.remove_all_jobs()
        other.add_jobs([make_stored_job("a", T0 + MINUTE)])

    batch = claim_while(store, replace)

    assert batch.claims == []
    assert store.get_next_run_time() == T0 + MINUTE
    assert states(store) == [RunState.SUCCEEDED] * 2


@pytest.mark.parametrize("mirror", ["jobs", "ledgers"])
def test_a_job_that_is_replaced_while_everything_is_read_is_not_mistaken(
    mirror: str,
    store: ZooKeeperJobStore,
    other: ZooKeeperJobStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other.add_job(make_stored_job("a", T0))
    other.remove_job("a")  # from now on there is a ledger
    other.add_job(make_stored_job("a", T0))
    read = getattr(store._storage, mirror)._read

    def replace_after_reading() -> None:
        read()
        monkeypatch.undo()
        other.remove_job("a")
        other.add_job(make_stored_job("a", T0, name="new"))

    monkeypatch.setattr(getattr(store._storage, mirror), "_read", replace_after_reading)

    batch = claim(store, Identity())

    assert batch.claims == [], "what it has read is of two jobs, or of one that is gone"
    assert [job.name for job in store.get_all_jobs()] == ["new"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda s: s.update_job(make_stored_job("a", None)), id="paused"),
        pytest.param(lambda s: s.remove_job("a"), id="removed"),
        pytest.param(
            lambda s: s.change_job(s.read_job("a"), {"name": "new"}), id="changed"
        ),
        pytest.param(lambda s: claim(s, Identity(), limit=1), id="claimed"),
        pytest.param(
            lambda s: s.add_ready_run(make_stored_job("a"), ready_run(Identity())),
            id="run now",
        ),
    ],
)
def test_only_the_job_that_was_changed_is_refused(
    change: Callable[[ZooKeeperJobStore], Any],
    store: ZooKeeperJobStore,
    other: ZooKeeperJobStore,
) -> None:
    names = [chr(ord("a") + n) for n in range(20)]
    store.add_jobs([make_stored_job(name, T0) for name in names])
    changed: list[Any] = []

    def once() -> None:
        if not changed:
            changed.append(change(other))

    batch = claim_while(store, once)

    assert claimed_ids(batch) == names[1:]


def test_of_two_schedulers_one_gets_the_last_instance(
    store: ZooKeeperJobStore, other: ZooKeeperJobStore
) -> None:
    store.add_job(make_stored_job("a"))
    for number in range(2):
        run = ready_run(Identity(), at=T0 + number * TICK)
        store.add_ready_run(make_stored_job("a"), run)
    them: list[Any] = []

    def take(job: Job) -> bool:
        if not them:
            them.append(None)
            them.append(claim(other, Identity(), T0 + SECOND))
        return True

    batch = claim(store, Identity(), T0 + SECOND, accepts=take)

    assert len(them[1].claims) == 1
    assert batch.claims == []
    assert states(store).count(RunState.RUNNING) == 1
    assert claim(store, Identity(), T0 + SECOND).waiting


def test_a_change_does_not_overwrite_a_job_that_was_replaced(
    store: ZooKeeperJobStore, other: ZooKeeperJobStore
) -> None:
    store.add_job(make_stored_job("a", T0))
    stored = store.read_job("a")
    assert stored is not None
    other.remove_job("a")
    other.add_job(make_stored_job("a", T0, name="new"))

    assert not store.change_job(stored, {"name": "old"})
    assert not store.change_job(stored, {"next_run_time": T0 + SECOND})
    assert not store.discard_job(stored)

    assert [job.name for job in store.get_all_jobs()] == ["new"]


def test_a_change_without_run_time_survives_claims_of_others(
    store: ZooKeeperJobStore, other: ZooKeeperJobStore
) -> None:
    job = make_stored_job("a", T0, args=([1], 2), on_lost="retry")
    store.add_job(job)
    stored = store.read_job("a")
    assert stored is not None
    claim(other, Identity())

    assert store.change_job(stored, {"name": "new"})

    (found,) = store.get_all_jobs()
    assert (found.name, found.next_run_time) == ("new", T0 + MINUTE)


def test_threads_that_change_the_same_runs_lose_none(
    store: ZooKeeperJobStore, other: ZooKeeperJobStore
) -> None:
    job = make_stored_job("a", max_instances=99)
    barrier = threading.Barrier(4)

    def work(own: ZooKeeperJobStore) -> None:
        me = Identity()
        barrier.wait(20)
        for _ in range(10):
            own.add_ready_run(job, ready_run(me))

    threads = [threading.Thread(target=work, args=(s,)) for s in [store, other] * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)

    assert states(store) == [RunState.READY] * 40


def test_a_node_that_comes_back_in_time_keeps_its_runs(
    store: ZooKeeperJobStore,
    other: ZooKeeperJobStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It renews its lease after it was found to be dead, before its runs are taken."""
    me = Identity()
    store.add_job(make_stored_job("a", T0))
    claim(store, me, lease_until=T0 + LEASE)
    refresh = other._storage.refresh_ledgers

    def come_back() -> Any:
        store.renew_lease(me.node, T0 + 9 * LEASE)
        return refresh()

    monkeypatch.setattr(other._storage, "refresh_ledgers", come_back)

    assert other.take_over(Identity().node, T0 + 2 * LEASE) == []
    assert states(store) == [RunState.RUNNING]
    assert other.take_over(Identity().node, T0 + 3 * LEASE) == []


def test_a_node_that_was_taken_for_dead_can_claim_again(
    store: ZooKeeperJobStore, other: ZooKeeperJobStore
) -> None:
    me = Identity()
    store.add_jobs([make_stored_job(f"{n:03}", T0) for n in range(120)])
    claim(store, me, limit=1, lease_until=T0 + LEASE)
    assert len(other.take_over(Identity().node, T0 + 2 * LEASE)) == 1

    now = T0 + 2 * LEASE
    batch = claim(store, me, now, limit=200, lease_until=now + LEASE)

    assert len(batch.claims) == 119
    assert other.take_over(Identity().node, now) == []
    assert states(store).count(RunState.RUNNING) == 119


def test_adding_many_jobs_is_undone_if_one_is_there(
    store: ZooKeeperJobStore, other: ZooKeeperJobStore
) -> None:
    """They are too much for one transaction."""
    data = "x" * 20_000
    store.get_all_jobs()
    other.add_job(make_stored_job("79", T0))
    jobs = [make_stored_job(f"{n:02}", T0, args=(data, n)) for n in range(80)]

    with pytest.raises(KeyError, match="'79'"):
        store.add_jobs(jobs)

    assert ids(store.get_all_jobs()) == ids(other.get_all_jobs()) == ["79"]
    other.remove_job("79")
    store.add_jobs(jobs)
    assert len(other.get_all_jobs()) == 80
