"""The store keeps what every job store promises, on servers."""

import pytest

from apscheduler.testing.jobstores import NativeJobStoreContract, SecuredStoreContract


class OnPostgreSQL:
    @pytest.fixture
    def url(self, postgresql_database_url: str) -> str:
        return postgresql_database_url


class OnMariaDB:
    @pytest.fixture
    def url(self, mysql_database_url: str) -> str:
        return mysql_database_url


class TestOnPostgreSQL(OnPostgreSQL, NativeJobStoreContract):
    """The fixtures ``store`` and ``other_store`` are those of all tests here."""


class TestOnMariaDB(OnMariaDB, NativeJobStoreContract):
    """So they are here."""


class TestSecuredOnPostgreSQL(OnPostgreSQL, SecuredStoreContract):
    """And so is ``make_secured``."""


class TestSecuredOnMariaDB(OnMariaDB, SecuredStoreContract):
    """And here."""
