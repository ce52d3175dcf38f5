"""What a store is made with, what it refuses, and what it says when it cannot be used."""

import logging
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import redis.asyncio
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    NoPermissionError,
    ResponseError,
    SlotNotCoveredError,
)
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError

from apscheduler.jobstores.redis import RedisJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.serializers import PickleSerializer
from apscheduler.testing.jobs import make_stored_job
from apscheduler.testing.jobstores.basic import T0, ids
from apscheduler.testing.servers import Server
from apscheduler.testing.servers.machine import free_port

SECRET = "s3cret/w#rd"
AT_ONCE = Retry(NoBackoff(), 0)

client_of_the_tests = Redis()


def arguments_of(store: RedisJobStore) -> dict[str, Any]:
    found: dict[str, Any] = store.redis.connection_pool.connection_kwargs
    return found


def test_the_defaults_are_those_of_apscheduler_3() -> None:
    store = RedisJobStore()

    assert store.jobs_key == "apscheduler.jobs"
    assert store.run_times_key == "apscheduler.run_times"
    assert store.pickle_protocol == pickle.HIGHEST_PROTOCOL
    assert arguments_of(store)["db"] == 0
    assert repr(store) == "<RedisJobStore>"


def test_the_database_may_be_given_as_text() -> None:
    assert arguments_of(RedisJobStore("3"))["db"] == 3  # type: ignore[arg-type]  # INI files have nothing else


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"db": None}, "'db' must be the number of a database"),
        ({"db": "first"}, "first"),
        ({"jobs_key": ""}, "'jobs_key' must not be empty"),
        ({"run_times_key": ""}, "'run_times_key' must not be empty"),
        ({"jobs_key": "a", "run_times_key": "a"}, "must be different.*'a'"),
        ({"url": "http://localhost"}, "redis://, .*scheme is 'http'"),
        ({"url": "localhost:6379"}, "scheme is missing"),
        ({"url": 6379}, "must be text, but is a int"),
        (
            {"client": client_of_the_tests, "url": "redis://", "host": "a"},
            "either 'client' or 'url', 'host'",
        ),
        (
            {"client": Redis(decode_responses=True)},
            "without decode_responses=True",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RedisJobStore(**options)


def test_an_asynchronous_client_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must not be asynchronous.*redis.asyncio"):
        RedisJobStore(client=redis.asyncio.Redis())


def test_something_else_than_a_client_is_refused() -> None:
    with pytest.raises(TypeError, match=r"reference to one, but is a builtins.int"):
        RedisJobStore(client=7)


def test_an_argument_that_the_client_does_not_know_is_an_error() -> None:
    with pytest.raises(TypeError, match="hots"):
        RedisJobStore(hots="localhost")


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}@localhost:6379/0",
        "redis://user:s3cret@localhost:s3cret/0",
        "redis://:s3cret@[localhost/0",
        "s3cret:s3cret@localhost",
    ],
)
def test_a_url_that_cannot_be_understood_is_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match="'url'") as caught:
        RedisJobStore(url=url)

    error = caught.value
    assert "s3cret" not in str(error)
    assert error.__suppress_context__ or error.__context__ is None


def test_what_a_url_says_goes_before_other_arguments() -> None:
    store = RedisJobStore(5, url="redis://somewhere:1234/7", username="user")

    arguments = arguments_of(store)
    assert (arguments["host"], arguments["port"], arguments["db"]) == (
        *("somewhere", 1234),
        7,
    )
    assert arguments["username"] == "user"
    assert arguments_of(RedisJobStore(5, url="redis://somewhere"))["db"] == 5


def test_urls_of_sockets_and_tls_are_understood() -> None:
    socket = RedisJobStore(url="unix:///run/redis.sock?db=2")
    secured = RedisJobStore(url="rediss://somewhere", ssl_ca_certs="ca.pem")

    assert arguments_of(socket)["path"] == "/run/redis.sock"
    assert arguments_of(socket)["db"] == 2
    assert secured.redis.connection_pool.connection_class is redis.SSLConnection
    assert arguments_of(secured)["ssl_ca_certs"] == "ca.pem"


def test_arguments_are_passed_to_the_client_unchanged() -> None:
    given: dict[str, Any] = {
        "host": "somewhere",
        "port": 1234,
        "username": "user",
        "password": "word",
        "socket_timeout": 1.5,
        "socket_connect_timeout": 2.5,
        "health_check_interval": 7,
        "client_name": "jobs",
    }

    store = RedisJobStore(max_connections=3, **given)
    secured = RedisJobStore(ssl=True, ssl_certfile="mine.pem", ssl_keyfile="key.pem")

    assert arguments_of(store).items() >= given.items()
    assert store.redis.connection_pool.max_connections == 3
    assert secured.redis.connection_pool.connection_class is redis.SSLConnection
    assert arguments_of(secured)["ssl_certfile"] == "mine.pem"


def test_texts_from_ini_files_mean_what_the_client_wants() -> None:
    store = RedisJobStore(
        port="1234", socket_timeout="2.5", ssl="false", password="123"
    )

    arguments = arguments_of(store)
    assert int(arguments["port"]) == 1234
    assert (arguments["socket_timeout"], arguments["password"]) == (2.5, "123")
    assert store.redis.connection_pool.connection_class is redis.Connection
    with pytest.raises(ValueError, match="'socket_timeout' cannot be 'long'"):
        RedisJobStore(socket_timeout="long")


@pytest.mark.parametrize("how", ["argument", "url"])
def test_states_are_bytes_whatever_was_asked_for(
    make_store: Any, redis_url: str, how: str
) -> None:
    """It let jobs be added, and not be listed, in APScheduler 3."""
    if how == "argument":
        store = make_store(decode_responses=True)
    else:
        store = make_store(url=f"{redis_url}?decode_responses=true")

    store.add_job(make_stored_job("a", T0))

    assert ids(store.get_all_jobs()) == ["a"]


def test_a_client_of_the_user_stays_open(redis_url: str, keys: dict[str, Any]) -> None:
    with Redis.from_url(redis_url, single_connection_client=True) as client:
        store = RedisJobStore(client=client, **keys)
        store.start(None, "redis")
        connection = client.connection

        store.shutdown()

        assert connection is not None and client.connection is connection
        assert connection._sock is not None


def test_a_client_may_be_given_by_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Redis()
    monkeypatch.setattr(redis, "client_of_the_tests", client, raising=False)

    assert RedisJobStore(client="redis:client_of_the_tests").redis is client


def test_connections_of_the_store_are_closed(
    redis_url: str, keys: dict[str, Any]
) -> None:
    store = RedisJobStore(url=redis_url, client_name="closing", **keys)
    store.start(None, "redis")

    def count() -> int:
        with Redis.from_url(redis_url) as client:
            clients: Any = client.client_list()
            return sum(each["name"] == "closing" for each in clients)

    store.subscribe(lambda: None)
    assert count() == 2
    store.shutdown()
    assert count() == 0

    store.start(None, "redis")
    assert store.get_all_jobs() == []
    store.shutdown()


def test_jobs_are_written_by_the_serializer(make_store: Any) -> None:
    class Marked(PickleSerializer):
        def dumps(self, state: dict[str, Any]) -> bytes:
            return b"marked" + super().dumps(state)

        def loads(self, data: bytes) -> dict[str, Any]:
            return super().loads(data.removeprefix(b"marked"))

    store = make_store(serializer=Marked())

    store.add_job(make_stored_job("a", T0))

    assert store.redis.hget(store.jobs_key, "a").startswith(b"marked")
    assert ids(store.get_all_jobs()) == ["a"]


def test_keys_that_hold_something_else_are_refused(make_store: Any) -> None:
    store = make_store()
    store.redis.set(store.run_times_key, "mine")

    with pytest.raises(
        ValueError, match=r"'redis' cannot use the key .*run_times.*string, not a zset"
    ):
        make_store()


def test_a_server_that_is_not_there_is_known_by_the_error() -> None:
    port = free_port()
    store = RedisJobStore(port=port, password="s3cret", retry=AT_ONCE)

    with pytest.raises(ConnectionError) as caught:
        store.start(None, "mine")

    assert store.is_unreachable(caught.value)
    message = str(caught.value)
    assert "Job store 'mine' cannot use Redis" in message
    assert str(port) in message and "check that the server is running" in message
    assert "s3cret" not in message


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ClusterDownError("the cluster is down"), True),
        (SlotNotCoveredError("no node has this slot"), True),
        (BusyLoadingError("loading the dataset in memory"), True),
        (MasterNotFoundError("no master found"), True),
        (ResponseError("Error running script: -LOADING Redis is loading"), True),
        (ResponseError("Error running script: -WRONGTYPE"), False),
        (OSError("no connection"), False),
        (TimeoutError(), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_may_be_better_later_is_told_from_what_will_not(
    error: Exception, expected: bool
) -> None:
    assert RedisJobStore().is_unreachable(error) is expected


@pytest.fixture
def guarded(own_redis: Server) -> Iterator[Any]:
    """Return a client of a server with a password."""
    with Redis(port=own_redis.port) as client:
        client.config_set("requirepass", SECRET)
    with Redis(port=own_redis.port, password=SECRET) as client:
        yield client


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="no password"),
        pytest.param({"password": "wr0ng"}, id="a wrong one"),
        pytest.param({"username": "nobody", "password": "wr0ng"}, id="a wrong user"),
    ],
)
def test_a_password_that_is_not_right_is_known_by_the_error(
    guarded: Any, own_redis: Server, options: dict[str, Any]
) -> None:
    store = RedisJobStore(port=own_redis.port, retry=AT_ONCE, **options)

    with pytest.raises(AuthenticationError) as caught:
        store.start(None, "mine")

    assert not store.is_unreachable(caught.value)
    assert "Job store 'mine' cannot use Redis" in str(caught.value)
    assert "check user name and password" in str(caught.value)
    assert "wr0ng" not in str(caught.value)


def test_credentials_are_shown_nowhere(
    guarded: Any, own_redis: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    store = RedisJobStore(port=own_redis.port, password=SECRET, retry=AT_ONCE)
    scheduler = BackgroundScheduler(jobstores={"default": store})
    scheduler.start()
    own_redis.stop()

    with pytest.raises(ConnectionError) as caught:
        scheduler.get_jobs()
    scheduler.shutdown()

    assert SECRET not in f"{store!r} {scheduler!r} {caught.value} {caplog.text}"


def test_a_user_who_may_not_run_scripts_is_told_so(
    guarded: Any, own_redis: Server
) -> None:
    guarded.execute_command("ACL SETUSER", "reader", "on", ">word", "~*", "+@read")
    store = RedisJobStore(port=own_redis.port, username="reader", password="word")

    with pytest.raises(NoPermissionError, match="permission to run scripts"):
        store.start(None, "mine")


def test_a_user_who_may_not_publish_works_without_telling(
    guarded: Any, own_redis: Server
) -> None:
    guarded.execute_command(
        *("ACL SETUSER", "worker", "on", ">word", "~jobs*", "~times", "resetchannels"),
        *("+@all", "-@dangerous"),
    )
    store = RedisJobStore(
        *(0, "jobs", "times"), port=own_redis.port, username="worker", password="word"
    )
    store.start(None, "mine")

    store.add_job(make_stored_job("a", T0))

    with pytest.raises(NoPermissionError):
        store.subscribe(lambda: None)
    assert store.poll_interval == 1.0, "it has to look itself"
    assert ids(store.get_all_jobs()) == ["a"]
    store.shutdown()
