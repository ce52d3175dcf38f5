"""Declared jobs: every store holds what the configuration says, whoever starts, in whatever order."""

import json
import logging
import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from apscheduler.clock import Clock
from apscheduler.declarations import Declarations
from apscheduler.events import EVENT_JOB_MODIFIED, EVENT_JOB_REMOVED, JobEvent
from apscheduler.executors.base import BaseExecutor
from apscheduler.job import Job
from apscheduler.jobstores.base import (
    BaseJobStore,
    ConflictingIdError,
    JobLookupError,
)
from apscheduler.problems import ConfigurationError, Source
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.synchronisation import Origin
from apscheduler.triggers.base import BaseTrigger

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)

calls: list[Any] = []


class EveryTrigger(BaseTrigger):
    """Fires at equal distances from now on, until its end."""

    def __init__(
        self,
        seconds: float,
        until: str | None = None,
        on_start: bool = False,
        timezone: Any = None,
    ):
        if seconds <= 0:
            raise ValueError(f"seconds must be positive, got {seconds!r}")
        self.seconds = seconds
        self.until = None if until is None else datetime.fromisoformat(until)
        self.on_start = on_start

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        following = (previous_fire_time or now) + timedelta(seconds=self.seconds)
        return None if self.until and following > self.until else following


class OnceTrigger(BaseTrigger):
    """Fires at one time."""

    def __init__(self, at: str, timezone: Any = None):
        self.at = datetime.fromisoformat(at)

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        return None if previous_fire_time else self.at


class KeptStore(BaseJobStore):
    """A store of 3.x whose pickled states survive its scheduler."""

    def __init__(self) -> None:
        self.states: dict[str, bytes] = {}
        self.writes = 0
        self.before_write: Callable[[], None] = lambda: None

    def _restore(self, state: bytes) -> Job:
        job = Job.__new__(Job)
        job.__setstate__(pickle.loads(state))
        job._scheduler, job._jobstore_alias = self._scheduler, self._alias
        return job

    def lookup_job(self, job_id: str) -> Job | None:
        state = self.states.get(job_id)
        return None if state is None else self._restore(state)

    def get_all_jobs(self) -> list[Job]:
        return [self._restore(state) for state in self.states.values()]

    def get_due_jobs(self, now: datetime) -> list[Job]:
        return []

    def get_next_run_time(self) -> datetime | None:
        return None

    def add_job(self, job: Job) -> None:
        self.before_write()
        if job.id in self.states:
            raise ConflictingIdError(job.id)
        self._write(job)

    def update_job(self, job: Job) -> None:
        if job.id not in self.states:
            raise JobLookupError(job.id)
        self._write(job)

    def _write(self, job: Job) -> None:
        self.writes += 1
        self.states[job.id] = pickle.dumps(job.__getstate__())

    def remove_job(self, job_id: str) -> None:
        if self.states.pop(job_id, None) is None:
            raise JobLookupError(job_id)

    def remove_all_jobs(self) -> None:
        self.states.clear()


class IdleExecutor(BaseExecutor):
    """Runs nothing."""

    def _do_submit_job(self, job: Job, run_times: list[datetime]) -> None:
        raise AssertionError("nothing is due")


class StoppedClock(Clock):
    def __init__(self) -> None:
        self.time = NOON

    def now(self) -> datetime:
        return self.time


class PlainScheduler(BaseScheduler):
    """A scheduler whose loop is never turned."""

    def wakeup(self) -> None:
        """Do nothing."""

    def shutdown(self, wait: bool | float = True) -> None:
        super().shutdown(wait)


class Entry:
    def __init__(self, cls: type):
        self.cls = cls

    def load(self) -> type:
        return self.cls


@pytest.fixture(autouse=True)
def triggers(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = BaseScheduler._trigger_plugins
    monkeypatch.setitem(plugins, "every", Entry(EveryTrigger))
    monkeypatch.setitem(plugins, "once", Entry(OnceTrigger))
    monkeypatch.setattr(BaseScheduler, "_trigger_classes", {})


@pytest.fixture(autouse=True)
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module that can be imported by its name, as functions of jobs must be."""
    (tmp_path / "declared_functions.py").write_text(
        dedent("""
        def tick(*args, **kwargs): ...
        def tock(count=1): ...
        constant = 5
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("declared_functions", None)


@pytest.fixture
def store() -> KeptStore:
    return KeptStore()


TICK = {"func": "declared_functions:tick", "trigger": "every", "seconds": 60}


class Starter:
    """Starts one scheduler after the other on the same store."""

    def __init__(self, store: KeptStore):
        self.store = store
        self.clock = StoppedClock()
        self.events: list[JobEvent] = []

    def make(self, jobs: Any, **config: Any) -> PlainScheduler:
        config = {"timezone": "UTC", "name": "test", **config}
        scheduler = PlainScheduler(
            jobstores={"default": self.store},
            executors={"default": IdleExecutor()},
            clock=self.clock,
            jobs=jobs,
            **config,
        )
        scheduler.add_listener(
            self.events.append, EVENT_JOB_MODIFIED | EVENT_JOB_REMOVED
        )
        return scheduler

    def __call__(self, jobs: Any, **config: Any) -> Declarations:
        scheduler = self.make(jobs, **config)
        scheduler.start(paused=True)
        scheduler.shutdown()
        assert scheduler._declarations is not None
        return scheduler._declarations

    def job(self, job_id: str = "tick") -> Job:
        job = self.store.lookup_job(job_id)
        assert job is not None
        return job


@pytest.fixture
def start(store: KeptStore) -> Starter:
    return Starter(store)


def test_a_declared_job_is_added_with_the_name_of_its_section_as_id(
    start: Starter,
) -> None:
    declarations = start({"tick": TICK})

    assert declarations.outcome.added == ["tick"]
    assert start.job().next_run_time == NOON + timedelta(seconds=60)


OPTIONS = [
    ("args", '["a", 1]', ("a", 1)),
    ("args", ["a"], ("a",)),
    ("kwargs", '{"key": [1]}', {"key": [1]}),
    ("misfire_grace_time", "30", 30),
    ("misfire_grace_time", "none", None),
    ("coalesce", "no", False),
    ("max_instances", "4", 4),
    ("max_attempts", "2", 2),
    ("on_lost", "retry", "retry"),
    ("history", "0", 0),
    ("name", "every minute", "every minute"),
    ("next_run_time", "none", None),
    ("next_run_time", "2031-05-05 10:00:00", datetime(2031, 5, 5, 10, tzinfo=UTC)),
]


@pytest.mark.parametrize("key, text, expected", OPTIONS)
def test_texts_of_options_are_converted(
    start: Starter, key: str, text: Any, expected: Any
) -> None:
    start({"tick": {**TICK, key: text}})

    assert getattr(start.job(), key) == expected


def test_texts_of_trigger_arguments_are_converted_by_their_annotations(
    start: Starter,
) -> None:
    start({"tick": {**TICK, "seconds": "1.5", "on_start": "yes", "until": "none"}})

    trigger: Any = start.job().trigger
    assert (trigger.seconds, trigger.on_start, trigger.until) == (1.5, True, None)


def test_a_job_that_is_declared_without_a_rule_gets_the_default(start: Starter) -> None:
    start({"tick": TICK}, job_defaults={"misfire_grace_time": 77})

    assert start.job().misfire_grace_time == 77


# Starting again


def test_an_unchanged_declaration_keeps_the_next_run_time_and_writes_nothing(
    start: Starter,
) -> None:
    start({"tick": TICK})
    writes = start.store.writes
    start.clock.time += timedelta(seconds=20)

    declarations = start({"tick": TICK})

    assert declarations.outcome.kept == ["tick"]
    assert start.job().next_run_time == NOON + timedelta(seconds=60)
    assert start.store.writes == writes


def test_an_unchanged_declaration_keeps_a_job_paused(start: Starter) -> None:
    start({"tick": TICK})
    job = start.job()
    job.next_run_time = None
    start.store.update_job(job)

    start({"tick": TICK})

    assert start.job().next_run_time is None


def test_a_changed_schedule_gives_a_new_run_time_also_to_a_paused_job(
    start: Starter,
) -> None:
    start({"tick": TICK})
    job = start.job()
    job.next_run_time = None
    start.store.update_job(job)

    declarations = start({"tick": {**TICK, "seconds": 10}})

    assert declarations.outcome.changed == ["tick"]
    assert start.job().next_run_time == NOON + timedelta(seconds=10)
    assert [event.code for event in start.events] == [EVENT_JOB_MODIFIED]


CHANGES = [
    ({"func": "declared_functions:tock"}, "func_ref", "declared_functions:tock"),
    ({"args": [5]}, "args", (5,)),
    ({"kwargs": {"count": 2}}, "kwargs", {"count": 2}),
    ({"name": "other"}, "name", "other"),
    ({"max_instances": 9}, "max_instances", 9),
    ({"misfire_grace_time": 8}, "misfire_grace_time", 8),
]


@pytest.mark.parametrize("change, attribute, expected", CHANGES)
def test_a_change_of_anything_but_the_schedule_keeps_the_next_run_time(
    start: Starter, change: dict[str, Any], attribute: str, expected: Any
) -> None:
    start({"tick": TICK})
    start.clock.time += timedelta(seconds=20)

    start({"tick": {**TICK, **change}})

    assert getattr(start.job(), attribute) == expected
    assert start.job().next_run_time == NOON + timedelta(seconds=60)


def test_changed_job_defaults_reach_declared_jobs(start: Starter) -> None:
    start({"tick": TICK})

    start({"tick": TICK}, job_defaults={"max_instances": 3})

    assert start.job().max_instances == 3


def test_a_job_whose_declaration_is_gone_is_removed(start: Starter) -> None:
    start({"tick": TICK, "tock": TICK})

    declarations = start({"tock": TICK})

    assert declarations.outcome.removed == ["tick"]
    assert [*start.store.states] == ["tock"]
    assert [event.code for event in start.events] == [EVENT_JOB_REMOVED]


def test_a_file_without_declarations_removes_those_it_had(start: Starter) -> None:
    source = Source("jobs.ini", 1.0)
    start({"tick": TICK}, name=None, source=source)

    start(None, name=None, source=source)

    assert not start.store.states


def test_a_job_that_moves_to_another_store_leaves_the_old_one(start: Starter) -> None:
    other = KeptStore()
    start({"tick": TICK})
    scheduler = start.make({"tick": {**TICK, "jobstore": "other"}})
    scheduler.add_jobstore(other, "other")

    scheduler.start(paused=True)
    scheduler.shutdown()

    assert not start.store.states
    assert [*other.states] == ["tick"]


def test_jobs_that_a_program_has_added_are_not_touched(start: Starter) -> None:
    scheduler = start.make(None)
    scheduler.add_job("declared_functions:tick", EveryTrigger(5), id="own")
    scheduler.start(paused=True)
    scheduler.shutdown()
    before = start.store.states["own"]

    start({"tick": TICK})
    start({})

    assert start.store.states == {"own": before}


def test_jobs_of_other_configurations_are_not_touched(start: Starter) -> None:
    start({"tick": TICK}, name="one")

    start({"tock": TICK}, name="two")
    start({}, name="two")

    assert [*start.store.states] == ["tick"]


@pytest.mark.parametrize("owner", ["program", "configuration"])
def test_an_id_that_somebody_else_uses_is_an_error_before_anything_is_written(
    start: Starter, owner: str
) -> None:
    if owner == "program":
        scheduler = start.make(None)
        scheduler.add_job("declared_functions:tick", EveryTrigger(5), id="tick")
        scheduler.start(paused=True)
        scheduler.shutdown()
    else:
        start({"tick": TICK}, name="other")
    before = dict(start.store.states)
    scheduler = start.make({"first": TICK, "tick": TICK})

    with pytest.raises(ConfigurationError, match=r"jobs\.tick.*'tick'.*replace_exist"):
        scheduler.start()

    assert start.store.states == before
    assert not scheduler.running


def test_a_declaration_can_take_over_the_job_of_somebody_else(start: Starter) -> None:
    start({"tick": TICK}, name="other")

    start({"tick": {**TICK, "seconds": 5, "replace_existing": "true"}})

    assert start.job()._origin == "test@"
    assert start.job().next_run_time == NOON + timedelta(seconds=5)


def test_a_date_that_has_passed_is_not_run_again_by_the_next_start(
    start: Starter, caplog: pytest.LogCaptureFixture
) -> None:
    declarations = start({"tick": {**TICK_ONCE, "at": "2029-12-31T00:00:00+00:00"}})

    assert declarations.outcome.over == ["tick"]
    assert not start.store.states
    assert "no run time from now on" in caplog.text


def test_a_date_that_passed_while_nobody_ran_is_still_to_run(start: Starter) -> None:
    at = "2030-01-01T13:00:00+00:00"
    start({"tick": {**TICK_ONCE, "at": at}})
    start.clock.time += timedelta(hours=5)

    start({"tick": {**TICK_ONCE, "at": at}})

    assert start.job().next_run_time == datetime.fromisoformat(at)


TICK_ONCE = {"func": "declared_functions:tick", "trigger": "once"}


# Rolling out


STAMPS: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = [
    ({"version": 1}, {"version": 2}),
    ({"version": "1.9"}, {"version": "1.10"}),
    ({"version": "2026-09-30"}, {"version": "2026-11-02"}),
    ({"source": Source("f.ini", 100.0)}, {"source": Source("f.ini", 200.5)}),
    ({"source": Source("f.ini", 300.0)}, {"version": 1, "source": Source("f.ini", 9)}),
    ({}, {"version": 1}),
    ({}, {"source": Source("f.ini", 1.0)}),
]


@pytest.mark.parametrize("older, newer", STAMPS)
def test_a_scheduler_with_an_older_file_adds_changes_and_removes_nothing(
    start: Starter,
    older: dict[str, Any],
    newer: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    start({"tick": TICK, "dropped": TICK}, **older)
    start({"tick": {**TICK, "seconds": 10}, "added": TICK}, **newer)
    before = dict(start.store.states)

    declarations = start({"tick": TICK, "dropped": TICK}, **older)

    assert start.store.states == before
    assert sorted(before) == ["added", "tick"]
    assert declarations.outcome.left == ["added", "dropped", "tick"]
    assert "is older than the one that was applied last" in caplog.text


@pytest.mark.parametrize(
    "stamp, text",
    [
        ("modified 1577836800.0", "modified 2020-01-01 01:00:00+01:00"),
        ("version 1.9", "version 1.9"),
        ("", "without version"),
    ],
)
def test_a_stamp_is_told_as_people_read_it(stamp: str, text: str) -> None:
    assert Origin("f", stamp).describe_stamp(ZoneInfo("Europe/Berlin")) == text


@pytest.mark.parametrize("older, newer", STAMPS)
def test_a_scheduler_with_a_newer_file_applies_it(
    start: Starter, older: dict[str, Any], newer: dict[str, Any]
) -> None:
    start({"tick": TICK, "dropped": TICK}, **older)

    start({"tick": {**TICK, "seconds": 10}}, **newer)

    assert [*start.store.states] == ["tick"]
    assert start.job().next_run_time == NOON + timedelta(seconds=10)


def test_an_older_file_that_says_the_same_is_no_reason_to_warn(
    start: Starter, caplog: pytest.LogCaptureFixture
) -> None:
    start({"tick": TICK}, source=Source("f.ini", 2.0))

    declarations = start({"tick": TICK}, source=Source("f.ini", 1.0))

    assert declarations.outcome.kept == ["tick"]
    assert "older" not in caplog.text


def test_a_newer_stamp_is_kept_also_where_nothing_else_has_changed(
    start: Starter,
) -> None:
    start({"tick": TICK}, version=1)
    start({"tick": TICK}, version=2)

    declarations = start({"tick": {**TICK, "seconds": 5}}, version=1)

    assert declarations.outcome.left == ["tick"]
    assert start.job().next_run_time == NOON + timedelta(seconds=60)


def test_a_job_that_another_scheduler_adds_at_the_same_time_is_left_as_it_is(
    start: Starter,
) -> None:
    other = Starter(start.store)

    def be_faster() -> None:
        start.store.before_write = lambda: None
        other({"tick": TICK})

    start.store.before_write = be_faster

    declarations = start({"tick": TICK})

    assert declarations.outcome.kept == ["tick"]
    assert start.store.writes == 1


# Mistakes


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"func": "nowhere:f"}, r"jobs\.tick\.func = 'nowhere:f': .*could not import"),
    ({"func": "declared_functions:f"}, r"func = .*has no 'f'"),
    ({"func": "declared_functions"}, r"func = 'declared_functions': .*must look like"),
    ({"func": "declared_functions:constant"}, r"func.*cannot be called"),
    ({"trigger": "evry"}, r"trigger = 'evry': No trigger named 'evry' is installed"),
    ({"secnds": 5}, r"secnds: the trigger 'every' has no option.*'seconds'"),
    ({"seconds": "five"}, r"seconds = 'five': expected a number"),
    ({"seconds": -1}, r"seconds = -1: seconds must be positive"),
    ({"on_start": "perhaps"}, r"on_start = 'perhaps': .*neither true nor false"),
    ({"args": "[1"}, r"args = '\[1': expected a list in JSON"),
    ({"args": '{"a": 1}'}, r"args = .*expected a list in JSON"),
    ({"kwargs": "[1]"}, r"kwargs = '\[1\]': expected an object in JSON"),
    ({"kwargs": 5}, r"kwargs = 5: expected a table"),
    ({"max_instances": "many"}, r"max_instances = 'many': expected a whole number"),
    ({"max_instances": "0"}, r"max_instances = '0': .*positive integer"),
    ({"misfire_grace_time": "1.5"}, r"misfire_grace_time = '1.5': .*number of sec"),
    ({"on_lost": "cry"}, r"on_lost = 'cry': .*'mark' or 'retry'"),
    ({"coalesce": "perhaps"}, r"coalesce = 'perhaps'"),
    ({"next_run_time": "soon"}, r"next_run_time = 'soon': .*must look like"),
    ({"jobstore": "attic"}, r"jobstore = 'attic': .*configured: default"),
    ({"executor": "axe"}, r"executor = 'axe': .*configured: default"),
    ({"id": ""}, r"id = '': expected a text"),
    ({"crontab": "* * * * *"}, r"crontab: cannot be combined"),
    ({"dialect": "vixie"}, r"dialect: belongs to 'crontab'"),
    (
        {"func": "declared_functions:tock", "kwargs": {"cuont": 5}},
        r"kwargs = \{'cuont': 5\}: .*does not accept.*cuont",
    ),
]


@pytest.mark.parametrize("change, message", MISTAKES)
def test_a_mistake_is_named_and_nothing_is_started(
    start: Starter, change: dict[str, Any], message: str
) -> None:
    started: list[str] = []
    start.store.start = lambda *args: started.append("store")  # type: ignore[method-assign]  # a spy

    with pytest.raises(ConfigurationError, match=message) as caught:
        start.make({"good": TICK, "tick": {**TICK, **change}}).start()

    assert len(caught.value.problems) == 1
    assert not started
    assert not start.store.states


@pytest.mark.parametrize(
    "jobs, message",
    [
        ({"tick": {"trigger": "every", "seconds": 5}}, r"tick\.func: is missing"),
        ({"tick": {"func": "a:b"}}, r"tick\.trigger: is missing"),
        ({"tick": {"func": "a:b", "trigger": "date"}}, r"tick\.run_date: is missing"),
        ({"tick": "every minute"}, r"jobs\.tick = 'every minute': expected a section"),
        (["tick"], r"apscheduler\.jobs = \['tick'\]: expected a section for each job"),
        ({"a": {**TICK, "id": "x"}, "x": TICK}, r"jobs\.x\.id = 'x': .*jobs\.a\]"),
    ],
)
def test_a_section_that_is_wrong_by_itself_is_refused_by_configure(
    start: Starter, jobs: Any, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        start.make(jobs)


def test_a_start_that_failed_for_a_declaration_can_be_tried_again(
    start: Starter, tmp_path: Path
) -> None:
    scheduler = start.make({"tick": {**TICK, "func": "late_functions:tick"}})
    with pytest.raises(ConfigurationError, match="late_functions"):
        scheduler.start(paused=True)
    (tmp_path / "late_functions.py").write_text("def tick(): ...")

    scheduler.start(paused=True)
    scheduler.shutdown()

    assert [*start.store.states] == ["tick"]
    sys.modules.pop("late_functions")


def test_options_win_over_trigger_arguments_of_the_same_name(
    start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NamedTrigger(EveryTrigger):
        def __init__(self, seconds: float, name: str = "unset", timezone: Any = None):
            super().__init__(seconds)
            names.append(name)

    names: list[str] = []
    plugins = BaseScheduler._trigger_plugins
    monkeypatch.setitem(plugins, "named", Entry(NamedTrigger))
    store = start.make({"tick": {**TICK, "trigger": "named", "name": "mine"}})
    assert store._declarations is not None

    store._declarations.prepare(store)

    assert names == ["unset"]
    assert store._declarations._jobs[0][1].name == "mine"


def test_what_a_start_did_is_logged(
    start: Starter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "apscheduler.scheduler")

    start({"tick": TICK, "tock": TICK})
    start({"tick": {**TICK, "seconds": 5}})

    assert "'test': 2 added, 0 changed, 0 kept, 0 removed" in caplog.text
    assert "'test': 0 added, 1 changed, 0 kept, 1 removed" in caplog.text


# With a store that several processes share

SHARED = """
import json, multiprocessing
from apscheduler.config import create_scheduler
from apscheduler.events import EVENT_JOB_ADDED, EVENT_JOB_MODIFIED, EVENT_JOB_REMOVED
import apscheduler.executors.pool, apscheduler.jobstores.sqlalchemy, apscheduler.triggers.interval

CODES = EVENT_JOB_ADDED, EVENT_JOB_MODIFIED, EVENT_JOB_REMOVED

def start(barrier, results):
    scheduler = create_scheduler("jobs.ini")
    codes = []
    scheduler.add_listener(lambda event: codes.append(event.code), sum(CODES))
    barrier.wait(60)
    scheduler.start(paused=True)
    results.put([codes.count(code) for code in CODES])
    barrier.wait(60)
    scheduler.shutdown()

context = multiprocessing.get_context("fork")  # they need not import everything again
barrier, results = context.Barrier(8), context.SimpleQueue()
processes = [context.Process(target=start, args=(barrier, results)) for _ in range(8)]
for process in processes:
    process.start()
for process in processes:
    process.join()
assert all(process.exitcode == 0 for process in processes)
counts = [results.get() for _ in processes]
print(json.dumps([sum(column) for column in zip(*counts)]))
"""

SHARED_INI = """
[apscheduler]
version = {version}
[apscheduler.jobstores.default]
type = sqlalchemy
url = sqlite:///jobs.sqlite
{sections}
"""


def _section(name: str, seconds: int, func: str = "declared_functions:tick") -> str:
    return f"[apscheduler.jobs.{name}]\nfunc = {func}\ntrigger = interval\nhours = {seconds}\n"


@pytest.fixture
def start_eight(tmp_path: Path) -> Callable[[int, str], list[int]]:
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this platform cannot fork")
    pytest.importorskip("apscheduler.jobstores.sqlalchemy")
    pytest.importorskip("apscheduler.triggers.interval")
    pytest.importorskip("apscheduler.schedulers.background")
    pytest.importorskip("apscheduler.executors.pool")

    def start_eight(version: int, sections: str) -> list[int]:
        """Return how many jobs were added, changed and removed, by all processes together."""
        text = SHARED_INI.format(version=version, sections=sections)
        (tmp_path / "jobs.ini").write_text(text)
        command = [sys.executable, "-c", SHARED]
        done = subprocess.run(
            command,
            check=False,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=55,
        )
        assert done.returncode == 0, done.stderr
        totals: list[int] = json.loads(done.stdout)
        return totals

    return start_eight


def test_eight_processes_that_start_at_once_behave_like_one(
    start_eight: Callable[[int, str], list[int]], tmp_path: Path
) -> None:
    first = start_eight(1, _section("a", 1) + _section("b", 1) + _section("c", 1))
    # The function of a job that is no longer declared is usually gone, too.
    (tmp_path / "declared_functions.py").write_text("def tick(): ...\ndef new(): ...")
    second = start_eight(
        2,
        _section("a", 2)
        + _section("b", 1)
        + _section("d", 1, "declared_functions:new"),
    )

    assert (first, second) == ([3, 0, 0], [1, 1, 1])


def test_a_function_that_was_renamed_or_removed_does_not_keep_its_job(
    start_eight: Callable[[int, str], list[int]], tmp_path: Path
) -> None:
    (tmp_path / "declared_functions.py").write_text("def old(): ...\ndef gone(): ...")
    start_eight(
        1,
        _section("a", 1, "declared_functions:old")
        + _section("b", 1, "declared_functions:gone"),
    )
    (tmp_path / "declared_functions.py").write_text("def new(): ...")

    added, changed, removed = start_eight(2, _section("a", 1, "declared_functions:new"))

    assert (added, removed) == (0, 1)
    assert changed >= 1
