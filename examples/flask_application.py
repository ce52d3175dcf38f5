"""A Flask application whose workers share jobs: gunicorn flask_application:app --preload --workers 2

With --preload this module is imported once, so the scheduler runs in the first process, and the workers are forked from
that: there the scheduler cannot run, but can be used. Without --preload it runs in every worker.
"""

import os
from typing import Any

from flask import Flask

from apscheduler.schedulers.background import BackgroundScheduler

STORE = {"type": "sqlalchemy", "url": "sqlite:///flask.sqlite"}


def tick() -> None:
    print(f"The process {os.getpid()} runs this")


scheduler = BackgroundScheduler(jobstores={"default": STORE})
scheduler.start()
scheduler.add_job(tick, "interval", seconds=1, id="tick", replace_existing=True)

app = Flask(__name__)


@app.get("/runs")
def list_runs() -> dict[str, Any]:
    runs = scheduler.get_runs("tick", states="succeeded")
    return {
        "worker": os.getpid(),
        "times": [run.scheduled_time.isoformat() for run in runs],
    }
