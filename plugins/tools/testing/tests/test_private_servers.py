"""Private servers start, take blows, come back with their data, and leave nothing behind."""

import base64
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from apscheduler.testing.servers import SERVERS, Server, sql
from apscheduler.testing.servers.etcd import ask, encoded
from apscheduler.testing.servers.fixtures import give_up
from apscheduler.testing.servers.machine import children_of, has_ended
from apscheduler.testing.servers.processes import STOP_SECONDS
from apscheduler.testing.servers.supply import (
    WAYS,
    Unavailable,
    start_private,
)
from apscheduler.testing.servers.zookeeper import close, connected

LISTENS = "0A"
#: 127.0.0.1, also as an IPv6 address, as the kernel writes them on machines of either byte order.
LOOPBACK = {
    "0100007F",
    "7F000001",
    "0000000000000000FFFF00000100007F",
    "00000000000000000000FFFF7F000001",
}

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/net/tcp").exists(), reason="looks into /proc"
)


@pytest.fixture(scope="module", params=SERVERS)
def private(request: pytest.FixtureRequest) -> Iterator[Server]:
    try:
        server = start_private(SERVERS[request.param], WAYS, "the environment")
    except Unavailable as reason:
        give_up(request.param, reason)
    with server:
        yield server


@pytest.fixture
def server(private: Server) -> Server:
    """A server that runs, whatever the test before has done to it."""
    return private if private.is_running else private.start()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_server_answers_with_its_version(server: Server) -> None:
    assert server.probe(server.url)[0].isdigit()
    assert str(server.port) in server.url
    assert repr(server) == f"<{type(server).__name__} on port {server.port}>"


def test_data_survives_a_kill(server: Server) -> None:
    name = write(server, "kept")
    url, family = server.url, [server.pid, *children_of(server.pid)]

    server.kill()
    killed = not server.is_running and all(map(has_ended, family))
    server.start()

    assert killed
    assert server.url == url
    assert read(server, name) == "kept"


def test_data_survives_a_restart(server: Server) -> None:
    name = write(server, "kept")
    url, pid = server.url, server.pid

    server.restart()

    assert server.url == url
    assert server.pid != pid
    assert read(server, name) == "kept"


def test_a_stopped_server_refuses_connections(server: Server) -> None:
    server.stop()
    server.stop()  # again: nothing to do

    with pytest.raises(ConnectionRefusedError):
        server.connect()
    with pytest.raises(RuntimeError, match=r"has no process; start\(\) it first"):
        _ = server.pid


def test_a_frozen_server_is_silent_until_it_is_thawed(server: Server) -> None:
    name = write(server, "kept")

    server.freeze()
    try:
        with pytest.raises(OSError, match="timed out"):
            server.is_ready()
    finally:
        server.thaw()

    assert read(server, name) == "kept"


def test_a_frozen_server_can_be_stopped_and_killed(server: Server) -> None:
    server.freeze()
    server.stop()
    server.start()
    server.freeze()
    server.kill()

    assert not server.is_running


@pytest.mark.parametrize("kind", SERVERS)
def test_a_closed_server_leaves_neither_process_nor_folder(
    kind: str, request: pytest.FixtureRequest
) -> None:
    server: Server = request.getfixturevalue(f"own_{kind}")
    family = [server.pid, *children_of(server.pid)]
    directory = server.directory
    assert directory is not None

    server.close()

    wait_until(lambda: all(map(has_ended, family)))
    assert not directory.exists()
    assert repr(server) == f"<{type(server).__name__} not running>"


def listening_addresses(pid: int) -> set[str]:
    """Return the local addresses on which a process listens, as the kernel writes them."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(os.readlink(descriptor))
        except FileNotFoundError:  # closed meanwhile
            continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == LISTENS and f"socket:[{inode}]" in sockets:
                found.add(local.partition(":")[0])
    return found


@needs_proc
def test_only_this_machine_reaches_a_server(server: Server) -> None:
    addresses = listening_addresses(server.pid)

    assert addresses
    assert addresses <= LOOPBACK


def write(server: Server, value: str) -> str:
    """Keep a value and return its name."""
    name = sql.unique_name()
    WRITERS[server.kind](server.url, name, value)
    return name


def read(server: Server, name: str) -> Any:
    return READERS[server.kind](server.url, name)


def write_sql(url: str, name: str, value: str) -> None:
    from sqlalchemy import text

    sql.execute(url, text(f"create table {name} as select '{value}' as value"))


def read_sql(url: str, name: str) -> Any:
    from sqlalchemy import text

    return sql.execute(url, text(f"select value from {name}"))


def write_redis(url: str, name: str, value: str) -> None:
    import redis

    with redis.Redis.from_url(url) as client:
        client.set(name, value)


def read_redis(url: str, name: str) -> Any:
    import redis

    with redis.Redis.from_url(url, decode_responses=True) as client:
        return client.get(name)


def write_mongodb(url: str, name: str, value: str) -> None:
    import pymongo

    with pymongo.MongoClient[dict[str, Any]](url) as client:
        client["test"][name].insert_one({"_id": 1, "value": value})


def read_mongodb(url: str, name: str) -> Any:
    import pymongo

    with pymongo.MongoClient[dict[str, Any]](url) as client:
        (found,) = client["test"][name].find()
        return found["value"]


def write_etcd(url: str, name: str, value: str) -> None:
    ask(f"{url}/v3/kv/put", {"key": encoded(name), "value": encoded(value)})


def read_etcd(url: str, name: str) -> Any:
    (found,) = ask(f"{url}/v3/kv/range", {"key": encoded(name)})["kvs"]
    return base64.b64decode(found["value"]).decode()


def write_zookeeper(url: str, name: str, value: str) -> None:
    client = connected(url, seconds=10)
    try:
        client.create(f"/{name}", value.encode())
    finally:
        close(client)


def read_zookeeper(url: str, name: str) -> Any:
    client = connected(url, seconds=10)
    try:
        return client.get(f"/{name}")[0].decode()
    finally:
        close(client)


WRITERS = {
    "postgresql": write_sql,
    "mysql": write_sql,
    "redis": write_redis,
    "mongodb": write_mongodb,
    "etcd": write_etcd,
    "zookeeper": write_zookeeper,
}
READERS = {
    "postgresql": read_sql,
    "mysql": read_sql,
    "redis": read_redis,
    "mongodb": read_mongodb,
    "etcd": read_etcd,
    "zookeeper": read_zookeeper,
}
