"""Processes die before every single request that writes: no fire is lost, none runs twice."""

import re
from typing import Any

import pytest

from apscheduler.testing.crashes import CrashContract, Reach, watch_sockets

# Each has many processes die, one after the other.
pytestmark = pytest.mark.timeout(300)

# Heads of requests whose bodies come next, and bodies by which nothing is put or deleted.
QUERIES = re.compile(
    rb"POST /v3/kv/(range|txn) |{\"(key|compare)\"(?!.*request_(put|delete_range))",
    re.DOTALL,
)


def watch_requests(reach: Reach) -> None:
    watch_sockets(reach, QUERIES)


class TestEtcd(CrashContract):
    places = ("path",)
    watch = staticmethod(watch_requests)

    @pytest.fixture
    def jobstore(self, address: dict[str, Any], etcd_path: str) -> dict[str, Any]:
        return {"type": "etcd", "path": etcd_path, **address}
