"""Recurring jobs in MongoDB that are due at once."""

import os
from typing import Any

import pymongo

import stored
from apscheduler.jobstores.mongodb import MongoDBJobStore
from harness import options

URL = "mongodb://127.0.0.1:27017/"
DATABASE = "apscheduler_bench"


class MongoDBStage(stored.Stage):
    """A database of MongoDB."""

    def __init__(self, url: str):
        self.url = url
        self.client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(url)

    def make_store(self) -> Any:
        return MongoDBJobStore(DATABASE, host=self.url)

    def count_moved(self, now: float) -> int:
        jobs = self.client[DATABASE]["jobs"]
        return jobs.count_documents({"next_run_time": {"$gt": now}})

    def clean_up(self) -> None:
        self.client.drop_database(DATABASE)

    def close(self) -> None:
        self.client.close()


def main() -> None:
    url = os.environ.get("APSCHEDULER_BENCH_MONGODB_URL", URL)
    number = 200 if options().quick else 1000
    stored.measure_at(MongoDBStage(url), number).print()


if __name__ == "__main__":
    main()
