"""Adding, looking up, rescheduling and removing jobs of a memory store that has many, and what they take there."""

import random
import time
import tracemalloc
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from apscheduler.schedulers.background import BackgroundScheduler
from harness import Report, options, utc_now

CHANGED = 300
REPEATS = 5


def job_function() -> None:
    """Never called: all run times are far away."""


class Store:
    """A scheduler with jobs at random times, the same ones in every process."""

    def __init__(self) -> None:
        self.scheduler: Any = BackgroundScheduler(timezone="UTC")
        self.scheduler.start(paused=True)
        self.number = 0
        self._random = random.Random(1)
        self._begin = utc_now() + timedelta(days=1)

    def run_date(self) -> Any:
        return self._begin + timedelta(seconds=self._random.random() * 1e7)

    def add(self, number: int, ids: list[str] | None = None) -> None:
        """Add so many jobs, and note their identifiers."""
        added = [f"{self.number + index:07}" for index in range(number)]
        for job_id in added:
            self.scheduler.add_job(
                job_function, "date", run_date=self.run_date(), id=job_id
            )
        self.number += number
        if ids is not None:
            ids.extend(added)

    def look_up(self, ids: list[str]) -> None:
        for job_id in ids:
            self.scheduler.get_job(job_id)

    def reschedule(self, ids: list[str]) -> None:
        for job_id in ids:
            self.scheduler.reschedule_job(
                job_id, trigger="date", run_date=self.run_date()
            )

    def remove(self, ids: list[str]) -> None:
        for job_id in ids:
            self.scheduler.remove_job(job_id)
        self.number -= len(ids)


def processor_time(action: Callable[[], object]) -> float:
    """Return the microseconds of processor time that one of the changed jobs takes."""
    started = time.process_time()
    action()
    return (time.process_time() - started) / CHANGED * 1e6


def measure(store: Store) -> dict[str, float]:
    """Return how many microseconds each operation takes, the least of some repetitions."""
    rounds = []
    for _ in range(REPEATS):
        added: list[str] = []
        values = {"add": processor_time(partial(store.add, CHANGED, added))}
        random.Random(2).shuffle(added)
        values["look up"] = processor_time(partial(store.look_up, added))
        values["reschedule"] = processor_time(partial(store.reschedule, added))
        values["remove"] = processor_time(partial(store.remove, added))
        rounds.append(values)
    return {name: min(each[name] for each in rounds) for name in rounds[0]}


def bytes_per_job(number: int) -> float:
    """Return how much memory a job takes."""
    store = Store()
    store.add(100)
    tracemalloc.start()
    store.add(number)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    store.scheduler.shutdown()
    return used / number


def main() -> None:
    chosen = options()
    sizes = [1000, 10_000, 100_000, 1_000_000]
    if chosen.quick:
        sizes = sizes[:3]
    if chosen.reduced:
        sizes = sizes[:2]
    report = Report()
    report.add("memory of a job", bytes_per_job(2000), "bytes")
    store = Store()
    found = {}
    for size in sizes:
        store.add(size - store.number)
        found[size] = measure(store)
        for name, value in found[size].items():
            report.add(f"{name} one of {size:,}", value, "µs")
    for name in found[sizes[0]]:
        if sizes[-1] > 10_000:
            growth = found[sizes[-1]][name] / found[1000][name]
            report.add(f"{name}: {sizes[-1]:,} compared with 1,000", growth, "x")
    store.scheduler.shutdown()
    report.print()


if __name__ == "__main__":
    main()
