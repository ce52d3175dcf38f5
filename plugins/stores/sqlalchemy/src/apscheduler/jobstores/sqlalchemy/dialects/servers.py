"""What databases behind a network connection have in common."""

import select
import socket
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
# A machine that is gone, or behind a network that is, does not close its connections, and for what it owes an answer
# systems wait a quarter of an hour, or two hours: in seconds, but for the last, which is in milliseconds.
ALIVE = {
    "TCP_KEEPIDLE": 10,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 20_000,
}
# What those who decide about that themselves tell libpq.
DECIDED = ("keepalives", "tcp_user_timeout")


class ServerDialect(Dialect):
    """A server that locks rows: a claim keeps its jobs locked from reading to commit, others pass over them.

    A connection that a restart of the server has closed is replaced before it is used.
    """

    isolation_level = "READ COMMITTED"
    # Drivers that understand ``connect_timeout``.
    timed_drivers: frozenset[str] = frozenset()
    # The driver with whose connections it can be seen that the server has closed them.
    watched_driver: str
    # Whether the system is told to ask over silent connections: not where the configuration says what to do.
    _keeps_alive = True

    def options(self, url: URL, options: Mapping[str, Any]) -> dict[str, Any]:
        result = {"isolation_level": self.isolation_level, **options}
        given = {*url.query, *result.get("connect_args", {})}
        self._keeps_alive = not any(name.startswith(DECIDED) for name in given)
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
        if self._keeps_alive:
            event.listen(engine, "connect", _notice_when_gone)
        if engine.dialect.driver == self.watched_driver:
            event.listen(engine, "checkout", _refuse_closed)


def _notice_when_gone(connection: Any, record: object) -> None:
    """Have the system ask over a connection that is silent whether the other end is still there."""
    number = _number_of(connection)
    if number is None:
        return
    end = socket.socket(fileno=number)
    try:
        if end.family in (socket.AF_INET, socket.AF_INET6):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in ALIVE.items():
                if hasattr(socket, name):  # not every system knows all of them
                    end.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    finally:
        end.detach()  # it belongs to the driver


def _refuse_closed(connection: Any, record: object, proxy: object) -> None:
    """Have the pool replace its connections if the server has closed this one.

    A connection that nobody uses has nothing to say, but that it is closed: asking the server takes longer.
    """
    number = _number_of(connection)
    if number is not None and (number < 0 or _is_readable(number)):
        raise InvalidatePoolError("The server has closed the connection")


def _number_of(connection: Any) -> int | None:
    """Return the number of the socket, less than 0 if it is closed; None if the driver does not tell."""
    return connection.fileno() if hasattr(connection, "fileno") else None


def _is_readable(number: int) -> bool:
    if hasattr(select, "poll"):  # takes numbers of any size
        poll = select.poll()
        poll.register(number, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([number], [], [], 0)[0])
