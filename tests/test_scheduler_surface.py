"""The methods of schedulers: signatures, states, and what each does before and after the start."""

import inspect
import io
import logging
import pickle
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apscheduler.executors.debug import DebugExecutor
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers import (
    SchedulerAlreadyRunningError,
    SchedulerNotRunningError,
)
from apscheduler.schedulers import base as base_module
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.base import (
    STATE_PAUSED,
    STATE_RUNNING,
    STATE_STOPPED,
    BaseScheduler,
)
from apscheduler.schedulers.blocking import BlockingScheduler
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger
from apscheduler.util import undefined

SOON = 10
HOUR = timedelta(hours=1)


def work(*args: Any, **kwargs: Any) -> str:
    return "done"


@pytest.fixture
def scheduler() -> Iterator[BackgroundScheduler]:
    scheduler = BackgroundScheduler(timezone=UTC)
    yield scheduler
    if scheduler.running:
        scheduler.shutdown()


@pytest.fixture
def started(scheduler: Any) -> Any:
    scheduler.start(paused=True)
    return scheduler


@pytest.fixture(params=["pending", "added"])
def either(request: pytest.FixtureRequest, scheduler: Any) -> Any:
    if request.param == "added":
        scheduler.start(paused=True)
    return scheduler


def names(parameters: Any) -> list[tuple[str, Any]]:
    return [
        (p.name, None if p.default is p.empty else p.default)
        for p in parameters
        if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"
    ]


OPTIONS = [
    ("args", None),
    ("kwargs", None),
    ("id", None),
    ("name", None),
    ("misfire_grace_time", undefined),
    ("coalesce", undefined),
    ("max_instances", undefined),
    ("next_run_time", undefined),
    ("jobstore", "default"),
    ("executor", "default"),
]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (
            "add_job",
            [("func", None), ("trigger", None), *OPTIONS, ("replace_existing", False)],
        ),
        ("scheduled_job", [("trigger", None), *OPTIONS]),
        ("modify_job", [("job_id", None), ("jobstore", None)]),
        ("reschedule_job", [("job_id", None), ("jobstore", None), ("trigger", None)]),
        ("pause_job", [("job_id", None), ("jobstore", None)]),
        ("resume_job", [("job_id", None), ("jobstore", None)]),
        ("get_jobs", [("jobstore", None), ("pending", None)]),
        ("get_job", [("job_id", None), ("jobstore", None)]),
        ("remove_job", [("job_id", None), ("jobstore", None)]),
        ("remove_all_jobs", [("jobstore", None)]),
        ("print_jobs", [("jobstore", None), ("out", None)]),
        ("export_jobs", [("outfile", None), ("jobstore", None)]),
        ("import_jobs", [("infile", None), ("jobstore", "default")]),
        ("add_executor", [("executor", None), ("alias", "default")]),
        ("remove_executor", [("alias", None), ("shutdown", True)]),
        ("add_jobstore", [("jobstore", None), ("alias", "default")]),
        ("remove_jobstore", [("alias", None), ("shutdown", True)]),
        ("start", [("paused", False)]),
        ("shutdown", [("wait", True)]),
        (
            "_real_add_job",
            [("job", None), ("jobstore_alias", None), ("replace_existing", None)],
        ),
        ("_lookup_job", [("job_id", None), ("jobstore_alias", None)]),
    ],
)
def test_parameters_are_in_the_order_of_version_3(method: str, expected: Any) -> None:
    parameters = inspect.signature(getattr(BackgroundScheduler, method)).parameters

    assert names(parameters.values()) == expected


def test_listeners_have_the_parameters_of_version_3() -> None:
    parameters = inspect.signature(BackgroundScheduler.add_listener).parameters

    assert list(parameters) == ["self", "callback", "mask"]


@pytest.mark.parametrize(
    "name",
    [
        "BaseScheduler",
        "STATE_STOPPED",
        "STATE_RUNNING",
        "STATE_PAUSED",
        "SchedulerAlreadyRunningError",
        "SchedulerNotRunningError",
        "BaseJobStore",
        "BaseExecutor",
        "ConflictingIdError",
        "JobLookupError",
        "MaxInstancesReachedError",
        "EVENT_ALL",
        "EVENT_SCHEDULER_START",
        "EVENT_SCHEDULER_STARTED",
        "EVENT_SCHEDULER_SHUTDOWN",
        "EVENT_SCHEDULER_PAUSED",
        "EVENT_SCHEDULER_RESUMED",
        "EVENT_EXECUTOR_ADDED",
        "EVENT_EXECUTOR_REMOVED",
        "EVENT_JOBSTORE_ADDED",
        "EVENT_JOBSTORE_REMOVED",
        "EVENT_ALL_JOBS_REMOVED",
        "EVENT_JOB_ADDED",
        "EVENT_JOB_REMOVED",
        "EVENT_JOB_MODIFIED",
        "EVENT_JOB_SUBMITTED",
        "EVENT_JOB_MAX_INSTANCES",
        "SchedulerEvent",
        "JobEvent",
        "JobSubmissionEvent",
        "datetime",
        "get_localzone",
    ],
)
def test_names_that_programs_import_from_the_base_module(name: str) -> None:
    assert hasattr(base_module, name)


def test_states_have_the_numbers_of_version_3() -> None:
    assert (STATE_STOPPED, STATE_RUNNING, STATE_PAUSED) == (0, 1, 2)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (SchedulerAlreadyRunningError, "Scheduler is already running"),
        (SchedulerNotRunningError, "Scheduler is not running"),
    ],
)
def test_state_errors_always_say_the_same(error: Any, text: str) -> None:
    assert str(error()) == text
    assert str(error("something", "else")) == text
    assert error.__bases__ == (Exception,)


def test_the_base_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        BaseScheduler()  # type: ignore[abstract]  # what this is about


def test_background_is_a_kind_of_blocking() -> None:
    assert issubclass(BackgroundScheduler, BlockingScheduler)
    assert issubclass(BlockingScheduler, BaseScheduler)


def test_schedulers_cannot_be_pickled(scheduler: Any) -> None:
    with pytest.raises(TypeError, match="cannot be serialized"):
        pickle.dumps(scheduler)


# States


def test_states_follow_the_calls(scheduler: Any) -> None:
    seen = [(scheduler.state, scheduler.running)]
    for step in ("start", "pause", "pause", "resume", "resume", "shutdown"):
        getattr(scheduler, step)()
        seen.append((scheduler.state, scheduler.running))

    assert seen == [
        (0, False),
        (1, True),
        (2, True),
        (2, True),
        (1, True),
        (1, True),
        (0, False),
    ]


@pytest.mark.parametrize("method", ["shutdown", "pause", "resume"])
def test_a_stopped_scheduler_refuses(scheduler: Any, method: str) -> None:
    with pytest.raises(SchedulerNotRunningError):
        getattr(scheduler, method)()


@pytest.mark.parametrize("method", ["start", "configure"])
@pytest.mark.parametrize("paused", [True, False])
def test_a_started_scheduler_refuses(scheduler: Any, method: str, paused: bool) -> None:
    scheduler.start(paused)

    with pytest.raises(SchedulerAlreadyRunningError):
        getattr(scheduler, method)()

    assert scheduler.running
    scheduler.shutdown()
    assert not scheduler.running


def test_a_second_start_does_not_disturb_the_first(
    scheduler: Any,
) -> None:
    ran = threading.Event()
    scheduler.start()

    with pytest.raises(SchedulerAlreadyRunningError):
        scheduler.start()
    scheduler.add_job(ran.set)

    assert ran.wait(SOON)


def test_waking_a_scheduler_that_does_not_run_does_nothing(
    scheduler: Any,
) -> None:
    scheduler.wakeup()
    scheduler.start(paused=True)
    scheduler.shutdown()
    scheduler.wakeup()

    assert scheduler.state == STATE_STOPPED


def test_uwsgi_without_threads_is_refused(
    scheduler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Module:
        has_threads = False

    monkeypatch.setitem(sys.modules, "uwsgi", Module())

    with pytest.raises(RuntimeError, match="enable-threads"):
        scheduler.start()

    assert scheduler.state == STATE_STOPPED


def test_a_paused_scheduler_starts_nothing_until_it_is_resumed(
    scheduler: Any,
) -> None:
    ran = threading.Event()
    scheduler.start(paused=True)

    scheduler.add_job(ran.set)
    assert not ran.wait(0.05)
    scheduler.resume()

    assert ran.wait(SOON)


def test_the_thread_has_its_name_and_ends_at_shutdown(
    scheduler: Any,
) -> None:
    scheduler.start()
    thread = scheduler._thread
    assert thread is not None

    assert (thread.name, thread.daemon, thread.is_alive()) == (
        "APScheduler",
        True,
        True,
    )
    scheduler.shutdown()
    assert not thread.is_alive()


def test_a_blocking_scheduler_returns_when_it_is_shut_down() -> None:
    scheduler = BlockingScheduler(timezone=UTC)
    scheduler.add_job(lambda: scheduler.shutdown(wait=False))
    thread = threading.Thread(target=scheduler.start, daemon=True)

    thread.start()
    thread.join(SOON)

    assert not thread.is_alive()
    assert scheduler.state == STATE_STOPPED


# Adding


def test_a_job_is_pending_before_the_start_and_added_by_it(
    scheduler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "apscheduler.scheduler")
    job = scheduler.add_job(work, "interval", hours=1, id="a")
    assert job.pending
    assert not hasattr(job, "next_run_time")
    assert "tentatively" in caplog.text

    scheduler.start(paused=True)

    assert not job.pending
    assert job._jobstore_alias == "default"
    assert scheduler.get_job("a").next_run_time > datetime.now(UTC)
    assert 'Added job "work" to job store "default"' in caplog.text


def test_before_the_start_nothing_is_checked_that_the_start_checks(
    scheduler: Any,
) -> None:
    scheduler.add_job(work, "interval", hours=1, id="a", jobstore="later")
    scheduler.add_job(work, "interval", hours=1, id="a", executor="later")

    assert len(scheduler.get_jobs()) == 2


def test_defaults_of_jobs_are_filled_in(started: Any) -> None:
    job = started.add_job(work, "interval", hours=1)

    assert (job.misfire_grace_time, job.coalesce, job.max_instances) == (None, True, 1)


def test_given_options_win_over_the_defaults() -> None:
    scheduler = BackgroundScheduler(
        timezone=UTC,
        job_defaults={"misfire_grace_time": 5, "coalesce": False, "max_instances": 7},
    )
    scheduler.start(paused=True)
    try:
        default = scheduler.add_job(work, "interval", hours=1)
        given = scheduler.add_job(
            work,
            "interval",
            hours=1,
            misfire_grace_time=None,
            coalesce=True,
            max_instances=2,
        )
    finally:
        scheduler.shutdown()

    assert (default.misfire_grace_time, default.coalesce, default.max_instances) == (
        5,
        False,
        7,
    )
    assert (given.misfire_grace_time, given.coalesce, given.max_instances) == (
        None,
        True,
        2,
    )


def test_a_job_without_trigger_runs_once_and_now(
    scheduler: Any,
) -> None:
    ran = threading.Event()
    scheduler.start()

    job = scheduler.add_job(ran.set)

    assert isinstance(job.trigger, DateTrigger)
    assert ran.wait(SOON)


def test_the_zone_of_the_scheduler_is_that_of_its_triggers(
    started: Any,
) -> None:
    job = started.add_job(work, "cron", hour=5)
    other = started.add_job(work, "cron", hour=5, timezone="Asia/Tokyo")

    assert job.trigger.timezone == UTC
    assert str(other.trigger.timezone) == "Asia/Tokyo"


@pytest.mark.parametrize(
    ("trigger", "error"),
    [
        (5, TypeError),
        (object(), TypeError),
        (IntervalTrigger, TypeError),
        ("no such trigger", LookupError),
    ],
)
def test_wrong_triggers(either: Any, trigger: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        either.add_job(work, trigger)

    assert either.get_jobs() == []


def test_an_unknown_store_raises_key_error(started: Any) -> None:
    with pytest.raises(KeyError, match="nowhere"):
        started.add_job(work, "interval", hours=1, jobstore="nowhere")


def test_an_unknown_executor_is_warned_of(
    started: Any, caplog: pytest.LogCaptureFixture
) -> None:
    started.add_job(work, "interval", hours=1, executor="typo")

    assert "'typo'" in caplog.text


@pytest.mark.parametrize("run_time", [None, datetime(2040, 1, 1, tzinfo=UTC)])
def test_the_first_run_time_can_be_given(
    started: Any, run_time: datetime | None
) -> None:
    job = started.add_job(work, "interval", hours=1, next_run_time=run_time)

    assert job.next_run_time == run_time


def test_an_id_can_be_used_once_in_a_store(started: Any) -> None:
    started.add_jobstore("memory", "other")
    started.add_job(work, "interval", hours=1, id="a")
    second = started.add_job(work, "interval", hours=1, id="a", jobstore="other")

    with pytest.raises(ConflictingIdError, match="'a'"):
        started.add_job(work, "interval", hours=2, id="a")

    assert second._jobstore_alias == "other"
    assert len(started.get_jobs()) == 2


def test_a_job_can_be_replaced(either: Any) -> None:
    either.add_job(work, "interval", hours=1, id="a", name="old")
    either.add_job(work, "interval", hours=2, id="a", name="new", replace_existing=True)

    if not either.running:
        either.start(paused=True)
    (job,) = either.get_jobs()

    assert (job.name, job.trigger.interval) == ("new", 2 * HOUR)


def test_decorators_add_and_can_be_stacked(started: BackgroundScheduler) -> None:
    @started.scheduled_job("interval", hours=1, id="a")
    @started.scheduled_job("cron", hour=5, id="b", name="n")
    def func() -> str:
        return "called"

    assert func() == "called"
    assert {job.id for job in started.get_jobs()} == {"a", "b"}
    job = started.get_job("b")
    assert job is not None
    assert job.name == "n"


def test_a_decorated_job_replaces_the_one_with_its_id(
    started: Any,
) -> None:
    for hours in (1, 2):
        started.scheduled_job("interval", id="a", hours=hours)(work)

    (job,) = started.get_jobs()
    assert job.trigger.interval == 2 * HOUR


@pytest.mark.parametrize(
    ("trigger", "arguments", "message"),
    [
        ("interval", {"second": 5}, "'second'; did you mean 'seconds'"),
        ("interval", {"max_instance": 5}, "'max_instance'; did you mean 'max_inst"),
        ("or", {}, "'or' needs the argument 'triggers'"),
        ("interval", {"args": 5}, "args must be a list or tuple, not 5"),
        ("interval", {"kwargs": 5}, "kwargs must be a dict, not 5"),
    ],
)
def test_arguments_that_do_not_fit_are_named(
    either: Any, trigger: str, arguments: Any, message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        either.add_job(work, trigger, **arguments)


# Changing


def test_changes_reach_the_stored_job(either: Any) -> None:
    job = either.add_job(work, "interval", hours=1, id="a")

    result = either.modify_job("a", name="new", args=[1], max_instances=5)

    assert result.name == "new"
    assert either.get_job("a").args == [1]
    assert job.modify(name="newer") is job
    assert either.get_job("a").name == "newer"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"id": "b"}, ValueError),
        ({"trigger": "interval"}, TypeError),
        ({"max_instances": 0}, TypeError),
        ({"nonsense": 1}, AttributeError),
        ({"func": "no:such"}, LookupError),
    ],
)
def test_wrong_changes_change_nothing(either: Any, changes: Any, error: Any) -> None:
    either.add_job(work, "interval", hours=1, id="a", name="n")

    with pytest.raises(error):
        either.modify_job("a", name="m", **changes)

    assert either.get_job("a").name == "n"


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.modify_job("none", name="x"),
        lambda s: s.reschedule_job("none", trigger="interval", hours=1),
        lambda s: s.pause_job("none"),
        lambda s: s.resume_job("none"),
        lambda s: s.remove_job("none"),
        lambda s: s.remove_job("none", "default"),
    ],
    ids=["modify", "reschedule", "pause", "resume", "remove", "remove from store"],
)
def test_unknown_jobs_raise_job_lookup_error(either: Any, change: Any) -> None:
    with pytest.raises(JobLookupError, match="none"):
        change(either)


def test_a_new_trigger_alone_keeps_the_next_run_time(
    started: Any,
) -> None:
    job = started.add_job(work, "interval", hours=1, id="a")
    before = job.next_run_time

    started.modify_job("a", trigger=IntervalTrigger(hours=5, timezone=UTC))

    assert started.get_job("a").next_run_time == before


def test_a_new_schedule_sets_the_next_run_time(started: Any) -> None:
    started.add_job(work, "interval", hours=1, id="a", next_run_time=None)

    job = started.reschedule_job("a", trigger="interval", hours=5)

    assert job.trigger.interval == 5 * HOUR
    assert job.next_run_time > datetime.now(UTC) + 4 * HOUR
    assert started.reschedule_job("a").trigger.run_date <= datetime.now(UTC)


def test_a_pending_job_keeps_the_trigger_it_was_given_later(
    scheduler: Any,
) -> None:
    scheduler.add_job(work, id="a")
    scheduler.reschedule_job("a", trigger="interval", hours=5)

    scheduler.start(paused=True)

    assert isinstance(scheduler.get_job("a").trigger, IntervalTrigger)


def test_jobs_are_paused_and_resumed(either: Any) -> None:
    either.add_job(work, "interval", hours=1, id="a")

    assert either.pause_job("a").next_run_time is None
    assert str(either.get_job("a")).endswith(", paused)")
    job = either.resume_job("a")

    assert job.next_run_time > datetime.now(UTC)


def test_a_job_whose_schedule_is_over_is_removed_when_resumed(either: Any) -> None:
    job = either.add_job(
        work,
        "interval",
        hours=1,
        end_date="2020-01-01",
        start_date="2019-01-01",
        id="a",
        next_run_time=None,
    )

    assert either.resume_job("a") is None
    assert either.get_jobs() == []
    with pytest.raises(JobLookupError):
        job.resume()


def test_the_store_of_a_pending_job_need_not_be_the_right_one(
    scheduler: Any,
) -> None:
    scheduler.add_job(work, "interval", hours=1, id="a")

    assert scheduler.modify_job("a", "elsewhere", name="n").name == "n"


def test_of_pending_jobs_with_one_id_the_one_of_the_store_is_changed(
    scheduler: Any,
) -> None:
    first = scheduler.add_job(work, "interval", hours=1, id="a", jobstore="one")
    second = scheduler.add_job(work, "interval", hours=1, id="a", jobstore="two")

    scheduler.modify_job("a", "two", name="changed")
    scheduler.resume_job("a", "two")

    assert (first.name, second.name) == ("work", "changed")
    assert (hasattr(first, "next_run_time"), hasattr(second, "next_run_time")) == (
        False,
        True,
    )


# Looking


def test_jobs_are_listed_by_store_earliest_first_paused_last(
    started: Any,
) -> None:
    started.add_jobstore(MemoryJobStore(), "other")
    for number, (store, hours) in enumerate(
        [("other", 1), ("default", 3), ("default", None), ("default", 2)]
    ):
        run_time = None if hours is None else datetime(2040, 1, hours, tzinfo=UTC)
        started.add_job(
            work,
            "interval",
            hours=1,
            id=str(number),
            jobstore=store,
            next_run_time=run_time,
        )

    assert [job.id for job in started.get_jobs("default")] == ["3", "1", "2"]
    assert [job.id for job in started.get_jobs("other")] == ["0"]
    assert [job.id for job in started.get_jobs("unknown")] == []
    assert [job.id for job in started.get_jobs()] == ["3", "1", "2", "0"]


def test_before_the_start_pending_jobs_are_listed(
    scheduler: Any,
) -> None:
    scheduler.add_job(work, id="a")
    scheduler.add_job(work, id="b", jobstore="other")

    assert [job.id for job in scheduler.get_jobs()] == ["a", "b"]
    assert [job.id for job in scheduler.get_jobs("other")] == ["b"]
    assert scheduler.get_job("b").id == "b"
    assert scheduler.get_job("c") is None


@pytest.mark.parametrize("pending", [True, False])
def test_asking_for_pending_jobs_is_deprecated(either: Any, pending: bool) -> None:
    with pytest.warns(DeprecationWarning, match="pending"):
        assert either.get_jobs(pending=pending) == []


def test_a_job_that_is_nowhere_is_none(started: Any) -> None:
    started.add_job(work, "interval", hours=1, id="a")

    assert started.get_job("b") is None
    assert started.get_job("a", "unknown") is None
    assert started.get_job("a", "default").id == "a"


def listing(scheduler: Any, *args: Any) -> str:
    out = io.StringIO()
    scheduler.print_jobs(*args, out=out)
    return out.getvalue()


def test_listings_before_the_start(scheduler: Any) -> None:
    empty = listing(scheduler)
    scheduler.add_job(work, "interval", hours=1)
    scheduler.add_job(work, "interval", hours=2, jobstore="other")

    assert empty == "Pending jobs:\n    No pending jobs\n"
    assert listing(scheduler) == (
        "Pending jobs:\n"
        "    work (trigger: interval[1:00:00], pending)\n"
        "    work (trigger: interval[2:00:00], pending)\n"
    )
    assert listing(scheduler, "other") == (
        "Pending jobs:\n    work (trigger: interval[2:00:00], pending)\n"
    )
    assert listing(scheduler, "unknown") == "Pending jobs:\n"


def test_listings_after_the_start(started: Any) -> None:
    started.add_jobstore("memory", "a")
    started.add_job(work, "interval", hours=1, next_run_time=None)
    started.add_job(
        work, "interval", hours=2, next_run_time=datetime(2040, 1, 1, tzinfo=UTC)
    )

    assert listing(started) == (
        "Jobstore a:\n"
        "    No scheduled jobs\n"
        "Jobstore default:\n"
        "    work (trigger: interval[2:00:00], next run at: 2040-01-01 00:00:00 UTC)\n"
        "    work (trigger: interval[1:00:00], paused)\n"
    )
    assert listing(started, "a") == "Jobstore a:\n    No scheduled jobs\n"


def test_listings_go_to_the_standard_output_of_the_moment(
    scheduler: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    scheduler.print_jobs()

    assert capsys.readouterr().out.startswith("Pending jobs:")


# Removing


def test_jobs_are_removed(either: Any) -> None:
    job = either.add_job(work, "interval", hours=1, id="a")
    either.add_job(work, "interval", hours=1, id="b")

    either.remove_job("b")
    job.remove()

    assert either.get_jobs() == []
    with pytest.raises(JobLookupError):
        job.remove()


def test_removing_looks_at_the_store_that_was_named(either: Any) -> None:
    either.add_job(work, "interval", hours=1, id="a")

    with pytest.raises(JobLookupError):
        either.remove_job("a", "other")
    either.remove_job("a", "default")

    assert either.get_jobs() == []


@pytest.mark.parametrize(
    ("store", "left"),
    [(None, []), ("default", ["b"]), ("other", ["a"]), ("unknown", ["a", "b"])],
)
def test_all_jobs_of_one_store_or_all_are_removed(
    either: Any, store: str | None, left: list[str]
) -> None:
    if either.running:
        either.add_jobstore("memory", "other")
    either.add_job(work, "interval", hours=1, id="a")
    either.add_job(work, "interval", hours=1, id="b", jobstore="other")

    either.remove_all_jobs(store)

    assert [job.id for job in either.get_jobs()] == left


# Components at run time


@pytest.mark.parametrize("kind", ["executor", "jobstore"])
def test_components_are_added_by_name_or_as_they_are(either: Any, kind: str) -> None:
    instance: Any = DebugExecutor() if kind == "executor" else MemoryJobStore()
    name = "threadpool" if kind == "executor" else "memory"
    options = {"max_workers": "3"} if kind == "executor" else {}
    add = getattr(either, f"add_{kind}")

    add(instance, "a")
    add(name, "b", **options)

    registry = getattr(either, f"_{kind}s")
    assert registry["a"] is instance
    assert isinstance(registry["b"], ThreadPoolExecutor | MemoryJobStore)


@pytest.mark.parametrize("kind", ["executor", "jobstore"])
@pytest.mark.parametrize(
    ("value", "error"),
    [(5, TypeError), (object, TypeError), ("no such thing", LookupError)],
)
def test_wrong_components(either: Any, kind: str, value: Any, error: Any) -> None:
    with pytest.raises(error):
        getattr(either, f"add_{kind}")(value, "x")

    assert "x" not in getattr(either, f"_{kind}s")


@pytest.mark.parametrize("kind", ["executor", "jobstore"])
def test_an_alias_can_be_used_once(either: Any, kind: str) -> None:
    name = "debug" if kind == "executor" else "memory"
    getattr(either, f"add_{kind}")(name, "x")

    with pytest.raises(ValueError, match="'x'"):
        getattr(either, f"add_{kind}")(name, "x")


@pytest.mark.parametrize("kind", ["executor", "jobstore"])
def test_removing_an_unknown_component_raises_key_error(either: Any, kind: str) -> None:
    with pytest.raises(KeyError, match="'x'"):
        getattr(either, f"remove_{kind}")("x")


@pytest.mark.parametrize("kind", ["executor", "jobstore"])
@pytest.mark.parametrize("shut_down", [True, False])
def test_a_removed_component_is_shut_down_unless_told_otherwise(
    started: Any, kind: str, shut_down: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    component: Any = DebugExecutor() if kind == "executor" else MemoryJobStore()
    calls: list[Any] = []
    monkeypatch.setattr(
        component, "shutdown", lambda *args: calls.append(args), raising=True
    )
    getattr(started, f"add_{kind}")(component, "x")

    getattr(started, f"remove_{kind}")("x", shutdown=shut_down)

    assert bool(calls) is shut_down
    assert "x" not in getattr(started, f"_{kind}s")


def test_a_job_whose_executor_comes_later_runs_then(
    scheduler: Any,
) -> None:
    ran = threading.Event()
    scheduler.start()
    job = scheduler.add_job(ran.set, executor="later")
    assert not ran.wait(0.05)
    assert scheduler.get_job(job.id) is not None

    scheduler.add_executor("threadpool", "later")

    assert ran.wait(SOON)


def test_a_store_that_is_added_with_due_jobs_is_looked_at_at_once(
    scheduler: Any,
) -> None:
    ran = threading.Event()
    scheduler.start()
    scheduler.add_jobstore("memory", "later")
    scheduler.add_job(ran.set, jobstore="later")

    assert ran.wait(SOON)


# Moving


def test_export_needs_a_started_scheduler(scheduler: Any) -> None:
    with pytest.raises(RuntimeError, match="started"):
        scheduler.export_jobs(io.StringIO())


def test_import_names_what_is_wrong(started: Any) -> None:
    started.add_job(work, "interval", hours=1, id="a")
    file = io.StringIO()
    started.export_jobs(file)

    with pytest.raises(KeyError, match="unknown"):
        started.import_jobs(io.StringIO(file.getvalue()), "unknown")
    with pytest.raises(ConflictingIdError, match="'a'"):
        started.import_jobs(io.StringIO(file.getvalue()))
    with pytest.raises(ValueError, match="version"):
        started.import_jobs(io.StringIO('{"version": 9, "jobs": []}'))


def test_import_is_all_or_nothing(started: Any) -> None:
    for job_id in ("a", "b"):
        started.add_job(work, "interval", hours=1, id=job_id)
    file = io.StringIO()
    started.export_jobs(file)
    started.remove_job("a")

    with pytest.raises(ConflictingIdError, match="'b'"):
        started.import_jobs(io.StringIO(file.getvalue()))

    assert [job.id for job in started.get_jobs()] == ["b"]


def test_exporting_an_unknown_store_gives_an_empty_list(
    started: Any,
) -> None:
    file = io.StringIO()

    started.export_jobs(file, "unknown")

    assert '"jobs": []' in file.getvalue()


def test_imported_jobs_are_linked_to_their_scheduler_and_store(
    started: Any,
) -> None:
    before = started.add_job(work, "interval", hours=1, id="a")
    run_time = before.next_run_time
    file = io.StringIO()
    started.export_jobs(file)
    started.remove_all_jobs()
    started.add_jobstore("memory", "other")
    file.seek(0)

    started.import_jobs(file, "other")

    (job,) = started.get_jobs("other")
    assert job._scheduler is started
    assert job._jobstore_alias == "other"
    assert job.next_run_time == run_time
