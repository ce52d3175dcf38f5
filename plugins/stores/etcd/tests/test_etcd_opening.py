"""What a store is made with, what it refuses, and what it says when it cannot be used."""

import base64
import json
import logging
import os
import pickle
import urllib.request
from collections.abc import Iterator
from typing import Any

import etcd3gw
import pytest
import requests
from etcd3gw.client import Etcd3Client
from etcd3gw.exceptions import (
    ConnectionFailedError,
    ConnectionTimeoutError,
    Etcd3Exception,
)

from apscheduler.jobstores.etcd import EtcdJobStore
from apscheduler.nodes import Identity
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.serializers import PickleSerializer
from apscheduler.testing.jobs import make_stored_job
from apscheduler.testing.jobstores.basic import T0, ids
from apscheduler.testing.jobstores.requests import claim
from apscheduler.testing.servers import Server
from apscheduler.testing.servers.machine import free_port

SECRET = "s3cret"


class CountingSession(requests.Session):
    """Notes whether it was closed, and what it was asked to send."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = 0
        self.sent: list[Any] = []

    def close(self) -> None:
        self.closed += 1
        super().close()

    def send(self, request: Any, **options: Any) -> Any:
        self.sent.append((request, options))
        return super().send(request, **options)


def test_the_defaults_are_those_of_apscheduler_3() -> None:
    store = EtcdJobStore()

    assert store.path == "/apscheduler"
    assert store.pickle_protocol == pickle.DEFAULT_PROTOCOL
    assert store.close_connection_on_exit is False
    assert (store.client.host, store.client.port) == ("localhost", 2379)
    assert repr(store) == "<EtcdJobStore (client=http://localhost:2379)>"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"path": ""}, ValueError, '"path" parameter must not be empty'),
        (
            {"path": "~runs/x"},
            ValueError,
            "'path' must not begin like '~runs'.*'~runs/x'",
        ),
        ({"path": "~"}, ValueError, "'path' must not begin like '~runs'"),
        (
            {"client": 7},
            TypeError,
            "Etcd3Client or a reference to one, but is a builtins.int",
        ),
        (
            {"client": Etcd3Client(), "port": 1, "timeout": 2},
            ValueError,
            "either 'client' or 'port', 'timeout'",
        ),
        ({"hots": "localhost"}, TypeError, "hots"),
        ({"client": "etcd3gw:nothing"}, LookupError, "nothing"),
    ],
)
def test_what_cannot_be_used_is_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        EtcdJobStore(**options)


def test_a_client_of_the_library_of_apscheduler_3_is_refused_with_advice() -> None:
    abandoned = type("Etcd3Client", (), {"__module__": "etcd3.client"})

    with pytest.raises(TypeError, match=r"library etcd3, .*pass etcd3gw\.client"):
        EtcdJobStore(client=abandoned())


def test_arguments_are_passed_to_the_client_unchanged() -> None:
    session = requests.Session()

    store = EtcdJobStore(
        host="somewhere",
        port=1234,
        protocol="https",
        ca_cert="ca.pem",
        cert_cert="mine.pem",
        cert_key="key.pem",
        timeout=1.5,
        api_path="/v3beta/",
    )
    with_session = EtcdJobStore(session=session)

    client = store.client
    assert (client.host, client.port, client.protocol) == ("somewhere", 1234, "https")
    assert (client.session.verify, client.timeout) == ("ca.pem", 1.5)
    assert client.session.cert == ("mine.pem", "key.pem")
    assert client.api_path == "/v3beta/"
    assert with_session.client.session is session


def test_settings_of_a_session_are_used_for_every_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # requests prefers them
        monkeypatch.delenv(name, raising=False)
    sent: list[tuple[Any, dict[str, Any]]] = []

    class Adapter(requests.adapters.HTTPAdapter):
        def send(self, request: Any, **options: Any) -> Any:  # type: ignore[override]  # only what is of interest
            sent.append((request, options))
            response = requests.Response()
            response.status_code = 200
            response._content = b"{}"
            return response

    store = EtcdJobStore(
        protocol="https",
        ca_cert="ca.pem",
        cert_cert="c",
        cert_key="k",
        timeout=3,
        api_path="/v3/",
    )
    store.client.session.mount("https://", Adapter())
    store.client.session.headers["Authorization"] = "first"
    store.start(None, "mine")
    store.client.session.headers["Authorization"] = "second"
    store.client.session.verify = False

    store.lookup_job("a")

    (first, options), *_, (last, changed) = sent
    assert (options["verify"], options["cert"], options["timeout"]) == (
        *("ca.pem", ("c", "k")),
        3,
    )
    assert (first.headers["Authorization"], last.headers["Authorization"]) == (
        *("first", "second"),
    )
    assert changed["verify"] is False
    assert last.url == "https://localhost:2379/v3/kv/range"


def test_a_session_with_ways_of_its_own_sends_every_request(
    make_store: Any, address: dict[str, Any]
) -> None:
    session = CountingSession()
    store = make_store(session=session, **address)

    store.add_job(make_stored_job("a", T0))

    assert len(session.sent) >= 3
    assert {options["timeout"] for _, options in session.sent} == {10.0}
    session.auth = lambda request: request.headers.update(X="y") or request
    plain = make_store(session=requests.Session(), **address)
    plain.client.session.auth = session.auth
    assert ids(plain.get_all_jobs()) == ["a"]


@pytest.mark.parametrize("closes", [False, True])
def test_a_client_of_the_user_is_closed_only_if_that_is_asked_for(
    address: dict[str, Any], etcd_path: str, closes: bool
) -> None:
    session = CountingSession()
    client = Etcd3Client(session=session, **address)
    store = EtcdJobStore(etcd_path, client, closes)
    store.start(None, "etcd")
    claim(store, Identity())

    store.shutdown()

    assert session.closed == closes
    session.close()


def test_the_client_of_the_store_is_closed(
    address: dict[str, Any], etcd_path: str
) -> None:
    session = CountingSession()
    store = EtcdJobStore(etcd_path, session=session, **address)
    store.start(None, "etcd")
    store.subscribe(lambda: None)
    thread = store._storage._watcher._thread  # type: ignore[union-attr]  # it is watching

    store.shutdown()

    assert session.closed == 1
    assert not thread.is_alive()
    store.start(None, "etcd")
    assert store.get_all_jobs() == []
    store.shutdown()


def test_a_client_may_be_given_by_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Etcd3Client()
    monkeypatch.setattr(etcd3gw, "client_of_the_tests", client, raising=False)

    assert EtcdJobStore(client="etcd3gw:client_of_the_tests").client is client


def test_jobs_are_written_by_the_serializer(make_store: Any, etcd_path: str) -> None:
    class Marked(PickleSerializer):
        def dumps(self, state: dict[str, Any]) -> bytes:
            return b"marked" + super().dumps(state)

        def loads(self, data: bytes) -> dict[str, Any]:
            return super().loads(data.removeprefix(b"marked"))

    store = make_store(serializer=Marked())

    store.add_job(make_stored_job("a", T0))
    store.add_job(make_stored_job("paused"))

    assert store.client.get(f"{etcd_path}/a")[0].startswith(b"marked")
    assert ids(store.get_all_jobs()) == ["a", "paused"]
    assert len(claim(store, Identity()).claims) == 1


def test_a_server_that_is_not_there_is_known_by_the_error() -> None:
    port = free_port()
    store = EtcdJobStore(port=port)

    with pytest.raises(ConnectionFailedError) as caught:
        store.start(None, "mine")

    assert store.is_unreachable(caught.value)
    message = str(caught.value)
    assert "Job store 'mine' cannot use etcd" in message
    assert str(port) in message and "check that the server is running" in message


def test_a_server_that_hangs_is_known_by_the_error(own_etcd: Server) -> None:
    store = EtcdJobStore(port=own_etcd.port, timeout=0.2)
    store.start(None, "mine")
    own_etcd.freeze()

    with pytest.raises(ConnectionTimeoutError) as caught:
        store.get_all_jobs()

    own_etcd.thaw()
    assert store.is_unreachable(caught.value)
    store.shutdown()


def ask(server: Server, path: str, token: str | None = None, **body: Any) -> Any:
    """Return what the server answers."""
    request = urllib.request.Request(
        f"{server.url}/v3{path}", json.dumps(body).encode()
    )
    if token is not None:
        request.add_header("Authorization", token)
    with urllib.request.urlopen(request, timeout=20) as response:
        return json.load(response)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
def guarded(own_etcd: Server) -> Iterator[Server]:
    """Return a server with users: root, and one who may use the keys of the path /mine only."""
    ask(own_etcd, "/auth/user/add", name="root", password=SECRET)
    ask(own_etcd, "/auth/role/add", name="root")
    ask(own_etcd, "/auth/user/grant", user="root", role="root")
    ask(own_etcd, "/auth/user/add", name="jobs", password=SECRET)
    ask(own_etcd, "/auth/role/add", name="jobs")
    for prefix in ("/mine", "~runs/mine"):
        span = {"key": encoded(prefix), "range_end": encoded(prefix[:-1] + "f")}
        ask(
            own_etcd,
            "/auth/role/grant",
            name="jobs",
            perm={"permType": "READWRITE", **span},
        )
    ask(own_etcd, "/auth/user/grant", user="jobs", role="jobs")
    ask(own_etcd, "/auth/enable")
    yield own_etcd


def session_of(server: Server, user: str) -> requests.Session:
    answer = ask(server, "/auth/authenticate", name=user, password=SECRET)
    session = requests.Session()
    session.headers["Authorization"] = answer["token"]
    return session


def test_a_user_with_both_prefixes_can_work(guarded: Server) -> None:
    session = session_of(guarded, "jobs")
    store = EtcdJobStore("/mine", port=guarded.port, session=session)
    store.start(None, "mine")
    store.add_job(make_stored_job("a", T0))

    assert len(claim(store, Identity(), lease_until=T0).claims) == 1
    assert ids(store.get_all_jobs()) == ["a"]
    assert store._storage.is_watching
    store.shutdown()


@pytest.mark.parametrize(
    ("token", "path", "message"),
    [
        pytest.param(
            None, "/mine", "user name is empty.*token of such a user", id="no token"
        ),
        pytest.param(
            "wr0ng.1", "/mine", "invalid auth token.*valid token", id="a wrong one"
        ),
        pytest.param(
            "jobs", "/theirs", "permission denied.*'~runs'", id="another path"
        ),
    ],
)
def test_a_user_who_may_not_is_told_so(
    guarded: Server, token: str | None, path: str, message: str
) -> None:
    session = requests.Session()
    if token == "jobs":
        session = session_of(guarded, token)
    elif token is not None:
        session.headers["Authorization"] = token
    store = EtcdJobStore(path, port=guarded.port, session=session)

    with pytest.raises(Etcd3Exception, match=message) as caught:
        store.start(None, "mine")

    assert "Job store 'mine' cannot use etcd" in str(caught.value)
    assert not store.is_unreachable(caught.value)
    assert "wr0ng" not in str(caught.value)


def test_credentials_are_shown_nowhere(
    guarded: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    session = session_of(guarded, "jobs")
    token = str(session.headers["Authorization"])
    store = EtcdJobStore("/mine", host="127.0.0.1", port=guarded.port, session=session)
    scheduler = BackgroundScheduler(
        jobstores={"default": store}, jobstore_retry_interval=0.1
    )
    scheduler.start()
    guarded.stop()

    with pytest.raises(ConnectionFailedError) as caught:
        scheduler.get_jobs()
    scheduler.shutdown()

    shown = f"{store!r} {scheduler!r} {caught.value} {caplog.text}"
    assert token not in shown
    assert "127.0.0.1" in shown
    assert SECRET not in repr(EtcdJobStore(host=f"user:{SECRET}@somewhere"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_uses_connections_of_its_own(store: EtcdJobStore) -> None:
    store.add_job(make_stored_job("parent", T0))
    claim(store, Identity(), limit=0)
    assert store._storage.is_watching
    session = store.client.session

    pid = os.fork()
    if pid == 0:
        failure = 1
        try:
            store.add_job(make_stored_job("child", T0))
            assert store.client.session is not session
            assert not store._storage.is_watching
            assert ids(store.get_all_jobs()) == ["child", "parent"]
            assert len(claim(store, Identity()).claims) == 2
            store.shutdown()
            failure = 0
        finally:
            os._exit(failure)
    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert store.client.session is session
    assert ids(store.get_all_jobs()) == ["child", "parent"]
    assert claim(store, Identity()).claims == []
