"""The store keeps what every job store promises."""

from typing import Any

import pytest
from etcd3gw.client import Etcd3Client

from apscheduler.jobstores.etcd import EtcdJobStore
from apscheduler.testing.jobstores import NativeJobStoreContract, SecuredStoreContract


class TestEtcd(NativeJobStoreContract):
    """The fixtures ``store`` and ``other_store`` are those of all tests here."""


class TestWithAClientOfTheUser(NativeJobStoreContract):
    @pytest.fixture
    def client(self, address: dict[str, Any]) -> Any:
        client = Etcd3Client(**address)
        yield client
        client.session.close()

    @pytest.fixture
    def store(self, make_store: Any, client: Etcd3Client) -> EtcdJobStore:
        made: EtcdJobStore = make_store(client=client)
        return made

    @pytest.fixture
    def other_store(self, make_store: Any, client: Etcd3Client) -> EtcdJobStore:
        made: EtcdJobStore = make_store(client=client)
        return made


class TestSecuredEtcd(SecuredStoreContract):
    @pytest.fixture
    def make_secured(self, make_store: Any) -> Any:
        return lambda serializer: make_store(serializer=serializer)
