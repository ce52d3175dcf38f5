"""One-shot jobs that are due at once, run by the thread pool from the memory store."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from apscheduler.schedulers.background import BackgroundScheduler
from harness import Countdown, Report, options, utc_now

WORKERS = 10  # the default of the thread pool executor


def schedule(number: int) -> tuple[float, float]:
    """Return the seconds it takes to add so many jobs, and to run them."""
    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.start(paused=True)
    countdown = Countdown(number)
    run_date = utc_now() - timedelta(seconds=10)
    started = time.perf_counter()
    for _ in range(number):
        scheduler.add_job(
            countdown.tick, "date", run_date=run_date, misfire_grace_time=None
        )
    added = time.perf_counter()
    scheduler.resume()
    countdown.wait()
    scheduler.shutdown()
    return added - started, countdown.ended_at - added


def submit(number: int) -> float:
    """Return the seconds it takes without a scheduler: nothing can be faster."""
    countdown = Countdown(number)
    with ThreadPoolExecutor(WORKERS) as pool:
        started = time.perf_counter()
        for _ in range(number):
            pool.submit(countdown.tick)
        countdown.wait()
    return countdown.ended_at - started


def main() -> None:
    number = 1000 if options().quick else 5000
    report = Report()
    schedule(100)
    adding, running = schedule(number)
    report.add("run a due job", running / number * 1e6, "µs")
    report.add("add a job (paused)", adding / number * 1e6, "µs")
    report.add("bound: submit alone", submit(number) / number * 1e6, "µs")
    report.print()


if __name__ == "__main__":
    main()
