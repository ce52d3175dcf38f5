"""The store keeps what every job store promises, on servers."""

from datetime import timedelta
from typing import Any

import pytest

from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.nodes import Identity
from apscheduler.testing.jobs import make_stored_job
from apscheduler.testing.jobstores import NativeJobStoreContract, SecuredStoreContract
from apscheduler.testing.jobstores.basic import T0
from apscheduler.testing.jobstores.requests import claim, completions

MINUTE = timedelta(minutes=1)


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

    def test_claims_do_not_look_through_what_jobs_were_before(
        self, store: SQLAlchemyJobStore, asked: list[tuple[str, Any]]
    ) -> None:
        me = Identity()
        store.add_jobs([make_stored_job(f"{n}", T0) for n in range(200)])
        for number in range(40):
            asked.clear()
            batch = claim(store, me, T0 + number // 4 * MINUTE, limit=50)
            assert len(batch.claims) == 50
            for found in batch.claims:
                store.complete(completions(found, me))

        assert len(asked) == 5
        with store.engine.connect() as connection:
            for statement, parameters in asked[:]:
                rows = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
                plan = "\n".join(row[0] for row in rows)
                assert "Seq Scan on apscheduler_jobs " not in plan, plan


class TestOnMariaDB(OnMariaDB, NativeJobStoreContract):
    """So they are here."""


class TestSecuredOnPostgreSQL(OnPostgreSQL, SecuredStoreContract):
    """And so is ``make_secured``."""


class TestSecuredOnMariaDB(OnMariaDB, SecuredStoreContract):
    """And here."""
