"""Processes die before every single commit: no fire is lost, none runs twice."""

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, make_url

from apscheduler.testing.crashes import CrashContract, Reach, is_of_scenario

# Each has many processes die, one after the other.
pytestmark = pytest.mark.timeout(300)

# Before a query, everything is as it was before what follows it.
QUERY = re.compile(
    r"\s*(SELECT|PRAGMA|SHOW|SET|BEGIN|DESCRIBE|ROLLBACK)", re.IGNORECASE
)
# Whatever transaction these are in, MariaDB commits before and after them.
COMMITTING = re.compile(r"\s*(CREATE|ALTER|DROP|COMMIT)", re.IGNORECASE)


def watch_commits(reach: Reach) -> None:
    """Watch what makes changes last: until then, everything is as it was before the transaction."""

    @event.listens_for(Engine, "before_cursor_execute")
    def look(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if QUERY.match(statement) or not is_of_scenario():
            return
        options = connection.get_execution_options()
        is_alone = options.get("isolation_level") == "AUTOCOMMIT"
        if is_alone or COMMITTING.match(statement):
            reach(statement.split(maxsplit=1)[0])
        if not is_alone:
            connection.info["writes"] = True

    @event.listens_for(Engine, "commit")
    def finish(connection: Connection) -> None:
        if connection.info.pop("writes", False):
            reach("COMMIT")


class DatabaseContract(CrashContract):
    places = ("tablename",)
    watch = staticmethod(watch_commits)

    @pytest.fixture
    def jobstore(self, url: str) -> dict[str, Any]:
        return {"type": "sqlalchemy", "url": url, "tablename": "jobs"}


class TestOnSQLite(DatabaseContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'jobs.db'}"


class TestOnPostgreSQL(DatabaseContract):
    @pytest.fixture
    def url(self, postgresql_database_url: str) -> str:
        return postgresql_database_url


class TestOnMariaDB(DatabaseContract):
    @pytest.fixture
    def url(self, mysql_database_url: str) -> str:
        url = make_url(mysql_database_url)
        if url.get_driver_name() == "pymysql":
            # To get ready for TLS, which is not used, takes as long as half of the rest.
            url = url.update_query_dict({"ssl_disabled": "true"})
        return url.render_as_string(hide_password=False)
