"""How late a job of an idle scheduler runs, and what a steady load costs."""

import time
from datetime import datetime, timedelta

from apscheduler.schedulers.background import BackgroundScheduler
from harness import Countdown, Report, options, utc_now

SPACING = timedelta(milliseconds=25)
JOBS = 2000


def lateness(number: int) -> list[float]:
    """Return the milliseconds that each of so many single jobs was late, least first."""
    late: list[float] = []
    countdown = Countdown(number)

    def run(due: datetime) -> None:
        late.append((utc_now() - due).total_seconds() * 1e3)
        countdown.tick()

    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.start()
    begin = utc_now() + timedelta(seconds=1)
    for index in range(number):
        due = begin + index * SPACING
        scheduler.add_job(
            run, "date", run_date=due, args=[due], misfire_grace_time=None
        )
    countdown.wait()
    scheduler.shutdown()
    return sorted(late)


def steady_cpu(seconds: int, spacing: timedelta) -> float:
    """Return the microseconds of processor time that a run takes, of jobs that run every second."""
    countdown = Countdown(JOBS * seconds)
    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.start(paused=True)
    begin = utc_now() + timedelta(seconds=1.5)
    for index in range(JOBS):
        scheduler.add_job(
            countdown.tick,
            "interval",
            seconds=1,
            start_date=begin + index * spacing,
            misfire_grace_time=None,
        )
    started = time.process_time()
    scheduler.resume()
    countdown.wait()
    used = time.process_time() - started
    scheduler.shutdown()
    return used / (JOBS * seconds) * 1e6


def main() -> None:
    quick = options().quick
    late = lateness(40 if quick else 200)
    seconds = 2 if quick else 4
    report = Report()
    report.add("lateness, median", late[len(late) // 2], "ms")
    report.add("lateness, 99 %", late[int(len(late) * 0.99)], "ms")
    spread = steady_cpu(seconds, timedelta(seconds=1 / JOBS))
    report.add("CPU of a run, 2,000 jobs spread over a second", spread, "µs")
    together = steady_cpu(seconds, timedelta(0))
    report.add("CPU of a run, 2,000 jobs at once", together, "µs")
    report.print()


if __name__ == "__main__":
    main()
