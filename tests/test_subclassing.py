"""Stores, executors, schedulers and triggers as third parties write them for APScheduler 3 keep working."""

import concurrent.futures
import pickle
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, patch

import pytest

from apscheduler.events import (
    EVENT_ALL,
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_MISSED,
    EVENT_JOB_SUBMITTED,
)
from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.executors.pool import BasePoolExecutor, ThreadPoolExecutor
from apscheduler.job import Job
from apscheduler.jobstores.base import (
    BaseJobStore,
    ConflictingIdError,
    JobLookupError,
)
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.base import STATE_RUNNING, BaseScheduler
from apscheduler.testing.schedulers import EventLog
from apscheduler.triggers.base import BaseTrigger
from apscheduler.util import (
    datetime_to_utc_timestamp,
    maybe_ref,
    utc_timestamp_to_datetime,
)
from schedulers import scheduler_maker

SOON = 10


def work(*args: Any) -> str:
    return "done"


def record(scheduler: Any, mask: int = EVENT_ALL) -> EventLog:
    """Return what collects the events of a scheduler from now on."""
    log = EventLog()
    scheduler.add_listener(log, mask)
    return log


@pytest.fixture
def make() -> Iterator[Any]:
    with scheduler_maker() as make:
        yield make


# Stores


class SQLiteStore(BaseJobStore):
    """A store on a database file, with a connection per call."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path

    def start(self, scheduler: Any, alias: str) -> None:
        super().start(scheduler, alias)
        self._do(
            "create table if not exists jobs "
            "(id text primary key, run real, state blob not null)"
        )

    def _do(self, statement: str, *values: Any) -> Any:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() or cursor.rowcount

    def _restore(self, state: bytes) -> Job:
        job = Job.__new__(Job)
        job.__setstate__(pickle.loads(state))
        job._scheduler = self._scheduler
        job._jobstore_alias = self._alias
        return job

    def _query(self, rest: str, *values: Any) -> list[Job]:
        with closing(sqlite3.connect(self.path)) as connection:
            rows = connection.execute(f"select state from jobs {rest}", values)
            return [self._restore(state) for (state,) in rows]

    def lookup_job(self, job_id: str) -> Job | None:
        jobs = self._query("where id = ?", job_id)
        return jobs[0] if jobs else None

    def get_due_jobs(self, now: datetime) -> list[Job]:
        timestamp = datetime_to_utc_timestamp(now)
        return self._query("where run <= ? order by run", timestamp)

    def get_next_run_time(self) -> datetime | None:
        with closing(sqlite3.connect(self.path)) as connection:
            (first,) = connection.execute("select min(run) from jobs").fetchone()
        moment: datetime | None = utc_timestamp_to_datetime(first)
        return moment

    def get_all_jobs(self) -> list[Job]:
        jobs = self._query("order by run")
        self._fix_paused_jobs_sorting(jobs)
        return jobs

    def _values(self, job: Job) -> tuple[Any, ...]:
        return (
            datetime_to_utc_timestamp(job.next_run_time),
            pickle.dumps(job.__getstate__(), pickle.HIGHEST_PROTOCOL),
            job.id,
        )

    def add_job(self, job: Job) -> None:
        try:
            self._do(
                "insert into jobs (run, state, id) values (?, ?, ?)", *self._values(job)
            )
        except sqlite3.IntegrityError:
            raise ConflictingIdError(job.id) from None

    def update_job(self, job: Job) -> None:
        if not self._do(
            "update jobs set run=?, state=? where id=?", *self._values(job)
        ):
            raise JobLookupError(job.id)

    def remove_job(self, job_id: str) -> None:
        if not self._do("delete from jobs where id=?", job_id):
            raise JobLookupError(job_id)

    def remove_all_jobs(self) -> None:
        self._do("delete from jobs")


def test_a_store_on_a_database_keeps_and_runs_jobs(make: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "jobs.sqlite")
    first = make(jobstores={"default": SQLiteStore(path)})
    log = record(first)
    first.start()
    first.add_job(work, "interval", seconds=0.03, id="often")
    first.add_job(work, "interval", hours=1, id="paused").pause()
    first.add_job(work, id="once")
    log.wait_for(EVENT_JOB_EXECUTED, 4)
    first.modify_job("often", name="renamed")
    first.shutdown()

    second = make(jobstores={"default": SQLiteStore(path)})
    log = record(second)
    second.start()
    log.wait_for(EVENT_JOB_EXECUTED, 2)

    assert [job.id for job in second.get_jobs()] == ["often", "paused"]
    assert second.get_job("often").name == "renamed"
    assert second.get_job("paused").next_run_time is None


class ResultMixin:
    """Notes what happens to jobs, for stores of any kind."""

    _scheduler: Any

    def start(self, scheduler: Any, alias: str) -> None:
        super().start(scheduler, alias)  # type: ignore[misc]  # a mixin
        self.lock = scheduler._create_lock()
        self.notes: list[tuple[str, datetime]] = []
        scheduler.add_listener(self._submitted, EVENT_JOB_SUBMITTED)
        scheduler.add_listener(self._ended, EVENT_JOB_EXECUTED | EVENT_JOB_ERROR)

    def _submitted(self, event: Any) -> None:
        with self.lock:
            self.notes.append(("submitted", event.scheduled_run_times[0]))

    def _ended(self, event: Any) -> None:
        with self.lock:
            what = "error" if event.exception else "executed"
            self.notes.append((what, event.scheduled_run_time))
            assert (
                event.jobstore == self._scheduler.get_job(event.job_id)._jobstore_alias
            )


@pytest.mark.parametrize("added", ["before", "after"])
def test_a_mixin_may_listen_from_within_the_start_of_its_store(
    make: Any, added: str
) -> None:
    class Store(ResultMixin, MemoryJobStore):
        pass

    store = Store()
    scheduler = make()
    log = record(scheduler)
    if added == "after":
        scheduler.start()
    scheduler.add_jobstore(store, "results")
    if added == "before":
        scheduler.start()
    scheduler.add_job(work, "interval", seconds=0.02, id="a", jobstore="results")
    log.wait_for(EVENT_JOB_EXECUTED, 2)
    log.wait_for(EVENT_JOB_SUBMITTED, 2)
    scheduler.shutdown()

    whats = [what for what, _ in store.notes]
    assert whats.count("executed") >= 2
    assert whats.count("submitted") >= 2


def test_a_memory_store_that_overrides_a_query_is_asked_by_it(make: Any) -> None:
    class OnlyOdd(MemoryJobStore):
        def get_due_jobs(self, now: datetime) -> list[Job]:
            return [job for job in super().get_due_jobs(now) if int(job.id) % 2]

        def get_next_run_time(self) -> datetime | None:
            times = [job.next_run_time for job, _ in self._jobs if int(job.id) % 2]
            return min(filter(None, times), default=None)

    store = OnlyOdd()
    scheduler = make(jobstores={"default": store})
    log = record(scheduler)
    scheduler.start(paused=True)
    for number in range(4):
        scheduler.add_job(work, id=str(number))
    scheduler.resume()
    log.wait_for(EVENT_JOB_EXECUTED, 2)

    assert sorted(store._jobs_index) == ["0", "2"]


# Executors


class CopyingExecutor(BaseExecutor):
    """Hands plain lists to its pool, and reports by the two callbacks."""

    def start(self, scheduler: Any, alias: str) -> None:
        super().start(scheduler, alias)
        self._pool = concurrent.futures.ThreadPoolExecutor(2)

    def shutdown(self, wait: bool = True) -> None:
        self._pool.shutdown(wait)

    def _do_submit_job(self, job: Job, run_times: list[datetime]) -> None:
        def callback(future: Any) -> None:
            exc = future.exception()
            if exc:
                self._run_job_error(job.id, exc, exc.__traceback__)
            else:
                self._run_job_success(job.id, future.result())

        future = self._pool.submit(
            self.run, job, job._jobstore_alias, list(run_times), self._logger.name
        )
        future.add_done_callback(callback)

    def run(self, *args: Any) -> Any:
        return run_job(*args)


def test_an_executor_that_copies_the_run_times_reports_its_runs(make: Any) -> None:
    scheduler = make(executors={"default": CopyingExecutor()})
    log = record(scheduler)
    scheduler.start()
    scheduler.add_job(work, "interval", seconds=0.02)

    log.wait_for(EVENT_JOB_EXECUTED, 3)


def test_an_executor_that_reports_an_error_by_job_id_alone_frees_the_job(
    make: Any,
) -> None:
    class Failing(CopyingExecutor):
        failures = 2

        def run(self, *args: Any) -> Any:
            if self.failures:
                self.failures -= 1
                raise RuntimeError("outside of the job")
            return super().run(*args)

    scheduler = make(executors={"default": Failing()})
    log = record(scheduler)
    scheduler.start()
    scheduler.add_job(work, "interval", seconds=0.02)

    log.wait_for(EVENT_JOB_EXECUTED, 2)


@pytest.mark.parametrize("how", ["modified", "removed"])
def test_an_error_by_job_id_alone_counts_when_the_job_has_another_executor_by_then(
    make: Any, how: str
) -> None:
    class Failing(CopyingExecutor):
        def run(self, *args: Any) -> Any:
            begun.set()
            assert go.wait(10)
            raise RuntimeError("outside of the job")

    begun, go = threading.Event(), threading.Event()
    scheduler = make(executors={"other": Failing()})
    log = record(scheduler)
    scheduler.start()
    scheduler.add_job(work, "interval", seconds=0.02, id="a", executor="other")
    assert begun.wait(10)
    if how == "modified":
        scheduler.modify_job("a", executor="default")
    else:
        scheduler.remove_executor("other", shutdown=False)
        scheduler.add_executor("threadpool", "other")
    go.set()

    log.wait_for(EVENT_JOB_ERROR)
    log.wait_for(EVENT_JOB_EXECUTED)


def test_an_executor_that_counts_in_its_own_way(make: Any) -> None:
    class Synchronous(BaseExecutor):
        def _do_submit_job(self, job: Any, run_times: list[datetime]) -> None:
            try:
                events = run_job(job, job._jobstore_alias, run_times, self._logger.name)
            except BaseException:
                self._run_job_error(job.id, *sys.exc_info()[1:])
            else:
                self._run_job_success(job.id, events)

    scheduler = make(executors={"default": Synchronous()})
    log = record(scheduler)
    scheduler.start()
    scheduler.add_job(work, "interval", seconds=0.02, id="a")
    log.wait_for(EVENT_JOB_EXECUTED, 3)
    scheduler.shutdown()

    assert not any(scheduler._executors["default"]._instances.values())


def test_a_pool_of_ones_own(make: Any) -> None:
    pool = concurrent.futures.ThreadPoolExecutor(1, "own pool")
    names: list[str] = []

    class Own(BasePoolExecutor):
        def __init__(self) -> None:
            super().__init__(pool)

    scheduler = make(executors={"default": Own()})
    log = record(scheduler)
    scheduler.add_job(lambda: names.append(threading.current_thread().name))
    scheduler.start()
    log.wait_for(EVENT_JOB_EXECUTED)

    assert names == ["own pool_0"]
    assert scheduler._executors["default"]._pool is pool


def test_run_job_can_be_replaced_in_the_pool_module(make: Any) -> None:
    with patch(
        "apscheduler.executors.pool.run_job", MagicMock(return_value=[])
    ) as replaced:
        called = threading.Event()

        def answer(*args: Any) -> list[Any]:
            called.set()
            return []

        replaced.side_effect = answer
        scheduler = make(executors={"default": ThreadPoolExecutor(1)})
        scheduler.start()
        job = scheduler.add_job(work, id="a")
        assert called.wait(SOON)
        scheduler.shutdown()

    (given, alias, run_times, logger), _ = replaced.call_args
    assert (given.id, alias, logger) == (
        job.id,
        "default",
        "apscheduler.executors.default",
    )
    assert len(run_times) == 1


# Triggers


class ElapsedTrigger(BaseTrigger):
    """Fires so many times, with the attributes that third parties use."""

    def __init__(self, times: int = 3, timezone: Any = None):
        self.times, self.fired = times, 0

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        self.fired += 1
        if self.fired > self.times:
            return None
        base = previous_fire_time or now
        return self._apply_jitter(base + timedelta(seconds=0.01), None, now)


def test_a_trigger_that_keeps_count_runs_to_its_end(make: Any) -> None:
    scheduler = make(job_defaults={"coalesce": False})
    log = record(scheduler)
    scheduler.start()
    scheduler.add_job(work, ElapsedTrigger(3), id="a")

    log.wait_for(EVENT_JOB_EXECUTED, 3)
    assert scheduler.get_job("a") is None


# Schedulers


class LoopScheduler(BaseScheduler):
    """A scheduler for a framework of callbacks."""

    def __init__(self, call_later: Callable[[float], None], **options: Any):
        self.call_later = call_later
        super().__init__(**options)

    def start(self, paused: bool = False) -> None:
        super().start(paused)

    def shutdown(self, wait: bool | float = True) -> None:
        super().shutdown(wait)

    def wakeup(self) -> None:
        wait_seconds = self._process_jobs()
        if wait_seconds is not None:
            self.call_later(wait_seconds)


def test_a_scheduler_on_callbacks_sleeps_as_it_is_told() -> None:
    waits: list[float] = []
    scheduler = LoopScheduler(waits.append, timezone=UTC)
    scheduler.start()
    try:
        scheduler.add_job(work, "interval", seconds=30)
    finally:
        scheduler.shutdown()

    assert waits
    assert 0 < waits[-1] <= 30


def test_overridden_methods_are_the_ones_that_are_called(make: Any) -> None:
    calls: list[str] = []

    class Noting(BackgroundScheduler):
        def __getattribute__(self, name: str) -> Any:
            if name in (
                "_create_default_executor",
                "_create_default_jobstore",
                "_create_trigger",
                "_lookup_job",
                "_real_add_job",
                "add_job",
                "modify_job",
                "remove_job",
            ):
                calls.append(name)
            return super().__getattribute__(name)

    scheduler = make(Noting)
    scheduler.scheduled_job("interval", hours=1, id="a")(work)
    assert calls == ["add_job", "_create_trigger"]
    calls.clear()
    scheduler.start(paused=True)
    assert calls == [
        "_create_default_executor",
        "_create_default_jobstore",
        "_real_add_job",
    ]
    for method, expected in (
        ("pause_job", ["modify_job", "_lookup_job"]),
        ("resume_job", ["_lookup_job", "modify_job", "_lookup_job"]),
        ("reschedule_job", ["_create_trigger", "modify_job", "_lookup_job"]),
        ("get_job", ["_lookup_job"]),
    ):
        calls.clear()
        getattr(scheduler, method)("a")
        assert calls == expected, method


def test_rescheduling_passes_trigger_and_time_on_by_keyword(make: Any) -> None:
    scheduler = make()
    scheduler.start(paused=True)
    scheduler.add_job(work, "interval", hours=1, id="a")
    scheduler.modify_job = MagicMock()

    scheduler.reschedule_job("a", "default", "interval", hours=2)
    scheduler.pause_job("a")

    first, second = scheduler.modify_job.call_args_list
    assert first.args == ("a", "default")
    assert set(first.kwargs) == {"trigger", "next_run_time"}
    assert second.kwargs == {"next_run_time": None}


def test_mocked_components_get_positional_arguments(make: Any) -> None:
    executor = MagicMock(BaseExecutor)
    store = MagicMock(BaseJobStore, get_next_run_time=MagicMock(return_value=None))
    store.get_due_jobs.return_value = []
    scheduler = make(executors={"default": executor}, jobstores={"default": store})

    scheduler.start()
    scheduler.shutdown(wait=False)

    executor.start.assert_called_once_with(scheduler, "default")
    executor.shutdown.assert_called_once_with(False)
    store.start.assert_called_once_with(scheduler, "default")
    store.shutdown.assert_called_once_with()


# What tests of applications patch

FROZEN = datetime(2030, 1, 1, 12, tzinfo=timezone.utc)  # noqa: UP017  # as they write it


class FrozenDatetime(datetime):
    """A datetime whose now stands still."""

    current = FROZEN

    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]  # a plain datetime
        return cls.current.astimezone(tz)


def test_the_scheduler_reads_time_by_a_name_that_can_be_patched() -> None:
    waits: list[float] = []
    with patch("apscheduler.schedulers.base.datetime", FrozenDatetime):
        scheduler = LoopScheduler(waits.append, timezone=UTC)
        scheduler.start(paused=True)
        try:
            job = scheduler.add_job(
                work, "cron", hour=13, start_date="2030-01-01", timezone=UTC
            )
            scheduler.state = STATE_RUNNING
            wait = scheduler._process_jobs()
        finally:
            scheduler.shutdown()

    assert job.next_run_time == FROZEN + timedelta(hours=1)
    assert wait == 3600


def test_the_executor_reads_time_by_a_name_that_can_be_patched(make: Any) -> None:
    scheduler = make()
    log = record(scheduler)
    with patch("apscheduler.executors.base.datetime", FrozenDatetime):
        scheduler.start()
        scheduler.add_job(work, misfire_grace_time=5)
        log.wait_for(EVENT_JOB_MISSED)


def test_the_local_zone_is_read_by_a_name_that_can_be_patched() -> None:
    zone = timezone(timedelta(hours=5))
    with patch("apscheduler.schedulers.base.get_localzone", return_value=zone):
        scheduler = BackgroundScheduler()

    assert scheduler.timezone == zone


# A remote control in front of a scheduler


def test_a_service_can_hand_calls_on_by_reference(
    make: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    scheduler = make()
    log = record(scheduler)

    def remote_add_job(func: str, *args: Any, **kwargs: Any) -> str:
        return str(scheduler.add_job(func, *args, **kwargs).id)

    scheduler.start()
    job_id = remote_add_job("sys:stdout.write", "interval", args=["hello\n"], hours=1)
    scheduler.modify_job(job_id, next_run_time=datetime.now(UTC))
    log.wait_for(EVENT_JOB_EXECUTED)

    assert maybe_ref("sys:stdout.write") == scheduler.get_job(job_id).func
    assert scheduler.get_job(job_id).func_ref == "sys:stdout.write"
    assert "hello" in capfd.readouterr().out


def test_an_extension_may_configure_late_and_ask_for_every_attribute(make: Any) -> None:
    scheduler = make()
    scheduler.configure(
        jobstores={"default": {"type": "memory"}},
        executors={"default": {"type": "threadpool", "max_workers": 3}},
        job_defaults={"max_instances": 3},
        timezone="UTC",
    )
    scheduler.add_job(
        func=f"{__name__}:work", id="a", trigger="cron", hour="5", name="n"
    )
    scheduler.start(paused=True)

    (job,) = scheduler.get_jobs("default")
    assert job.func_ref == f"{__name__}:work"
    assert job.pending is False
    assert (job.args, job.kwargs, job.max_instances) == ((), {}, 3)
    fields = {f.name: str(f) for f in job.trigger.fields if not f.is_default}
    assert fields == {"hour": "5"}
    copied = scheduler.add_job(
        job.func_ref,
        trigger=None,
        name=job.name,
        id="copy",
        args=job.args,
        kwargs=job.kwargs,
        misfire_grace_time=job.misfire_grace_time,
        coalesce=job.coalesce,
        max_instances=job.max_instances,
        executor=job.executor,
        jobstore="default",
    )
    assert copied.name == "n"


def test_a_job_that_was_built_by_hand_can_be_added_for_real(make: Any) -> None:
    scheduler = make()
    log = record(scheduler)
    scheduler.start()
    job = Job(
        scheduler,
        id="a",
        func=work,
        args=(),
        kwargs={},
        trigger=ElapsedTrigger(1),
        executor="default",
    )

    scheduler._real_add_job(job, "default", False)

    assert log.wait_for(EVENT_JOB_EXECUTED).job_id == "a"


def test_an_extension_may_hand_a_copy_of_a_job_to_its_executor_at_once(
    make: Any, tmp_path: Path
) -> None:
    """Run-now buttons of extensions do so, holding the lock of the stores; the schedule stays as it is."""
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    scheduler = make(jobstores={"default": {"type": "sqlalchemy", "url": url}})
    log = record(scheduler)
    scheduler.start()
    job = scheduler.add_job(work, "interval", hours=1, id="a")
    scheduler.pause_job("a")
    now = datetime.now(UTC)

    with scheduler._jobstores_lock:
        copied = Job(
            scheduler,
            id=job.id,
            name=job.name,
            func=job.func,
            trigger=job.trigger,
            executor=job.executor,
            args=(),
            kwargs={},
            misfire_grace_time=None,
            coalesce=True,
            max_instances=1,
            next_run_time=None,
        )
        copied._jobstore_alias = "default"
        scheduler._lookup_executor(job.executor).submit_job(copied, [now])

    event = log.wait_for(EVENT_JOB_EXECUTED)
    assert (event.job_id, event.scheduled_run_time) == ("a", now)
    assert event.retval == "done"
    assert scheduler.get_job("a").next_run_time is None


def test_an_extension_may_replace_how_events_are_dispatched(make: Any) -> None:
    scheduler = make()
    dispatched: list[int] = []
    dispatch = scheduler._dispatch_event

    def note_and_dispatch(event: Any) -> None:
        dispatched.append(event.code)
        dispatch(event)

    scheduler._dispatch_event = note_and_dispatch
    log = record(scheduler)
    scheduler.start()
    scheduler.add_job(work)
    log.wait_for(EVENT_JOB_EXECUTED)

    assert EVENT_JOB_EXECUTED in dispatched
