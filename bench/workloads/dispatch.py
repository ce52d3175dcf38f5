"""One-shot jobs that are due at once, run by the thread pool from the memory store."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from apscheduler.schedulers.background import BackgroundScheduler
from harness import Countdown, Report, options, utc_now

WORKERS = 10  # the default of the thread pool executor


REPEATS = 3


def schedule(number: int) -> tuple[float, float, float]:
    """Return the seconds it takes to run so many jobs, and of the processor, and to add them before."""
    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.start(paused=True)
    countdown = Countdown(number)
    run_date = utc_now() - timedelta(seconds=10)
    started = time.perf_counter()
    for _ in range(number):
        scheduler.add_job(
            countdown.tick, "date", run_date=run_date, misfire_grace_time=None
        )
    added, processor = time.perf_counter(), time.process_time()
    scheduler.resume()
    countdown.wait()
    scheduler.shutdown()
    used = time.process_time() - processor
    return countdown.ended_at - added, used, added - started


def submit(number: int) -> float:
    """Return the seconds it takes with a pool alone, which has no jobs to look after."""
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
    results = [schedule(number) for _ in range(REPEATS)]
    running, used, adding = (min(c) / number * 1e6 for c in zip(*results, strict=True))
    report.add("run a due job", running, "µs")
    report.add("run a due job: CPU", used, "µs")
    report.add("add a job (paused)", adding, "µs")
    alone = min(submit(number) for _ in range(REPEATS)) / number * 1e6
    report.add("for comparison: a pool alone", alone, "µs")
    report.add("compared with a pool alone", running / alone, "x")
    report.print()


if __name__ == "__main__":
    main()
