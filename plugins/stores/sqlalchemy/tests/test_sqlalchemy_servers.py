"""The store keeps what every job store promises, on servers."""

from collections.abc import Iterator

import pytest

from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.testing.jobstores import NativeJobStoreContract


class ServerContract(NativeJobStoreContract):
    @pytest.fixture
    def store(self, url: str) -> Iterator[SQLAlchemyJobStore]:
        store = SQLAlchemyJobStore(url)
        store.start(None, "sql")
        yield store
        store.shutdown()

    @pytest.fixture
    def other_store(
        self, url: str, store: SQLAlchemyJobStore
    ) -> Iterator[SQLAlchemyJobStore]:
        other = SQLAlchemyJobStore(url)
        other.start(None, "other")
        yield other
        other.shutdown()

    @pytest.fixture
    def unopened_store(self, url: str) -> Iterator[SQLAlchemyJobStore]:
        unopened = SQLAlchemyJobStore(url)
        yield unopened
        unopened.shutdown()


class TestOnPostgreSQL(ServerContract):
    @pytest.fixture
    def url(self, postgresql_database_url: str) -> str:
        return postgresql_database_url


class TestOnMariaDB(ServerContract):
    @pytest.fixture
    def url(self, mysql_database_url: str) -> str:
        return mysql_database_url
