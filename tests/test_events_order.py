"""Which events come, in which order, in which thread, and what listeners may do."""

import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apscheduler.events import (
    EVENT_ALL,
    EVENT_ALL_JOBS_REMOVED,
    EVENT_EXECUTOR_ADDED,
    EVENT_EXECUTOR_REMOVED,
    EVENT_JOB_ADDED,
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    EVENT_JOB_MODIFIED,
    EVENT_JOB_REMOVED,
    EVENT_JOB_SUBMITTED,
    EVENT_JOBSTORE_ADDED,
    EVENT_JOBSTORE_REMOVED,
    EVENT_SCHEDULER_PAUSED,
    EVENT_SCHEDULER_RESUMED,
    EVENT_SCHEDULER_SHUTDOWN,
    EVENT_SCHEDULER_STARTED,
    JobRangeEvent,
)
from apscheduler.executors.debug import DebugExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.base import STATE_RUNNING, BaseScheduler
from apscheduler.testing.schedulers import EventLog
from schedulers import PassScheduler

SOON = 10


@pytest.fixture
def make() -> Iterator[Any]:
    made: list[BaseScheduler] = []

    def make(cls: Any = BackgroundScheduler, **options: Any) -> Any:
        scheduler = cls(timezone=UTC, **options)
        made.append(scheduler)
        log = EventLog()
        scheduler.add_listener(log)
        return scheduler, log

    yield make
    for scheduler in made:
        if scheduler.running:
            scheduler.shutdown()


def inline(make: Any) -> Any:
    scheduler, log = make(
        PassScheduler,
        executors={"default": DebugExecutor()},
        jobstores={"default": MemoryJobStore()},
    )
    scheduler.start(paused=True)
    scheduler.state = STATE_RUNNING
    log.events.clear()
    return scheduler, log


def work() -> str:
    return "done"


def fail() -> None:
    raise ValueError("bad")


def test_the_start_tells_components_then_jobs_then_itself(make: Any) -> None:
    scheduler, log = make()
    for job_id in "ab":
        scheduler.add_job(work, "interval", hours=1, id=job_id)
    assert log.codes == []

    scheduler.start(paused=True)

    assert [
        (event.code, getattr(event, "job_id", event.alias)) for event in log.events
    ] == [
        (EVENT_EXECUTOR_ADDED, "default"),
        (EVENT_JOBSTORE_ADDED, "default"),
        (EVENT_JOB_ADDED, "a"),
        (EVENT_JOB_ADDED, "b"),
        (EVENT_SCHEDULER_STARTED, None),
    ]


def test_states_are_told_after_they_changed_and_only_then(make: Any) -> None:
    scheduler, log = make()
    states: list[tuple[int, int]] = []
    scheduler.add_listener(lambda e: states.append((e.code, scheduler.state)), 15)

    for method in ("start", "resume", "pause", "pause", "resume", "shutdown"):
        getattr(scheduler, method)()

    assert states == [
        (EVENT_SCHEDULER_STARTED, 1),
        (EVENT_SCHEDULER_PAUSED, 2),
        (EVENT_SCHEDULER_RESUMED, 1),
        (EVENT_SCHEDULER_SHUTDOWN, 0),
    ]
    assert log.codes[-1] == EVENT_SCHEDULER_SHUTDOWN


def test_components_are_told_with_their_alias_in_any_state(make: Any) -> None:
    scheduler, log = make()
    for _ in range(2):
        scheduler.add_executor("debug", "e")
        scheduler.add_jobstore("memory", "s")
        scheduler.remove_executor("e")
        scheduler.remove_jobstore("s")
        if not scheduler.running:
            scheduler.start(paused=True)
            del log.events[4:]

    expected = [
        (EVENT_EXECUTOR_ADDED, "e"),
        (EVENT_JOBSTORE_ADDED, "s"),
        (EVENT_EXECUTOR_REMOVED, "e"),
        (EVENT_JOBSTORE_REMOVED, "s"),
    ]
    assert [(event.code, event.alias) for event in log.events] == expected * 2


def test_changes_of_jobs_are_told_with_their_store(make: Any) -> None:
    scheduler, log = make()
    scheduler.start(paused=True)
    log.events.clear()

    scheduler.add_job(work, "interval", hours=1, id="a")
    scheduler.add_job(work, "interval", hours=2, id="a", replace_existing=True)
    for method in ("modify_job", "pause_job", "resume_job"):
        getattr(scheduler, method)("a")
    scheduler.reschedule_job("a", trigger="interval", hours=1)
    scheduler.remove_job("a")

    assert log.codes == [
        *[EVENT_JOB_ADDED] * 2,
        *[EVENT_JOB_MODIFIED] * 4,
        EVENT_JOB_REMOVED,
    ]
    assert {(e.job_id, e.jobstore, e.alias) for e in log.events} == {
        ("a", "default", None)
    }


def test_a_pending_job_has_no_store_yet(make: Any) -> None:
    scheduler, log = make()
    scheduler.add_job(work, "interval", hours=1, id="a")

    scheduler.modify_job("a", name="n")

    assert [(e.code, e.job_id, e.jobstore) for e in log.events] == [
        (EVENT_JOB_MODIFIED, "a", None)
    ]


@pytest.mark.parametrize("store", [None, "default", "unknown"])
@pytest.mark.parametrize("started", [True, False])
def test_removing_all_jobs_is_told_always(
    make: Any, store: str | None, started: bool
) -> None:
    scheduler, log = make()
    if started:
        scheduler.start(paused=True)

    scheduler.remove_all_jobs(store)

    assert (log.events[-1].code, log.events[-1].alias) == (
        EVENT_ALL_JOBS_REMOVED,
        store,
    )


def test_moving_a_job_on_is_no_modification(make: Any) -> None:
    scheduler, log = inline(make)
    scheduler.add_job(work, "interval", hours=1, next_run_time=datetime.now(UTC))

    scheduler._process_jobs()

    assert EVENT_JOB_EXECUTED in log.codes
    assert EVENT_JOB_MODIFIED not in log.codes


@pytest.mark.parametrize(
    ("func", "code"), [(work, EVENT_JOB_EXECUTED), (fail, EVENT_JOB_ERROR)]
)
def test_a_run_is_submitted_and_its_outcome_told(
    make: Any, func: Any, code: int
) -> None:
    scheduler, log = make()
    scheduler.start()
    due = datetime.now(UTC)

    scheduler.add_job(func, next_run_time=due, id="a")
    outcome = log.wait_for(code)
    submitted = log.wait_for(EVENT_JOB_SUBMITTED)
    log.wait_for(EVENT_JOB_REMOVED)

    assert submitted.scheduled_run_times == [due]
    assert outcome.scheduled_run_time == due
    assert (outcome.job_id, outcome.jobstore) == ("a", "default")
    if func is work:
        assert (outcome.retval, outcome.exception) == ("done", None)
    else:
        assert str(outcome.exception) == "bad"
        assert "raise ValueError" in outcome.traceback
        assert "ValueError: bad" not in outcome.traceback
    assert outcome.duration >= 0
    assert outcome.started_at >= due


def test_outcomes_of_a_batch_come_in_the_order_of_their_run_times(make: Any) -> None:
    scheduler, log = inline(make)
    start = datetime.now(UTC) - timedelta(seconds=4.5)
    scheduler.add_job(
        work,
        "interval",
        seconds=1,
        start_date=start,
        coalesce=False,
        next_run_time=start,
    )

    scheduler._process_jobs()

    times = [e.scheduled_run_time for e in log.events if e.code == EVENT_JOB_EXECUTED]
    assert times == [start + timedelta(seconds=n) for n in range(5)]
    (submitted,) = [e for e in log.events if e.code == EVENT_JOB_SUBMITTED]
    assert submitted.scheduled_run_times == times


def test_a_coalesced_batch_is_one_submission_of_the_last_time(make: Any) -> None:
    scheduler, log = inline(make)
    start = datetime.now(UTC) - timedelta(seconds=4.5)
    scheduler.add_job(
        work, "interval", seconds=1, start_date=start, next_run_time=start
    )

    scheduler._process_jobs()

    (submitted,) = [e for e in log.events if e.code == EVENT_JOB_SUBMITTED]
    assert submitted.scheduled_run_times == [start + timedelta(seconds=4)]
    assert EVENT_JOB_MISSED not in log.codes


def test_missed_times_are_one_event_for_the_whole_range(make: Any) -> None:
    scheduler, log = inline(make)
    start = datetime.now(UTC) - timedelta(seconds=1000.5)
    scheduler.add_job(
        work,
        "interval",
        seconds=1,
        start_date=start,
        coalesce=False,
        misfire_grace_time=2,
        next_run_time=start,
    )

    scheduler._process_jobs()

    (missed,) = [e for e in log.events if e.code == EVENT_JOB_MISSED]
    assert isinstance(missed, JobRangeEvent)
    assert missed.first_run_time == start
    assert missed.count == 999
    assert missed.scheduled_run_time == start + timedelta(seconds=998)
    assert log.codes.count(EVENT_JOB_EXECUTED) == 2


def test_missed_times_are_logged_as_in_3_x_with_the_logger_of_the_executor(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler, _ = inline(make)
    now = datetime.now(UTC)
    options = {"misfire_grace_time": 1, "func": work}
    for count, job_id in ((1, "once"), (3, "thrice")):
        scheduler.add_job(
            trigger="interval",
            hours=1,
            next_run_time=now - timedelta(hours=count, seconds=-1800),
            id=job_id,
            name=job_id,
            **options,
        )

    scheduler._process_jobs()

    once, thrice = sorted(
        (record for record in caplog.records if "was missed by" in record.message),
        key=lambda record: record.message,
    )
    assert once.name == thrice.name == "apscheduler.executors.default"
    assert once.message.startswith('Run time of job "once (trigger: ')
    assert "times since" not in once.message
    assert "(the last of 3 times since " in thrice.message


def test_a_job_with_too_many_instances_is_skipped_and_told(make: Any) -> None:
    scheduler, log = make()
    go = threading.Event()
    scheduler.start()

    scheduler.add_job(
        go.wait, "interval", seconds=0.02, args=[SOON], next_run_time=datetime.now(UTC)
    )
    skipped = log.wait_for(EVENT_JOB_MAX_INSTANCES)
    go.set()
    log.wait_for(EVENT_JOB_EXECUTED)

    assert len(skipped.scheduled_run_times) == 1


# Listeners


def test_a_mask_selects_events(make: Any) -> None:
    scheduler, _ = make()
    some, none, both = EventLog(), EventLog(), EventLog()
    scheduler.add_listener(some, EVENT_SCHEDULER_STARTED)
    scheduler.add_listener(none, 0)
    scheduler.add_listener(both, EVENT_SCHEDULER_STARTED | EVENT_SCHEDULER_SHUTDOWN)

    scheduler.start()
    scheduler.shutdown()

    assert some.codes == [EVENT_SCHEDULER_STARTED]
    assert none.codes == []
    assert both.codes == [EVENT_SCHEDULER_STARTED, EVENT_SCHEDULER_SHUTDOWN]


def test_listeners_are_called_in_the_order_of_registration_each_time(
    make: Any,
) -> None:
    scheduler, _ = make()
    called: list[int] = []
    for number in (2, 1, 3):
        scheduler.add_listener(lambda e, n=number: called.append(n), 1)

    def twice(event: Any) -> None:
        called.append(4)

    scheduler.add_listener(twice, 1)
    scheduler.add_listener(twice, 1)

    scheduler.start(paused=True)

    assert called == [2, 1, 3, 4, 4]


def test_removing_a_listener_removes_every_registration(make: Any) -> None:
    scheduler, _ = make()
    log = EventLog()

    class Owner:
        def method(self, event: Any) -> None:
            log(event)

    owner = Owner()
    for callback in (log, log, owner.method, owner.method):
        scheduler.add_listener(callback)

    scheduler.remove_listener(log)
    scheduler.remove_listener(owner.method)
    scheduler.remove_listener(print)
    scheduler.start(paused=True)

    assert log.events == []


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_listener_that_raises_is_logged_and_the_others_are_called(
    make: Any, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    scheduler, _ = make()
    log = EventLog()

    def broken(event: Any) -> None:
        raise error("no")

    scheduler.add_listener(broken, EVENT_SCHEDULER_STARTED)
    scheduler.add_listener(log, EVENT_SCHEDULER_STARTED)

    scheduler.start(paused=True)

    assert log.codes == [EVENT_SCHEDULER_STARTED]
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert record.name == "apscheduler.scheduler"
    assert record.exc_info


def test_listeners_may_change_the_listeners(make: Any) -> None:
    scheduler, _ = make()
    late = EventLog()

    def once(event: Any) -> None:
        scheduler.remove_listener(once)
        scheduler.add_listener(late)

    scheduler.add_listener(once)

    scheduler.start(paused=True)
    scheduler.shutdown()

    assert late.codes[-1] == EVENT_SCHEDULER_SHUTDOWN


def test_listeners_may_use_the_scheduler_while_it_starts_and_runs(make: Any) -> None:
    scheduler, log = make()
    seen: list[Any] = []

    def listener(event: Any) -> None:
        seen.append((event.code, [job.id for job in scheduler.get_jobs()]))
        if event.code == EVENT_JOB_EXECUTED and event.job_id == "first":
            scheduler.add_job(work, id="second")

    scheduler.add_listener(listener, EVENT_ALL)
    scheduler.start()
    scheduler.add_job(work, id="first")

    log.wait_for(EVENT_JOB_EXECUTED, 2)

    assert EVENT_JOB_ADDED in [code for code, _ in seen]


def test_a_listener_may_wait_for_another_thread_that_uses_the_scheduler(
    make: Any,
) -> None:
    scheduler, log = make()
    results: list[bool] = []

    def listener(event: Any) -> None:
        thread = threading.Thread(target=scheduler.get_jobs, daemon=True)
        thread.start()
        thread.join(SOON)
        results.append(thread.is_alive())

    scheduler.add_listener(listener, EVENT_ALL)
    scheduler.start()
    scheduler.add_job(work, id="a")
    scheduler.add_job(work, "interval", hours=1, id="b")
    scheduler.resume_job("b")
    log.wait_for(EVENT_JOB_EXECUTED)
    log.wait_for(EVENT_JOB_SUBMITTED)

    assert results
    assert not any(results)


def test_outcomes_are_told_in_the_thread_of_the_job(make: Any) -> None:
    scheduler, log = make()
    threads: list[threading.Thread] = []
    started = threading.Event()

    def func() -> None:
        threads.append(threading.current_thread())
        started.wait(SOON)

    scheduler.start()
    scheduler.add_job(func)
    log.wait_for(EVENT_JOB_SUBMITTED)  # by now the callback is attached
    started.set()
    event = log.wait_for(EVENT_JOB_EXECUTED)

    assert log.threads[log.events.index(event)] is threads[0]
