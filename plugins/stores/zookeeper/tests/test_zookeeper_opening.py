"""Making, starting and ending a store: arguments, clients, errors."""

import logging
import threading
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest
from kazoo.client import KazooClient  # type: ignore[import-untyped]  # it has none
from kazoo.exceptions import NoAuthError  # type: ignore[import-untyped]
from kazoo.security import make_acl, make_digest_acl  # type: ignore[import-untyped]

from apscheduler.jobstores.base import JobLookupError
from apscheduler.jobstores.zookeeper import ZooKeeperJobStore, connecting
from apscheduler.nodes import Identity
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.testing.jobs import make_stored_job
from apscheduler.testing.jobstores.basic import T0, ids
from apscheduler.testing.jobstores.requests import LEASE, claim, ready_run
from apscheduler.testing.servers.machine import free_port

SECRET = "hunter2"


@pytest.fixture
def path(zookeeper_path: str) -> str:
    return f"{zookeeper_path}/jobs"


@pytest.fixture
def client(zookeeper_url: str) -> Iterator[Any]:
    client = KazooClient(hosts=zookeeper_url)
    yield client
    client.stop()
    client.close()


@pytest.fixture
def store(zookeeper_url: str, path: str) -> Iterator[ZooKeeperJobStore]:
    store = ZooKeeperJobStore(path, hosts=zookeeper_url)
    store.start(None, "zk")
    yield store
    store.shutdown()


@pytest.mark.parametrize("path", ["", None])
def test_a_store_needs_a_path(path: Any) -> None:
    with pytest.raises(ValueError, match='The "path" parameter must not be empty'):
        ZooKeeperJobStore(path)


@pytest.mark.parametrize("path", ["/", "//"])
def test_the_root_is_no_path(path: str) -> None:
    with pytest.raises(ValueError, match=f"below the root.*but is {path!r}"):
        ZooKeeperJobStore(path)


def test_slashes_around_the_path_do_not_matter(
    store: ZooKeeperJobStore, zookeeper_url: str, path: str
) -> None:
    store.add_job(make_stored_job("a", T0))

    other = ZooKeeperJobStore(f"{path.lstrip('/')}/", hosts=zookeeper_url)
    other.start(None, "other")

    assert ids(other.get_all_jobs()) == ["a"]
    other.shutdown()


def test_arguments_of_the_client_may_be_texts_as_in_an_ini_file(
    zookeeper_url: str, path: str
) -> None:
    scheduler = BackgroundScheduler(
        {
            "apscheduler.jobstores.default.type": "zookeeper",
            "apscheduler.jobstores.default.path": path,
            "apscheduler.jobstores.default.hosts": zookeeper_url,
            "apscheduler.jobstores.default.timeout": "5",
            "apscheduler.jobstores.default.use_ssl": "no",
            "apscheduler.jobstores.default.close_connection_on_exit": "yes",
        }
    )
    scheduler.start(paused=True)
    scheduler.add_job("builtins:len", "interval", hours=1, args=[""], id="a")

    assert ids(scheduler.get_jobs()) == ["a"]
    scheduler.shutdown()


def test_stores_whose_paths_begin_alike_are_apart(
    store: ZooKeeperJobStore, zookeeper_url: str, path: str
) -> None:
    other = ZooKeeperJobStore(f"{path}2", hosts=zookeeper_url)
    other.start(None, "other")
    other.add_job(make_stored_job("b", T0))

    store.remove_all_jobs()

    assert ids(other.get_all_jobs()) == ["b"]
    assert store.get_all_jobs() == []
    other.shutdown()


@pytest.mark.parametrize("job_id", ["a/b", "/", "", ".", "..", "a\n", "\ud800"])
def test_identifiers_that_cannot_be_names_of_nodes_are_refused(
    job_id: str, store: ZooKeeperJobStore
) -> None:
    job = make_stored_job("a", T0)
    object.__setattr__(job, "id", job_id)

    with pytest.raises(ValueError, match="choose one without '/' and control char"):
        store.add_job(job)

    assert store.lookup_job(job_id) is None
    with pytest.raises(JobLookupError):
        store.update_job(job)
    with pytest.raises(JobLookupError):
        store.remove_job(job_id)
    assert store.get_all_jobs() == []


def test_jobs_that_are_too_large_are_refused(store: ZooKeeperJobStore) -> None:
    text = "x" * 499_000
    large = make_stored_job("a", T0, args=(text + text, 1))
    retried = make_stored_job("a", T0, args=(text, 1), on_lost="retry")

    with pytest.raises(ValueError, match=r"'a' takes \d+ bytes, but .* for 500000"):
        store.add_job(large)
    with pytest.raises(ValueError, match=r"'a' takes \d+ bytes, but .* for 300000"):
        store.add_job(retried)

    assert store.get_all_jobs() == []


@pytest.mark.parametrize(("size", "on_lost"), [(499_000, "mark"), (299_000, "retry")])
def test_jobs_that_are_just_not_too_large_run_and_wait(
    size: int, on_lost: str, store: ZooKeeperJobStore
) -> None:
    me = Identity()
    job = make_stored_job("a", T0, args=("x" * size, 1), on_lost=on_lost)
    store.add_job(job)

    (found,) = claim(store, me, lease_until=T0 + LEASE).claims
    store.hand_back([found])
    (again,) = claim(store, me, lease_until=T0 + LEASE).claims

    assert len(again.job.args[0]) == size
    store.hand_back([again])
    with pytest.raises(ValueError, match="runs of job 'a' that are open take"):
        for _ in range(3):
            store.add_ready_run(job, ready_run(me))


def test_a_path_that_somebody_has_removed_is_made_again(
    store: ZooKeeperJobStore, client: Any, path: str
) -> None:
    store.add_job(make_stored_job("a", T0))
    client.start()
    for each in ("", ".runs", ".changes", ".nodes", ".history"):
        client.delete(path + each, recursive=True)

    assert store.lookup_job("a") is None
    store.add_job(make_stored_job("b", T0))

    assert ids(store.get_all_jobs()) == ["b"]
    client.delete(f"{path}.runs", recursive=True)
    assert claim(store, Identity()).claims == []
    assert len(claim(store, Identity()).claims) == 1


# Clients.


def test_a_client_that_is_passed_in_stays_open(
    client: Any, path: str, zookeeper_url: str
) -> None:
    client.start()
    store = ZooKeeperJobStore(path, client=client)
    store.start(None, "zk")
    store.add_job(make_stored_job("a", T0))

    store.shutdown()

    assert client.connected
    assert client.get_children(path) == ["a"]
    assert store.client is client


def test_a_client_that_was_started_here_is_stopped_again(
    client: Any, path: str
) -> None:
    store = ZooKeeperJobStore(path, client=client)
    store.start(None, "zk")
    assert client.connected

    store.shutdown()

    assert not client.connected
    client.start()
    assert client.connected


def test_a_client_that_is_passed_in_is_closed_if_that_is_wished(
    client: Any, path: str
) -> None:
    client.start()
    store = ZooKeeperJobStore(path, client=client, close_connection_on_exit=True)
    store.start(None, "zk")

    store.shutdown()

    assert not client.connected


def test_a_client_can_be_given_by_reference(
    client: Any, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "a_client", client, raising=False)

    store = ZooKeeperJobStore(path, client=f"{connecting.__name__}:a_client")

    assert store.client is client


def test_a_store_can_be_started_again(store: ZooKeeperJobStore) -> None:
    store.add_job(make_stored_job("a", T0))
    threads = threading.active_count()

    for _ in range(2):
        store.shutdown()
        assert threading.active_count() < threads
        store.start(None, "zk")

        assert ids(store.get_all_jobs()) == ["a"]


def test_a_store_that_is_shut_down_says_so(store: ZooKeeperJobStore) -> None:
    store.shutdown()

    with pytest.raises(Exception, match="the job store is shut down"):
        store.get_all_jobs()


def test_nothing_is_left_when_a_scheduler_has_ended(
    zookeeper_url: str, path: str
) -> None:
    before = set(threading.enumerate())
    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.add_jobstore("zookeeper", path=path, hosts=zookeeper_url)
    scheduler.start()
    scheduler.add_job("builtins:len", args=[""])

    scheduler.shutdown()

    left = [t for t in threading.enumerate() if t not in before and "watch" in t.name]
    assert left == []


# Errors.


def test_a_start_without_a_server_says_where_it_was_looked_for(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(connecting, "START_SECONDS", 0.3)
    port = free_port()
    auth = [("digest", f"user:{SECRET}")]
    store = ZooKeeperJobStore(path, hosts=f"127.0.0.1:{port}", auth_data=auth)
    threads = threading.active_count()

    with pytest.raises(Exception, match="'zk' cannot use ZooKeeper") as caught:
        store.start(None, "zk")

    assert f"no server answers at 127.0.0.1:{port}: check" in str(caught.value)
    assert store.is_unreachable(caught.value)
    assert SECRET not in repr(caught.value)
    assert threading.active_count() == threads


def test_a_server_that_refuses_access_is_named_without_credentials(
    client: Any, path: str, zookeeper_url: str
) -> None:
    client.start()
    client.ensure_path(path.rpartition("/")[0])
    client.create(path, acl=[make_acl("world", "anyone", read=True)])
    auth = [("digest", f"user:{SECRET}")]
    store = ZooKeeperJobStore(path, hosts=zookeeper_url, auth_data=auth)

    store.start(None, "zk")
    with pytest.raises(NoAuthError, match="refuses access: check 'auth_data'") as e:
        store.add_job(make_stored_job("a", T0))
    store.shutdown()

    assert path in str(e.value)
    assert not store.is_unreachable(e.value)
    assert SECRET not in str(e.value)


def test_access_rights_are_those_of_the_client(
    client: Any, path: str, zookeeper_url: str
) -> None:
    acl = make_digest_acl("user", SECRET, all=True)
    auth = [("digest", f"user:{SECRET}")]
    store = ZooKeeperJobStore(
        path, hosts=zookeeper_url, auth_data=auth, default_acl=[acl]
    )
    store.start(None, "zk")
    store.add_job(make_stored_job("a", T0))
    client.start()

    with pytest.raises(NoAuthError):
        client.get(f"{path}/a")

    assert ids(store.get_all_jobs()) == ["a"]
    store.client.delete(path.rpartition("/")[0], recursive=True)
    store.shutdown()


def test_credentials_are_not_shown(zookeeper_url: str) -> None:
    secrets: dict[str, Any] = {
        "auth_data": [("digest", f"user:{SECRET}")],
        "keyfile_password": SECRET,
    }
    store = ZooKeeperJobStore(hosts=zookeeper_url, **secrets)

    assert SECRET not in repr(store)
    assert repr(store).startswith("<ZooKeeperJobStore (client=<kazoo.client.Kazoo")


class Telling:
    """A client whose representation tells too much."""

    connected = True

    def __repr__(self) -> str:
        return SECRET

    def add_listener(self, listener: Any) -> None:
        """Take a listener."""


def test_a_client_of_the_user_is_not_asked_how_it_is_shown() -> None:
    assert SECRET not in repr(ZooKeeperJobStore(client=Telling()))


def test_errors_of_the_client_come_through_and_are_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = MagicMock(**{"get.side_effect": RuntimeError("broken")})
    store = ZooKeeperJobStore(client=client)

    with pytest.raises(RuntimeError, match="broken"):
        store.lookup_job("x")
    repr(store)

    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
