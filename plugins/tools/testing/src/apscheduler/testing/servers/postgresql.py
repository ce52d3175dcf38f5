"""A private PostgreSQL, and a schema of one's own in any."""

import os
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apscheduler.testing.servers import sql
from apscheduler.testing.servers.machine import find_program, unprivileged_user
from apscheduler.testing.servers.processes import Server

DIRECTORIES = ["/usr/lib/postgresql/*/bin"]

# Data survives a killed server without fsync, as the system still has it. It would not with synchronous_commit=off.
SETTINGS = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "32MB"}

PROTOCOL = 3 << 16


class PostgreSQL(Server):
    """A private PostgreSQL whose user ``postgres`` needs no password."""

    kind = "postgresql"
    standard_port = 5432
    standard_urls = tuple(
        f"postgresql+psycopg://{user}@127.0.0.1:5432/test"
        for user in ("postgres", "root")
    )
    stop_signal = signal.SIGINT  # without waiting for clients

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"

    @classmethod
    def probe(cls, url: str) -> str:
        return sql.version(url, "show server_version")

    def process_options(self) -> dict[str, Any]:
        return {
            **unprivileged_user(),
            "env": {**os.environ, "LC_ALL": "C", "HOME": str(self.directory)},
        }

    def prepare(self, directory: Path) -> None:
        program = find_program("initdb", also_in=DIRECTORIES)
        encoding = ["--encoding=UTF8", "--locale=C"]
        self.run(
            program,
            "-D",
            f"{directory}/data",
            "-U",
            "postgres",
            "-A",
            "trust",
            *encoding,
            "--no-sync",
        )

    def command(self, directory: Path) -> list[str]:
        program = find_program("postgres", also_in=DIRECTORIES)
        address = ["-h", "127.0.0.1", "-p", str(self.port), "-k", str(directory)]
        settings = [
            part for item in SETTINGS.items() for part in ("-c", "=".join(item))
        ]
        return [program, "-D", f"{directory}/data", *address, *settings]

    def is_ready(self) -> bool:
        startup = (
            struct.pack("!i", PROTOCOL) + b"user\0postgres\0database\0postgres\0\0"
        )
        with self.connect() as connection:
            connection.sendall(struct.pack("!i", len(startup) + 4) + startup)
            return connection.recv(1) == b"R"  # E: still starting


@contextmanager
def temporary_schema(url: str) -> Iterator[str]:
    """Give the address of a new, empty schema, which goes with all that is in it.

    A database would take 180 ms to make; a schema takes none.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.schema import CreateSchema, DropSchema

    name = sql.unique_name()
    sql.execute(url, CreateSchema(name))
    try:
        found = make_url(url).update_query_dict({"options": f"-csearch_path={name}"})
        yield found.render_as_string(hide_password=False)
    finally:
        sql.execute(url, DropSchema(name, cascade=True))
