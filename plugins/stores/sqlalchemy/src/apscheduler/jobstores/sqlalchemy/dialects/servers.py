"""What databases behind a network connection have in common."""

import select
from collections.abc import Mapping
from typing import Any

from sqlalchemy import URL, Engine, event
from sqlalchemy.exc import InvalidatePoolError

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
    # The driver with whose connections it can be seen that the server has closed them.
    watched_driver: str

    def options(self, url: URL, options: Mapping[str, Any]) -> dict[str, Any]:
        result = {"isolation_level": self.isolation_level, **options}
        # Nothing is known of the connections that somebody else makes.
        if url.get_driver_name() != self.watched_driver or "creator" in options:
            result.setdefault("pool_pre_ping", True)
        if url.get_driver_name() in self.timed_drivers:
            connect_args = dict(result.get("connect_args", {}))
            if "connect_timeout" not in url.query:
                connect_args.setdefault("connect_timeout", CONNECT_SECONDS)
            result["connect_args"] = connect_args
        return result

    def prepare(self, engine: Engine) -> None:
        if engine.dialect.driver == self.watched_driver:
            event.listen(engine, "checkout", _refuse_closed)


def _refuse_closed(connection: Any, record: object, proxy: object) -> None:
    """Have the pool replace its connections if the server has closed this one.

    A connection that nobody uses has nothing to say, but that it is closed: asking the server takes longer.
    """
    number = connection.fileno() if hasattr(connection, "fileno") else None
    if number is not None and (number < 0 or _is_readable(number)):
        raise InvalidatePoolError("The server has closed the connection")


def _is_readable(number: int) -> bool:
    if hasattr(select, "poll"):  # takes numbers of any size
        poll = select.poll()
        poll.register(number, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([number], [], [], 0)[0])
