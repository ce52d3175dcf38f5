"""The store keeps what every job store promises."""

from collections.abc import Iterator
from typing import Any

import pytest

from apscheduler.jobstores.zookeeper import ZooKeeperJobStore
from apscheduler.serializers import Serializer
from apscheduler.testing.jobstores import NativeJobStoreContract, SecuredStoreContract


class TestZooKeeperJobStore(NativeJobStoreContract):
    @pytest.fixture
    def store(
        self, zookeeper_url: str, zookeeper_path: str
    ) -> Iterator[ZooKeeperJobStore]:
        store = ZooKeeperJobStore(f"{zookeeper_path}/jobs", hosts=zookeeper_url)
        store.start(None, "zk")
        yield store
        store.shutdown()

    @pytest.fixture
    def other_store(
        self, zookeeper_url: str, zookeeper_path: str, store: ZooKeeperJobStore
    ) -> Iterator[ZooKeeperJobStore]:
        other = ZooKeeperJobStore(f"{zookeeper_path}/jobs", hosts=zookeeper_url)
        other.start(None, "other")
        yield other
        other.shutdown()

    @pytest.fixture
    def unopened_store(
        self, zookeeper_url: str, zookeeper_path: str
    ) -> Iterator[ZooKeeperJobStore]:
        unopened = ZooKeeperJobStore(f"{zookeeper_path}/jobs", hosts=zookeeper_url)
        yield unopened
        unopened.shutdown()


class TestSecuredZooKeeperJobStore(SecuredStoreContract):
    @pytest.fixture
    def make_secured(self, zookeeper_url: str, zookeeper_path: str) -> Iterator[Any]:
        made = []

        def make(serializer: Serializer) -> ZooKeeperJobStore:
            path = f"{zookeeper_path}/jobs"
            store = ZooKeeperJobStore(path, hosts=zookeeper_url, serializer=serializer)
            store.start(None, "zk")
            made.append(store)
            return store

        yield make
        for store in made:
            store.shutdown()
