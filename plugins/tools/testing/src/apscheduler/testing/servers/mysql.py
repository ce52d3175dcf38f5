"""A private MariaDB, and a database of one's own in any."""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from apscheduler.testing.servers import sql
from apscheduler.testing.servers.machine import find_program
from apscheduler.testing.servers.processes import Server

SMALL = [
    "--innodb-log-file-size=8M",
    "--innodb-buffer-pool-size=32M",
    "--innodb-data-file-path=ibdata1:5M:autoextend",
]

# Flushing every second loses nothing when only the server is killed; 0 instead of 2 would.
SETTINGS = [
    "--innodb-flush-log-at-trx-commit=2",
    "--skip-log-bin",
    "--skip-name-resolve",
    "--performance-schema=OFF",
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_unicode_ci",
]

GREETING = 10  # the version of the protocol; errors come with 255


class MariaDB(Server):
    """A private MariaDB with a database ``test``, whose user ``root`` needs no password."""

    kind = "mysql"
    standard_port = 3306
    standard_urls = ("mysql+pymysql://root@127.0.0.1:3306/test?charset=utf8mb4",)

    @property
    def url(self) -> str:
        return f"mysql+pymysql://root@127.0.0.1:{self.port}/test?charset=utf8mb4"

    @classmethod
    def probe(cls, url: str) -> str:
        return sql.version(url, "select version()")

    def prepare(self, directory: Path) -> None:
        program = find_program("mariadb-install-db")
        passwordless = "--auth-root-authentication-method=normal"
        self.run(
            program, "--no-defaults", *self._place(directory), passwordless, *SMALL
        )

    def command(self, directory: Path) -> list[str]:
        program = find_program("mariadbd")
        address = [
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            f"--socket={directory}/socket",
        ]
        files = [f"--pid-file={directory}/pid"]
        return [
            program,
            "--no-defaults",
            *self._place(directory),
            *address,
            *files,
            *SMALL,
            *SETTINGS,
        ]

    def is_ready(self) -> bool:
        with self.connect() as connection:
            packet = connection.recv(5)
            return len(packet) == 5 and packet[4] == GREETING

    def _place(self, directory: Path) -> list[str]:
        # As root it runs only when told to.
        return [
            f"--datadir={directory}/data",
            # In a common one, a server that starts removes what others have there.
            f"--tmpdir={directory}",
            f"--user={pwd.getpwuid(os.geteuid()).pw_name}",
        ]


@contextmanager
def temporary_database(url: str) -> Iterator[str]:
    """Give the address of a new, empty database, which goes with all that is in it."""
    from sqlalchemy import text
    from sqlalchemy.engine import make_url

    name = sql.unique_name()
    sql.execute(url, text(f"create database {name} character set utf8mb4"))
    try:
        yield make_url(url).set(database=name).render_as_string(hide_password=False)
    finally:
        sql.execute(url, text(f"drop database {name}"))
