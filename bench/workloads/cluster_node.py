"""One of several schedulers on a database: is ready, begins when it is told to, and ends when it is told to."""

import sys

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from stored import TABLE


def main() -> None:
    url, workers = sys.argv[1:]
    scheduler = BackgroundScheduler(
        timezone="UTC",
        jobstores={"default": SQLAlchemyJobStore(url, tablename=TABLE)},
        executors={"default": ThreadPoolExecutor(int(workers))},
    )
    scheduler.start(paused=True)
    print("ready", flush=True)
    sys.stdin.readline()
    scheduler.resume()
    sys.stdin.readline()
    scheduler.shutdown()


if __name__ == "__main__":
    main()
