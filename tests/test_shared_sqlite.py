"""Schedulers in several processes on one SQLite file: every fire once, nothing skipped, lost or left open."""

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from apscheduler.events import (
    EVENT_JOB_EXECUTED,
    EVENT_JOB_LOST,
    EVENT_JOB_MAX_INSTANCES,
)
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.job import Job
from apscheduler.jobstores.contract import ClaimBatch, ClaimRequest
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.nodes import Identity
from apscheduler.runs import Plan, RunFilter, RunState
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.testing.jobs import make_stored_job
from programs import SOON, Program

T0 = datetime(2026, 6, 1, 12, tzinfo=UTC)

PROGRAM = """
import sys
from apscheduler.schedulers.background import BackgroundScheduler

what, url = sys.argv[1:]
store = {"type": "sqlalchemy", "url": url}
scheduler = BackgroundScheduler(timezone="UTC", jobstores={"default": store})
if what == "short":
    for number in range(20):
        scheduler.add_job(
            "builtins:len", "interval", args=[""], seconds=0.4, id=f"short-{number}", replace_existing=True
        )
elif what == "same":
    scheduler.add_job("builtins:len", "interval", args=[""], hours=1, id="same", replace_existing=True)
    scheduler.add_job("builtins:len", args=[""], id="now", replace_existing=True)
print("ready", flush=True)
sys.stdin.readline()
scheduler.start()
print("started", flush=True)
sys.stdin.readline()
scheduler.shutdown()
"""

HANGING = """
import sys, threading
from apscheduler.schedulers.background import BackgroundScheduler

store = {"type": "sqlalchemy", "url": sys.argv[1]}
scheduler = BackgroundScheduler(timezone="UTC", jobstores={"default": store})
scheduler.start()
every = {"hours": 1, "max_instances": 1}
for name in ("mark", "retry"):
    scheduler.add_job("hanging:work", "interval", id=name, on_lost=name, **every)
    scheduler.run_job(name)
threading.Event().wait()
"""


# Hangs in the process that is going to be killed, and does nothing in that of the tests.
WORK = """
import os, threading

def work():
    if "HANG" in os.environ:
        os.write(1, b"running\\n")  # in one piece: there are several threads
        threading.Event().wait(60)
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'jobs.db'}"


@pytest.fixture
def store(url: str) -> Iterator[SQLAlchemyJobStore]:
    store = SQLAlchemyJobStore(url)
    store.start(None, "default")
    yield store
    store.shutdown()


def test_short_jobs_run_once_per_fire_and_never_count_as_still_running(
    store: SQLAlchemyJobStore, url: str
) -> None:
    with ExitStack() as stack:
        programs = [Program(stack, PROGRAM, "short", url) for _ in range(2)]
        for program in programs:
            program.expect("ready")
            program.tell()
        for program in programs:
            program.expect("started")
        wait_for_runs(store, 100)
        for program in programs:
            program.end()

    runs = store.get_runs(RunFilter(), 1000)
    # A machine that is busy with something else may be late, but not so late that a run is in the way of the next.
    assert {run.state for run in runs} <= {RunState.SUCCEEDED, RunState.COALESCED}
    fires = Counter((run.job_id, run.scheduled_time) for run in runs)
    assert set(fires.values()) == {1}
    for number in range(20):
        times = sorted(time for job_id, time in fires if job_id == f"short-{number}")
        steps = {later - time for time, later in pairwise(times)}
        assert all(
            abs(step / timedelta(seconds=0.4) % 1 - 0.5) > 0.49 for step in steps
        )


def wait_for_runs(store: SQLAlchemyJobStore, count: int) -> None:
    done = RunFilter(states=frozenset([RunState.SUCCEEDED]))
    for _ in range(SOON * 20):
        if len(store.get_runs(done, count)) == count:
            return
        threading.Event().wait(0.05)
    raise AssertionError(f"There were not {count} runs after {SOON} seconds")


def test_eight_processes_with_the_same_code_make_one_schedule(
    store: SQLAlchemyJobStore, url: str
) -> None:
    with ExitStack() as stack:
        programs = [Program(stack, PROGRAM, "same", url) for _ in range(8)]
        for program in programs:
            program.expect("ready")
        for program in programs:
            program.tell()
        for program in programs:
            program.expect("started")
        (same,) = (job for job in store.get_all_jobs() if job.id == "same")
        for program in programs:
            program.end()

    left = store.read_job("same")
    assert left is not None
    assert left.job.next_run_time == same.next_run_time
    assert not store.get_runs(RunFilter(job_id="same"), 10)


def test_what_a_killed_process_was_running_is_settled_when_the_next_one_starts(
    store: SQLAlchemyJobStore,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "hanging.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    with ExitStack() as stack:
        path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        program = Program(stack, HANGING, url, HANG="1", PYTHONPATH=path)
        for _ in range(2):
            program.expect("running")
        program.process.kill()
        program.process.wait(SOON)

    told: list[Any] = []
    all_told = threading.Event()

    def listen(event: Any) -> None:
        told.append((event.code, event.job_id, event.attempt))
        if len(told) == 4:
            all_told.set()

    scheduler = BackgroundScheduler(
        timezone=UTC, jobstores={"default": {"type": "sqlalchemy", "url": url}}
    )
    scheduler.add_listener(listen, EVENT_JOB_LOST | EVENT_JOB_EXECUTED)
    scheduler.start()
    scheduler.run_job("mark")  # it is not blocked by the run that was lost
    assert all_told.wait(SOON), told
    scheduler.shutdown()

    assert sorted(told) == [
        (EVENT_JOB_EXECUTED, "mark", 1),
        (EVENT_JOB_EXECUTED, "retry", 2),
        (EVENT_JOB_LOST, "mark", 1),
        (EVENT_JOB_LOST, "retry", 2),
    ]
    states = Counter((run.job_id, run.state) for run in store.get_runs(RunFilter(), 9))
    assert states == {
        ("mark", RunState.LOST): 1,
        ("mark", RunState.SUCCEEDED): 1,
        ("retry", RunState.SUCCEEDED): 1,
    }
    (lost,) = store.get_runs(RunFilter(states=frozenset([RunState.LOST])), 9)
    assert f"Run {lost.id} of job 'mark' (scheduled at " in caplog.text
    assert caplog.text.count(" is lost: ") == 2
    assert caplog.text.count("; it runs again") == 1


def test_who_comes_back_does_not_hand_back_what_others_have_taken_over(
    store: SQLAlchemyJobStore,
) -> None:
    store.add_job(make_stored_job("a", T0, on_lost="retry"))
    sleeper, other = Identity(), Identity()
    an_hour_later = T0 + timedelta(hours=1)
    slept = store.claim(
        ClaimRequest(T0, 1, lambda job: Plan([T0], None), sleeper, lease_until=T0)
    )
    store.take_over(other.node, an_hour_later)
    taken = store.claim(ClaimRequest(an_hour_later, 1, lambda job: None, other))
    assert len(taken.claims) == 1

    store.hand_back(slept.claims)

    (run,) = store.get_runs(RunFilter(), 10)
    assert (run.state, run.node, run.attempt) == (RunState.RUNNING, other.node.id, 2)


def test_the_rest_of_a_long_backlog_waits_for_its_first_part_in_other_schedulers_too(
    url: str,
) -> None:
    class Gated(ThreadPoolExecutor):
        """Begins to work when it is told to."""

        has_work, may_begin = threading.Event(), threading.Event()

        def _do_submit_job(self, job: Job, run_times: Any) -> None:
            self.has_work.set()
            assert self.may_begin.wait(SOON)
            super()._do_submit_job(job, run_times)

    class Noting(SQLAlchemyJobStore):
        passes = threading.Semaphore(0)

        def claim(self, request: ClaimRequest) -> ClaimBatch:
            batch = super().claim(request)
            self.passes.release()
            return batch

    ran: list[Any] = []
    skipped: list[Any] = []
    complete = threading.Event()

    def listen(event: Any) -> None:
        ran.append(event.scheduled_run_time)
        if len(ran) >= 2500:
            complete.set()

    def make(store: SQLAlchemyJobStore, executor: ThreadPoolExecutor) -> Any:
        scheduler = BackgroundScheduler(
            timezone="UTC",
            jobstores={"default": store},
            executors={"default": executor},
        )
        scheduler.add_listener(listen, EVENT_JOB_EXECUTED)
        scheduler.add_listener(skipped.append, EVENT_JOB_MAX_INSTANCES)
        return scheduler

    start = datetime.now(UTC) - timedelta(hours=1)
    end = start + timedelta(seconds=2499)
    first = make(SQLAlchemyJobStore(url), Gated())
    other = make(Noting(url), ThreadPoolExecutor())
    first.start(paused=True)
    first.add_job(
        "builtins:int",
        *("interval",),
        seconds=1,
        start_date=start,
        end_date=end,
        coalesce=False,
        next_run_time=start,
    )
    first.resume()
    assert Gated.has_work.wait(SOON)
    other.start()
    for _ in range(2):
        assert Noting.passes.acquire(timeout=SOON)
    Gated.may_begin.set()
    assert complete.wait(SOON)
    first.shutdown()
    other.shutdown()

    assert skipped == []
    assert sorted(ran) == [start + timedelta(seconds=n) for n in range(2500)]
