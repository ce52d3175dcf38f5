"""Recurring jobs in ZooKeeper that are due at once."""

import os
import pickle
from typing import Any

from kazoo.client import KazooClient  # type: ignore[import-untyped]  # it has none

import stored
from apscheduler.jobstores.zookeeper import ZooKeeperJobStore
from harness import options

HOSTS = "127.0.0.1:2181"
PATH = "/apscheduler_bench"


class ZooKeeperStage(stored.Stage):
    """Nodes of a ZooKeeper server."""

    def __init__(self, hosts: str):
        self.hosts = hosts
        self.client: Any = KazooClient(hosts=hosts)
        self.client.start()

    def make_store(self) -> Any:
        return ZooKeeperJobStore(f"{PATH}/jobs", hosts=self.hosts)

    def count_moved(self, now: float) -> int:
        paths = [
            f"{PATH}/jobs/{name}" for name in self.client.get_children(f"{PATH}/jobs")
        ]
        found = [pickle.loads(self.client.get(path)[0]) for path in paths]
        return sum(job["next_run_time"] > now for job in found)

    def clean_up(self) -> None:
        self.client.delete(PATH, recursive=True)  # says nothing if there is none

    def close(self) -> None:
        self.client.stop()
        self.client.close()


def main() -> None:
    hosts = os.environ.get("APSCHEDULER_BENCH_ZOOKEEPER_URL", HOSTS)
    number = 200 if options().quick else 1000
    stored.measure_at(ZooKeeperStage(hosts), number).print()


if __name__ == "__main__":
    main()
