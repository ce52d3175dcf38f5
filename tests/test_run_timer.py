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
    "plugins/executors/gevent",
    "plugins/executors/tornado",
    "plugins/executors/twisted",
    "plugins/schedulers/blocking",
    "plugins/schedulers/background",
    "plugins/schedulers/asyncio",
    "plugins/schedulers/gevent",
    "plugins/schedulers/tornado",
    "plugins/schedulers/twisted",
    "plugins/triggers/date",
]
WANTED = [
    "apscheduler-executor-debug",
    "apscheduler-scheduler-asyncio",
    "apscheduler-scheduler-background",
    "apscheduler-scheduler-gevent",
    "apscheduler-scheduler-tornado",
    "apscheduler-scheduler-twisted",
    "apscheduler-trigger-date",
    "run-timer",
]

LIBRARIES = ["gevent", "tornado", "twisted"]

JOBS = """
import asyncio
from apscheduler.runs import current_run

def tell():
    run = current_run()
    return run.id, run.job_id, run.scheduled_time, run.attempt

def work():
    return tell()

def fail():
    raise ValueError("as it should")

async def work_as_coroutine():
    await asyncio.sleep(0)
    return tell()

async def work_as_deferred():
    from twisted.internet import reactor
    from twisted.internet.task import deferLater
    await deferLater(reactor, 0.01)
    return tell()

def work_as_greenlet():
    import gevent
    gevent.sleep(0.01)
    return tell()
"""

# What is printed of a run that succeeded: whether its function was told the same as listeners are.
SHARED = """
import logging
import jobs
from apscheduler.events import EVENT_JOB_EXECUTED, EVENT_JOB_ERROR

ENDED = EVENT_JOB_EXECUTED | EVENT_JOB_ERROR
logging.getLogger("apscheduler").setLevel(logging.CRITICAL)

def check(event):
    if event.code == EVENT_JOB_EXECUTED:
        expected = event.run_id, event.job_id, event.scheduled_run_time, event.attempt
        outcome = "right" if event.retval == expected else f"{event.retval} {expected}"
        print(event.job_id, "is told", outcome)
"""

IN_THE_BACKGROUND = """
import threading
from apscheduler.schedulers.background import BackgroundScheduler

if __name__ == "__main__":
    ended = threading.Semaphore(0)
    scheduler = BackgroundScheduler({"apscheduler.executors.default": EXECUTOR})
    scheduler.add_listener(check, ENDED)
    scheduler.add_listener(lambda event: ended.release(), ENDED)
    scheduler.start()
    for func in (jobs.work, jobs.fail):
        scheduler.add_job(func, id=func.__name__)
    for _ in range(2):
        assert ended.acquire(timeout=40)
    scheduler.shutdown()
"""

ON_ASYNCIO = """
import asyncio
from apscheduler.schedulers.KIND import SCHEDULER

async def main():
    ended = asyncio.Semaphore(0)
    async with SCHEDULER() as scheduler:
        scheduler.add_listener(check, ENDED)
        scheduler.add_listener(lambda event: ended.release(), ENDED)
        for func in (jobs.work_as_coroutine, jobs.work, jobs.fail):
            scheduler.add_job(func, id=func.__name__)
        for _ in range(3):
            await asyncio.wait_for(ended.acquire(), 40)

asyncio.run(main())
"""

ON_TWISTED = """
from twisted.internet import reactor
from apscheduler.schedulers.twisted import TwistedScheduler

left = [jobs.work_as_deferred, jobs.work, jobs.fail]
scheduler = TwistedScheduler()

def end(event):
    left.pop()
    if not left:
        reactor.stop()

def begin():
    scheduler.start()
    for func in left[:]:
        scheduler.add_job(func, id=func.__name__)

scheduler.add_listener(check, ENDED)
scheduler.add_listener(end, ENDED)
reactor.addSystemEventTrigger("before", "shutdown", scheduler.shutdown)
reactor.callWhenRunning(begin)
reactor.callLater(40, reactor.stop)
reactor.run()
"""

WITH_GEVENT = """
from gevent.lock import Semaphore
from apscheduler.schedulers.gevent import GeventScheduler

ended = Semaphore(0)
scheduler = GeventScheduler()
scheduler.add_listener(check, ENDED)
scheduler.add_listener(lambda event: ended.release(), ENDED)
scheduler.start()
for func in (jobs.work_as_greenlet, jobs.work, jobs.fail):
    scheduler.add_job(func, id=func.__name__)
for _ in range(3):
    assert ended.acquire(timeout=40)
scheduler.shutdown()
"""

LOOPS = {
    "asyncio": (
        ON_ASYNCIO.replace("KIND", "asyncio").replace("SCHEDULER", "AsyncIOScheduler"),
        "work_as_coroutine",
    ),
    "tornado": (
        ON_ASYNCIO.replace("KIND", "tornado").replace("SCHEDULER", "TornadoScheduler"),
        "work_as_coroutine",
    ),
    "twisted": (ON_TWISTED, "work_as_deferred"),
    "gevent": (WITH_GEVENT, "work_as_greenlet"),
    "gevent, patched": (
        f"from gevent import monkey; monkey.patch_all()\n{WITH_GEVENT}",
        "work_as_greenlet",
    ),
}

LINE = re.compile(r"The run of job '(\w+)' due at .* took \d+\.\d+ seconds")
TOLD = re.compile(r"^(\w+) is told (.*)$", re.MULTILINE)

# Building and installing takes longer than a test may.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def python(environments: Any) -> Path:
    sources = [*(ROOT / member for member in MEMBERS), PLUGIN]
    made: Path = environments.make(sources, WANTED, LIBRARIES)
    (made.parent / "jobs.py").write_text(JOBS)
    return made


@pytest.fixture
def run(environments: Any, python: Path) -> Any:
    def run(program: str, slow_seconds: str) -> tuple[list[str], dict[str, str]]:
        """Run a program; return which runs were logged as slow, and what runs were told of themselves."""
        path = python.parent / "program.py"
        first, _, rest = program.partition("\n")  # patches come before anything else
        path.write_text(f"{first}\n{SHARED}\n{rest}")
        output = environments.run(python, path, RUN_TIMER_SECONDS=slow_seconds)
        return sorted(LINE.findall(output)), dict(TOLD.findall(output))

    return run


EXECUTORS = {
    "threadpool": {"type": "threadpool"},
    "processpool": {"type": "processpool", "max_workers": 2},
    "debug": {"type": "debug"},
}


@pytest.mark.parametrize("executor", EXECUTORS)
def test_slow_runs_are_logged_and_runs_know_themselves_with_any_executor(
    run: Any, executor: str
) -> None:
    program = IN_THE_BACKGROUND.replace("EXECUTOR", repr(EXECUTORS[executor]))

    assert run(program, slow_seconds="0") == (["fail", "work"], {"work": "right"})
    assert run(program, slow_seconds="3600") == ([], {"work": "right"})


@pytest.mark.parametrize("loop", LOOPS)
def test_slow_runs_are_logged_and_runs_know_themselves_on_any_loop(
    run: Any, loop: str
) -> None:
    program, on_loop = LOOPS[loop]
    told = {"work": "right", on_loop: "right"}

    assert run(program, slow_seconds="0") == (["fail", "work", on_loop], told)
    assert run(program, slow_seconds="3600") == ([], told)
