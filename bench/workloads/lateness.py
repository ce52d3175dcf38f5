"""How late jobs in PostgreSQL start when one scheduler has half as much to do as it could."""

import os
import time
from datetime import timedelta

import counting
import postgresql
import stored
from apscheduler.events import EVENT_JOB_EXECUTED, JobExecutionEvent
from apscheduler.schedulers.background import BackgroundScheduler
from harness import KEEPS_RUNS, Report, options, utc_now

# How long a load lasts, and what the first seconds are left to, when the scheduler finds its pace.
SECONDS, SETTLING_SECONDS = 10, 3


def lateness(stage: stored.Stage, rate: int) -> list[float]:
    """Return the milliseconds that each run was late, least first, of so many jobs that fire every second."""
    stage.clean_up()
    scheduler = BackgroundScheduler(
        timezone="UTC", jobstores={"default": stage.make_store()}
    )
    late: list[float] = []
    begin = utc_now() + timedelta(seconds=rate * 2e-3)  # when all have been added

    def listen(event: JobExecutionEvent) -> None:
        due, started = event.scheduled_run_time, event.started_at
        assert started is not None
        if started > begin + timedelta(seconds=SETTLING_SECONDS):
            late.append((started - due).total_seconds() * 1e3)

    scheduler.add_listener(listen, EVENT_JOB_EXECUTED)
    scheduler.start(paused=True)
    for index in range(rate):
        scheduler.add_job(
            counting.tick,
            "interval",
            seconds=1,
            start_date=begin + timedelta(seconds=index / rate),
        )
    scheduler.resume()
    time.sleep(max(0, (begin - utc_now()).total_seconds()) + SECONDS)
    scheduler.shutdown(wait=False)
    return sorted(late)


def most_per_second(stage: stored.Stage) -> float:
    """Return how many jobs run per second when there is always more to do than can be done."""
    stage.clean_up()
    at_once = 1e6 / stage.run_all(1000)["run a due job"]
    return len(lateness(stage, int(at_once))) / (SECONDS - SETTLING_SECONDS)


def main() -> None:
    chosen = options()
    report = Report()
    if not KEEPS_RUNS:
        report.print()  # APScheduler 3 does not tell when a run has started
        return
    url = os.environ.get("APSCHEDULER_BENCH_POSTGRESQL_URL", postgresql.URL)
    stage = stored.DatabaseStage(url)
    try:
        most = most_per_second(stage)
        late = lateness(stage, int(most / (8 if chosen.quick else 2)))
    finally:
        stage.clean_up()
        stage.close()
    report.add("a run when there is always more to do", 1e6 / most, "µs")
    report.add("lateness at half of the load, median", late[len(late) // 2], "ms")
    report.add("lateness at half of the load, 99 %", late[int(len(late) * 0.99)], "ms")
    report.print()


if __name__ == "__main__":
    main()
