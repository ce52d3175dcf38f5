"""A program that starts a scheduler; prints when its job first ran, by the monotonic clock that all processes share."""

import os
import sys
import threading
import time
from datetime import datetime

from apscheduler.schedulers.background import BackgroundScheduler

imported_at = time.clock_gettime(time.CLOCK_MONOTONIC)
ran_at = 0.0
ran = threading.Event()


def tick() -> None:
    global ran_at
    ran_at = time.clock_gettime(time.CLOCK_MONOTONIC)
    ran.set()


scheduler = BackgroundScheduler()
scheduler.add_job(
    tick,
    "interval",
    hours=1,
    next_run_time=datetime.now(),
    misfire_grace_time=None,
)
scheduler.start()
if ran.wait(30):
    print(imported_at, ran_at, len(sys.modules), flush=True)
    os._exit(0)
