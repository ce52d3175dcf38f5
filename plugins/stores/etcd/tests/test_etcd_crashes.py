"""Processes die before every single request: no fire is lost, none runs twice."""

from typing import Any

import pytest

from apscheduler.testing.crashes import CrashContract

# Each has many processes die, one after the other.
pytestmark = pytest.mark.timeout(300)


class TestEtcd(CrashContract):
    places = ("path",)

    @pytest.fixture
    def jobstore(self, address: dict[str, Any], etcd_path: str) -> dict[str, Any]:
        return {"type": "etcd", "path": etcd_path, **address}
