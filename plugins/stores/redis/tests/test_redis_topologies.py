"""Clusters, and servers that Sentinels watch over."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis, RedisCluster, Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from apscheduler.events import EVENT_JOB_EXECUTED
from apscheduler.jobstores.redis import RedisJobStore
from apscheduler.nodes import Identity
from apscheduler.runs import RunState
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.testing.jobs import PATIENCE, make_stored_job
from apscheduler.testing.jobstores import NativeJobStoreContract
from apscheduler.testing.jobstores.basic import T0, ids
from apscheduler.testing.jobstores.requests import claim, claimed_ids, states
from apscheduler.testing.servers.machine import NotInstalled
from apscheduler.testing.servers.redis import Redis as RedisServer

TAGGED: dict[str, Any] = {
    "jobs_key": "{test}.jobs",
    "run_times_key": "{test}.run_times",
}
ALL_SLOTS = 16384
AT_ONCE = Retry(NoBackoff(), 0)
NODES = 3


class ClusterServer(RedisServer):
    """One node of a cluster."""

    def command(self, directory: Path) -> list[str]:
        cluster = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]
        return [*super().command(directory), *cluster]


class SentinelServer(RedisServer):
    """One Sentinel, which alone decides that a server is down.

    :param watched: the port of the server
    """

    def __init__(self, watched: int):
        super().__init__()
        self._watched = watched

    def command(self, directory: Path) -> list[str]:
        (directory / "sentinel.conf").write_text(
            f"sentinel monitor mine 127.0.0.1 {self._watched} 1\n"
            "sentinel down-after-milliseconds mine 300\n"
            "sentinel failover-timeout mine 2000\n"
        )
        program, *options = super().command(directory)
        address = options[: options.index("--dir")]
        return [program, str(directory / "sentinel.conf"), "--sentinel", *address]


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except RedisError:
            pass
        threading.Event().wait(0.02)
    raise AssertionError(f"{what}: not after {PATIENCE} seconds")


@pytest.fixture(scope="module")
def cluster_port() -> Iterator[int]:
    """Return the port of one of three nodes which have a third of the slots each."""
    nodes = [ClusterServer() for _ in range(NODES)]
    try:
        try:
            for node in nodes:
                node.start()
        except NotInstalled as reason:
            pytest.skip(f"No cluster: {reason}")
        clients: list[Any] = [Redis(port=node.port) for node in nodes]
        bounds = [ALL_SLOTS * number // NODES for number in range(NODES + 1)]
        for number, client in enumerate(clients):
            slots = range(bounds[number], bounds[number + 1])
            client.execute_command("CLUSTER", "ADDSLOTS", *slots)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in nodes[1:]:
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", node.port)

        def is_up() -> bool:
            infos = [client.execute_command("CLUSTER INFO") for client in clients]
            wanted = {"cluster_state": "ok", "cluster_known_nodes": str(NODES)}
            return all(info.items() >= wanted.items() for info in infos)

        wait_until(is_up, "the cluster is up")
        for client in clients:
            client.close()
        yield nodes[0].port
    finally:
        for node in nodes:
            node.close()


@pytest.fixture
def cluster(cluster_port: int) -> Iterator[RedisCluster]:
    with RedisCluster(host="127.0.0.1", port=cluster_port) as client:
        yield client
        for key in client.scan_iter("{test}*"):
            client.delete(key)


class TestOnACluster(NativeJobStoreContract):
    @pytest.fixture
    def store(self, cluster: RedisCluster) -> Iterator[RedisJobStore]:
        store = RedisJobStore(client=cluster, **TAGGED)
        store.start(None, "redis")
        yield store
        store.shutdown()

    @pytest.fixture
    def other_store(
        self, cluster_port: int, store: RedisJobStore
    ) -> Iterator[RedisJobStore]:
        with RedisCluster(host="127.0.0.1", port=cluster_port) as client:
            other = RedisJobStore(client=client, **TAGGED)
            other.start(None, "other")
            yield other
            other.shutdown()

    @pytest.fixture
    def unopened_store(self, cluster: RedisCluster) -> RedisJobStore:
        return RedisJobStore(client=cluster, **TAGGED)


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param({}, id="the default ones"),
        pytest.param({"jobs_key": "{a}.jobs", "run_times_key": "{b}"}, id="two tags"),
        pytest.param({"jobs_key": "{a}.jobs", "run_times_key": "a"}, id="one tag"),
        pytest.param({"jobs_key": "{}a", "run_times_key": "{}a.t"}, id="empty tags"),
    ],
)
def test_keys_without_a_common_hash_tag_are_refused(
    cluster: RedisCluster, keys: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"jobs_key='\{apscheduler\}.jobs'"):
        RedisJobStore(client=cluster, **keys)


def test_a_client_of_one_node_is_told_that_there_is_a_cluster(
    cluster_port: int,
) -> None:
    store = RedisJobStore(port=cluster_port)

    with pytest.raises(
        RedisError, match=r"part of a cluster: give a redis\.RedisCluster"
    ):
        store.start(None, "mine")


def test_changes_are_heard_of_from_any_node(cluster: RedisCluster) -> None:
    stores = [RedisJobStore(client=cluster, **TAGGED) for _ in range(2)]
    heard = [threading.Event() for _ in range(6)]
    for store in stores:
        store.start(None, "redis")
    for event in heard:  # each on a node that chance chooses
        stores[0].subscribe(event.set)

    stores[1].add_job(make_stored_job("a", T0))

    assert all(event.wait(PATIENCE) for event in heard)
    for store in stores:
        store.shutdown()


def test_a_scheduler_runs_jobs_on_a_cluster(cluster: RedisCluster) -> None:
    store = RedisJobStore(client=cluster, **TAGGED)
    scheduler = BackgroundScheduler(timezone="UTC", jobstores={"default": store})
    ran = threading.Semaphore(0)
    scheduler.add_listener(lambda event: ran.release(), EVENT_JOB_EXECUTED)
    scheduler.start()

    scheduler.add_job("builtins:len", "interval", args=[""], seconds=0.05)

    for _ in range(5):
        assert ran.acquire(timeout=PATIENCE)
    scheduler.shutdown()


@pytest.fixture
def watched() -> Iterator[tuple[RedisServer, RedisServer, Any]]:
    """Return a server, its replica, and the client of the Sentinel that watches over them."""
    master, replica = RedisServer(), RedisServer()
    try:
        try:
            master.start()
            replica.start()
        except NotInstalled as reason:
            pytest.skip(f"No Sentinel: {reason}")
        with Redis(port=master.port) as client, Redis(port=replica.port) as follower:
            client.config_set("repl-diskless-sync-delay", 0)
            follower.replicaof("127.0.0.1", str(master.port))
            # The master keeps what is written to itself until the replica has said that it is there.
            client.set("seen", 1)
            wait_until(lambda: client.wait(1, 100), "the replica is in step")
        with SentinelServer(master.port).start() as sentinel:
            addresses = [("127.0.0.1", sentinel.port)]
            make_manager: Any = Sentinel  # it is not typed
            manager = make_manager(addresses, retry=AT_ONCE)
            wait_until(
                lambda: manager.discover_slaves("mine"), "the Sentinel knows both"
            )
            yield master, replica, manager
            for each in manager.sentinels:
                each.close()
    finally:
        master.close()
        replica.close()


def test_a_scheduler_follows_to_the_server_that_takes_over(
    watched: tuple[RedisServer, RedisServer, Any],
) -> None:
    master, replica, manager = watched
    client = manager.master_for("mine", retry=AT_ONCE, socket_timeout=1)
    store = RedisJobStore(client=client)
    scheduler = BackgroundScheduler(
        timezone="UTC", jobstores={"default": store}, jobstore_retry_interval=0.1
    )
    fires: list[Any] = []
    ran = threading.Semaphore(0)

    def note(event: Any) -> None:
        fires.append(event.scheduled_run_time)
        ran.release()

    scheduler.add_listener(note, EVENT_JOB_EXECUTED)
    scheduler.start()
    scheduler.add_job("builtins:len", "interval", args=[""], seconds=0.1, id="tick")
    for _ in range(3):
        assert ran.acquire(timeout=PATIENCE)

    with Redis(port=master.port) as old:  # which does not wait by itself
        assert old.wait(1, PATIENCE * 1000) == 1
    master.kill()
    with Redis(port=replica.port) as new:
        wait_until(lambda: new.role()[0] == b"master", "the replica takes over")
        wait_until(lambda: scheduler.get_jobs(), "the scheduler is there")
        while ran.acquire(blocking=False):
            pass
        assert ran.acquire(timeout=PATIENCE)
        scheduler.shutdown()
        assert new.hlen("apscheduler.jobs") == 1
    assert len(set(fires)) == len(fires)
    client.close()


def test_changes_are_heard_of_through_a_sentinel(
    watched: tuple[RedisServer, RedisServer, Any],
) -> None:
    master, _, manager = watched
    client = manager.master_for("mine")
    store = RedisJobStore(client=client)
    other = RedisJobStore(port=master.port)
    heard = threading.Event()
    for each in (store, other):
        each.start(None, "redis")
    store.subscribe(heard.set)

    other.add_job(make_stored_job("a", T0))

    assert heard.wait(PATIENCE)
    assert ids(store.get_all_jobs()) == ["a"]
    assert claimed_ids(claim(store, Identity())) == ["a"]
    assert states(store) == [RunState.RUNNING]
    store.shutdown()
    other.shutdown()
    client.close()
