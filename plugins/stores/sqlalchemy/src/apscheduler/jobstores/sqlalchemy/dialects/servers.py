"""What databases behind a network connection have in common."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import URL

from apscheduler.jobstores.sqlalchemy.dialects.base import Dialect

# How long to wait for a connection, unless the configuration says something else.
CONNECT_SECONDS = 10
# The server ends a transaction in which nothing has happened for so long, and with it the locks of a process that
# hangs in the middle of a claim.
IDLE_SECONDS = 60


class ServerDialect(Dialect):
    """A server that locks rows: a claim keeps its jobs locked from reading to commit, others pass over them.

    A connection that a restart of the server has closed is replaced before it is used.
    """

    isolation_level = "READ COMMITTED"
    # Drivers that understand ``connect_timeout``.
    timed_drivers: frozenset[str] = frozenset()

    def options(self, url: URL, options: Mapping[str, Any]) -> dict[str, Any]:
        result = {"isolation_level": self.isolation_level, **options}
        if not self.sees_closed_connections(url):
            result.setdefault("pool_pre_ping", True)
        if url.get_driver_name() in self.timed_drivers:
            connect_args = dict(result.get("connect_args", {}))
            if "connect_timeout" not in url.query:
                connect_args.setdefault("connect_timeout", CONNECT_SECONDS)
            result["connect_args"] = connect_args
        return result

    def sees_closed_connections(self, url: URL) -> bool:
        """Return whether connections that the server has closed are found without asking it."""
        return False
