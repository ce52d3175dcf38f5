"""Connections break, answers get lost, and the server goes away and comes back: what is late is all that is seen."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.errors import AutoReconnect, ConnectionFailure, OperationFailure

from apscheduler.events import (
    EVENT_JOB_EXECUTED,
    EVENT_JOBSTORE_FAILED,
    EVENT_JOBSTORE_RECOVERED,
)
from apscheduler.jobstores.mongodb import MongoDBJobStore
from apscheduler.nodes import Identity
from apscheduler.runs import FireRange, Plan, RunFilter, RunState
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.testing.jobs import PATIENCE, Gate, make_stored_job, pass_gate
from apscheduler.testing.jobstores.basic import SECOND, T0, ids
from apscheduler.testing.jobstores.requests import (
    EVERYTHING,
    LEASE,
    claim,
    claimed_ids,
    completions,
    ready_run,
    run_every_minute,
    run_once,
    states,
)
from apscheduler.testing.servers import Server

MINUTE = timedelta(minutes=1)
# So many writes, reads and creations of indexes are in the life of a store below.
COMMANDS = 85


def change(store: MongoDBJobStore, job_id: str, **changes: Any) -> None:
    """Change a job as a scheduler does."""
    while True:
        stored = store.read_job(job_id)
        assert stored is not None
        if store.change_job(stored, changes):
            return


def plan_of_each_kind(job: Any) -> Plan:
    if job.id == "last":
        return run_once(job)
    if job.id == "missed":
        return Plan([], None, missed=FireRange(T0, T0, 1))
    return run_every_minute(job)


def live(store: MongoDBJobStore) -> None:
    """Do everything that a store can do, and check what comes of it."""
    me, dead = Identity(), Identity()
    store.start(None, "mongo")
    store.add_job(make_stored_job("last", T0, on_lost="retry"))
    store.add_jobs([make_stored_job(name, T0) for name in ("again", "missed", "x")])
    store.update_job(make_stored_job("again", T0, name="updated"))
    change(store, "again", max_instances=2)
    change(store, "x", next_run_time=T0 + SECOND)
    with suppress(AutoReconnect):  # nobody may know whether it was added
        store.add_ready_run(make_stored_job("ready"), ready_run(me, "ready"))
    if not store.get_runs(RunFilter("ready"), 1):
        store.add_ready_run(make_stored_job("ready"), ready_run(me, "ready"))

    batch = claim(store, me, T0, plan_of_each_kind, lease_until=T0 + LEASE)

    assert sorted(claimed_ids(batch)) == ["again", "last", "missed", "ready"]
    found = {one.job.id: one for one in batch.claims}
    store.complete(completions(found["again"], me))
    store.hand_back([found["ready"]])
    other = claim(store, dead, T0 + SECOND, run_once, lease_until=T0 + LEASE)
    assert sorted(claimed_ids(other)) == ["ready", "x"]
    last = completions(found["last"], me)
    batch = claim(store, me, T0 + MINUTE, completions=last)
    assert claimed_ids(batch) == ["again"]
    store.renew_lease(me.node, T0 + MINUTE)
    store.take_over(me.node, T0 + LEASE + SECOND)
    store.complete(completions(batch.claims[0], me))
    store.remove_job("again")
    store.add_jobs([make_stored_job("y"), make_stored_job("z", T0)])
    stored = store.read_job("y")
    assert stored is not None
    assert store.discard_job(stored)
    assert ids(store.get_all_jobs()) == ["z"]
    store.drop_lease(me.node)
    assert store.prune_runs(None, None, T0) == 0
    store.remove_all_jobs()
    assert store.get_all_jobs() == []

    runs = {(run.job_id, run.scheduled_time): run.state for run in every_run(store)}
    assert runs == {
        ("last", T0): RunState.SUCCEEDED,
        ("again", T0): RunState.SUCCEEDED,
        ("again", T0 + MINUTE): RunState.SUCCEEDED,
        ("missed", T0): RunState.MISSED,
        ("ready", T0): RunState.LOST,
        ("x", T0 + SECOND): RunState.LOST,
    }
    assert list(store.collection.find()) == []


def every_run(store: MongoDBJobStore) -> list[Any]:
    runs = store.get_runs(EVERYTHING, 1000)
    assert len({run.id for run in runs}) == len(runs)
    return runs


@pytest.mark.parametrize("where", ["cut before", "cut after"])
def test_one_connection_that_breaks_at_any_command_makes_no_difference(
    make_proxy: Callable[[], Any], mongodb_database_name: str, where: str
) -> None:
    def live_with_cut(number: int) -> int:
        proxy = make_proxy()
        proxy.cut_at(number, where)
        name = f"jobs{number}"
        store = MongoDBJobStore(mongodb_database_name, name, host=proxy.url)
        try:
            live(store)
        except BaseException as exc:
            cut = proxy.commands[number : number + 1]
            raise AssertionError(f"{where} command {number}, {cut}") from exc
        finally:
            store.shutdown()
        return len(proxy.commands)

    # Each waits half a second until the driver looks for the server again.
    with ThreadPoolExecutor(30) as pool:
        counts = list(pool.map(live_with_cut, range(COMMANDS)))

    assert max(counts) <= COMMANDS


@pytest.mark.parametrize("times, is_done", [(1, True), (2, False)])
def test_a_write_that_the_driver_has_repeated_in_vain_is_made_once_more(
    proxy: Any, mongodb_database_name: str, times: int, is_done: bool
) -> None:
    store = MongoDBJobStore(mongodb_database_name, host=proxy.url)
    store.start(None, "mongo")
    store.add_job(make_stored_job("a", T0))
    # As a server without replicas does when the driver could not connect to it at first.
    refused = {
        "ok": 0.0,
        "code": 20,
        "codeName": "IllegalOperation",
        "errmsg": "Transaction numbers are only allowed on a replica set",
    }
    answers = ["pass"] * 9 + [refused] * times
    proxy.rule = lambda command: answers.pop() if "update" in command else "pass"

    with nullcontext() if is_done else pytest.raises(OperationFailure):
        store.update_job(make_stored_job("a", T0, name="new"))

    assert [job.name for job in store.get_all_jobs()] == ["new" if is_done else "add"]
    store.shutdown()


def test_a_claim_that_is_sent_twice_is_carried_out_once(
    proxy: Any, mongodb_database_name: str
) -> None:
    store = MongoDBJobStore(mongodb_database_name, host=proxy.url)
    store.start(None, "mongo")
    store.add_jobs([make_stored_job(name, T0) for name in "abc"])
    bulks = []

    def cut_bulks(command: dict[str, Any]) -> str:
        if command.get("update") == "jobs":
            bulks.append(command)
            return "cut after" if len(bulks) == 1 else "pass"
        return "pass"

    proxy.rule = cut_bulks
    batch = claim(store, Identity())

    assert claimed_ids(batch) == ["a", "b", "c"]
    assert len(bulks) == 2
    assert len(every_run(store)) == 3
    store.shutdown()


def test_a_scheduler_whose_answers_get_lost_runs_every_fire_once(
    proxy: Any, mongodb_url: str, mongodb_database_name: str
) -> None:
    ran: Counter[tuple[str, datetime]] = Counter()
    runs_ended = threading.Semaphore(0)
    lost: list[str] = []
    to_lose: list[str] = []

    def lose_some(command: dict[str, Any]) -> str:
        if to_lose and command.get("update") == "jobs":
            lost.append(to_lose.pop())
            return "cut after"
        return "pass"

    def count(event: Any) -> None:
        ran[event.job_id, event.scheduled_run_time] += 1
        runs_ended.release()

    proxy.rule = lose_some
    scheduler = make_scheduler(database=mongodb_database_name, host=proxy.url)
    scheduler.add_listener(count, EVENT_JOB_EXECUTED)
    scheduler.start()
    for name in "abc":
        scheduler.add_job(
            *("builtins:len", "interval"),
            args=[""],
            id=name,
            seconds=0.1,
            max_instances=9,
        )
    for _ in range(3):
        # Both, so that repeating it once is of no use.
        to_lose[:] = ["first", "second"]
        for _ in range(6):
            assert runs_ended.acquire(timeout=PATIENCE)
        wait_until(lambda: not to_lose)
    for _ in range(12):
        assert runs_ended.acquire(timeout=PATIENCE)
    scheduler.shutdown()

    assert len(lost) == 6
    store = MongoDBJobStore(mongodb_database_name, host=mongodb_url)
    store.start(None, "mongo")
    runs = every_run(store)
    store.shutdown()
    fires = Counter((run.job_id, run.scheduled_time) for run in runs)
    assert set(fires.values()) == {1}
    # Runs that were claimed in vain were handed back, and run by somebody.
    assert {run.state for run in runs} <= {RunState.SUCCEEDED, RunState.COALESCED}
    assert set(ran.values()) == {1}


def make_scheduler(**options: Any) -> BackgroundScheduler:
    return BackgroundScheduler(
        timezone=UTC,
        jobstores={"default": {"type": "mongodb", **options}},
        jobstore_retry_interval=0.2,
    )


def wait_until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# The server itself.


@pytest.fixture
def store(own_mongodb: Server) -> Iterator[MongoDBJobStore]:
    store = MongoDBJobStore(host=own_mongodb.url, serverSelectionTimeoutMS=700)
    store.start(None, "mongo")
    yield store
    store.shutdown()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_connections_from_before_a_restart_are_replaced_without_an_error(
    own_mongodb: Server, store: MongoDBJobStore, how: str
) -> None:
    me = Identity()
    store.add_job(make_stored_job("a", T0))

    getattr(own_mongodb, how)()
    own_mongodb.start()

    store.add_job(make_stored_job("b", T0))
    assert claimed_ids(claim(store, me, lease_until=T0 + LEASE)) == ["a", "b"]
    store.renew_lease(me.node, T0 + LEASE)


def test_a_server_that_is_away_is_known_by_the_error(
    own_mongodb: Server, store: MongoDBJobStore
) -> None:
    actions: list[Callable[[], Any]] = [
        lambda: store.get_all_jobs(),  # with the connection from before
        lambda: store.lookup_job("a"),
        lambda: store.add_job(make_stored_job("b")),
        lambda: claim(store, Identity()),
        lambda: store.renew_lease(Identity().node, T0),
        lambda: store.read_clock(),
    ]
    store.add_job(make_stored_job("a", T0))
    own_mongodb.kill()

    for act in actions:
        with pytest.raises(ConnectionFailure) as caught:
            act()
        assert store.is_unreachable(caught.value)

    own_mongodb.start()
    for act in actions:
        act()


def test_a_claim_that_is_cut_off_has_not_happened(
    own_mongodb: Server, store: MongoDBJobStore
) -> None:
    me = Identity()
    store.add_job(make_stored_job("a", T0, max_instances=2))
    (earlier,) = claim(store, me).claims

    def crash(job: Any) -> Any:
        own_mongodb.kill()
        return run_every_minute(job)

    with pytest.raises(ConnectionFailure):
        claim(store, me, T0 + MINUTE, crash, completions=completions(earlier, me))
    own_mongodb.start()

    # The outcomes are given once more with the next claim.
    batch = claim(store, me, T0 + MINUTE, completions=completions(earlier, me))
    assert claimed_ids(batch) == ["a"]
    assert states(store) == [RunState.RUNNING, RunState.SUCCEEDED]


def test_a_scheduler_goes_on_when_its_server_is_back(own_mongodb: Server) -> None:
    """A run is going on while the server restarts; it is recorded, the next ones come, and the lease is kept."""
    scheduler = make_scheduler(host=own_mongodb.url, serverSelectionTimeoutMS=300)
    failed, recovered, ticked = (threading.Event() for _ in range(3))
    scheduler.add_listener(lambda event: failed.set(), EVENT_JOBSTORE_FAILED)
    scheduler.add_listener(lambda event: recovered.set(), EVENT_JOBSTORE_RECOVERED)
    scheduler.start()
    with Gate() as gate:
        scheduler.add_job(pass_gate, args=[gate.port], id="long")
        # A claim whose answer is lost counts as an instance until it is given back.
        scheduler.add_job(
            *("builtins:len", "interval"),
            args=[""],
            seconds=0.1,
            id="tick",
            max_instances=9,
        )
        gate.wait_for_arrival()

        own_mongodb.kill()

        assert failed.wait(PATIENCE)
        with pytest.raises(ConnectionFailure):
            scheduler.get_jobs()
    stopped = datetime.now(UTC)
    own_mongodb.start()
    assert recovered.wait(PATIENCE)

    def tick(event: Any) -> None:
        if event.job_id == "tick" and event.scheduled_run_time > stopped:
            ticked.set()

    scheduler.add_listener(tick, EVENT_JOB_EXECUTED)
    assert ticked.wait(PATIENCE)
    (long_run,) = wait_for_runs(scheduler, "long")
    scheduler.shutdown()
    assert long_run.state is RunState.SUCCEEDED

    store = MongoDBJobStore(host=own_mongodb.url)
    store.start(None, "mongo")
    runs = every_run(store)
    fires = [run.scheduled_time for run in runs if run.job_id == "tick"]
    assert len(set(fires)) == len(fires)
    assert {run.state for run in runs} <= {RunState.SUCCEEDED, RunState.COALESCED}
    store.shutdown()


def wait_for_runs(scheduler: BackgroundScheduler, job_id: str) -> list[Any]:
    """Return the runs of a job as soon as there is one that has ended."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(ConnectionFailure):
            runs = scheduler.get_runs(job_id=job_id)
            if runs and all(run.finished_at for run in runs):
                return list(runs)
        threading.Event().wait(0.05)
    raise AssertionError(f"No run of {job_id!r} has ended after {PATIENCE} seconds")
