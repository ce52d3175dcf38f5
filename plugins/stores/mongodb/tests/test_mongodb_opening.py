"""What happens when the store is made and opened: clients, arguments, indexes, and errors that say what to do."""

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pymongo
import pytest
from bson.raw_bson import RawBSONDocument
from pymongo.errors import (
    ConfigurationError,
    OperationFailure,
    ServerSelectionTimeoutError,
)

from apscheduler.jobstores.mongodb import MongoDBJobStore
from apscheduler.nodes import Identity
from apscheduler.runs import RunState
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.testing.jobs import make_stored_job
from apscheduler.testing.jobstores.basic import T0, ids
from apscheduler.testing.jobstores.requests import (
    claim,
    claimed_ids,
    completions,
    states,
)

SECRET = "s3cret"
NOWHERE = "mongodb://127.0.0.1:1/"


@pytest.fixture
def opened() -> Iterator[Callable[..., MongoDBJobStore]]:
    stores: list[MongoDBJobStore] = []

    def open_store(*args: Any, **options: Any) -> MongoDBJobStore:
        store = MongoDBJobStore(*args, **options)
        stores.append(store)
        store.start(None, "mongo")
        return store

    yield open_store
    for store in stores:
        store.shutdown()


@pytest.fixture
def client(mongodb_url: str) -> Iterator[Any]:
    with pymongo.MongoClient[dict[str, Any]](mongodb_url) as client:
        yield client


# Arguments.


@pytest.mark.parametrize("name", ["database", "collection"])
def test_an_empty_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        MongoDBJobStore(**{name: ""})  # type: ignore[arg-type]  # a name of an argument that is a text


def test_a_store_can_be_made_without_a_server() -> None:
    store = MongoDBJobStore(host=NOWHERE)

    assert store.collection.full_name == "apscheduler.jobs"
    assert store.client is store.collection.database.client
    assert store.collection.write_concern.document == {"w": 1}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"host": NOWHERE, "w": "majority"}, id="argument"),
        pytest.param({"host": f"{NOWHERE}?w=majority"}, id="address"),
        pytest.param({"host": [f"{NOWHERE}?w=majority"]}, id="addresses"),
    ],
)
def test_a_write_concern_that_is_given_stands(options: dict[str, Any]) -> None:
    store = MongoDBJobStore(**options)

    assert store.collection.write_concern.document == {"w": "majority"}


def test_writes_without_an_answer_are_refused() -> None:
    with pytest.raises(ValueError, match="w=0"):
        MongoDBJobStore(host=NOWHERE, w=0)


def test_arguments_for_the_client_are_passed_through(tmp_path: Path) -> None:
    store = MongoDBJobStore(
        host=NOWHERE,
        tls=True,
        tlsAllowInvalidCertificates=True,
        username="user",
        password=SECRET,
        authSource="users",
        maxPoolSize=3,
        socketTimeoutMS=4000,
        serverSelectionTimeoutMS=5000,
        appname="mine",
    )

    options = store.client.options
    assert options.pool_options.max_pool_size == 3
    assert options.pool_options.socket_timeout == 4
    assert options.pool_options.appname == "mine"
    assert options.server_selection_timeout == 5
    assert options.pool_options._ssl_context is not None
    assert options.pool_options._credentials.username == "user"
    assert options.pool_options._credentials.source == "users"


def test_an_argument_that_the_client_does_not_know_is_an_error() -> None:
    with (
        warnings.catch_warnings(),
        pytest.raises((ConfigurationError, TypeError), match="hots"),
    ):
        warnings.simplefilter("ignore")
        MongoDBJobStore(hots="localhost")


# Clients.


@pytest.mark.parametrize("way", ["instance", "reference"])
def test_a_client_that_is_passed_in_stays_open(
    client: Any,
    mongodb_database_name: str,
    way: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "a_client", client, raising=False)
    given = client if way == "instance" else "os:a_client"
    store = MongoDBJobStore(mongodb_database_name, client=given)
    store.start(None, "mongo")

    store.shutdown()

    assert store.client is client
    assert client.admin.command("ping")


def test_a_client_of_its_own_is_closed_and_made_anew_by_the_next_start(
    mongodb_url: str, mongodb_database_name: str
) -> None:
    store = MongoDBJobStore(mongodb_database_name, host=mongodb_url)
    store.start(None, "mongo")
    store.add_job(make_stored_job("a", T0))
    first = store.client

    store.shutdown()

    with pytest.raises(pymongo.errors.InvalidOperation):
        first.admin.command("ping")
    store.start(None, "mongo")
    assert ids(store.get_all_jobs()) == ["a"]
    store.shutdown()


def test_an_asynchronous_client_is_refused() -> None:
    if not hasattr(pymongo, "AsyncMongoClient"):
        pytest.skip("this pymongo has none")
    with pytest.raises(TypeError, match=r"pymongo\.MongoClient.*AsyncMongoClient"):
        MongoDBJobStore(client=pymongo.AsyncMongoClient(connect=False))


@pytest.mark.parametrize(
    "choose",
    [
        pytest.param(lambda client: client["database"], id="database"),
        pytest.param(lambda client: client["database"]["jobs"], id="collection"),
        pytest.param(lambda client: {"host": "localhost"}, id="dictionary"),
    ],
)
def test_what_is_no_client_is_refused(
    client: Any, choose: Callable[[Any], Any]
) -> None:
    with pytest.raises(TypeError, match=r"must be a pymongo\.MongoClient"):
        MongoDBJobStore(client=choose(client))


def test_the_old_name_of_the_client_is_deprecated() -> None:
    store = MongoDBJobStore(host=NOWHERE)

    with pytest.warns(DeprecationWarning, match="'client'"):
        assert store.connection is store.client


def test_documents_are_read_as_the_store_needs_them_whatever_the_client_does(
    mongodb_url: str,
    mongodb_database_name: str,
    opened: Callable[..., MongoDBJobStore],
) -> None:
    with pymongo.MongoClient(
        mongodb_url,
        document_class=RawBSONDocument,
        tz_aware=True,
        readPreference="secondaryPreferred",
    ) as client:
        store = opened(mongodb_database_name, client=client)
        me = Identity()
        store.add_job(make_stored_job("a", T0))
        (found,) = claim(store, me).claims
        store.complete(completions(found, me))

        assert states(store) == [RunState.SUCCEEDED]
        clock = store.read_clock()
        assert clock is not None and clock.tzinfo is UTC
        assert store.collection.codec_options.document_class is RawBSONDocument


# Secrets.


def test_credentials_are_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    store = MongoDBJobStore(
        host=f"mongodb://user:{SECRET}@127.0.0.1:1/", serverSelectionTimeoutMS=50
    )

    with pytest.raises(ServerSelectionTimeoutError) as caught:
        store.start(None, "mongo")

    assert repr(store) == "<MongoDBJobStore (collection=apscheduler.jobs)>"
    assert SECRET not in f"{caught.value!r} {caught.value} {caplog.text}"
    store.shutdown()


@pytest.mark.parametrize(
    "host",
    [
        pytest.param(f"mongodb://user:{SECRET}/x@127.0.0.1/", id="slash"),
        pytest.param(f"mongodb://user:{SECRET}@x@127.0.0.1/", id="at"),
        pytest.param(f"mongodb://user:%{SECRET}@127.0.0.1/", id="percent"),
        pytest.param(f"mongodb://user@{SECRET}:{SECRET}/", id="port"),
        pytest.param(f"mongo://user:{SECRET}@127.0.0.1/", id="scheme"),
    ],
)
def test_an_address_that_is_not_valid_is_not_quoted(host: str) -> None:
    with pytest.raises(ConfigurationError, match="quote_plus") as caught:
        MongoDBJobStore(host=host)

    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


# The server.


def test_a_server_that_is_not_there_is_reported_within_the_time_that_was_given() -> (
    None
):
    store = MongoDBJobStore(host=NOWHERE, serverSelectionTimeoutMS=50)
    started = datetime.now(UTC)

    with pytest.raises(
        ServerSelectionTimeoutError, match=r"'mongo' cannot reach.*127\.0\.0\.1:1:"
    ) as caught:
        store.start(None, "mongo")

    assert store.is_unreachable(caught.value)
    assert datetime.now(UTC) - started < timedelta(seconds=10)
    store.shutdown()


def test_a_server_that_refuses_says_so(proxy: Any, mongodb_database_name: str) -> None:
    answer = {"ok": 0.0, "code": 18, "errmsg": "Authentication failed."}
    proxy.rule = lambda command: answer
    store = MongoDBJobStore(mongodb_database_name, host=proxy.url)

    with pytest.raises(OperationFailure, match=r"'mongo' cannot use.*failed") as caught:
        store.start(None, "mongo")

    assert caught.value.code == 18
    assert not store.is_unreachable(caught.value)
    store.shutdown()


def test_the_clock_is_that_of_the_server(
    mongodb_url: str,
    mongodb_database_name: str,
    opened: Callable[..., MongoDBJobStore],
) -> None:
    store = opened(mongodb_database_name, host=mongodb_url)

    clock = store.read_clock()

    assert clock is not None
    assert abs(clock - datetime.now(UTC)) < timedelta(minutes=5)


def test_the_index_is_that_of_3x_and_there_are_some_besides(
    client: Any,
    mongodb_url: str,
    mongodb_database_name: str,
    opened: Callable[..., MongoDBJobStore],
) -> None:
    # As 3.11.3 has made it.
    client[mongodb_database_name].jobs.create_index("next_run_time", sparse=True)

    opened(mongodb_database_name, host=mongodb_url)

    database = client[mongodb_database_name]
    assert set(database.jobs.index_information()) == {
        *("_id_", "next_run_time_1", "next_run_time_1__id_1"),
        *("ready_at_1", "runs.state_1"),
    }
    assert len(database.jobs_runs.index_information()) == 4


def test_without_the_right_to_create_indexes_there_is_one_warning_and_the_store_works(
    proxy: Any,
    mongodb_database_name: str,
    opened: Callable[..., MongoDBJobStore],
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = {"ok": 0.0, "code": 13, "errmsg": "not authorized on x to execute"}
    proxy.rule = lambda command: answer if "createIndexes" in command else "pass"

    store = opened(mongodb_database_name, host=proxy.url)

    (report,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert "'mongo' cannot create its indexes" in report
    assert report.count("not authorized") == 1
    store.add_job(make_stored_job("a", T0))
    assert claimed_ids(claim(store, Identity())) == ["a"]


@pytest.mark.mongod_only
def test_the_indexes_serve_what_is_asked_at_every_pass(
    client: Any,
    mongodb_url: str,
    mongodb_database_name: str,
    opened: Callable[..., MongoDBJobStore],
) -> None:
    store = opened(mongodb_database_name, host=mongodb_url)
    store.add_jobs([make_stored_job(f"{n}", T0) for n in range(200)])
    jobs = client[mongodb_database_name].jobs
    queries = [
        (
            {"next_run_time": {"$lte": T0.timestamp()}},
            [("next_run_time", 1), ("_id", 1)],
        ),
        ({"ready_at": {"$gt": 0}}, [("ready_at", 1)]),
        ({"runs.state": {"$in": ["running"]}}, [("_id", 1)]),
    ]

    for query, order in queries:
        plan = str(
            jobs.find(query)
            .sort(order)
            .limit(10)
            .explain()["queryPlanner"]["winningPlan"]
        )
        assert "IXSCAN" in plan
        assert "COLLSCAN" not in plan


def test_a_scheduler_is_configured_with_it(
    mongodb_url: str, mongodb_database_name: str
) -> None:
    scheduler = BackgroundScheduler(
        {
            "apscheduler.jobstores.default": {
                "type": "mongodb",
                "database": mongodb_database_name,
                "collection": "mine",
                "host": mongodb_url,
            }
        }
    )
    scheduler.start(paused=True)
    scheduler.add_job("time:time", "interval", hours=1, id="a")

    assert [job.id for job in scheduler.get_jobs()] == ["a"]
    scheduler.shutdown()


# Forking.

FORK = """
import os, sys, threading
from apscheduler.jobstores.mongodb import MongoDBJobStore
from apscheduler.testing.jobs import make_stored_job

url, database = sys.argv[1:]
store = MongoDBJobStore(database, host=url)
store.start(None, "mongo")
store.add_job(make_stored_job("parent"))
client = store.client
pid = os.fork()
if pid == 0:
    assert store.client is not client
    assert store.collection.database.client is store.client
    store.add_job(make_stored_job("child"))
    assert len(store.get_all_jobs()) == 2
    store.shutdown()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert store.client is client
assert len(store.get_all_jobs()) == 2
store.shutdown()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_uses_a_client_of_its_own(
    mongodb_url: str, mongodb_database_name: str
) -> None:
    allowed = "ignore:This process:DeprecationWarning"
    command = [sys.executable, "-W", "error", "-W", allowed, "-c", FORK]

    done = subprocess.run(
        [*command, mongodb_url, mongodb_database_name],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
