"""The store keeps what every job store promises, on files and in memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.testing.jobstores import NativeJobStoreContract, SecuredStoreContract


class OnFile:
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'jobs.db'}"


class TestOnFile(OnFile, NativeJobStoreContract):
    """The fixtures ``store`` and ``other_store`` are those of all tests here."""


class TestSecured(OnFile, SecuredStoreContract):
    """And so is ``make_secured``."""


class TestInMemory(NativeJobStoreContract):
    shareable = False

    @pytest.fixture
    def url(self) -> str:
        return "sqlite://"


class TestOnAnEngineOfTheUser(NativeJobStoreContract):
    shareable = False

    @pytest.fixture
    def store(self) -> Iterator[SQLAlchemyJobStore]:
        engine = create_engine(
            "sqlite://",
            poolclass=StaticPool,
            connect_args={"check_same_thread": False},
        )
        store = SQLAlchemyJobStore(engine=engine)
        store.start(None, "sql")
        yield store
        store.shutdown()
        engine.dispose()


class TestWithRunsInMemory(NativeJobStoreContract):
    shareable = False

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SQLAlchemyJobStore]:
        store = SQLAlchemyJobStore(f"sqlite:///{tmp_path / 'jobs.db'}", shared=False)
        store.start(None, "sql")
        yield store
        store.shutdown()
