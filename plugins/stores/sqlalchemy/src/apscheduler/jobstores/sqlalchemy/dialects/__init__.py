"""What differs from database to database: transactions, waiting for locks, what errors mean."""

from collections.abc import Mapping

from sqlalchemy import URL, Engine

from apscheduler.jobstores.sqlalchemy.dialects.base import Dialect
from apscheduler.jobstores.sqlalchemy.dialects.mysql import MySQLDialect
from apscheduler.jobstores.sqlalchemy.dialects.postgresql import PostgreSQLDialect
from apscheduler.jobstores.sqlalchemy.dialects.sqlite import SQLiteDialect

__all__ = ("Dialect", "dialect_of")

DIALECTS: Mapping[str, type[Dialect]] = {
    "sqlite": SQLiteDialect,
    "postgresql": PostgreSQLDialect,
    "mysql": MySQLDialect,
    "mariadb": MySQLDialect,
}


def dialect_of(engine: Engine | URL) -> Dialect:
    """Return what to know about the database behind an engine or URL."""
    name = engine.get_backend_name() if isinstance(engine, URL) else engine.dialect.name
    return DIALECTS.get(name, Dialect)()
