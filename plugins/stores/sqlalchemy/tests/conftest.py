"""Stores at the ``url`` of a test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import event

from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.serializers import Serializer


@pytest.fixture
def store(url: str) -> Iterator[SQLAlchemyJobStore]:
    store = SQLAlchemyJobStore(url)
    store.start(None, "sql")
    yield store
    store.shutdown()


@pytest.fixture
def asked(store: SQLAlchemyJobStore) -> list[tuple[str, Any]]:
    """The queries of the store from here on, with their parameters."""
    queries: list[tuple[str, Any]] = []

    @event.listens_for(store.engine, "before_cursor_execute")
    def note(
        connection: Any, cursor: Any, statement: str, parameters: Any, *others: Any
    ) -> None:
        if statement.startswith("SELECT"):
            queries.append((statement, parameters))

    return queries


@pytest.fixture
def other_store(url: str, store: SQLAlchemyJobStore) -> Iterator[SQLAlchemyJobStore]:
    other = SQLAlchemyJobStore(url)
    other.start(None, "other")
    yield other
    other.shutdown()


@pytest.fixture
def unopened_store(url: str) -> Iterator[SQLAlchemyJobStore]:
    unopened = SQLAlchemyJobStore(url)
    yield unopened
    unopened.shutdown()


@pytest.fixture
def make_secured(url: str) -> Iterator[Callable[[Serializer], SQLAlchemyJobStore]]:
    made = []

    def make(serializer: Serializer) -> SQLAlchemyJobStore:
        store = SQLAlchemyJobStore(url, serializer=serializer)
        store.start(None, "sql")
        made.append(store)
        return store

    yield make
    for store in made:
        store.shutdown()
