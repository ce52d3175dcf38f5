"""What went wrong in APScheduler 3 and must not here, and what surprises but is relied upon."""

import io
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apscheduler.events import (
    EVENT_ALL,
    EVENT_JOB_ADDED,
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_MISSED,
    EVENT_JOB_SUBMITTED,
    EVENT_JOB_UNAVAILABLE,
    SchedulerEvent,
)
from apscheduler.executors.debug import DebugExecutor
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.job import Job
from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.base import STATE_STOPPED
from apscheduler.schedulers.blocking import BlockingScheduler
from apscheduler.testing.schedulers import EventLog
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger
from schedulers import scheduler_maker

SOON = 10
S = timedelta(seconds=1)


def work(*args: Any) -> str:
    return "done"


def record(scheduler: Any, mask: int = EVENT_ALL) -> EventLog:
    """Return what collects the events of a scheduler from now on."""
    log = EventLog()
    scheduler.add_listener(log, mask)
    return log


@pytest.fixture
def make() -> Iterator[Any]:
    with scheduler_maker(wait=False) as make:
        yield make


def in_thread(func: Any) -> threading.Thread:
    thread = threading.Thread(target=func, daemon=True)
    thread.start()
    return thread


# Declaring jobs at every start


def test_adding_an_unchanged_declaration_again_keeps_time_and_pause(make: Any) -> None:
    scheduler = make()
    scheduler.start(paused=True)

    def declare(**changes: Any) -> Job:
        options: dict[str, Any] = {"hours": 1, "id": "a", **changes}
        job: Job = scheduler.add_job(work, "interval", replace_existing=True, **options)
        return job

    first = declare()
    scheduler.modify_job("a", next_run_time=datetime(2040, 1, 1, tzinfo=UTC))

    assert declare().next_run_time == datetime(2040, 1, 1, tzinfo=UTC)
    scheduler.pause_job("a")
    assert declare().next_run_time is None
    changed = declare(hours=2)
    assert changed.next_run_time is not None
    assert changed.next_run_time != first.next_run_time
    assert declare(hours=2, next_run_time=None).next_run_time is None


def test_a_job_that_was_declared_again_is_the_stored_object(make: Any) -> None:
    scheduler = make()
    scheduler.start(paused=True)
    for _ in range(2):
        job = scheduler.add_job(
            work, "interval", hours=1, id="a", replace_existing=True
        )

    scheduler.pause_job("a")

    assert job.next_run_time is None
    assert scheduler.get_job("a") is job


def test_a_function_that_was_defined_anew_is_the_one_that_runs(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules[__name__]
    ran = threading.Event()
    scheduler = make()
    scheduler.start(paused=True)
    for func in (lambda: None, ran.set):

        def redefined(func: Any = func) -> None:
            func()

        redefined.__qualname__ = "redefined"
        monkeypatch.setattr(module, "redefined", redefined, raising=False)
        scheduler.add_job(redefined, "interval", hours=1, id="a", replace_existing=True)

    scheduler.modify_job("a", next_run_time=datetime.now(UTC))
    scheduler.resume()

    assert ran.wait(SOON)


# The loop


class Flaky(MemoryJobStore):
    """A store that fails when it is told to, in one method."""

    failing = ""

    def _check(self, name: str) -> None:
        if self.failing == name:
            raise RuntimeError("db down")

    def get_next_run_time(self) -> datetime | None:
        self._check("get_next_run_time")
        return super().get_next_run_time()

    def get_due_jobs(self, now: datetime) -> list[Job]:
        self._check("get_due_jobs")
        return super().get_due_jobs(now)

    def update_job(self, job: Job) -> None:
        self._check("update_job")
        super().update_job(job)

    def remove_job(self, job_id: str) -> None:
        self._check("remove_job")
        super().remove_job(job_id)


@pytest.mark.parametrize(
    "method", ["get_next_run_time", "get_due_jobs", "update_job", "remove_job"]
)
def test_a_failing_store_does_not_end_the_loop(make: Any, method: str) -> None:
    store = Flaky()
    scheduler = make(jobstores={"default": store}, jobstore_retry_interval=0.02)
    log = record(scheduler)
    scheduler.start()
    scheduler.add_job(work, "interval", seconds=0.02)
    log.wait_for(EVENT_JOB_EXECUTED)

    store.failing = method
    if method == "remove_job":
        scheduler.add_job(work)
    time.sleep(0.05)
    store.failing = ""

    log.wait_for(EVENT_JOB_EXECUTED, log.codes.count(EVENT_JOB_EXECUTED) + 3)
    assert scheduler._thread.is_alive()


class Misbehaving(BaseTrigger):
    """Fires now, and then does what it is told."""

    def __init__(self, then: Any):
        self.then = then

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> Any:
        if previous_fire_time is None:
            return now
        return self.then(previous_fire_time)


def raise_error(previous: datetime) -> datetime:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    "then",
    [raise_error, lambda previous: previous, lambda previous: previous - S],
    ids=["raises", "does not advance", "goes back"],
)
@pytest.mark.parametrize("coalesce", [True, False])
def test_a_failing_trigger_is_its_jobs_problem_alone(
    make: Any, then: Any, coalesce: bool
) -> None:
    scheduler = make()
    log = record(scheduler)
    scheduler.start(paused=True)
    scheduler.add_job(work, Misbehaving(then), id="bad", coalesce=coalesce)
    scheduler.add_job(work, id="good")
    scheduler.resume()

    event = log.wait_for(EVENT_JOB_UNAVAILABLE)

    assert (event.job_id, event.jobstore) == ("bad", "default")
    assert log.wait_for(EVENT_JOB_EXECUTED).job_id == "good"
    assert scheduler.get_job("bad") is not None


def test_a_job_whose_executor_is_unknown_is_kept(make: Any) -> None:
    scheduler = make()
    log = record(scheduler)
    scheduler.start()
    scheduler.add_job(work, id="a", executor="typo")

    assert log.wait_for(EVENT_JOB_UNAVAILABLE).job_id == "a"
    assert scheduler.get_job("a") is not None


def test_a_failed_submission_is_told_for_every_run_that_is_lost(make: Any) -> None:
    scheduler = make()
    log = record(scheduler)
    scheduler.start(paused=True)
    scheduler._executors["default"]._pool.shutdown()
    start = datetime.now(UTC) - 2.5 * S
    scheduler.add_job(
        work,
        "interval",
        seconds=1,
        start_date=start,
        end_date=start + 3 * S,
        coalesce=False,
        next_run_time=start,
        id="a",
    )
    scheduler.resume()

    log.wait_for(EVENT_JOB_ERROR, 3)

    times = [e.scheduled_run_time for e in log.events if e.code == EVENT_JOB_ERROR]
    assert times == [start, start + S, start + 2 * S]
    assert all(e.exception for e in log.events if e.code == EVENT_JOB_ERROR)
    assert EVENT_JOB_SUBMITTED not in log.codes


def test_a_failed_submission_leaves_room_for_the_next(make: Any) -> None:
    class Refusing(ThreadPoolExecutor):
        refusals = 1

        def _do_submit_job(self, job: Job, run_times: Any) -> None:
            if self.refusals:
                self.refusals -= 1
                raise RuntimeError("not now")
            super()._do_submit_job(job, run_times)

    scheduler = make(executors={"default": Refusing(1)})
    log = record(scheduler)
    scheduler.start()
    scheduler.add_job(work, "interval", seconds=0.02)

    log.wait_for(EVENT_JOB_ERROR)
    log.wait_for(EVENT_JOB_EXECUTED)


@pytest.mark.parametrize("coalesce", [True, False])
def test_a_long_backlog_is_not_walked_through(make: Any, coalesce: bool) -> None:
    scheduler = make()
    log = record(scheduler)
    scheduler.start(paused=True)
    scheduler.add_job(
        work,
        IntervalTrigger(seconds=1, timezone=UTC),
        coalesce=coalesce,
        misfire_grace_time=5,
        next_run_time=datetime.now(UTC) - timedelta(days=300),
    )
    scheduler.resume()

    log.wait_for(EVENT_JOB_EXECUTED)


def test_a_job_that_was_added_without_trigger_before_a_late_start_runs(
    make: Any,
) -> None:
    now = datetime.now(UTC)
    scheduler = make(job_defaults={"misfire_grace_time": 1})
    log = record(scheduler)
    scheduler.add_job(work, id="a")
    scheduler.get_job("a").trigger.run_date = now - timedelta(hours=1)

    scheduler.start()

    log.wait_for(EVENT_JOB_EXECUTED)
    assert EVENT_JOB_MISSED not in log.codes


@pytest.mark.parametrize("how", ["add", "reschedule"])
def test_a_trigger_that_never_fires_is_warned_of(
    make: Any, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    scheduler = make()
    scheduler.start(paused=True)
    if how == "add":
        job = scheduler.add_job(work, "cron", year=2020)
    else:
        job = scheduler.add_job(work, "interval", hours=1)
        job.reschedule("cron", year=2020)

    assert job.next_run_time is None
    assert "never run" in caplog.text


def test_missed_runs_of_a_job_that_does_not_coalesce_are_one_batch(make: Any) -> None:
    scheduler = make()
    log = record(scheduler)
    scheduler.start(paused=True)
    start = datetime.now(UTC) - 5.5 * S
    scheduler.add_job(
        work,
        "interval",
        seconds=1,
        start_date=start,
        coalesce=False,
        next_run_time=start,
    )
    scheduler.resume()

    assert len(log.wait_for(EVENT_JOB_SUBMITTED).scheduled_run_times) == 6


def test_a_schedule_that_began_in_the_past_is_joined_from_now_on(make: Any) -> None:
    scheduler = make(timezone="America/New_York")
    scheduler.start(paused=True)

    job = scheduler.add_job(work, "calendarinterval", days=1, hour=0)
    assert job.next_run_time > datetime.now(UTC)
    job.pause()
    job.resume()
    assert job.next_run_time > datetime.now(UTC)
    job.reschedule("calendarinterval", days=1, hour=0, start_date="2020-01-01")
    assert job.next_run_time > datetime.now(UTC)


# Start, shutdown, restart


def test_shutdown_waits_for_a_job_that_uses_the_scheduler(make: Any) -> None:
    scheduler = make()
    go, asked = threading.Event(), threading.Event()
    shutting_down = threading.Event()

    def job() -> None:
        go.set()
        assert shutting_down.wait(SOON)
        scheduler.get_jobs()
        scheduler.add_listener(print, 0)
        asked.set()

    scheduler.start()
    scheduler.add_job(job)
    assert go.wait(SOON)
    thread = in_thread(scheduler.shutdown)
    while scheduler.state != STATE_STOPPED:
        time.sleep(0.001)
    shutting_down.set()
    thread.join(SOON)

    assert not thread.is_alive()
    assert asked.is_set()


@pytest.mark.parametrize("wait", [True, False, 0.5])
@pytest.mark.parametrize("executor", ["threadpool", "debug"])
def test_a_job_may_shut_the_scheduler_down(make: Any, wait: Any, executor: str) -> None:
    scheduler = make(executors={"default": {"type": executor}})
    log = record(scheduler)

    scheduler.add_job(lambda: scheduler.shutdown(wait=wait), id="once")
    scheduler.start()

    event = log.wait_for(EVENT_JOB_EXECUTED)
    assert event.exception is None
    assert scheduler.state == STATE_STOPPED
    assert EVENT_JOB_ERROR not in log.codes


def test_a_job_that_ends_during_shutdown_is_not_in_the_store_afterwards(
    make: Any,
) -> None:
    class Keeping(MemoryJobStore):
        def shutdown(self) -> None:
            """Keep the jobs, as a database does."""

    store = Keeping()
    scheduler = make(jobstores={"default": store})
    log = record(scheduler)
    scheduler.add_job(lambda: scheduler.shutdown(wait=False), id="once")
    scheduler.start()
    log.wait_for(EVENT_JOB_EXECUTED)

    assert store.get_all_jobs() == []


def test_what_comes_due_during_shutdown_is_neither_run_nor_moved_on(make: Any) -> None:
    class Keeping(MemoryJobStore):
        reads = 0

        def shutdown(self) -> None:
            """Keep the jobs, as a database does."""

        def get_due_jobs(self, now: datetime) -> list[Job]:
            self.reads += 1
            return super().get_due_jobs(now)

    store = Keeping()
    scheduler = make(jobstores={"default": store})
    log = record(scheduler)
    started, go = threading.Event(), threading.Event()

    def long() -> None:
        started.set()
        go.wait(SOON)

    scheduler.start()
    scheduler.add_job(long, id="long")
    assert started.wait(SOON)
    victim = scheduler.add_job(
        work, "interval", minutes=10, id="victim", next_run_time=datetime.now(UTC) + S
    )
    due = victim.next_run_time
    thread = in_thread(scheduler.shutdown)
    while scheduler.state != STATE_STOPPED:
        time.sleep(0.001)
    scheduler._clock._read = lambda: datetime.now(UTC) + timedelta(minutes=1)
    reads = store.reads
    scheduler.wakeup()
    go.set()
    thread.join(SOON)

    assert not thread.is_alive()
    kept = store.lookup_job("victim")
    assert kept is not None
    assert kept.next_run_time == due
    assert store.reads == reads
    assert log.codes.count(EVENT_JOB_EXECUTED) == 1


def test_a_scheduler_can_be_started_again(make: Any) -> None:
    scheduler = make()
    log = record(scheduler)
    for number in range(3):
        scheduler.start()
        scheduler.add_job(work, "interval", hours=1, id="keep")
        scheduler.add_job(work, id=f"once{number}")
        log.wait_for(EVENT_JOB_EXECUTED, number + 1)
        scheduler.shutdown()

        assert scheduler.get_jobs() == []  # memory forgets


@pytest.mark.parametrize("reason", ["unknown store", "conflicting id", "broken store"])
def test_a_start_that_fails_leaves_everything_as_it_was(make: Any, reason: str) -> None:
    class Broken(MemoryJobStore):
        broken = True

        def start(self, scheduler: Any, alias: str) -> None:
            if self.broken:
                raise OSError("no connection")
            super().start(scheduler, alias)

    scheduler = make()
    scheduler.add_job(work, "interval", hours=1, id="a")
    if reason == "unknown store":
        scheduler.add_job(work, "interval", hours=1, id="b", jobstore="typo")
    elif reason == "conflicting id":
        scheduler.add_job(work, "interval", hours=1, id="a")
    else:
        scheduler.add_jobstore(Broken(), "broken")
    before = scheduler.get_jobs()

    for _ in range(2):
        with pytest.raises((KeyError, OSError)):
            scheduler.start()
        assert scheduler.state == STATE_STOPPED
        assert scheduler.get_jobs() == before
        assert all(job.pending for job in before)
        assert not hasattr(before[0], "next_run_time")

    if reason == "broken store":
        scheduler.remove_jobstore("broken", shutdown=False)
    else:
        scheduler._pending_jobs.pop()
    scheduler.start(paused=True)
    assert [job.id for job in scheduler.get_jobs()] == ["a"]


def test_a_job_whose_adding_made_a_start_fail_is_as_it_was(make: Any) -> None:
    class Broken(MemoryJobStore):
        broken = True

        def add_job(self, job: Job) -> None:
            if self.broken:
                raise OSError("no connection")
            super().add_job(job)

    store = Broken()
    scheduler = make(jobstores={"default": store})
    job = scheduler.add_job(work)
    trigger = job.trigger

    with pytest.raises(OSError, match="no connection"):
        scheduler.start()

    assert job.trigger is trigger
    assert not any(hasattr(job, name) for name in ("next_run_time", "coalesce"))
    store.broken = False
    log = record(scheduler)
    scheduler.start()
    log.wait_for(EVENT_JOB_EXECUTED)


def test_the_job_that_makes_a_start_fail_is_named(make: Any) -> None:
    scheduler = make()
    scheduler.add_job(work, "interval", hours=1, id="b", jobstore="typo")

    with pytest.raises(KeyError, match=r"'b'.*'typo'"):
        scheduler.start()


def test_a_store_that_does_not_start_is_not_registered(make: Any) -> None:
    class Broken(MemoryJobStore):
        def start(self, scheduler: Any, alias: str) -> None:
            raise OSError("no connection")

    scheduler = make()
    scheduler.start()

    with pytest.raises(OSError, match="no connection"):
        scheduler.add_jobstore(Broken(), "bad")

    assert list(scheduler._jobstores) == ["default"]
    assert scheduler.get_jobs() == []


def test_ctrl_c_leaves_a_blocking_scheduler_running_until_it_is_shut_down() -> None:
    class Interrupted(BlockingScheduler):
        def _process_jobs(self) -> float | None:
            raise KeyboardInterrupt

    scheduler = Interrupted(timezone=UTC)

    with pytest.raises(KeyboardInterrupt):
        scheduler.start()
    assert scheduler.state == 1
    scheduler.shutdown()

    assert scheduler.state == STATE_STOPPED


# Jobs that change themselves


def test_a_job_that_pauses_itself_stays_paused_with_an_inline_executor(
    make: Any,
) -> None:
    scheduler = make(executors={"default": DebugExecutor()})
    log = record(scheduler)
    scheduler.add_job(
        lambda: scheduler.pause_job("x"), "interval", seconds=0.01, id="x"
    )
    scheduler.start()
    log.wait_for(EVENT_JOB_EXECUTED)
    scheduler.add_job(work, id="after")
    log.wait_for(EVENT_JOB_EXECUTED, 2)

    assert scheduler.get_job("x").next_run_time is None


@pytest.mark.parametrize("executor", ["threadpool", "debug"])
def test_a_job_that_removes_itself_ends_quietly(make: Any, executor: str) -> None:
    scheduler = make(executors={"default": {"type": executor}})
    log = record(scheduler)
    scheduler.add_job(
        lambda: scheduler.remove_job("x"), "interval", seconds=0.01, id="x"
    )
    scheduler.start()
    assert log.wait_for(EVENT_JOB_EXECUTED).job_id == "x"
    scheduler.add_job(work, id="after")

    assert log.wait_for(EVENT_JOB_EXECUTED, 2).job_id == "after"
    assert scheduler.get_jobs() == []


def test_a_job_finds_itself_gone_on_its_last_run(make: Any) -> None:
    scheduler = make()
    log = record(scheduler)
    scheduler.add_job(lambda: scheduler.remove_job("x"), id="x")
    scheduler.start()

    assert isinstance(log.wait_for(EVENT_JOB_ERROR).exception, JobLookupError)


# Import


def test_imported_jobs_are_told_and_run(make: Any) -> None:
    scheduler = make()
    scheduler.start()
    scheduler.add_job(work, "interval", seconds=0.05, id="q")
    file = io.StringIO()
    scheduler.export_jobs(file)
    scheduler.remove_all_jobs()
    log = record(scheduler)
    file.seek(0)

    scheduler.import_jobs(file)

    log.wait_for(EVENT_JOB_EXECUTED)
    assert log.wait_for(EVENT_JOB_ADDED).job_id == "q"


def test_an_import_that_conflicts_adds_nothing(make: Any) -> None:
    scheduler = make()
    scheduler.start(paused=True)
    for job_id in ("a", "b", "c"):
        scheduler.add_job(work, "interval", hours=1, id=job_id)
    file = io.StringIO()
    scheduler.export_jobs(file)
    scheduler.remove_job("a")
    log = record(scheduler)
    file.seek(0)

    with pytest.raises(ConflictingIdError):
        scheduler.import_jobs(file)

    assert scheduler.get_job("a") is None
    assert log.events == []


# Executors


def test_a_coroutine_function_outside_of_an_event_loop_fails(make: Any) -> None:
    async def coroutine() -> None:
        raise AssertionError("never called")

    scheduler = make()
    log = record(scheduler)
    scheduler.add_job(coroutine, id="a")
    scheduler.add_job(lambda: coroutine(), id="b")
    scheduler.start()

    log.wait_for(EVENT_JOB_ERROR, 2)
    assert EVENT_JOB_EXECUTED not in log.codes


def test_system_exit_in_a_job_is_a_failure(make: Any) -> None:
    scheduler = make()
    log = record(scheduler)
    scheduler.add_job(sys.exit)
    scheduler.start()

    assert isinstance(log.wait_for(EVENT_JOB_ERROR).exception, SystemExit)


@pytest.mark.parametrize("executor", ["threadpool", "debug"])
def test_no_count_of_instances_is_left_behind(make: Any, executor: str) -> None:
    scheduler = make(executors={"default": {"type": executor}})
    log = record(scheduler)
    scheduler.add_job(work, id="a")
    scheduler.start()
    log.wait_for(EVENT_JOB_EXECUTED)

    assert dict(scheduler._executors["default"]._instances) == {}


def test_waiting_for_a_slot_costs_no_run_by_default(make: Any) -> None:
    scheduler = make(executors={"default": ThreadPoolExecutor(1)})
    log = record(scheduler)
    go = threading.Event()
    scheduler.add_job(go.wait, args=[SOON])
    scheduler.add_job(work, id="waits")
    scheduler.start()
    go.set()

    log.wait_for(EVENT_JOB_EXECUTED, 2)
    assert EVENT_JOB_MISSED not in log.codes


def test_equal_ids_in_two_stores_share_their_count_of_instances(make: Any) -> None:
    scheduler = make()
    log = record(scheduler)
    go = threading.Event()
    scheduler.start(paused=True)
    scheduler.add_jobstore("memory", "m")
    scheduler.add_job(go.wait, args=[SOON], id="x")
    scheduler.add_job(go.wait, args=[SOON], id="x", jobstore="m")
    scheduler.resume()

    log.wait_for(1 << 16)
    go.set()
    log.wait_for(EVENT_JOB_EXECUTED)

    assert log.codes.count(EVENT_JOB_EXECUTED) == 1


# The memory store


def test_the_memory_store_holds_the_job_itself(make: Any) -> None:
    scheduler = make()
    scheduler.start(paused=True)
    job = scheduler.add_job(work, "interval", hours=1, id="h")

    scheduler.modify_job("h", name="new")

    assert job.name == "new"
    assert scheduler.get_job("h") is job


# Small things


def test_events_say_what_they_are() -> None:
    assert repr(SchedulerEvent(1)) == "<SchedulerEvent (code=1)>"


def test_combining_triggers_can_be_named(make: Any) -> None:
    job = make().add_job(work, "or", triggers=[CronTrigger(hour=1, timezone=UTC)])

    assert str(job.trigger) == "or[cron[hour='1']]"


def test_a_negative_interval_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="-5"):
        make().add_job(work, "interval", seconds=-5)


def test_listeners_that_raise_anything_do_not_end_the_loop(make: Any) -> None:
    scheduler = make()

    def leave(event: Any) -> None:
        sys.exit(3)

    scheduler.add_listener(leave)
    log = record(scheduler)
    scheduler.start()
    scheduler.add_job(work)
    log.wait_for(EVENT_JOB_EXECUTED)

    assert scheduler._thread.is_alive()
