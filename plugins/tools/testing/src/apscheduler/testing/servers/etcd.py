"""A private etcd, and a path of one's own in any."""

import base64
import json
import os
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apscheduler.testing.servers.machine import find_program, free_port
from apscheduler.testing.servers.processes import Server

# An election of a single member can be quick.
SETTINGS = [
    "--heartbeat-interval",
    "20",
    "--election-timeout",
    "200",
    "--log-level",
    "warn",
    "--unsafe-no-fsync",
]


class Etcd(Server):
    """A private etcd of one member."""

    kind = "etcd"
    standard_port = 2379
    standard_urls = ("http://127.0.0.1:2379",)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @classmethod
    def probe(cls, url: str) -> str:
        return str(ask(f"{url}/version")["etcdserver"])

    def process_options(self) -> dict[str, Any]:
        # It would read every option that is not given here from its own variables.
        return {
            "env": {
                name: value
                for name, value in os.environ.items()
                if not name.startswith("ETCD_")
            }
        }

    def prepare(self, directory: Path) -> None:
        self.peer_port = free_port()

    def command(self, directory: Path) -> list[str]:
        peer = f"http://127.0.0.1:{self.peer_port}"
        addresses = {
            "--listen-client-urls": self.url,
            "--advertise-client-urls": self.url,
            "--listen-peer-urls": peer,
            "--initial-advertise-peer-urls": peer,
            "--initial-cluster": f"default={peer}",
        }
        options = [part for item in addresses.items() for part in item]
        return [
            find_program("etcd"),
            "--data-dir",
            f"{directory}/data",
            *options,
            *SETTINGS,
        ]

    def is_ready(self) -> bool:
        return bool(ask(f"{self.url}/health")["health"] == "true")


def ask(url: str, body: dict[str, str] | None = None) -> Any:
    """Return what etcd's gateway answers; it speaks HTTP, so that no client is needed."""
    data = None if body is None else json.dumps(body).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, data), timeout=2) as response:
        return json.load(response)


def encoded(text: str) -> str:
    """Return keys and values as they are in questions and answers."""
    return base64.b64encode(text.encode()).decode()


@contextmanager
def temporary_path(url: str) -> Iterator[str]:
    """Give a path below which there is no key.

    Keys that begin with it, or with ``~runs`` and it, are removed in the end; others are not touched.
    """
    path = f"/test-{uuid.uuid4().hex[:12]}"
    try:
        yield path
    finally:
        for prefix in (path, f"~runs{path}"):
            end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
            body = {"key": encoded(prefix), "range_end": encoded(end)}
            ask(f"{url}/v3/kv/deleterange", body)
