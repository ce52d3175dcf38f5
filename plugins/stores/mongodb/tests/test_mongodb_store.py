"""The store keeps what every job store promises."""

from collections.abc import Iterator

import pytest

from apscheduler.jobstores.mongodb import MongoDBJobStore
from apscheduler.testing.jobstores import NativeJobStoreContract


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
