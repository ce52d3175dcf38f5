"""Processes die before every single statement and commit: no fire is lost, none runs twice."""

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from apscheduler.testing.crashes import CrashContract, Reach

# Each has many processes die, one after the other.
pytestmark = pytest.mark.timeout(300)

# Before a query, everything is as it was before what follows it.
QUERY = re.compile(
    r"\s*(SELECT|PRAGMA|SHOW|SET|BEGIN|DESCRIBE|ROLLBACK)", re.IGNORECASE
)


def watch_statements(reach: Reach) -> None:
    """Watch whatever changes a database, and commits: SQLite has no server, PostgreSQL a client in C."""

    @event.listens_for(Engine, "before_cursor_execute")
    def look(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if not QUERY.match(statement):
            connection.info["writes"] = True
            reach(statement.split(maxsplit=1)[0])

    @event.listens_for(Engine, "commit")
    def finish(connection: Connection) -> None:
        if connection.info.pop("writes", False):
            reach("COMMIT")


class StatementContract(CrashContract):
    places = ("tablename",)
    watch = staticmethod(watch_statements)

    @pytest.fixture
    def jobstore(self, url: str) -> dict[str, Any]:
        return {"type": "sqlalchemy", "url": url, "tablename": "jobs"}


class TestOnSQLite(StatementContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'jobs.db'}"
