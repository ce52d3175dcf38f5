"""A proxy before the server that breaks connections, and answers in its place."""

import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import bson
import pytest

from apscheduler.testing.servers.mongo_double.wire import (
    HEADER,
    OP_MSG,
    parse_message,
)

Document = dict[str, Any]

# What the driver sends of its own accord.
OWN_COMMANDS = frozenset(("hello", "ismaster", "isMaster", "ping", "endSessions"))

PASS, CUT_BEFORE, CUT_AFTER = "pass", "cut before", "cut after"


class Proxy(socketserver.ThreadingTCPServer):
    """Hands commands to the server and answers back, as ``rule`` says.

    :ivar rule: is given each command and returns ``PASS``, ``CUT_BEFORE`` it is carried out, ``CUT_AFTER`` that, or
        an answer
    :ivar commands: the names of the commands that came
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, url: str):
        super().__init__(("127.0.0.1", 0), _Connection)
        address = urlsplit(url)
        self.target = (address.hostname or "127.0.0.1", address.port or 27017)
        self.rule: Callable[[Document], Any] = lambda command: PASS
        self.commands: list[str] = []
        self.open: set[socket.socket] = set()

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.server_address[1]}/?directConnection=true"

    def cut_at(self, number: int, where: str) -> None:
        """Cut the connection at a command, counted from here on, the first being 0."""
        self.commands.clear()
        self.rule = lambda _: where if len(self.commands) == number + 1 else PASS

    def decide(self, command: Document) -> Any:
        name = next(iter(command))
        if name in OWN_COMMANDS:
            return PASS
        self.commands.append(name)
        return self.rule(command)

    def cut_all(self) -> None:
        for connection in list(self.open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Connection(socketserver.BaseRequestHandler):
    server: Proxy
    request: socket.socket

    def handle(self) -> None:
        self.server.open.add(self.request)
        try:
            with socket.create_connection(self.server.target, 20) as upstream:
                while self._exchange(upstream):
                    pass
        except OSError:
            pass
        finally:
            self.server.open.discard(self.request)

    def _exchange(self, upstream: socket.socket) -> bool:
        message = _read_message(self.request)
        _, request_id, _, operation = HEADER.unpack_from(message)
        verdict: Any = PASS
        if operation == OP_MSG:
            verdict = self.server.decide(parse_message(message[HEADER.size :])[1])
        if verdict == CUT_BEFORE:
            return False
        if isinstance(verdict, dict):
            body = b"\0" * 5 + bson.encode(verdict)
            header = HEADER.pack(HEADER.size + len(body), 0, request_id, OP_MSG)
            self.request.sendall(header + body)
            return True
        upstream.sendall(message)
        answer = _read_message(upstream)
        if verdict == CUT_AFTER:
            return False
        self.request.sendall(answer)
        return True


def _read_message(connection: socket.socket) -> bytes:
    head = _read(connection, 4)
    (size,) = struct.unpack("<i", head)
    return head + _read(connection, size - 4)


def _read(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        part = connection.recv(size - len(received))
        if not part:
            raise ConnectionError
        received += part
    return received


@pytest.fixture
def make_proxy(mongodb_url: str) -> Iterator[Callable[[], Proxy]]:
    started: list[tuple[Proxy, threading.Thread]] = []

    def make() -> Proxy:
        proxy = Proxy(mongodb_url)
        thread = threading.Thread(target=proxy.serve_forever, args=(0.02,))
        thread.start()
        started.append((proxy, thread))
        return proxy

    yield make
    for proxy, thread in started:
        proxy.shutdown()
        thread.join(20)
        proxy.server_close()
        proxy.cut_all()


@pytest.fixture
def proxy(make_proxy: Callable[[], Proxy]) -> Proxy:
    return make_proxy()
