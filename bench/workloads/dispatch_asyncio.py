"""Coroutine jobs that are due at once, run by the asyncio scheduler from the memory store."""

import asyncio
import time
from datetime import timedelta

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from harness import Report, options, utc_now

REPEATS = 3


class AsyncCountdown:
    """A coroutine function that does nothing but count, and the moment of its last call."""

    def __init__(self, number: int):
        self._left = number
        self.done = asyncio.Event()
        self.ended_at = 0.0

    async def tick(self) -> None:
        self._left -= 1
        if not self._left:
            self.ended_at = time.perf_counter()
            self.done.set()


async def schedule(number: int) -> float:
    """Return the seconds it takes to run so many jobs."""
    scheduler = AsyncIOScheduler(timezone="UTC")
    scheduler.start(paused=True)
    countdown = AsyncCountdown(number)
    run_date = utc_now() - timedelta(seconds=10)
    for _ in range(number):
        scheduler.add_job(
            countdown.tick, "date", run_date=run_date, misfire_grace_time=None
        )
    started = time.perf_counter()
    scheduler.resume()
    await countdown.done.wait()
    scheduler.shutdown()
    await asyncio.sleep(0)  # APScheduler 3 shuts down when the loop goes on
    return countdown.ended_at - started


async def create_tasks(number: int) -> float:
    """Return the seconds it takes as tasks, which have no jobs to look after."""
    countdown = AsyncCountdown(number)
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    tasks = [loop.create_task(countdown.tick()) for _ in range(number)]
    await asyncio.gather(*tasks)
    return countdown.ended_at - started


def main() -> None:
    number = 1000 if options().quick else 5000
    report = Report()
    asyncio.run(schedule(100))
    running = min(asyncio.run(schedule(number)) for _ in range(REPEATS))
    alone = min(asyncio.run(create_tasks(number)) for _ in range(REPEATS))
    report.add("run a due coroutine job", running / number * 1e6, "µs")
    report.add("for comparison: a task alone", alone / number * 1e6, "µs")
    report.add("compared with a task alone", running / alone, "x")
    report.print()


if __name__ == "__main__":
    main()
