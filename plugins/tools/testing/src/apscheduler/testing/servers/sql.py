"""What the SQL servers share. SQLAlchemy and the drivers are imported when they are used."""

import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy.sql.base import Executable


def unique_name() -> str:
    """Return a name for a schema or database that nobody else has."""
    # Not "test_...": to databases of such names MariaDB admits everybody.
    return f"apscheduler_{uuid.uuid4().hex[:12]}"


def execute(url: str, statement: "Executable", timeout_seconds: int = 30) -> Any:
    """Execute one statement in a connection of its own and return the first value of its result, if it has one."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    engine = create_engine(
        url,
        connect_args={"connect_timeout": timeout_seconds},
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
    )
    with engine.connect() as connection:
        result = connection.execute(statement)
        return result.scalar() if result.returns_rows else None


def version(url: str, query: str) -> str:
    """Return what a server answers to the query for its version."""
    from sqlalchemy import text

    return str(execute(url, text(query), timeout_seconds=2))
