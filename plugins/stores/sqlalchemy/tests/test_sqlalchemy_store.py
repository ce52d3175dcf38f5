"""The store keeps what every job store promises, on files and in memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.serializers import Serializer
from apscheduler.testing.jobstores import NativeJobStoreContract, SecuredStoreContract


class TestOnFile(NativeJobStoreContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'jobs.db'}"

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


class TestInMemory(NativeJobStoreContract):
    shareable = False

    @pytest.fixture
    def store(self) -> Iterator[SQLAlchemyJobStore]:
        store = SQLAlchemyJobStore("sqlite://")
        store.start(None, "sql")
        yield store
        store.shutdown()


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


class TestSecured(SecuredStoreContract):
    @pytest.fixture
    def make_secured(self, tmp_path: Path) -> Iterator[Any]:
        made = []

        def make(serializer: Serializer) -> SQLAlchemyJobStore:
            url = f"sqlite:///{tmp_path / 'jobs.db'}"
            store = SQLAlchemyJobStore(url, serializer=serializer)
            store.start(None, "sql")
            made.append(store)
            return store

        yield make
        for store in made:
            store.shutdown()
