"""Stores with a path of their own, and a proxy that loses answers."""

import base64
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from apscheduler.jobstores.etcd import EtcdJobStore

MakeStore = Callable[..., EtcdJobStore]


@pytest.fixture
def address(etcd_url: str) -> dict[str, Any]:
    """Return where the server is, as arguments of a store."""
    parts = urlsplit(etcd_url)
    return {"host": parts.hostname, "port": parts.port}


@pytest.fixture
def make_store(address: dict[str, Any], etcd_path: str) -> Iterator[MakeStore]:
    """Return a function that starts a store with this path, which is shut down in the end."""
    stores: list[EtcdJobStore] = []

    def make(**options: Any) -> EtcdJobStore:
        place = {} if "client" in options else address
        store = EtcdJobStore(**{"path": etcd_path, **place, **options})
        store.start(None, "etcd")
        stores.append(store)
        return store

    yield make
    for store in stores:
        store.shutdown()


@pytest.fixture
def store(make_store: MakeStore) -> EtcdJobStore:
    return make_store()


@pytest.fixture
def other_store(make_store: MakeStore, store: EtcdJobStore) -> EtcdJobStore:
    return make_store()


@pytest.fixture
def unopened_store(address: dict[str, Any], etcd_path: str) -> Iterator[EtcdJobStore]:
    unopened = EtcdJobStore(path=etcd_path, **address)
    yield unopened
    unopened.shutdown()


class Proxy:
    """Stands between clients and a server on this machine, and loses answers on demand.

    :ivar lost: how many answers were lost
    """

    def __init__(self, port: int):
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._marker, self._left = b"", 0
        self.lost = 0
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def lose_answers(self, prefix: str, times: int = 1) -> None:
        """Have so many requests that write keys with a prefix carried out, but close the connection in place of an answer."""
        whole = prefix[: len(prefix) // 3 * 3]  # so much is the same whatever follows
        with self._lock:
            self._marker = b'_put":{"key":"' + base64.b64encode(whole.encode())
            self._left = times

    def close(self) -> None:
        """Close all connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(20)
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join(20)
        for each in self._sockets:
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [client, server]
                is_cut = threading.Event()
                for arguments in ((client, server, is_cut), (server, client, is_cut)):
                    forward = self._ask if arguments[0] is client else self._answer
                    thread = threading.Thread(target=forward, args=arguments)
                    self._threads.append(thread)
                    thread.start()

    def _ask(
        self, client: socket.socket, server: socket.socket, is_cut: threading.Event
    ) -> None:
        seen = b""
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                seen = seen[-1000:] + data  # the marker may come in two parts
                with self._lock:
                    if self._left and self._marker in seen:
                        self._left -= 1
                        self.lost += 1
                        is_cut.set()
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _answer(
        self, server: socket.socket, client: socket.socket, is_cut: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if is_cut.is_set():
                    break
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(address: dict[str, Any]) -> Iterator[Proxy]:
    proxy = Proxy(address["port"])
    yield proxy
    proxy.close()
