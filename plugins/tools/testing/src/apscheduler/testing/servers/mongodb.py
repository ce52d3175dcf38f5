"""A private stand-in for MongoDB, which Debian does not have, and a database of one's own in any."""

import importlib.util
import struct
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apscheduler.testing.servers.machine import NotInstalled
from apscheduler.testing.servers.processes import Server

#: What the double answers among the modules of ``buildInfo``, so that it is known wherever it runs.
MARK = "apscheduler-testing"

#: The begin of a message: length, its number, what it answers, operation, flags, kind of section.
MESSAGE = struct.Struct("<iiiiIB")
OP_MSG = 2013


class MongoDouble(Server):
    """A double of MongoDB: the real driver and a real socket, the semantics of mongomock, no transactions.

    Each command is done alone, so it cannot show that a store relies on more than MongoDB promises. Set
    ``APSCHEDULER_TEST_MONGODB_URL`` to test with a real one.
    """

    kind = "mongodb"
    standard_port = 27017
    standard_urls = ("mongodb://127.0.0.1:27017/",)

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/"

    @classmethod
    def probe(cls, url: str) -> str:
        found = build_info(url)
        return (
            f"{found['version']}, a double"
            if MARK in found["modules"]
            else str(found["version"])
        )

    def prepare(self, directory: Path) -> None:
        missing = [
            name
            for name in ("mongomock", "bson")
            if importlib.util.find_spec(name) is None
        ]
        if missing:
            raise NotInstalled(
                "mongomock or pymongo is not installed: pip install apscheduler-testing[servers]"
            )

    def command(self, directory: Path) -> list[str]:
        module = f"{__package__}.mongo_double"
        return [
            sys.executable,
            "-m",
            module,
            "--port",
            str(self.port),
            "--journal",
            f"{directory}/journal.bson",
        ]

    def is_ready(self) -> bool:
        import bson

        command = bson.encode({"ping": 1, "$db": "admin"})
        head = MESSAGE.pack(MESSAGE.size + len(command), 1, 0, OP_MSG, 0, 0)
        with self.connect() as connection:
            connection.sendall(head + command)
            return bool(connection.recv(1))


def build_info(url: str) -> dict[str, Any]:
    """Return what a server says of itself."""
    import pymongo

    with pymongo.MongoClient[dict[str, Any]](
        url, serverSelectionTimeoutMS=2000
    ) as client:
        return {"modules": [], **client.server_info()}


def is_double(url: str) -> bool:
    """Return whether the server at this address is the double."""
    return MARK in build_info(url)["modules"]


@contextmanager
def temporary_database(url: str) -> Iterator[str]:
    """Give the name of a database that does not exist; it is dropped in the end."""
    import pymongo

    name = f"test_{uuid.uuid4().hex[:12]}"
    try:
        yield name
    finally:
        with pymongo.MongoClient[dict[str, Any]](url) as client:
            client.drop_database(name)
