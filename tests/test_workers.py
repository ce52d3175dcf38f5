"""Programs as people deploy them: several processes on one PostgreSQL database that start, end and change as they like."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.runs import RunFilter, RunState
from programs import SOON, Program

EVERYTHING = RunFilter()

BEGINNING = """
import sys, threading
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.blocking import BlockingScheduler

def options():
    return {"timezone": "UTC", "jobstores": {"default": {"type": "sqlalchemy", "url": sys.argv[1]}}}

def say(word):
    print(word, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def run(
    tmp_path: Path, postgresql_database_url: str
) -> Iterator[Callable[..., Program]]:
    """Run programs that have the database, and end with the test."""
    with ExitStack() as stack:

        def run(source: str, directory: Path = tmp_path) -> Program:
            path = [str(directory), os.environ.get("PYTHONPATH", "")]
            return Program(
                stack,
                BEGINNING + source,
                postgresql_database_url,
                PYTHONPATH=os.pathsep.join(path),
            )

        yield run


@pytest.fixture
def store(postgresql_database_url: str) -> Iterator[SQLAlchemyJobStore]:
    store = SQLAlchemyJobStore(postgresql_database_url)
    store.start(None, "default")
    yield store
    store.shutdown()


def wait_for(condition: Callable[[], object]) -> None:
    """Look until something is as it should be."""
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, "it has not come to that"
        threading.Event().wait(0.02)


def states(store: SQLAlchemyJobStore, job_id: str) -> list[RunState]:
    return [run.state for run in store.get_runs(RunFilter(job_id=job_id), 100)]


def test_eight_workers_that_start_together_behave_like_one(
    run: Callable[..., Program], store: SQLAlchemyJobStore
) -> None:
    source = """
scheduler = BackgroundScheduler(**options())
scheduler.add_job("builtins:len", "interval", args=[""], seconds=0.5, id="often", replace_existing=True)
scheduler.add_job("builtins:len", "interval", args=[""], hours=1, id="seldom", replace_existing=True)
say("ready")
scheduler.start()
say("started")
scheduler.shutdown()
"""
    workers = [run(source) for _ in range(8)]
    for worker in workers:
        worker.expect("ready")
    for worker in workers:
        worker.tell()
    for worker in workers:
        worker.expect("started")
    seldom = store.read_job("seldom")
    late = run(source)
    late.expect("ready")
    late.tell()
    late.expect("started")
    wait_for(lambda: states(store, "often").count(RunState.SUCCEEDED) >= 4)
    logged = "".join(worker.end() for worker in (*workers, late))

    left = store.read_job("seldom")
    assert seldom is not None
    assert left is not None
    assert left.job.next_run_time == seldom.job.next_run_time
    runs = store.get_runs(RunFilter(job_id="often"), 1000)
    assert {run.state for run in runs} <= {RunState.SUCCEEDED, RunState.COALESCED}
    fires = Counter(run.scheduled_time for run in runs)
    assert set(fires.values()) == {1}
    assert "Traceback" not in logged


def test_during_a_rolling_deployment_new_jobs_are_left_to_who_knows_them(
    run: Callable[..., Program], store: SQLAlchemyJobStore, tmp_path: Path
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for directory, functions in ((old, ["report"]), (new, ["report", "export"])):
        directory.mkdir()
        texts = [f"def {name}():\n    pass\n" for name in functions]
        (directory / "tasks.py").write_text("\n".join(texts))
    of_yesterday = run(
        """
import tasks
scheduler = BackgroundScheduler(**options())
scheduler.start()
scheduler.add_job(tasks.report, "interval", seconds=0.2, id="report")
say("started")
scheduler.shutdown()
""",
        old,
    )
    of_yesterday.expect("started")
    of_today = run(
        """
import tasks
scheduler = BackgroundScheduler(**options())
scheduler.add_executor("threadpool", "exports")
scheduler.start(paused=True)
for number in range(3):
    scheduler.add_job(tasks.export, id=f"export {number}")
scheduler.add_job(tasks.report, id="elsewhere", executor="exports")
say("added")
scheduler.resume()
say("started")
scheduler.shutdown()
""",
        new,
    )
    of_today.expect("added")
    reports = len(states(store, "report"))
    wait_for(lambda: len(states(store, "report")) > reports + 2)
    new_ids = {"elsewhere", *(f"export {number}" for number in range(3))}
    left = {record.id for record in store.get_job_records()}
    of_today.tell()
    of_today.expect("started")
    wait_for(lambda: all(states(store, id) == [RunState.SUCCEEDED] for id in new_ids))
    of_today.end()
    logged = of_yesterday.end()

    assert left == {"report", *new_ids}
    assert logged.count("Unable to restore job 'export 0'") == 1
    assert set(states(store, "report")) <= {RunState.SUCCEEDED, RunState.COALESCED}


def test_a_program_that_just_ends_leaves_nothing_open(
    run: Callable[..., Program], store: SQLAlchemyJobStore
) -> None:
    program = run("""
import threading
begun = threading.Event()
scheduler = BackgroundScheduler(**options())
scheduler.start()
for number in range(50):
    scheduler.add_job("time:sleep", args=[0.02], id=str(number))
scheduler.add_job("builtins:len", "interval", args=[""], hours=1, id="later")
say("started")
""")
    program.expect("started")
    program.end()

    assert {run.state for run in store.get_runs(EVERYTHING, 100)} <= {
        RunState.SUCCEEDED,
        RunState.READY,
    }
    left = [job.id for job in store.get_all_jobs()]
    runs = store.get_runs(EVERYTHING, 100)
    assert len(runs) + len(left) == 51, "each is done, or still to be done"


ENDINGS = {
    "by default": "",
    "with a handler": """
import signal
signal.signal(signal.SIGTERM, lambda *_: scheduler.shutdown())
""",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_terminated_scheduler_leaves_nothing_to_be_waited_for(
    run: Callable[..., Program], store: SQLAlchemyJobStore, tmp_path: Path, ending: str
) -> None:
    (tmp_path / "tasks.py").write_text("""
import time
def work():
    print("working", flush=True)
    time.sleep(0.5)
""")
    source = f"""
scheduler = BlockingScheduler(**options())
{ENDINGS[ending]}
scheduler.add_job("tasks:work", id="work", on_lost="retry")
scheduler.start()
"""
    program = run(source)
    program.expect("working")
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(SOON) == (0 if "handler" in ending else -15)

    if "handler" not in ending:
        assert states(store, "work") == [RunState.RUNNING]
        other = run("""
scheduler = BackgroundScheduler(**options())
scheduler.start()
say("started")
scheduler.shutdown()
""")
        other.expect("started")
        other.expect("working")
        other.end()
    assert states(store, "work") == [RunState.SUCCEEDED]
