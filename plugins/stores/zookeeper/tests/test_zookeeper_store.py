"""The store keeps what every job store promises."""

from collections.abc import Iterator

import pytest

from apscheduler.jobstores.zookeeper import ZooKeeperJobStore
from apscheduler.testing.jobstores import NativeJobStoreContract


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
