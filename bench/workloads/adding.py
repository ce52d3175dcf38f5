"""Adding jobs to a memory store that already has many."""

import random
import time
from datetime import timedelta
from typing import Any

from apscheduler.schedulers.background import BackgroundScheduler
from harness import Report, options, utc_now

ADDED = 500


def job_function() -> None:
    """Never called: all run times are far away."""


class Filler:
    """Adds jobs at random times, the same ones in every process."""

    def __init__(self, scheduler: Any):
        self.scheduler = scheduler
        self.number = 0
        self._random = random.Random(1)
        self._begin = utc_now() + timedelta(days=1)

    def add(self, number: int) -> float:
        """Add so many jobs, and return how many microseconds of processor time one took."""
        started = time.process_time()
        for _ in range(number):
            run_date = self._begin + timedelta(seconds=self._random.random() * 1e7)
            self.scheduler.add_job(job_function, "date", run_date=run_date)
        self.number += number
        return (time.process_time() - started) / number * 1e6


def main() -> None:
    chosen = options()
    sizes = [1000, 10_000] if chosen.reduced else [1000, 10_000, 100_000]
    if chosen.quick:
        sizes.remove(10_000)
    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.start(paused=True)
    filler = Filler(scheduler)
    report = Report()
    each = {}
    for size in sizes:
        filler.add(size - filler.number)
        each[size] = min(filler.add(ADDED) for _ in range(6))
        report.add(f"add a job to {size:,}", each[size], "µs")
    if 100_000 in each:
        report.add("100,000 compared with 1,000", each[100_000] / each[1000], "x")
    scheduler.shutdown()
    report.print()


if __name__ == "__main__":
    main()
