"""The server goes away and comes back: what is late is the only thing that is seen of it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from kazoo.exceptions import KazooException  # type: ignore[import-untyped]  # it has none

from apscheduler.events import (
    EVENT_JOB_EXECUTED,
    EVENT_JOBSTORE_FAILED,
    EVENT_JOBSTORE_RECOVERED,
)
from apscheduler.jobstores.zookeeper import ZooKeeperJobStore
from apscheduler.nodes import Identity
from apscheduler.runs import RunState
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.testing.jobs import PATIENCE, Gate, make_stored_job, pass_gate
from apscheduler.testing.jobstores.basic import SECOND, T0, ids
from apscheduler.testing.jobstores.requests import (
    EVERYTHING,
    LEASE,
    claim,
    claimed_ids,
    run_every_minute,
    states,
)
from apscheduler.testing.servers import Server

# Sessions of the test server may be short, so that they expire soon.
SESSION_SECONDS = 1.0


@pytest.fixture
def store(own_zookeeper: Server) -> Iterator[ZooKeeperJobStore]:
    store = ZooKeeperJobStore(hosts=own_zookeeper.url, timeout=SESSION_SECONDS)
    store.start(None, "zk")
    yield store
    store.shutdown()


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_short_outage_is_not_noticed(
    how: str, own_zookeeper: Server, store: ZooKeeperJobStore
) -> None:
    me = Identity()
    store.add_job(make_stored_job("a", T0))
    assert len(store.get_all_jobs()) == 1

    getattr(own_zookeeper, how)()
    own_zookeeper.start()

    assert len(store.get_all_jobs()) == 1
    assert claimed_ids(claim(store, me, lease_until=T0 + LEASE)) == ["a"]
    store.renew_lease(me.node, T0 + LEASE)
    store.add_job(make_stored_job("b", T0))


ACTS: list[Callable[[ZooKeeperJobStore], Any]] = [
    lambda store: store.add_job(make_stored_job("b")),
    lambda store: store.get_all_jobs(),
    lambda store: store.lookup_job("a"),
    lambda store: claim(store, Identity()),
    lambda store: store.renew_lease(Identity().node, T0),
]


def test_a_server_that_is_away_is_known_by_the_error(
    own_zookeeper: Server, store: ZooKeeperJobStore
) -> None:
    store.add_job(make_stored_job("a", T0))
    own_zookeeper.stop()

    for act in ACTS:
        with pytest.raises(KazooException, match="no ZooKeeper server answers") as e:
            act(store)
        assert store.is_unreachable(e.value)

    own_zookeeper.start()
    wait_until(lambda: store.client.connected)
    for act in ACTS:
        act(store)


def test_a_claim_that_is_cut_off_before_it_is_written_has_not_happened(
    own_zookeeper: Server, store: ZooKeeperJobStore
) -> None:
    store.add_job(make_stored_job("a", T0))

    def crash(job: Any) -> Any:
        own_zookeeper.kill()
        return run_every_minute(job)

    with pytest.raises(KazooException) as caught:
        claim(store, Identity(), plan=crash)
    assert store.is_unreachable(caught.value)
    own_zookeeper.start()
    wait_until(lambda: store.client.connected)

    assert states(store) == []
    assert claimed_ids(claim(store, Identity())) == ["a"]


def test_what_a_frozen_server_does_later_is_seen(
    own_zookeeper: Server, store: ZooKeeperJobStore
) -> None:
    """The answer to a claim is lost, and the claim is carried out."""
    store.add_job(make_stored_job("a", T0))

    def freeze(job: Any) -> Any:
        own_zookeeper.freeze()
        return run_every_minute(job)

    with pytest.raises(KazooException, match=r"connection .* was lost") as caught:
        claim(store, Identity(), plan=freeze)
    assert store.is_unreachable(caught.value)
    own_zookeeper.thaw()
    wait_until(lambda: store.client.connected)

    runs = store.get_runs(EVERYTHING, 9)
    (job,) = store.get_all_jobs()
    assert (job.next_run_time == T0) == (runs == [])
    assert claimed_ids(claim(store, Identity())) == ([] if runs else ["a"])


def expire(store: ZooKeeperJobStore, server: Server) -> None:
    """Have the session of a store expire, as after a long outage of the network."""
    session, _ = store.client.client_id
    server.stop()
    time.sleep(2 * SESSION_SECONDS)  # the server counts from its start, too
    server.start()
    own = store.client

    def is_another() -> bool:
        return bool(own.connected and own.client_id[0] != session)

    if not own.connected or own.client_id[0] == session:
        # What ends a session at once: somebody else closes it.
        wait_until(lambda: own.connected)
        double = ZooKeeperJobStore(hosts=server.url, client_id=own.client_id)
        double.start(None, "double")
        double.shutdown()
        wait_until(is_another)


def test_an_expired_session_changes_nothing(
    own_zookeeper: Server, store: ZooKeeperJobStore
) -> None:
    me = Identity()
    told = threading.Event()
    store.add_job(make_stored_job("a", T0))
    claim(store, me, lease_until=T0 + LEASE)
    end = store.subscribe(told.set)
    assert end is not None

    expire(store, own_zookeeper)

    assert told.wait(PATIENCE), "changes may have been missed"
    assert states(store) == [RunState.RUNNING]
    assert store.take_over(Identity().node, T0 + LEASE) == [], "the lease is there"
    store.renew_lease(me.node, T0 + 2 * LEASE)
    store.update_job(make_stored_job("a", T0 + SECOND))
    told.clear()
    other = ZooKeeperJobStore(hosts=own_zookeeper.url)
    other.start(None, "other")
    other.add_job(make_stored_job("b", T0))
    assert told.wait(PATIENCE), "the watch is there again"
    assert ids(store.get_all_jobs()) == ["b", "a"]
    end()
    other.shutdown()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_scheduler_goes_on_when_its_server_is_back(
    how: str, own_zookeeper: Server
) -> None:
    """A run is going on while the server restarts; it is recorded, the next ones come, and the lease is kept."""
    hosts = own_zookeeper.url
    scheduler = BackgroundScheduler(
        timezone=UTC,
        jobstores={"default": {"type": "zookeeper", "hosts": hosts, "timeout": 1.0}},
        jobstore_retry_interval=0.2,
    )
    failed, recovered, ticked = (threading.Event() for _ in range(3))
    scheduler.add_listener(lambda event: failed.set(), EVENT_JOBSTORE_FAILED)
    scheduler.add_listener(lambda event: recovered.set(), EVENT_JOBSTORE_RECOVERED)
    scheduler.start()
    with Gate() as gate:
        scheduler.add_job(pass_gate, args=[gate.port], id="long")
        scheduler.add_job("builtins:len", "interval", args=[""], seconds=0.1, id="tick")
        gate.wait_for_arrival()

        getattr(own_zookeeper, how)()

        assert failed.wait(PATIENCE)
        with pytest.raises(KazooException):
            scheduler.get_jobs()
        with pytest.raises(KazooException):
            scheduler.add_job("builtins:len", args=[""], id="later")
    stopped = datetime.now(UTC)
    own_zookeeper.start()
    assert recovered.wait(PATIENCE)

    def tick(event: Any) -> None:
        if event.job_id == "tick" and event.scheduled_run_time > stopped:
            ticked.set()

    scheduler.add_listener(tick, EVENT_JOB_EXECUTED)
    assert ticked.wait(PATIENCE)
    scheduler.add_job("builtins:len", args=[""], id="later")
    (long_run,) = wait_for_runs(scheduler, "long")
    assert [run.job_id for run in wait_for_runs(scheduler, "later")] == ["later"]
    scheduler.shutdown()
    assert long_run.state is RunState.SUCCEEDED

    store = ZooKeeperJobStore(hosts=hosts)
    store.start(None, "zk")
    runs = store.get_runs(EVERYTHING, 10_000)
    fires = [run.scheduled_time for run in runs if run.job_id == "tick"]
    assert len(set(fires)) == len(fires)
    # A run whose claim was not answered is given back; the next fire is skipped, then, if both are due at once.
    late = {RunState.COALESCED, RunState.SKIPPED}
    assert {run.state for run in runs} <= {RunState.SUCCEEDED, *late}
    store.shutdown()


def wait_for_runs(scheduler: BackgroundScheduler, job_id: str) -> list[Any]:
    """Return the runs of a job as soon as there is one that has ended."""
    found: list[Any] = []

    def has_ended() -> bool:
        with suppress(KazooException):
            found[:] = scheduler.get_runs(job_id=job_id)
        return bool(found) and all(run.finished_at for run in found)

    wait_until(has_ended)
    return found


def test_two_schedulers_hear_of_each_other_at_once(own_zookeeper: Server) -> None:
    store = {"type": "zookeeper", "hosts": own_zookeeper.url}
    ran = threading.Event()
    schedulers = [
        BackgroundScheduler(timezone=UTC, jobstores={"default": store})
        for _ in range(2)
    ]
    for scheduler in schedulers:
        scheduler.start()
    schedulers[0].add_listener(lambda event: ran.set(), EVENT_JOB_EXECUTED)
    schedulers[1].pause()
    try:
        schedulers[1].add_job("builtins:len", args=[""])

        assert ran.wait(PATIENCE)
    finally:
        for scheduler in schedulers:
            scheduler.shutdown()
