"""A private Redis, and a prefix of keys of one's own in any."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from apscheduler.testing.servers.machine import find_program
from apscheduler.testing.servers.processes import Server


class Redis(Server):
    """A private Redis that keeps its data when it is killed."""

    kind = "redis"
    standard_port = 6379
    standard_urls = ("redis://127.0.0.1:6379/0",)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @classmethod
    def probe(cls, url: str) -> str:
        import redis

        with redis.Redis.from_url(
            url, socket_connect_timeout=1, socket_timeout=2
        ) as client:
            return str(client.info("server")["redis_version"])

    def command(self, directory: Path) -> list[str]:
        program = find_program("redis-server", "valkey-server")
        address = ["--port", str(self.port), "--bind", "127.0.0.1"]
        data = ["--dir", str(directory), "--save", "", "--appendonly", "yes"]
        return [program, *address, *data, "--daemonize", "no"]

    def is_ready(self) -> bool:
        with self.connect() as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(7) == b"+PONG\r\n"


@contextmanager
def temporary_prefix(url: str) -> Iterator[str]:
    """Give a prefix that no key has; keys that have it in the end are removed, others are not touched."""
    import redis

    prefix = f"test:{uuid.uuid4().hex[:12]}:"
    try:
        yield prefix
    finally:
        with redis.Redis.from_url(url) as client:
            for key in client.scan_iter(f"{prefix}*", count=1000):
                client.unlink(key)
