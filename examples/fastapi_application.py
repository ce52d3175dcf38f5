"""A FastAPI application whose workers share jobs: uvicorn fastapi_application:app --workers 2"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from apscheduler.schedulers.asyncio import AsyncIOScheduler

STORE = {"type": "sqlalchemy", "url": "sqlite:///fastapi.sqlite"}

scheduler = AsyncIOScheduler(jobstores={"default": STORE})


async def tick() -> None:
    print(f"One of the workers, {os.getpid()}, was the one to run this")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with scheduler:  # in every worker; each fire time is for one of them
        scheduler.add_job(tick, "interval", seconds=1, id="tick", replace_existing=True)
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/runs")
def list_runs() -> dict[str, Any]:
    runs = scheduler.get_runs("tick", states="succeeded")
    return {
        "worker": os.getpid(),
        "times": [run.scheduled_time.isoformat() for run in runs],
    }
