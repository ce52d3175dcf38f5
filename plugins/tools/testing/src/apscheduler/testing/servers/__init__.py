"""Real servers for tests: private ones that a test may kill, and the one of each kind that all tests share.

The fixtures are a pytest plugin: ``-p apscheduler.testing.servers.fixtures``.
"""

from apscheduler.testing.servers.etcd import Etcd
from apscheduler.testing.servers.machine import DidNotStart, NotInstalled
from apscheduler.testing.servers.mongodb import MongoDouble
from apscheduler.testing.servers.mysql import MariaDB
from apscheduler.testing.servers.postgresql import PostgreSQL
from apscheduler.testing.servers.processes import Server
from apscheduler.testing.servers.redis import Redis
from apscheduler.testing.servers.zookeeper import ZooKeeper

__all__ = [
    "SERVERS",
    "DidNotStart",
    "Etcd",
    "MariaDB",
    "MongoDouble",
    "NotInstalled",
    "PostgreSQL",
    "Redis",
    "Server",
    "ZooKeeper",
]

#: Kind → the class of its private servers.
SERVERS: dict[str, type[Server]] = {
    server.kind: server
    for server in (PostgreSQL, MariaDB, Redis, MongoDouble, Etcd, ZooKeeper)
}
