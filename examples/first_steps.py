"""Two jobs: one every second, and one that ends the program."""

from datetime import datetime, timedelta

from apscheduler.schedulers.blocking import BlockingScheduler

scheduler = BlockingScheduler()


@scheduler.scheduled_job("interval", seconds=1)
def tick() -> None:
    print(f"It is {datetime.now():%H:%M:%S}")


@scheduler.scheduled_job("date", run_date=datetime.now() + timedelta(seconds=3.5))
def stop() -> None:
    print("Time to go")
    scheduler.shutdown()


scheduler.start()
print("Stopped")
