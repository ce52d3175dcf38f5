"""Recurring jobs in etcd that are due at once."""

import base64
import json
import os
import pickle
import urllib.request
from typing import Any
from urllib.parse import urlsplit

import stored
from apscheduler.jobstores.etcd import EtcdJobStore
from harness import options

URL = "http://127.0.0.1:2379"
PATH = "/apscheduler-bench"
# What this project keeps beside the jobs.
RUNS = f"~runs{PATH}"


class EtcdStage(stored.Stage):
    """Keys of an etcd server that begin with a path."""

    def __init__(self, url: str):
        self.url = url

    def make_store(self) -> Any:
        address = urlsplit(self.url)
        return EtcdJobStore(PATH, host=address.hostname, port=address.port)

    def count_moved(self, now: float) -> int:
        found = self._ask("range", PATH).get("kvs", ())
        records = [pickle.loads(base64.b64decode(each["value"])) for each in found]
        return sum(record["next_run_time"] > now for record in records)

    def clean_up(self) -> None:
        for prefix in (PATH, RUNS):
            self._ask("deleterange", prefix)

    def close(self) -> None:
        pass

    def _ask(self, what: str, prefix: str) -> Any:
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        body = {"key": _encoded(prefix), "range_end": _encoded(end)}
        request = urllib.request.Request(
            f"{self.url}/v3/kv/{what}", json.dumps(body).encode()
        )
        with urllib.request.urlopen(request) as response:
            return json.load(response)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def main() -> None:
    url = os.environ.get("APSCHEDULER_BENCH_ETCD_URL", URL)
    number = 500 if options().quick else 1000
    stored.measure_at(EtcdStage(url), number).print()


if __name__ == "__main__":
    main()
