"""How late jobs in PostgreSQL start when one scheduler has half as much to do as it could."""

import os
from datetime import timedelta

import counting
import postgresql
import stored
from apscheduler.events import EVENT_JOB_EXECUTED, JobExecutionEvent
from apscheduler.schedulers.background import BackgroundScheduler
from harness import KEEPS_RUNS, Countdown, Report, options, utc_now

# The steady load: how long, and what the first seconds are left to, when the scheduler finds its pace.
SECONDS, SETTLING_SECONDS = 10, 3


def fires_per_second(stage: stored.Stage, number: int) -> float:
    """Return how many jobs that are due at once run per second."""
    stage.clean_up()
    return 1e6 / stage.run_all(number)["run a due job"]


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
        if due > begin + timedelta(seconds=SETTLING_SECONDS):
            late.append((started - due).total_seconds() * 1e3)

    counting.countdown = Countdown(rate * SECONDS)
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
    counting.countdown.wait()
    scheduler.shutdown()
    return sorted(late)


def main() -> None:
    chosen = options()
    report = Report()
    if not KEEPS_RUNS:
        report.print()  # APScheduler 3 does not tell when a run has started
        return
    url = os.environ.get("APSCHEDULER_BENCH_POSTGRESQL_URL", postgresql.URL)
    stage = stored.DatabaseStage(url)
    try:
        most = fires_per_second(stage, 1000)
        late = lateness(stage, int(most / (8 if chosen.quick else 2)))
    finally:
        stage.clean_up()
        stage.close()
    report.add("lateness at half of the load, median", late[len(late) // 2], "ms")
    report.add("lateness at half of the load, 99 %", late[int(len(late) * 0.99)], "ms")
    report.print()


if __name__ == "__main__":
    main()
