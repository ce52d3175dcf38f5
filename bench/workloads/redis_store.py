"""Recurring jobs in Redis that are due at once.

Not called redis.py: the directory of workloads is on the path, and others import the client by that name.
"""

import os
from typing import Any

from redis import Redis

import stored
from apscheduler.jobstores.redis import RedisJobStore
from harness import options

URL = "redis://127.0.0.1:6379/0"
PREFIX = "apscheduler-bench:"


class RedisStage(stored.Stage):
    """Keys of a Redis server that begin with a prefix."""

    def __init__(self, url: str):
        self.client = Redis.from_url(url)

    def make_store(self) -> Any:
        # In the words that APScheduler 3 has for it, too.
        address = self.client.connection_pool.connection_kwargs
        known = {
            name: address[name]
            for name in ("host", "port", "db", "username", "password", "path")
            if address.get(name) is not None
        }
        if path := known.pop("path", None):
            known["unix_socket_path"] = path
        return RedisJobStore(
            jobs_key=f"{PREFIX}jobs", run_times_key=f"{PREFIX}run_times", **known
        )

    def count_moved(self, now: float) -> int:
        count: Any = self.client.zcount(f"{PREFIX}run_times", now, "+inf")
        return int(count)

    def clean_up(self) -> None:
        for key in self.client.scan_iter(f"{PREFIX}*", count=1000):
            self.client.delete(key)

    def close(self) -> None:
        self.client.close()


def main() -> None:
    url = os.environ.get("APSCHEDULER_BENCH_REDIS_URL", URL)
    number = 500 if options().quick else 1000
    stored.measure_at(RedisStage(url), number).print()


if __name__ == "__main__":
    main()
