"""The example of a hook plugin, installed from its wheel, logs slow runs wherever they run."""

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = ROOT / "examples" / "run_timer_plugin"

MEMBERS = [
    "core",
    "plugins/stores/memory",
    "plugins/executors/pool",
    "plugins/executors/asyncio",
    "plugins/executors/debug",
    "plugins/schedulers/blocking",
    "plugins/schedulers/background",
    "plugins/schedulers/asyncio",
    "plugins/triggers/date",
]
WANTED = [
    "apscheduler-executor-debug",
    "apscheduler-scheduler-asyncio",
    "apscheduler-scheduler-background",
    "apscheduler-trigger-date",
    "run-timer",
]

JOBS = """
import asyncio

def work():
    pass

def fail():
    raise ValueError("as it should")

async def work_as_coroutine():
    await asyncio.sleep(0)
"""

IN_THE_BACKGROUND = """
import logging, sys, threading
import jobs
from apscheduler.events import EVENT_JOB_EXECUTED, EVENT_JOB_ERROR
from apscheduler.schedulers.background import BackgroundScheduler

if __name__ == "__main__":
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)
    ended = threading.Semaphore(0)
    scheduler = BackgroundScheduler({"apscheduler.executors.default": EXECUTOR})
    scheduler.add_listener(
        lambda event: ended.release(), EVENT_JOB_EXECUTED | EVENT_JOB_ERROR
    )
    scheduler.start()
    for func in (jobs.work, jobs.fail):
        scheduler.add_job(func, id=func.__name__)
    for _ in range(2):
        assert ended.acquire(timeout=40)
    scheduler.shutdown()
"""

ON_A_LOOP = """
import asyncio, logging
import jobs
from apscheduler.events import EVENT_JOB_EXECUTED, EVENT_JOB_ERROR
from apscheduler.schedulers.asyncio import AsyncIOScheduler

async def main():
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)
    ended = asyncio.Semaphore(0)
    scheduler = AsyncIOScheduler()
    scheduler.add_listener(lambda event: ended.release(), EVENT_JOB_EXECUTED | EVENT_JOB_ERROR)
    scheduler.start()
    for func in (jobs.work_as_coroutine, jobs.work, jobs.fail):
        scheduler.add_job(func, id=func.__name__)
    for _ in range(3):
        await asyncio.wait_for(ended.acquire(), 40)
    scheduler.shutdown()

asyncio.run(main())
"""

LINE = re.compile(r"The run of job '(\w+)' due at .* took \d+\.\d+ seconds")

# Building and installing takes longer than a test may.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def python(environments: Any) -> Path:
    sources = [*(ROOT / member for member in MEMBERS), PLUGIN]
    made: Path = environments.make(sources, WANTED)
    (made.parent / "jobs.py").write_text(JOBS)
    return made


@pytest.fixture
def run(environments: Any, python: Path) -> Any:
    def run(program: str, slow_seconds: str) -> list[str]:
        """Run a program and return which runs were logged as slow."""
        path = python.parent / "program.py"
        path.write_text(program)
        output = environments.run(python, path, RUN_TIMER_SECONDS=slow_seconds)
        return sorted(LINE.findall(output))

    return run


@pytest.mark.parametrize(
    "executor",
    [
        {"type": "threadpool"},
        {"type": "processpool", "max_workers": 2},
        {"type": "debug"},
    ],
    ids=lambda executor: executor["type"],
)
def test_runs_that_take_long_are_logged_with_any_executor(
    run: Any, executor: dict[str, Any]
) -> None:
    program = IN_THE_BACKGROUND.replace("EXECUTOR", repr(executor))

    assert run(program, slow_seconds="0") == ["fail", "work"]
    assert run(program, slow_seconds="3600") == []


def test_runs_that_take_long_are_logged_on_an_event_loop(run: Any) -> None:
    assert run(ON_A_LOOP, slow_seconds="0") == ["fail", "work", "work_as_coroutine"]
    assert run(ON_A_LOOP, slow_seconds="3600") == []
