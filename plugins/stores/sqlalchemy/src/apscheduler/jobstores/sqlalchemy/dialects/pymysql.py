"""PyMySQL, with fewer questions to the server."""

from typing import Any

from pymysql.connections import Connection  # type: ignore[import-untyped]
from pymysql.constants.SERVER_STATUS import (  # type: ignore[import-untyped]
    SERVER_STATUS_AUTOCOMMIT,
    SERVER_STATUS_IN_TRANS,
)


class BeginningConnection(Connection):  # type: ignore[misc]  # it is not typed
    """Begins transactions itself, before the first statement, as other drivers do, and ends only those.

    To the server each statement is a transaction of its own, unless one was begun. So this connection changes from the
    one to the other without telling it, and has nothing to roll back after it has read something.
    """

    _begins = False

    def autocommit(self, value: bool) -> None:
        # As where the server is told: what was begun does not go on.
        self.commit()
        self._begins = False
        if not self.server_status & SERVER_STATUS_AUTOCOMMIT:
            self.query("SET AUTOCOMMIT = 1")
        self._begins = not value

    def get_autocommit(self) -> bool:
        return not self._begins

    def query(self, sql: Any, unbuffered: bool = False) -> Any:
        if self._begins and not self._has_begun():
            super().query("BEGIN")
        return super().query(sql, unbuffered)

    def commit(self) -> None:
        if self._has_begun():
            super().commit()

    def rollback(self) -> None:
        if self._has_begun():
            super().rollback()

    def fileno(self) -> int:
        """Return the number of the socket; -1 if it is closed."""
        return -1 if self._sock is None else int(self._sock.fileno())

    def _has_begun(self) -> bool:
        return bool(self.server_status & SERVER_STATUS_IN_TRANS)
