"""Stores with keys of their own, and a proxy that loses answers."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from apscheduler.jobstores.redis import RedisJobStore

MakeStore = Callable[..., RedisJobStore]


@pytest.fixture
def keys(redis_prefix: str) -> dict[str, Any]:
    """Return the keys of a store, as its arguments."""
    return {
        "jobs_key": f"{redis_prefix}jobs",
        "run_times_key": f"{redis_prefix}run_times",
    }


@pytest.fixture
def make_store(redis_url: str, keys: dict[str, Any]) -> Iterator[MakeStore]:
    """Return a function that starts a store with these keys, which is shut down in the end."""
    stores: list[RedisJobStore] = []

    def make(**options: Any) -> RedisJobStore:
        place: dict[str, Any] = {} if "client" in options else {"url": redis_url}
        store = RedisJobStore(**(place | keys | options))
        store.start(None, "redis")
        stores.append(store)
        return store

    yield make
    for store in stores:
        store.shutdown()


@pytest.fixture
def store(make_store: MakeStore) -> RedisJobStore:
    return make_store()


@pytest.fixture
def other_store(make_store: MakeStore, store: RedisJobStore) -> RedisJobStore:
    return make_store()


@pytest.fixture
def unopened_store(redis_url: str, keys: dict[str, Any]) -> Iterator[RedisJobStore]:
    unopened = RedisJobStore(url=redis_url, **keys)
    yield unopened
    unopened.shutdown()


class Proxy:
    """Stands between clients and a server on this machine, and loses answers on demand.

    :ivar lost: how many answers were lost
    :ivar on_loss: is called when the server has carried out what it is not heard of
    """

    def __init__(self, port: int):
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._marker, self._left = b"", 0
        self.lost = 0
        self.on_loss: Callable[[], object] = lambda: None
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def lose_answers(self, marker: str, times: int = 1) -> None:
        """Have so many commands that contain this carried out, but close the connection instead of answering."""
        with self._lock:
            self._marker, self._left = marker.encode(), times

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
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                with self._lock:
                    if self._left and self._marker in data:
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
                    self.on_loss()
                    break
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(redis_url: str) -> Iterator[Proxy]:
    import redis

    with redis.Redis.from_url(redis_url) as client:
        port = client.connection_pool.connection_kwargs["port"]
    proxy = Proxy(port)
    yield proxy
    proxy.close()
