"""Many schedulers on one store, in processes of their own."""

from pathlib import Path
from typing import Any

import pytest

from apscheduler.testing.cluster.contract import ClusterContract

# A machine may be busy; what does not end is given up much earlier.
pytestmark = pytest.mark.timeout(300)


class OnADatabase(ClusterContract):
    def config_at(self, url: str) -> dict[str, Any]:
        return {"type": "sqlalchemy", "url": url}


class TestOnSQLite(OnADatabase):
    tells_time = False  # all processes are on the machine of the file

    @pytest.fixture
    def store_config(self, tmp_path: Path) -> dict[str, Any]:
        return self.config_at(f"sqlite:///{tmp_path / 'jobs.db'}")


class TestOnRedis(ClusterContract):
    server_kind = "redis"

    def config_at(self, url: str, prefix: str = "test:") -> dict[str, Any]:
        keys = {"jobs_key": f"{prefix}jobs", "run_times_key": f"{prefix}run_times"}
        return {"type": "redis", "url": url, **keys}

    @pytest.fixture
    def store_config(self, redis_url: str, redis_prefix: str) -> dict[str, Any]:
        return self.config_at(redis_url, redis_prefix)
