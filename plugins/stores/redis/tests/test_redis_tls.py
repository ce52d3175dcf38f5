"""The store speaks TLS, with its listener, too."""

import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError
from redis.retry import Retry

from apscheduler.jobstores.redis import RedisJobStore
from apscheduler.nodes import Identity
from apscheduler.testing.jobs import PATIENCE, make_stored_job
from apscheduler.testing.jobstores.basic import T0
from apscheduler.testing.jobstores.requests import claim, claimed_ids
from apscheduler.testing.servers.machine import DidNotStart, NotInstalled
from apscheduler.testing.servers.redis import Redis as RedisServer


class TlsServer(RedisServer):
    """A Redis that speaks nothing but TLS, with a certificate of its own."""

    @property
    def url(self) -> str:
        return f"rediss://127.0.0.1:{self.port}/0"

    @property
    def certificate(self) -> str:
        return str(self.directory and self.directory / "certificate.pem")

    def prepare(self, directory: Path) -> None:
        openssl = shutil.which("openssl")
        if openssl is None:
            raise NotInstalled("openssl is not installed")
        files = ("-keyout", str(directory / "key.pem"), "-out", self.certificate)
        name = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1")
        kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        self.run(openssl, "req", "-x509", *kind, "-days", "2", *files, *name)

    def command(self, directory: Path) -> list[str]:
        program, _, port, *options = super().command(directory)
        files = ("--tls-cert-file", self.certificate)
        key = ("--tls-key-file", str(directory / "key.pem"), "--tls-auth-clients", "no")
        return [program, "--port", "0", "--tls-port", port, *files, *key, *options]

    def is_ready(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 1):
            return True


@pytest.fixture
def server() -> Iterator[TlsServer]:
    server = TlsServer()
    try:
        server.start()
    except NotInstalled as reason:
        pytest.skip(f"No TLS: {reason}")
    except DidNotStart as reason:
        if "TLS" not in str(reason) and "tls" not in str(reason):
            raise
        pytest.skip("This Redis was built without TLS")
    with server:
        yield server


def test_jobs_and_changes_go_through_tls(server: TlsServer) -> None:
    options: dict[str, Any] = {"url": server.url, "ssl_ca_certs": server.certificate}
    stores = [RedisJobStore(**options) for _ in range(2)]
    heard = threading.Semaphore(0)
    for store in stores:
        store.start(None, "redis")
    stores[0].subscribe(heard.release)

    for number in range(3):
        stores[1].add_job(make_stored_job(f"{number}", T0))
        assert heard.acquire(timeout=PATIENCE)

    assert claimed_ids(claim(stores[0], Identity())) == ["0", "1", "2"]
    for store in stores:
        store.shutdown()


def test_a_certificate_that_is_not_known_is_refused(server: TlsServer) -> None:
    store = RedisJobStore(url=server.url, retry=Retry(NoBackoff(), 0))

    with pytest.raises(ConnectionError, match=r"certificate"):
        store.start(None, "redis")

    with Redis.from_url(server.url, ssl_ca_certs=server.certificate) as client:
        assert client.dbsize() == 0
