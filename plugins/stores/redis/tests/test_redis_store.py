"""The store keeps what every job store promises."""

from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from apscheduler.jobstores.redis import RedisJobStore
from apscheduler.testing.jobstores import NativeJobStoreContract, SecuredStoreContract


class TestRedis(NativeJobStoreContract):
    """The fixtures ``store`` and ``other_store`` are those of all tests here."""


class TestWithAClientOfTheUser(NativeJobStoreContract):
    @pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
    def client(self, redis_url: str, request: pytest.FixtureRequest) -> Iterator[Redis]:
        with Redis.from_url(redis_url, protocol=request.param) as client:
            yield client

    @pytest.fixture
    def store(self, make_store: Any, client: Redis) -> RedisJobStore:
        made: RedisJobStore = make_store(client=client)
        return made

    @pytest.fixture
    def other_store(self, make_store: Any, client: Redis) -> RedisJobStore:
        made: RedisJobStore = make_store(client=client)
        return made


class TestSecuredRedis(SecuredStoreContract):
    @pytest.fixture
    def make_secured(self, make_store: Any) -> Any:
        return lambda serializer: make_store(serializer=serializer)
