"""The store keeps what every job store promises."""

from collections.abc import Iterator
from typing import Any

import pytest

from apscheduler.jobstores.mongodb import MongoDBJobStore
from apscheduler.serializers import Serializer
from apscheduler.testing.jobstores import NativeJobStoreContract, SecuredStoreContract


class TestMongoDBJobStore(NativeJobStoreContract):
    @pytest.fixture
    def store(
        self, mongodb_url: str, mongodb_database_name: str
    ) -> Iterator[MongoDBJobStore]:
        store = MongoDBJobStore(mongodb_database_name, host=mongodb_url)
        store.start(None, "mongo")
        yield store
        store.shutdown()

    @pytest.fixture
    def other_store(
        self, mongodb_url: str, mongodb_database_name: str, store: MongoDBJobStore
    ) -> Iterator[MongoDBJobStore]:
        other = MongoDBJobStore(mongodb_database_name, host=mongodb_url)
        other.start(None, "other")
        yield other
        other.shutdown()

    @pytest.fixture
    def unopened_store(
        self, mongodb_url: str, mongodb_database_name: str
    ) -> Iterator[MongoDBJobStore]:
        unopened = MongoDBJobStore(mongodb_database_name, host=mongodb_url)
        yield unopened
        unopened.shutdown()


class TestSecuredMongoDBJobStore(SecuredStoreContract):
    @pytest.fixture
    def make_secured(
        self, mongodb_url: str, mongodb_database_name: str
    ) -> Iterator[Any]:
        made = []

        def make(serializer: Serializer) -> MongoDBJobStore:
            store = MongoDBJobStore(
                mongodb_database_name, host=mongodb_url, serializer=serializer
            )
            store.start(None, "mongo")
            made.append(store)
            return store

        yield make
        for store in made:
            store.shutdown()
