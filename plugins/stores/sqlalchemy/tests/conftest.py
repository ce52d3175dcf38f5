"""Stores at the ``url`` of a test."""

from collections.abc import Callable, Iterator

import pytest

from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.serializers import Serializer


@pytest.fixture
def store(url: str) -> Iterator[SQLAlchemyJobStore]:
    store = SQLAlchemyJobStore(url)
    store.start(None, "sql")
    yield store
    store.shutdown()


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
