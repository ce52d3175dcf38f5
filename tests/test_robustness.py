"""What must not bring a scheduler to a halt, keep it busy for nothing, or lose runs."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from apscheduler import completions, leases
from apscheduler.events import (
    EVENT_JOB_EXECUTED,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_REMOVED,
)
from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.executors.debug import DebugExecutor
from apscheduler.job import Job
from apscheduler.jobstores.base import ConflictingIdError
from apscheduler.jobstores.contract import ClaimBatch, ClaimRequest, StoredJob
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.nodes import LEASE_SECONDS, Identity
from apscheduler.runs import RunFilter, RunState
from apscheduler.schedulers.passes import EARLY_SECONDS, NAP_SECONDS, PACE_SECONDS
from apscheduler.testing.clock import ManualClock
from apscheduler.triggers.interval import IntervalTrigger
from schedulers import PassScheduler, scheduler_maker

SOON = 20
BERLIN = ZoneInfo("Europe/Berlin")
T0 = datetime(2026, 6, 1, 12, tzinfo=UTC)

needs_fork = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="this system cannot fork"
)


@pytest.fixture
def make() -> Iterator[Any]:
    with scheduler_maker() as make:
        yield make
        _Work.go.set()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'jobs.db'}"


def nothing() -> None:
    """Do nothing."""


class _Work:
    """A job that says when it begins, and ends when it is let go."""

    begun = threading.Semaphore(0)
    go = threading.Event()


def work() -> None:
    """Begin, and wait."""
    _Work.begun.release()
    assert _Work.go.wait(SOON)


@pytest.fixture(autouse=True)
def fresh_work() -> None:
    _Work.begun, _Work.go = threading.Semaphore(0), threading.Event()


# The loop does not turn for nothing.


@pytest.mark.parametrize("change", ["remove", "pause"])
def test_a_job_that_could_not_be_run_is_not_retried_when_it_is_gone(
    make: Any, change: str
) -> None:
    clock = ManualClock(T0)
    scheduler = make(PassScheduler, clock=clock)
    scheduler.start()
    scheduler.add_job(nothing, "interval", hours=1, id="a", executor="unknown")
    clock.advance(hours=1)
    assert scheduler._process_jobs() == scheduler.jobstore_retry_interval

    store = scheduler._native_store("default")
    if change == "remove":
        store.remove_job("a")  # as another process does it
    else:
        store.change_job(store.read_job("a"), {"next_run_time": None})
    clock.advance(seconds=11)

    assert scheduler._process_jobs() is None


def test_a_job_that_could_not_be_restored_is_not_retried_when_it_is_gone(
    make: Any, url: str
) -> None:
    store = SQLAlchemyJobStore(url, shared=False)
    scheduler = make(PassScheduler, jobstores={"default": store})
    scheduler.start()
    for name in ("gone", "there"):
        scheduler.add_job(nothing, id=name)
    broken = {"job_state": b"broken"}
    with store.engine.begin() as connection:
        connection.execute(store.jobs_t.update().values(broken))
    assert scheduler._process_jobs() == pytest.approx(30, abs=5)
    with store.engine.begin() as connection:
        connection.execute(store.jobs_t.delete().where(store.jobs_t.c.id == "gone"))

    failures = store._restorer._failures
    failures["gone"] = failures["gone"]._replace(retry_at=time.monotonic() - 1)

    assert scheduler._process_jobs() == pytest.approx(30, abs=5)


def test_a_fire_time_that_comes_during_a_pass_waits_a_moment_for_others(
    make: Any,
) -> None:
    clock = ManualClock(T0)
    executors = {"default": DebugExecutor()}
    scheduler = make(PassScheduler, clock=clock, executors=executors)
    scheduler.start()
    scheduler.add_job(clock.advance, "date", run_date=T0, kwargs={"milliseconds": 2})
    soon = T0 + timedelta(milliseconds=1)
    scheduler.add_job(nothing, "date", run_date=soon, id="soon")

    wait_seconds = scheduler._process_jobs()

    assert scheduler.get_job("soon") is not None
    assert 0 < wait_seconds <= PACE_SECONDS


def test_after_a_long_sleep_a_pass_is_made_a_moment_before_the_time(make: Any) -> None:
    clock = ManualClock(T0)
    scheduler = make(PassScheduler, clock=clock)
    scheduler.start()
    later = T0 + timedelta(seconds=2 * NAP_SECONDS)
    scheduler.add_job(nothing, "date", run_date=later, id="later")

    seconds = scheduler._make_pass()
    clock.advance(seconds=seconds)
    rest = scheduler._make_pass()

    assert seconds == pytest.approx(2 * NAP_SECONDS - EARLY_SECONDS, abs=1e-6)
    assert scheduler.get_job("later") is not None
    assert rest == pytest.approx(EARLY_SECONDS, abs=1e-6)


def test_a_store_that_does_io_is_not_asked_before_the_time(
    make: Any, tmp_path: Path
) -> None:
    store = SQLAlchemyJobStore(f"sqlite:///{tmp_path / 'jobs.sqlite'}", shared=False)
    scheduler = make(PassScheduler, clock=ManualClock(T0), jobstores={"default": store})
    scheduler.start()
    scheduler.add_job(nothing, "date", run_date=T0 + timedelta(seconds=2))

    assert scheduler._make_pass() == 2


def test_what_one_pass_leaves_does_not_wait_for_the_next(make: Any) -> None:
    class Scheduler(PassScheduler):
        _steps_per_pass = 1

    executors = {"default": DebugExecutor()}
    scheduler = make(Scheduler, clock=ManualClock(T0), executors=executors)
    scheduler.start()
    for _ in range(2):
        scheduler.add_job(nothing, "date", run_date=T0)

    assert scheduler._process_jobs() == 0
    assert scheduler.get_jobs()


# Wakeups.


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_run_now_starts_when_the_instance_that_is_running_ends(
    make: Any, url: str, kind: str
) -> None:
    woken = threading.Event()

    class Scheduler(PassScheduler):
        def wakeup(self) -> None:
            woken.set()

    in_memory = kind == "memory"
    store = MemoryJobStore() if in_memory else SQLAlchemyJobStore(url, shared=False)
    scheduler = make(Scheduler, jobstores={"default": store})
    scheduler.start()
    scheduler.add_job(work, "interval", hours=1, id="a")
    scheduler.run_job("a")
    scheduler._process_jobs()
    assert _Work.begun.acquire(timeout=SOON)

    scheduler.run_job("a")
    scheduler._process_jobs()
    woken.clear()
    _Work.go.set()

    assert woken.wait(SOON)
    scheduler._process_jobs()
    assert _Work.begun.acquire(timeout=SOON)


def test_of_two_stores_the_earlier_instant_counts_when_clocks_are_set_back(
    make: Any,
) -> None:
    first = datetime(2026, 10, 25, 2, 50, tzinfo=BERLIN)
    second = datetime(2026, 10, 25, 2, 10, tzinfo=BERLIN, fold=1)
    clock = ManualClock(first - timedelta(minutes=30))
    stores = {"one": MemoryJobStore(), "two": MemoryJobStore()}
    scheduler = make(PassScheduler, clock=clock, timezone=BERLIN, jobstores=stores)
    scheduler.start()
    scheduler.add_job(nothing, next_run_time=first, jobstore="one")
    scheduler.add_job(nothing, next_run_time=second, jobstore="two")

    assert scheduler._process_jobs() == 30 * 60


def test_the_dead_are_looked_for_also_after_the_clock_was_set_back(
    make: Any, url: str
) -> None:
    looked: list[datetime] = []

    class Store(SQLAlchemyJobStore):
        def take_over(self, node: Any, now: datetime) -> Any:
            looked.append(now)
            return super().take_over(node, now)

    clock = ManualClock(T0)
    scheduler = make(PassScheduler, clock=clock, jobstores={"default": Store(url)})
    scheduler.start()
    scheduler._process_jobs()
    clock.advance(days=-1)
    scheduler._process_jobs()

    assert looked == [T0, T0 - timedelta(days=1)]


# Leases.


def test_a_lease_is_kept_up_while_runs_are_handed_out(
    make: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.005)
    renewed = threading.Event()

    class Store(SQLAlchemyJobStore):
        def renew_lease(self, node: Any, expires_at: datetime) -> None:
            super().renew_lease(node, expires_at)
            renewed.set()

    scheduler = make(jobstores={"default": Store(url)})
    # Told between the claim and the start of the run: time for the lease to be given up.
    scheduler.add_listener(lambda event: renewed.wait(0.05), EVENT_JOB_REMOVED)
    scheduler.start()
    scheduler.add_job(work, id="a")
    assert _Work.begun.acquire(timeout=SOON)

    renewed.clear()

    assert renewed.wait(SOON)


def test_runs_start_also_when_there_is_no_thread_for_the_lease(
    make: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "APScheduler lease":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    scheduler = make(jobstores={"default": SQLAlchemyJobStore(url)})
    scheduler.start()
    scheduler.add_job(work, id="a")

    assert _Work.begun.acquire(timeout=SOON)


# Changing what is there while it is in use.


def test_a_store_that_is_removed_during_a_claim_gets_its_runs_back(
    make: Any, url: str
) -> None:
    claimed = threading.Event()

    class Store(SQLAlchemyJobStore):
        def claim(self, request: ClaimRequest) -> ClaimBatch:
            batch = super().claim(request)
            if batch.claims:
                claimed.set()
                while "other" in scheduler._jobstores:
                    handed_back.wait(0.005)
            return batch

        def hand_back(self, claims: Any) -> None:
            super().hand_back(claims)
            handed_back.set()

    handed_back = threading.Event()
    store = Store(url)
    scheduler = make(jobstores={"other": store})
    scheduler.start()
    scheduler.add_job(work, id="a", jobstore="other")
    assert claimed.wait(SOON)

    scheduler.remove_jobstore("other")

    assert handed_back.wait(SOON)
    (run,) = store.get_runs(RunFilter(), 10)
    assert run.state is RunState.READY
    store.shutdown()


def test_a_job_that_ends_while_it_is_replaced_is_added_anew(make: Any) -> None:
    class Store(MemoryJobStore):
        def add_job(self, job: Job) -> None:
            try:
                super().add_job(job)
            except ConflictingIdError:
                self.remove_job(job.id)
                raise

    scheduler = make(PassScheduler, jobstores={"default": Store()})
    scheduler.start()
    for _ in range(2):
        added = scheduler.add_job(
            nothing, "interval", hours=1, id="a", replace_existing=True
        )

    assert scheduler.get_jobs() == [added]


def test_a_fire_time_that_is_used_while_its_job_is_replaced_is_not_used_again(
    make: Any,
) -> None:
    class Store(MemoryJobStore):
        def keep_schedule(self, stored: StoredJob, job: Job) -> bool:
            clock.advance(hours=1, microseconds=1)
            scheduler._process_jobs()  # the only fire time: the job is gone then
            return super().keep_schedule(stored, job)

    def declare() -> Job:
        options = {"start_date": only, "end_date": only, "replace_existing": True}
        job: Job = scheduler.add_job(nothing, "interval", id="a", **options)
        return job

    ran: list[Any] = []
    only = T0 + timedelta(hours=1)
    clock = ManualClock(T0)
    scheduler = make(
        PassScheduler,
        clock=clock,
        jobstores={"default": Store()},
        executors={"default": DebugExecutor()},
    )
    scheduler.add_listener(ran.append, EVENT_JOB_EXECUTED)
    scheduler.start()
    declare()
    job = declare()
    scheduler._process_jobs()

    assert [event.scheduled_run_time for event in ran] == [only]
    assert job.next_run_time is None


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"timezone": UTC}, {"timezone": BERLIN}, (5, BERLIN, 1)),
        ({}, {"job_defaults": {"max_instances": 3}}, (5, UTC, 3)),
        ({}, {}, (5, UTC, 1)),
    ],
    ids=["zone", "defaults", "nothing"],
)
def test_a_declaration_includes_what_the_scheduler_adds_to_it(
    make: Any, url: str, before: Any, after: Any, expected: Any
) -> None:
    clock = ManualClock(T0)
    for options in (before, after):
        store = SQLAlchemyJobStore(url)
        scheduler = make(
            PassScheduler, clock=clock, jobstores={"default": store}, **options
        )
        scheduler.start()
        scheduler.add_job(nothing, "cron", hour=5, id="a", replace_existing=True)
        job = scheduler.get_job("a")
        scheduler.shutdown()

    time = job.next_run_time
    assert (time.hour, time.tzinfo, job.max_instances) == expected


# The end.


def test_shutdown_takes_whatever_counts_as_false_for_not_waiting(make: Any) -> None:
    scheduler = make()
    scheduler.start()
    scheduler.add_job(work)
    assert _Work.begun.acquire(timeout=SOON)

    scheduler.shutdown(wait=None)

    assert not scheduler.running
    assert not _Work.go.is_set()


PROGRAM = """
import sys, threading
from datetime import UTC, datetime, timedelta
from apscheduler.schedulers.background import BackgroundScheduler

scheduler = BackgroundScheduler(
    jobstores={"default": {"type": "sqlalchemy", "url": sys.argv[1]}}
)
begun = threading.Event()

def last():
    begun.set()
    from apscheduler.util import is_program_ending
    while not is_program_ending():
        threading.Event().wait(0.005)
    scheduler.add_job("builtins:print", id="due", args=["ran"])
    # A pass has seen what is due when it asks again.
    asked = threading.Event()
    process = scheduler._engine.process
    scheduler._engine.process = lambda now: (process(now), asked.set())[0]
    scheduler.wakeup()
    asked.wait(20)

scheduler.start()
sys.modules["program"] = sys.modules["__main__"]
scheduler.add_job("program:last", id="last")
begun.wait(20)
"""


def test_what_falls_due_while_the_program_ends_stays_in_its_store(url: str) -> None:
    done = run_program(PROGRAM, url)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    store = SQLAlchemyJobStore(url)
    store.start(None, "default")
    assert [job.id for job in store.get_all_jobs()] == ["due"]
    runs = store.get_runs(RunFilter(), 10)
    assert [(run.job_id, run.state) for run in runs] == [("last", "succeeded")]
    store.shutdown()


CLAIMING = """
import sys, threading
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler

claimed = threading.Event()

class Slow(SQLAlchemyJobStore):
    def claim(self, request):
        batch = super().claim(request)
        if batch.claims:
            claimed.set()
            threading.main_thread().join()
            threading.Event().wait(0.2)  # so that the program would be over if it did not wait
        return batch

scheduler = BackgroundScheduler(jobstores={"default": Slow(sys.argv[1])})
scheduler.start()
scheduler.add_job("builtins:print", id="due", args=["ran"])
claimed.wait(20)
"""


def test_what_is_being_claimed_while_the_program_ends_is_handed_back(url: str) -> None:
    done = run_program(CLAIMING, url)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    store = SQLAlchemyJobStore(url)
    store.start(None, "default")
    runs = store.get_runs(RunFilter(), 10)
    assert [(run.job_id, run.state) for run in runs] == [("due", "ready")]
    store.shutdown()


UNRECORDED = """
import sys, threading
from apscheduler import completions
from apscheduler.events import EVENT_JOB_EXECUTED
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler

completions.EXIT_SECONDS = 0.0
completions.DELAY_SECONDS = 20.0  # what has ended is left until the program ends
ended = threading.Event()

class Away(SQLAlchemyJobStore):
    def complete(self, outcomes):
        raise OSError("gone")

    def claim(self, request):
        if request.completions:  # of a pass between the end of the run and that of the program
            raise OSError("gone")
        return super().claim(request)

scheduler = BackgroundScheduler(jobstores={"default": Away(sys.argv[1])})
scheduler.start()
scheduler.add_listener(lambda event: ended.set(), EVENT_JOB_EXECUTED)
scheduler.add_job("builtins:len", args=[""], id="done")
assert ended.wait(20)
"""


def test_what_could_not_be_recorded_when_the_program_ends_is_told_once(
    url: str,
) -> None:
    done = run_program(UNRECORDED, url)

    assert done.returncode == 0
    assert done.stderr.count("could not be recorded") == 1, done.stderr


INTERRUPTED = """
import signal, sys, threading
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.blocking import BlockingScheduler

begun, interrupted = threading.Event(), threading.Event()

class Store(MemoryJobStore):
    def claim(self, request):
        with self._lock:
            if begun.is_set() and not interrupted.is_set():
                signal.raise_signal(signal.SIGTERM)
            return super().claim(request)

def work():
    begun.set()
    scheduler.wakeup()
    interrupted.wait(20)
    store.get_all_jobs()

def end(*args):
    interrupted.set()
    scheduler.shutdown()
    if sys.argv[1] == "exit":
        sys.exit(3)

store = Store()
scheduler = BlockingScheduler(jobstores={"default": store})
signal.signal(signal.SIGTERM, end)
scheduler.add_job(work)
try:
    scheduler.start()
finally:
    print(scheduler.running, scheduler._is_shutting_down)
"""

INTERRUPTED_POOL = """
import signal, threading
from apscheduler.schedulers.blocking import BlockingScheduler

class Thread(threading.Thread):
    def start(self):
        super().start()
        if self.name.startswith("ThreadPoolExecutor"):
            signal.raise_signal(signal.SIGTERM)  # the pool holds a lock

threading.Thread = Thread
scheduler = BlockingScheduler()
signal.signal(signal.SIGTERM, lambda *_: scheduler.shutdown())
scheduler.add_job(print, args=["done"])
scheduler.start()
print(scheduler.running, scheduler._is_shutting_down)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are another thing there")
@pytest.mark.parametrize(("how", "code"), [("return", 0), ("exit", 3)])
def test_a_signal_handler_shuts_down_in_the_middle_of_a_pass(
    how: str, code: int
) -> None:
    done = run_program(INTERRUPTED, how)

    assert (done.returncode, done.stdout) == (code, "False False\n")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are another thing there")
def test_a_signal_handler_shuts_down_while_a_job_is_handed_to_an_executor() -> None:
    done = run_program(INTERRUPTED_POOL)

    assert (done.returncode, done.stdout) == (0, "done\nFalse False\n"), done.stderr


def run_program(program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


class _InterruptedExecutor(BaseExecutor):
    """Is interrupted while it is handed a job."""

    def _do_submit_job(self, job: Job, run_times: list[datetime]) -> None:
        if job.id == "interrupted":
            raise KeyboardInterrupt
        self._run_job_success(
            job.id,
            run_job(job, str(job._jobstore_alias), run_times, self._logger.name),
        )


class _InterruptedStore(SQLAlchemyJobStore):
    """A store that is interrupted when it has just carried out a claim."""

    def claim(self, request: ClaimRequest) -> ClaimBatch:
        if super().claim(request).claims:
            raise KeyboardInterrupt
        return ClaimBatch()


def test_after_an_interrupt_of_a_store_nothing_counts_as_running(
    make: Any, url: str
) -> None:
    scheduler = make(PassScheduler, jobstores={"default": _InterruptedStore(url)})
    scheduler.start()
    scheduler.add_job(nothing, id="once")
    scheduler.add_job(nothing, "interval", hours=1, next_run_time=T0, id="often")

    with pytest.raises(KeyboardInterrupt):
        scheduler._process_jobs()
    scheduler.shutdown()

    store = SQLAlchemyJobStore(url)
    store.start(None, "default")
    runs = store.get_runs(RunFilter(states=frozenset([RunState.READY])), 10)
    store.shutdown()
    assert {run.job_id for run in runs} == {"once", "often"}


def test_after_an_interrupt_runs_that_have_not_begun_are_left_to_others(
    make: Any, url: str
) -> None:
    scheduler = make(
        PassScheduler,
        jobstores={"default": SQLAlchemyJobStore(url)},
        executors={"default": _InterruptedExecutor()},
    )
    scheduler.start()
    for job_id in ("done", "interrupted", "later", "last"):
        scheduler.add_job(nothing, id=job_id)

    with pytest.raises(KeyboardInterrupt):
        scheduler._process_jobs()
    scheduler.shutdown(wait=SOON)

    store = SQLAlchemyJobStore(url)
    other = make(jobstores={"default": store})
    other.start(paused=True)
    assert {run.job_id: run.state for run in store.get_runs(RunFilter(), 10)} == {
        "done": RunState.SUCCEEDED,
        "interrupted": RunState.RUNNING,
        "later": RunState.READY,
        "last": RunState.READY,
    }
    other.resume()
    for job_id in ("later", "last"):
        run = other.get_runs(job_id=job_id)[0]
        assert other.wait_for_run(run.id, timeout=SOON).state is RunState.SUCCEEDED
    # It may have begun: others give its scheduler the time of a lease.
    someone, now = Identity().node, datetime.now(UTC)
    store.take_over(someone, now)
    after = now + timedelta(seconds=LEASE_SECONDS + 1)
    (taken,) = store.take_over(someone, after)
    assert (taken.job_id, taken.state) == ("interrupted", RunState.LOST)


# Nothing stays behind.


def test_no_thread_is_left_when_a_shutdown_has_come_to_its_end(
    make: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completions, "LINGER_SECONDS", 1000)
    before = set(threading.enumerate())
    scheduler = make(
        jobstores={"default": SQLAlchemyJobStore(url), "other": MemoryJobStore()}
    )
    for _ in range(3):
        scheduler.start()
        scheduler.add_job(
            nothing, IntervalTrigger(hours=1), id="a", replace_existing=True
        )
        scheduler.add_job(nothing, id="b", jobstore="other")
        run = scheduler.run_job("a")
        assert scheduler.wait_for_run(run.id, timeout=SOON).state is RunState.SUCCEEDED

        scheduler.shutdown()

        deadline = time.monotonic() + SOON
        while not set(threading.enumerate()) <= before:
            assert time.monotonic() < deadline, "a thread goes on"
            time.sleep(0.001)


def test_a_job_that_is_over_is_not_remembered(make: Any, url: str) -> None:
    store = SQLAlchemyJobStore(url)
    scheduler = make(PassScheduler, jobstores={"default": store})
    scheduler.start()
    scheduler.add_job(nothing, id="over")
    scheduler.add_job(nothing, IntervalTrigger(hours=1), id="goes on")

    scheduler._process_jobs()

    assert list(store._restorer._known) == ["goes on"]


# Forked processes.


def in_child(func: Any) -> str:
    """Call the function in a forked process, and return what it returns."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(SOON)  # rather than wait for a lock for ever
            os.write(writer, str(func()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as file:
        answer = file.read()
    os.waitpid(pid, 0)
    return answer


@needs_fork
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_exits_while_its_parent_writes_outcomes(
    make: Any, url: str
) -> None:
    writing, written = threading.Event(), threading.Event()

    class Store(SQLAlchemyJobStore):
        def complete(self, outcomes: Any) -> None:
            writing.set()
            assert written.wait(SOON)
            super().complete(outcomes)

    scheduler = make(jobstores={"default": Store(url)})
    scheduler.start()
    scheduler.add_job(nothing)
    assert writing.wait(SOON)

    answer = in_child(completions.flush_all)
    written.set()

    assert answer == "None"


@needs_fork
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_processes_give_runs_identifiers_of_their_own(
    make: Any, url: str
) -> None:
    store = SQLAlchemyJobStore(url)
    scheduler = make(PassScheduler, jobstores={"default": store})
    scheduler.start()
    scheduler.add_job(nothing, IntervalTrigger(hours=1), id="a")

    ids = {in_child(lambda: scheduler.run_job("a").id) for _ in range(2)}
    ids.add(scheduler.run_job("a").id)

    assert len(ids) == 3
    assert {run.id for run in scheduler.get_runs()} == ids


def test_inline_jobs_may_shut_down_in_the_middle_of_a_pass(make: Any) -> None:
    scheduler = make(PassScheduler, executors={"default": DebugExecutor()})
    scheduler.start()
    scheduler.add_job(scheduler.shutdown)

    scheduler._process_jobs()

    assert not scheduler.running


class _UnsureStore(SQLAlchemyJobStore):
    """A store whose answer to the first claim of something gets lost."""

    is_connected = False

    def claim(self, request: ClaimRequest) -> ClaimBatch:
        batch = super().claim(request)
        if batch.claims and not self.is_connected:
            self.is_connected = True
            raise ConnectionError("cut")
        return batch


@pytest.mark.parametrize("last", [False, True], ids=["another-follows", "last"])
def test_a_claim_whose_answer_got_lost_does_not_block_its_job(
    make: Any, url: str, last: bool
) -> None:
    clock = ManualClock(T0)
    scheduler = make(
        PassScheduler,
        clock=clock,
        jobstores={"default": _UnsureStore(url)},
        executors={"default": DebugExecutor()},
    )
    scheduler.start()
    args = {"run_date": T0} if last else {"hours": 1}
    scheduler.add_job(nothing, "date" if last else "interval", **args)
    if not last:
        clock.advance(hours=1)
    scheduler._process_jobs()

    clock.advance(seconds=scheduler.jobstore_retry_interval)
    scheduler._process_jobs()

    runs = scheduler.get_runs()
    assert [run.state for run in runs] == ["succeeded"]


def test_a_run_that_ends_while_lost_claims_are_looked_for_is_not_started_again(
    make: Any, url: str
) -> None:
    ended = threading.Event()

    class Store(_UnsureStore):
        is_connected = True

        def get_runs(self, *args: Any) -> Any:
            runs = super().get_runs(*args)
            _Work.go.set()
            assert ended.wait(SOON)
            return runs

    clock, store = ManualClock(T0), Store(url)
    scheduler = make(PassScheduler, clock=clock, jobstores={"default": store})
    scheduler.add_listener(lambda _: ended.set(), EVENT_JOB_EXECUTED)
    scheduler.start()
    scheduler.add_job(work, "interval", hours=1, id="slow")
    clock.advance(hours=1)
    scheduler._process_jobs()
    assert _Work.begun.acquire(timeout=SOON)
    store.is_connected = False
    scheduler.add_job(nothing, id="other")
    scheduler._process_jobs()

    clock.advance(seconds=scheduler.jobstore_retry_interval)
    scheduler._process_jobs()

    (run,) = scheduler.get_runs("slow")
    assert run.state is RunState.SUCCEEDED
    scheduler.shutdown()
    assert not _Work.begun.acquire(blocking=False), "it began twice"


def test_the_dead_are_looked_for_soon_when_a_run_is_in_the_way(
    make: Any, url: str
) -> None:
    looked: list[datetime] = []

    class Store(SQLAlchemyJobStore):
        def take_over(self, node: Any, now: datetime) -> Any:
            looked.append(now)
            return super().take_over(node, now)

    clock = ManualClock(T0)
    scheduler = make(PassScheduler, clock=clock, jobstores={"default": Store(url)})
    scheduler.start()
    scheduler.add_job(work, "interval", hours=1)
    for _ in range(2):  # the second time, it is still running
        clock.advance(hours=1)
        scheduler._process_jobs()
    looked.clear()

    clock.advance(seconds=1)
    scheduler._process_jobs()

    assert looked == [clock.now()]


@needs_fork
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_is_a_client_whatever_the_parent_was_doing(
    make: Any, url: str
) -> None:
    scheduler = make(jobstores={"default": SQLAlchemyJobStore(url)})
    scheduler.add_jobstore(MemoryJobStore(), "memory")
    scheduler.start()
    scheduler.add_job(work)
    assert _Work.begun.acquire(timeout=SOON)
    locked, forked = threading.Event(), threading.Event()

    def hold() -> None:
        with scheduler._jobstores_lock, scheduler._listeners_lock:
            locked.set()
            assert forked.wait(SOON)

    def act_as_client() -> str:
        scheduler.add_job(nothing, "interval", hours=1, id="from-child")
        errors = []
        for act in (
            scheduler.start,
            lambda: scheduler.add_job(nothing, jobstore="memory"),
        ):
            with pytest.raises(RuntimeError) as caught:
                act()
            errors.append("forked" in str(caught.value))
        scheduler.shutdown()
        return str(errors)

    holder = threading.Thread(target=hold)
    holder.start()
    assert locked.wait(SOON)
    answer = in_child(act_as_client)
    forked.set()
    holder.join(SOON)

    assert answer == "[True, True]"
    assert scheduler.get_job("from-child") is not None
    (run,) = scheduler.get_runs()
    assert run.state is RunState.RUNNING, "it goes on in the parent"


def test_who_was_asleep_like_everybody_gives_others_time_to_renew_their_leases(
    make: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[datetime] = []

    class Store(SQLAlchemyJobStore):
        def take_over(self, node: Any, now: datetime) -> Any:
            looked.append(now)
            return super().take_over(node, now)

    clock = ManualClock(T0)
    scheduler = make(PassScheduler, clock=clock, jobstores={"default": Store(url)})
    # It is the system's clock, and monotonic time goes with it only while the machine is awake.
    monkeypatch.setattr(scheduler, "_default_clock", clock)
    awake = time.monotonic()
    stand_in = SimpleNamespace(monotonic=lambda: awake)
    monkeypatch.setattr("apscheduler.housekeeping.time", stand_in)
    scheduler.start()
    scheduler._process_jobs()
    assert looked == [T0]

    clock.advance(hours=8)
    scheduler._process_jobs()
    for _ in range(8):
        awake += 1
        clock.advance(seconds=1)
        scheduler._process_jobs()

    assert looked == [T0, T0 + timedelta(hours=8, seconds=8)]


# A backlog.


def test_a_slow_job_catches_up_with_a_backlog_that_comes_in_parts(make: Any) -> None:
    """What becomes due while a part is under way is given up, as always when a job is still running."""

    class Slow(DebugExecutor):
        """Runs nothing until it is told to."""

        def __init__(self) -> None:
            super().__init__()
            self.waiting: list[tuple[Job, Any]] = []

        def _do_submit_job(self, job: Job, run_times: Any) -> None:
            self.waiting.append((job, run_times))

        def go_on(self) -> int:
            job, run_times = self.waiting.pop()
            super()._do_submit_job(job, run_times)
            return len(run_times)

    clock, slow = ManualClock(T0), Slow()
    scheduler = make(PassScheduler, clock=clock, executors={"default": slow})
    skipped: list[Any] = []
    scheduler.add_listener(
        lambda event: skipped.extend(event.scheduled_run_times), EVENT_JOB_MAX_INSTANCES
    )
    scheduler.start()
    scheduler.add_job(nothing, "interval", seconds=1, id="a", coalesce=False)
    clock.advance(seconds=1500)
    scheduler._process_jobs()
    clock.advance(seconds=600)
    scheduler._process_jobs()  # the first part is under way: the rest waits for it

    assert slow.go_on() == 1000
    scheduler._process_jobs()
    clock.advance(seconds=600)
    scheduler._process_jobs()

    assert len(skipped) == 700
    assert slow.go_on() == 1000
    assert scheduler.get_job("a").next_run_time == clock.now() + timedelta(seconds=1)
