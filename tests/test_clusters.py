"""Many schedulers on one store, in processes of their own."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

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


class TestOnPostgreSQL(OnADatabase):
    server_kind = "postgresql"

    @pytest.fixture
    def store_config(self, postgresql_database_url: str) -> dict[str, Any]:
        return self.config_at(postgresql_database_url)


class TestOnMariaDB(OnADatabase):
    server_kind = "mysql"

    @pytest.fixture
    def store_config(self, mysql_database_url: str) -> dict[str, Any]:
        return self.config_at(mysql_database_url)


class TestOnMongoDB(ClusterContract):
    server_kind = "mongodb"

    def config_at(self, url: str, database: str = "apscheduler") -> dict[str, Any]:
        return {"type": "mongodb", "host": url, "database": database}

    @pytest.fixture
    def store_config(
        self, mongodb_url: str, mongodb_database_name: str
    ) -> dict[str, Any]:
        return self.config_at(mongodb_url, mongodb_database_name)


class TestOnEtcd(ClusterContract):
    tells_time = False
    server_kind = "etcd"

    def config_at(self, url: str, path: str = "/test") -> dict[str, Any]:
        where = urlsplit(url)
        return {
            "type": "etcd",
            "host": where.hostname,
            "port": where.port,
            "path": path,
        }

    @pytest.fixture
    def store_config(self, etcd_url: str, etcd_path: str) -> dict[str, Any]:
        return self.config_at(etcd_url, etcd_path)


class TestOnZooKeeper(ClusterContract):
    tells_time = False
    server_kind = "zookeeper"

    def config_at(self, url: str, path: str = "/test") -> dict[str, Any]:
        return {"type": "zookeeper", "hosts": url, "path": f"{path}/jobs"}

    @pytest.fixture
    def store_config(self, zookeeper_url: str, zookeeper_path: str) -> dict[str, Any]:
        return self.config_at(zookeeper_url, zookeeper_path)
