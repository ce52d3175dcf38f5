"""The server goes away, forgets, refuses, or answers too late: what is late is the only thing that is seen of it."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    ConnectionError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

from apscheduler.events import (
    EVENT_JOB_EXECUTED,
    EVENT_JOBSTORE_FAILED,
    EVENT_JOBSTORE_RECOVERED,
)
from apscheduler.jobstores.base import JobLookupError
from apscheduler.jobstores.redis import RedisJobStore
from apscheduler.nodes import Identity
from apscheduler.runs import RunState
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.testing.jobs import PATIENCE, Gate, make_stored_job, pass_gate
from apscheduler.testing.jobstores.basic import SECOND, T0, TICK, ids
from apscheduler.testing.jobstores.requests import (
    EVERYTHING,
    LEASE,
    claim,
    claimed_ids,
    completions,
    run_again,
    states,
)
from apscheduler.testing.servers import Server

AT_ONCE = Retry(NoBackoff(), 0)


def open_store(server: Server, **options: Any) -> RedisJobStore:
    store = RedisJobStore(url=server.url, **options)
    store.start(None, "redis")
    return store


@pytest.fixture
def own_store(own_redis: Server) -> Iterator[RedisJobStore]:
    store = open_store(own_redis, retry=AT_ONCE)
    yield store
    store.shutdown()


# Connections that get lost.


def test_connections_that_the_server_has_closed_are_replaced_without_an_error(
    own_redis: Server, own_store: RedisJobStore
) -> None:
    me = Identity()
    own_store.add_job(make_stored_job("a", T0))
    with Redis(port=own_redis.port) as client:
        client.client_kill_filter(_type="normal", skipme=True)

    assert claimed_ids(claim(own_store, me, lease_until=T0 + LEASE)) == ["a"]


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_connections_from_before_a_restart_are_replaced_without_an_error(
    own_redis: Server, own_store: RedisJobStore, how: str
) -> None:
    own_store.add_job(make_stored_job("a", T0))

    getattr(own_redis, how)()
    own_redis.start()

    assert ids(own_store.get_all_jobs()) == ["a"]
    assert claimed_ids(claim(own_store, Identity())) == ["a"]


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda store: store.add_job(make_stored_job("b")), id="add"),
        pytest.param(lambda store: store.get_all_jobs(), id="list"),
        pytest.param(lambda store: store.lookup_job("a"), id="look up"),
        pytest.param(lambda store: claim(store, Identity()), id="claim"),
        pytest.param(
            lambda store: store.renew_lease(Identity().node, T0), id="renew a lease"
        ),
        pytest.param(lambda store: store.read_clock(), id="read the clock"),
    ],
)
def test_a_server_that_is_away_is_known_by_the_error(
    own_redis: Server, own_store: RedisJobStore, act: Callable[[Any], Any]
) -> None:
    own_store.add_job(make_stored_job("a", T0))
    own_redis.stop()

    for _ in range(2):  # with the connection from before, and without one
        with pytest.raises(RedisError) as caught:
            act(own_store)
        assert own_store.is_unreachable(caught.value)

    own_redis.start()
    act(own_store)


def test_a_server_that_hangs_is_known_by_the_error(own_redis: Server) -> None:
    store = open_store(own_redis, retry=AT_ONCE, socket_timeout=1)
    store.add_job(make_stored_job("a", T0))
    own_redis.freeze()

    with pytest.raises(RedisError) as caught:
        claim(store, Identity())
    assert store.is_unreachable(caught.value)

    own_redis.thaw()
    assert claimed_ids(claim(store, Identity())) == ["a"]
    store.shutdown()


def make_scheduler(store: RedisJobStore) -> BackgroundScheduler:
    return BackgroundScheduler(
        timezone=UTC, jobstores={"default": store}, jobstore_retry_interval=0.1
    )


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_scheduler_goes_on_when_its_server_is_back(
    own_redis: Server, how: str
) -> None:
    """A run is going on while the server is away; it is recorded, the next ones come, and none comes twice."""
    # What was answered has been written: a crash of the server takes nothing back.
    with Redis(port=own_redis.port) as client:
        client.config_set("appendfsync", "always")
    store = RedisJobStore(url=own_redis.url, retry=AT_ONCE)
    scheduler = make_scheduler(store)
    failed, recovered, ticked = (threading.Event() for _ in range(3))
    scheduler.add_listener(lambda event: failed.set(), EVENT_JOBSTORE_FAILED)
    scheduler.add_listener(lambda event: recovered.set(), EVENT_JOBSTORE_RECOVERED)
    scheduler.start()
    with Gate() as gate:
        scheduler.add_job(pass_gate, args=[gate.port], id="long")
        scheduler.add_job("builtins:len", "interval", args=[""], seconds=0.1, id="tick")
        gate.wait_for_arrival()

        getattr(own_redis, how)()

        assert failed.wait(PATIENCE)
        with pytest.raises(ConnectionError):
            scheduler.get_jobs()
        with pytest.raises(ConnectionError):
            scheduler.add_job("builtins:len", args=[""], id="later")
    stopped = datetime.now(UTC)
    own_redis.start()
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

    store = open_store(own_redis)
    runs = store.get_runs(EVERYTHING, 10_000)
    fires = [run.scheduled_time for run in runs if run.job_id == "tick"]
    assert len(set(fires)) == len(fires)
    # A run that was claimed when the server went away is started late, and may be in the way of the next one.
    ended = {RunState.SUCCEEDED, RunState.COALESCED, RunState.SKIPPED}
    assert {run.state for run in runs} <= ended
    store.shutdown()


def wait_for_runs(scheduler: BackgroundScheduler, job_id: str) -> list[Any]:
    """Return the runs of a job as soon as there is one that has ended."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(RedisError):
            runs = scheduler.get_runs(job_id=job_id)
            if runs and all(run.finished_at for run in runs):
                return list(runs)
        threading.Event().wait(0.05)
    raise AssertionError(f"No run of {job_id!r} has ended after {PATIENCE} seconds")


# Servers that refuse.


def be_full(client: Any) -> None:
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", 1)


def be_a_replica(client: Any) -> None:
    client.replicaof("127.0.0.1", 1)


def demand_a_password(client: Any) -> None:
    client.config_set("requirepass", "s3cret")
    client.client_kill_filter(_type="normal", skipme=True)


def forbid_scripts(client: Any) -> None:
    client.execute_command("ACL SETUSER default -evalsha -eval")


def be_as_before(client: Any) -> None:
    client.config_set("maxmemory", 0)
    client.config_set("requirepass", "")
    client.replicaof("NO", "ONE")
    client.execute_command("ACL SETUSER default +@all nopass")


REFUSALS = [
    pytest.param(be_full, ResponseError, "maxmemory", False, id="out of memory"),
    pytest.param(be_a_replica, ResponseError, "READONLY|read only", True, id="replica"),
    pytest.param(
        *(demand_a_password, (AuthenticationError, ResponseError), "uthentica", False),
        id="password",
    ),
    pytest.param(forbid_scripts, NoPermissionError, "evalsha", False, id="no scripts"),
]


@pytest.mark.parametrize(("refuse", "kind", "message", "unreachable"), REFUSALS)
def test_a_server_that_refuses_says_so_and_has_written_nothing(
    own_redis: Server,
    own_store: RedisJobStore,
    refuse: Callable[[Any], None],
    kind: type[Exception] | tuple[type[Exception], ...],
    message: str,
    unreachable: bool,
) -> None:
    me = Identity()
    own_store.add_job(make_stored_job("a", T0, max_instances=2))
    (found,) = claim(own_store, me, plan=run_again).claims
    with Redis(port=own_redis.port) as client:
        refuse(client)

        for act in (
            lambda: claim(own_store, me, T0 + TICK),
            lambda: own_store.complete(completions(found, me)),
            lambda: own_store.add_job(make_stored_job("b", T0)),
        ):
            with pytest.raises(kind, match=message) as caught:
                act()
            assert own_store.is_unreachable(caught.value) is unreachable
        be_as_before(client)

    assert states(own_store) == [RunState.RUNNING]
    assert ids(own_store.get_due_jobs(T0 + TICK)) == ["a"]
    with pytest.raises(JobLookupError):
        own_store.remove_job("b")
    batch = claim(own_store, me, T0 + TICK, completions=completions(found, me))
    assert claimed_ids(batch) == ["a"]


@pytest.mark.parametrize("refuse", [be_full, be_a_replica, demand_a_password])
def test_a_scheduler_goes_on_when_its_server_no_longer_refuses(
    own_redis: Server, refuse: Callable[[Any], None]
) -> None:
    store = RedisJobStore(url=own_redis.url, retry=AT_ONCE)
    scheduler = make_scheduler(store)
    failed, recovered, ticked = (threading.Event() for _ in range(3))
    scheduler.add_listener(lambda event: failed.set(), EVENT_JOBSTORE_FAILED)
    scheduler.add_listener(lambda event: recovered.set(), EVENT_JOBSTORE_RECOVERED)
    scheduler.start()
    scheduler.add_job("builtins:len", "interval", args=[""], seconds=0.05, id="tick")
    with Redis(port=own_redis.port) as client:
        refuse(client)
        assert failed.wait(PATIENCE)

        be_as_before(client)

    assert recovered.wait(PATIENCE)
    scheduler.add_listener(lambda event: ticked.set(), EVENT_JOB_EXECUTED)
    assert ticked.wait(PATIENCE)
    scheduler.shutdown()


def test_a_scheduler_goes_on_though_scripts_and_connections_are_lost_all_the_time(
    own_redis: Server,
) -> None:
    scheduler = make_scheduler(RedisJobStore(url=own_redis.url))
    fires: list[datetime] = []
    enough = threading.Event()

    def note(event: Any) -> None:
        fires.append(event.scheduled_run_time)
        if len(fires) >= 20:
            enough.set()

    scheduler.add_listener(note, EVENT_JOB_EXECUTED)
    scheduler.start()
    scheduler.add_job("builtins:len", "interval", args=[""], seconds=0.05, id="tick")
    deadline = time.monotonic() + PATIENCE
    with Redis(port=own_redis.port) as client:
        while not enough.wait(0.02) and time.monotonic() < deadline:
            client.script_flush()
            client.client_kill_filter(_type="normal", skipme=True)

    assert enough.is_set()
    scheduler.shutdown()
    assert len(set(fires)) == len(fires)


def test_a_scheduler_waits_for_a_server_at_its_start_if_asked_to(
    own_redis: Server,
) -> None:
    store = RedisJobStore(url=own_redis.url, retry=AT_ONCE)
    own_redis.stop()
    scheduler = BackgroundScheduler(
        timezone=UTC, jobstores={"default": store}, start_retry=PATIENCE
    )
    starter = threading.Thread(target=scheduler.start)
    starter.start()

    own_redis.start()
    starter.join(PATIENCE)

    scheduler.add_job("builtins:len", "interval", args=[""], seconds=SECOND.seconds)
    assert len(scheduler.get_jobs()) == 1
    scheduler.shutdown()


ENDING = """
import sys
from redis.backoff import NoBackoff
from redis.retry import Retry
from apscheduler.schedulers.background import BackgroundScheduler

url, port = sys.argv[1:]
store = {"type": "redis", "url": url, "retry": Retry(NoBackoff(), 0)}
scheduler = BackgroundScheduler({"apscheduler.jobstores.default": store})
scheduler.start()
scheduler.add_job("apscheduler.testing.jobs:pass_gate", args=[int(port)], id="last")
sys.stdin.readline()
scheduler.shutdown()
print("ends", flush=True)
"""


def test_a_program_that_ends_while_its_server_restarts_records_how_its_runs_ended(
    own_redis: Server,
) -> None:
    with Gate() as gate:
        program = subprocess.Popen(
            [sys.executable, "-c", ENDING, own_redis.url, str(gate.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        gate.wait_for_arrival()
        own_redis.stop()
    assert program.stdin is not None and program.stdout is not None
    with program:
        program.stdin.write("\n")
        program.stdin.flush()
        assert program.stdout.readline() == "ends\n"
        own_redis.start()
    assert program.returncode == 0

    store = open_store(own_redis)
    assert states(store) == [RunState.SUCCEEDED]
    store.shutdown()
