"""A network that fails: connections are cut before a request arrives, or before its answer does."""

import random
import re
import socket
import threading
from contextlib import suppress
from typing import Any

LOCAL = re.compile(r"(?<=127\.0\.0\.1:)\d+|(?<=localhost:)\d+")


class Proxy:
    """Stands between clients and a server on this machine, knowing nothing of what they say.

    :ivar failures: of so many requests one is cut; 0: none
    :ivar cuts: how many connections were cut
    """

    def __init__(self, target: int, seed: int):
        self._target = target
        self._random = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.failures = self.cuts = 0
        self._lock = threading.Lock()  # for what follows
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        with self._lock:
            for each in self._open:
                cut(each)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._target), 5)
                    server.settimeout(None)
                except OSError:  # it is being started again
                    client.close()
                    continue
                for each in (client, server):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._open |= {client, server}
                is_doomed = threading.Event()
                for action in (self._ask, self._answer):
                    threading.Thread(
                        target=action, args=(client, server, is_doomed), daemon=True
                    ).start()

    def _ask(
        self, client: socket.socket, server: socket.socket, is_doomed: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if self.failures and self._random.randrange(self.failures) == 0:
                    self.cuts += 1
                    if self._random.random() < 0.5:
                        break
                    is_doomed.set()
                server.sendall(data)
        self._end(client, server)

    def _answer(
        self, client: socket.socket, server: socket.socket, is_doomed: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if is_doomed.is_set():
                    break
                client.sendall(data)
        self._end(client, server)

    def _end(self, *pair: socket.socket) -> None:
        for each in pair:
            cut(each)
        with self._lock:
            self._open -= set(pair)


def cut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def through(config: dict[str, Any], port: int) -> dict[str, Any]:
    """Return the configuration of a store with another port in its address."""
    moved = {
        key: LOCAL.sub(str(port), value) if isinstance(value, str) else value
        for key, value in config.items()
    }
    if "port" in moved:
        moved["port"] = port
    return moved
