"""The server goes away and comes back: what is late is the only thing that is seen of it."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from etcd3gw.exceptions import Etcd3Exception

from apscheduler.events import (
    EVENT_JOB_EXECUTED,
    EVENT_JOBSTORE_FAILED,
    EVENT_JOBSTORE_RECOVERED,
)
from apscheduler.jobstores.etcd import EtcdJobStore
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
    completions,
    states,
)
from apscheduler.testing.servers import Server

MakeStore = Callable[[], EtcdJobStore]
# What is ready was claimed when the scheduler was shut down, and given back.
ENDINGS = {RunState.SUCCEEDED, RunState.COALESCED, RunState.READY}


@pytest.fixture
def make_own(own_etcd: Server) -> Iterator[MakeStore]:
    stores: list[EtcdJobStore] = []

    def make() -> EtcdJobStore:
        store = EtcdJobStore(host="127.0.0.1", port=own_etcd.port)
        store.start(None, "etcd")
        stores.append(store)
        return store

    yield make
    for store in stores:
        store.shutdown()


@pytest.fixture
def own_store(make_own: MakeStore) -> EtcdJobStore:
    store = make_own()
    claim(store, Identity())
    assert store._storage.is_watching
    return store


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it has not happened"
        threading.Event().wait(0.01)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_connections_from_before_are_replaced_without_an_error(
    own_etcd: Server, own_store: EtcdJobStore, make_own: MakeStore, how: str
) -> None:
    me = Identity()
    own_store.add_job(make_stored_job("a", T0))

    getattr(own_etcd, how)()
    own_etcd.start()

    assert ids(own_store.get_all_jobs()) == ["a"]
    make_own().add_job(make_stored_job("b", T0))
    assert claimed_ids(claim(own_store, me, lease_until=T0 + LEASE)) == ["a", "b"]
    own_store.renew_lease(me.node, T0 + LEASE)


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda store: store.add_job(make_stored_job("b")), id="add"),
        pytest.param(lambda store: store.get_all_jobs(), id="list"),
        pytest.param(lambda store: store.lookup_job("a"), id="look up"),
        pytest.param(lambda store: claim(store, Identity()), id="claim"),
        pytest.param(lambda store: store.get_runs(EVERYTHING, 1), id="list runs"),
        pytest.param(
            lambda store: store.renew_lease(Identity().node, T0), id="renew a lease"
        ),
    ],
)
def test_a_server_that_is_away_is_known_by_the_error(
    own_etcd: Server, own_store: EtcdJobStore, act: Callable[[Any], Any]
) -> None:
    own_store.add_job(make_stored_job("a", T0))
    own_etcd.stop()

    for _ in range(2):  # with the connections from before, and without any
        with pytest.raises(Etcd3Exception) as caught:
            act(own_store)
        assert own_store.is_unreachable(caught.value)

    own_etcd.start()
    act(own_store)


def test_what_others_write_while_a_watch_is_cut_is_told_afterwards(
    own_etcd: Server, own_store: EtcdJobStore, make_own: MakeStore
) -> None:
    told = threading.Event()
    unsubscribe = own_store.subscribe(told.set)
    own_etcd.kill()
    own_etcd.start()

    make_own().add_job(make_stored_job("a", T0))

    assert told.wait(PATIENCE)
    assert claimed_ids(claim(own_store, Identity())) == ["a"]
    assert unsubscribe is not None
    unsubscribe()


def compact(store: EtcdJobStore) -> None:
    revision = store._gateway.transact({"success": []}).revision
    store._gateway.post("/kv/compaction", {"revision": revision, "physical": True})


def test_everything_is_read_anew_when_the_server_has_forgotten_what_to_tell(
    own_etcd: Server, own_store: EtcdJobStore, make_own: MakeStore
) -> None:
    """The history is compacted while the watch is cut."""
    own_store.add_jobs([make_stored_job(id, T0) for id in ("changed", "removed")])
    told = threading.Event()
    own_store.subscribe(told.set)
    watcher = own_store._storage._watcher
    assert watcher is not None
    is_let_go = threading.Event()
    hear = watcher._hear
    watcher._hear = lambda: iter(()) if not is_let_go.wait(PATIENCE) else hear()  # type: ignore[method-assign]  # held back until the history is gone

    own_etcd.restart()
    other = make_own()
    other.update_job(make_stored_job("changed", T0 + SECOND))
    other.remove_job("removed")
    other.add_job(make_stored_job("added", T0))
    compact(other)
    other.add_job(make_stored_job("later", T0))
    told.clear()
    is_let_go.set()

    assert told.wait(PATIENCE)
    mirror = own_store._storage.mirror
    wait_until(lambda: sorted(mirror.jobs) == ["added", "changed", "later"])
    assert claimed_ids(claim(own_store, Identity())) == ["added", "later"]
    other.add_job(make_stored_job("last", T0))
    assert claimed_ids(claim(own_store, Identity())) == ["last"]


def test_a_claim_needs_no_watch(own_store: EtcdJobStore, make_own: MakeStore) -> None:
    """What it does not tell in time is read."""
    watcher = own_store._storage._watcher
    assert watcher is not None
    watcher.stop()
    make_own().add_job(make_stored_job("a", T0))

    assert claimed_ids(claim(own_store, Identity())) == ["a"]


def test_a_server_that_has_lost_its_data_is_believed(
    own_etcd: Server, own_store: EtcdJobStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Or one that was restored from an old backup: its revisions begin anew."""
    own_store.add_jobs([make_stored_job(f"{n}", T0) for n in range(5)])
    for number in range(20):
        own_store.update_job(make_stored_job("0", T0 + number * SECOND))
    own_etcd.stop()
    assert own_etcd.directory is not None
    shutil.rmtree(own_etcd.directory / "data")
    own_etcd.start()

    assert claim(own_store, Identity()).claims == []
    assert own_store.get_all_jobs() == []
    own_store.add_job(make_stored_job("new", T0))
    assert claimed_ids(claim(own_store, Identity())) == ["new"]
    assert "gone back to an earlier state" in caplog.text


def test_a_claim_that_is_cut_off_has_not_happened(
    own_etcd: Server, own_store: EtcdJobStore
) -> None:
    me = Identity()
    own_store.add_job(make_stored_job("a", T0, max_instances=2))
    (earlier,) = claim(own_store, me).claims
    minute = 60 * SECOND

    def crash(job: Any) -> Any:
        own_etcd.kill()

    with suppress(Etcd3Exception):
        claim(own_store, me, T0 + minute, crash)
    with pytest.raises(Etcd3Exception):
        own_store.complete(completions(earlier, me))
    own_etcd.start()

    assert states(own_store) == [RunState.RUNNING]
    # The outcomes are given once more with the next claim.
    outcomes = completions(earlier, me)
    batch = claim(own_store, me, T0 + minute, completions=outcomes)
    assert claimed_ids(batch) == ["a"]
    assert states(own_store) == [RunState.RUNNING, RunState.SUCCEEDED]


def add_ticks(scheduler: BackgroundScheduler) -> None:
    """Add a job that may go on while it is not known whether its last run has ended."""
    scheduler.add_job(
        *("builtins:len", "interval"),
        args=[""],
        seconds=0.1,
        id="tick",
        max_instances=100,
    )


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_scheduler_goes_on_when_its_server_is_back(
    own_etcd: Server, how: str
) -> None:
    """A run is going on while the server restarts; it is recorded, the next ones come, and the lease is kept."""
    scheduler = BackgroundScheduler(
        timezone=UTC,
        jobstores={
            "default": {"type": "etcd", "host": "127.0.0.1", "port": own_etcd.port}
        },
        jobstore_retry_interval=0.2,
    )
    failed, recovered, ticked = (threading.Event() for _ in range(3))
    scheduler.add_listener(lambda event: failed.set(), EVENT_JOBSTORE_FAILED)
    scheduler.add_listener(lambda event: recovered.set(), EVENT_JOBSTORE_RECOVERED)
    scheduler.start()
    with Gate() as gate:
        scheduler.add_job(pass_gate, args=[gate.port], id="long")
        add_ticks(scheduler)
        gate.wait_for_arrival()

        getattr(own_etcd, how)()

        assert failed.wait(PATIENCE)
        with pytest.raises(Etcd3Exception):
            scheduler.get_jobs()
        with pytest.raises(Etcd3Exception):
            scheduler.add_job("builtins:len", args=[""], id="later")
    stopped = datetime.now(UTC)
    own_etcd.start()
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

    store = EtcdJobStore(host="127.0.0.1", port=own_etcd.port)
    store.start(None, "etcd")
    runs = store.get_runs(EVERYTHING, 10_000)
    fires = [run.scheduled_time for run in runs if run.job_id == "tick"]
    assert len(set(fires)) == len(fires)
    assert {run.state for run in runs} <= ENDINGS
    store.shutdown()


def wait_for_runs(scheduler: BackgroundScheduler, job_id: str) -> list[Any]:
    """Return the runs of a job as soon as there is one that has ended."""
    found: list[Any] = []

    def has_ended() -> bool:
        with suppress(Etcd3Exception):
            found[:] = scheduler.get_runs(job_id=job_id)
        return bool(found) and all(run.finished_at for run in found)

    wait_until(has_ended)
    return found


def test_a_scheduler_whose_claims_lose_their_answers_runs_every_fire_once(
    proxy: Any, etcd_path: str, store: EtcdJobStore
) -> None:
    """They were carried out: what was claimed is given back, and runs a little later."""
    scheduler = BackgroundScheduler(
        timezone=UTC,
        jobstores={
            "default": {
                "type": "etcd",
                "path": etcd_path,
                "host": "127.0.0.1",
                "port": proxy.port,
            }
        },
        jobstore_retry_interval=0.1,
    )
    ran: list[datetime] = []
    enough = threading.Event()

    def note(event: Any) -> None:
        ran.append(event.scheduled_run_time)
        if len(ran) == 6 and not proxy.lost:
            proxy.lose_answers(f"~runs{etcd_path}/live/open/", times=3)
        if proxy.lost == 3 and len(ran) > 15:
            enough.set()

    scheduler.add_listener(note, EVENT_JOB_EXECUTED)
    add_ticks(scheduler)
    scheduler.start()

    assert enough.wait(PATIENCE)
    scheduler.shutdown()
    assert len(set(ran)) == len(ran)
    runs = store.get_runs(EVERYTHING, 10_000)
    assert {run.state for run in runs} <= ENDINGS
