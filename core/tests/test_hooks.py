"""Every hook is called with what its specification says, and a broken plugin harms nobody else."""

import asyncio
import inspect
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pluggy
import pytest

from apscheduler import hooks as hooks_module
from apscheduler.executors.base import BaseExecutor, run_coroutine_job, run_job
from apscheduler.hooks import PROJECT, HookManager, Specifications, get_hooks, hookimpl
from apscheduler.job import Job
from apscheduler.jobstores.base import (
    BaseJobStore,
    ConflictingIdError,
    JobLookupError,
)
from apscheduler.plugins import Kind, load_component
from apscheduler.runs import Run, RunTimes, current_run
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.triggers.base import BaseTrigger

NOW = datetime.now(UTC)


class Once(BaseTrigger):
    """Fires once."""

    def __init__(self, **options: Any):
        pass

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        return None if previous_fire_time else now


class DictStore(BaseJobStore):
    """The smallest store."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}

    def lookup_job(self, job_id: str) -> Job | None:
        return self.jobs.get(job_id)

    def _active(self) -> list[Job]:
        jobs = [job for job in self.jobs.values() if job.next_run_time]
        return sorted(jobs, key=lambda job: job.next_run_time or NOW)

    def get_due_jobs(self, now: datetime) -> list[Job]:
        return [j for j in self._active() if j.next_run_time and j.next_run_time <= now]

    def get_next_run_time(self) -> datetime | None:
        active = self._active()
        return active[0].next_run_time if active else None

    def get_all_jobs(self) -> list[Job]:
        return list(self.jobs.values())

    def add_job(self, job: Job) -> None:
        if job.id in self.jobs:
            raise ConflictingIdError(job.id)
        self.jobs[job.id] = job

    def update_job(self, job: Job) -> None:
        self.jobs[job.id] = job

    def remove_job(self, job_id: str) -> None:
        if self.jobs.pop(job_id, None) is None:
            raise JobLookupError(job_id)

    def remove_all_jobs(self) -> None:
        self.jobs.clear()


class InlineExecutor(BaseExecutor):
    """Runs jobs at once."""

    def _do_submit_job(self, job: Job, run_times: list[datetime]) -> None:
        assert job._jobstore_alias is not None
        self._run_job_success(
            job.id, run_job(job, job._jobstore_alias, run_times, self._logger.name)
        )


class Scheduler(BaseScheduler):
    """A scheduler whose passes the test makes."""

    def start(self, paused: bool = False) -> None:
        super().start(paused)

    def shutdown(self, wait: bool | float = True) -> None:
        super().shutdown(wait)

    def wakeup(self) -> None:
        pass


def work() -> str:
    return "done"


def fail() -> None:
    raise ValueError("bad")


@pytest.fixture(autouse=True)
def clean_hooks() -> Iterator[None]:
    before = set(map(id, get_hooks().get_plugins()))
    yield
    for plugin in list(get_hooks().get_plugins()):
        if id(plugin) not in before:
            get_hooks().unregister(plugin)


@pytest.fixture
def make_scheduler() -> Iterator[Any]:
    made = []

    def make(**options: Any) -> Scheduler:
        given = {
            "timezone": UTC,
            "executors": {"default": InlineExecutor()},
            "jobstores": {"default": DictStore()},
            **options,
        }
        scheduler = Scheduler(**given)
        made.append(scheduler)
        return scheduler

    yield make
    for scheduler in made:
        if scheduler.running:
            scheduler.shutdown()


class Recorder:
    """Observes everything, and notes the arguments."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def arguments(self, name: str) -> dict[str, Any]:
        (found,) = [arguments for called, arguments in self.calls if called == name]
        return found


def _observe(name: str) -> Any:
    parameters = list(
        inspect.signature(getattr(Specifications, name)).parameters.values()
    )[1:]
    names = [parameter.name for parameter in parameters]
    source = f"def {name}(self, {', '.join(names)}):\n"
    pairs = ", ".join(f"{n}={n}" for n in names)
    source += f"    self.calls.append(({name!r}, dict({pairs})))\n"
    namespace: dict[str, Any] = {}
    exec(source, namespace)  # noqa: S102  # our own text
    return hookimpl(namespace[name])


ASKED = (
    "apscheduler_wrap_call",
    "apscheduler_cli_commands",
    "apscheduler_find_component",
)
OBSERVERS = [
    name
    for name in vars(Specifications)
    if name.startswith(PROJECT) and name not in ASKED
]

for _name in OBSERVERS:
    setattr(Recorder, _name, _observe(_name))


@pytest.fixture
def recorder() -> Recorder:
    recorder = Recorder()
    get_hooks().register(recorder, "recorder")
    return recorder


def test_every_hook_is_specified_in_one_sentence() -> None:
    for name in (*OBSERVERS, *ASKED):
        text = inspect.getdoc(getattr(Specifications, name)) or ""
        assert text.endswith(".") and "\n" not in text, name
        assert text.count(". ") == 0, name


def test_the_configuration_can_be_changed_before_it_is_applied(
    make_scheduler: Any,
) -> None:
    class Plugin:
        @hookimpl
        def apscheduler_configure(self, config: dict[str, Any]) -> None:
            config["jobstore_retry_interval"] = 77
            config.setdefault("job_defaults", {})["coalesce"] = False

    get_hooks().register(Plugin())

    scheduler = make_scheduler(jobstore_retry_interval=5)

    assert scheduler.jobstore_retry_interval == 77
    assert scheduler._job_defaults["coalesce"] is False


def test_the_life_of_a_scheduler_is_observed(
    make_scheduler: Any, recorder: Recorder
) -> None:
    scheduler = make_scheduler()

    scheduler.start(paused=True)
    scheduler.shutdown()

    assert recorder.names() == [
        "apscheduler_configure",
        "apscheduler_scheduler_starting",
        "apscheduler_scheduler_started",
        "apscheduler_scheduler_shutdown",
    ]
    assert recorder.arguments("apscheduler_configure")["config"]["timezone"] is UTC
    assert all(a["scheduler"] is scheduler for _, a in recorder.calls)


def test_changes_of_jobs_are_observed(make_scheduler: Any, recorder: Recorder) -> None:
    scheduler = make_scheduler()
    scheduler.start(paused=True)

    scheduler.add_job(work, Once(), id="a")
    scheduler.modify_job("a", name="n")
    scheduler.remove_job("a")

    for name in ("added", "modified", "removed"):
        assert recorder.arguments(f"apscheduler_job_{name}") == {
            "scheduler": scheduler,
            "job_id": "a",
            "jobstore": "default",
        }


@pytest.mark.parametrize(
    ("func", "options", "hook"),
    [
        (work, {}, "apscheduler_run_finished"),
        (fail, {}, "apscheduler_run_failed"),
        (
            work,
            {
                "misfire_grace_time": 1,
                "next_run_time": NOW - timedelta(hours=1),
            },
            "apscheduler_run_missed",
        ),
    ],
    ids=["finished", "failed", "missed"],
)
def test_the_outcome_of_a_run_is_observed(
    make_scheduler: Any, recorder: Recorder, func: Any, options: Any, hook: str
) -> None:
    scheduler = make_scheduler()
    scheduler.start(paused=True)
    scheduler.add_job(func, Once(), id="a", **options)
    scheduler.resume()

    scheduler._process_jobs()

    run = recorder.arguments(hook)["run"]
    assert isinstance(run, Run)
    assert (run.job_id, run.jobstore, run.state.is_final) == ("a", "default", True)
    if hook == "apscheduler_run_missed":
        assert "apscheduler_run_starting" not in recorder.names()
    else:
        starting = recorder.arguments("apscheduler_run_starting")["run"]
        assert starting.id == run.id
        assert run.started_at is not None
        names = recorder.names()
        assert names.index("apscheduler_run_starting") < names.index(hook)
    if hook == "apscheduler_run_failed":
        assert str(recorder.arguments(hook)["exception"]) == "bad"
        assert run.exception == "ValueError: bad"
    assert recorder.arguments("apscheduler_job_removed")["job_id"] == "a"


def test_a_hook_may_take_any_subset_of_the_arguments(make_scheduler: Any) -> None:
    seen = []

    class Plugin:
        @hookimpl
        def apscheduler_job_added(self, job_id: str) -> None:
            seen.append(job_id)

    get_hooks().register(Plugin())
    scheduler = make_scheduler()
    scheduler.start(paused=True)

    scheduler.add_job(work, Once(), id="a")

    assert seen == ["a"]


def test_an_observer_that_raises_is_named_and_the_others_are_called(
    make_scheduler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        """Raises whatever it is told."""

    for name in OBSERVERS:

        def implementation(self: Any, scheduler: Any) -> None:
            raise RuntimeError("no")

        setattr(Broken, name, hookimpl(implementation))
    first, last = Recorder(), Recorder()
    get_hooks().register(first, "first")
    get_hooks().register(Broken(), "the broken one")
    get_hooks().register(last, "last")
    scheduler = make_scheduler()
    scheduler.start(paused=True)
    scheduler.add_job(work, Once(), id="a")
    scheduler.resume()

    scheduler._process_jobs()
    scheduler.shutdown()

    assert first.names() == last.names()
    assert "apscheduler_run_finished" in first.names()
    assert "apscheduler_scheduler_shutdown" in first.names()
    failed = {r.getMessage() for r in caplog.records if r.levelno == logging.ERROR}
    assert failed
    assert all("'the broken one'" in message for message in failed)


# Wrapping the call


class Wrapper:
    """Notes what happens around the call of the function."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    @hookimpl
    @contextmanager
    def apscheduler_wrap_call(self, run: Run) -> Iterator[None]:
        self.seen.append(("before", run.id, threading.current_thread().name))
        try:
            yield
        finally:
            self.seen.append(("after", run.id, threading.current_thread().name))


def make_job(func: Any) -> Any:
    return SimpleNamespace(
        id="j", name="n", func=func, args=(), kwargs={}, misfire_grace_time=None
    )


def test_the_call_is_wrapped_in_the_thread_where_it_runs() -> None:
    wrapper = Wrapper()
    get_hooks().register(wrapper)

    def func() -> None:
        run = current_run()
        assert run is not None
        wrapper.seen.append(("call", run.id, threading.current_thread().name))

    with ThreadPoolExecutor(1, "worker") as pool:
        times = RunTimes([NOW], ("r",), "r")
        pool.submit(run_job, make_job(func), "default", times, "test").result(10)

    assert wrapper.seen == [
        ("before", "r", "worker_0"),
        ("call", "r", "worker_0"),
        ("after", "r", "worker_0"),
    ]


def test_wrappers_leave_also_when_the_job_fails() -> None:
    wrapper = Wrapper()
    get_hooks().register(wrapper)

    (event,) = run_job(make_job(fail), "default", RunTimes([NOW], ("r",), "r"), "test")

    assert [what for what, *_ in wrapper.seen] == ["before", "after"]
    assert str(event.exception) == "bad"


def test_a_wrapper_may_decline() -> None:
    class Plugin:
        @hookimpl
        def apscheduler_wrap_call(self, run: Run) -> None:
            return None

    get_hooks().register(Plugin())

    (event,) = run_job(make_job(work), "default", [NOW], "test")

    assert event.retval == "done"


@pytest.mark.parametrize("answer", [RuntimeError("no context"), 5, "text"], ids=repr)
def test_a_plugin_that_has_no_wrapper_to_offer_is_named_and_left_out(
    caplog: pytest.LogCaptureFixture, answer: Any
) -> None:
    class Plugin:
        @hookimpl
        def apscheduler_wrap_call(self, run: Run) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

    wrapper = Wrapper()
    get_hooks().register(wrapper)
    get_hooks().register(Plugin(), "the broken one")

    (event,) = run_job(make_job(work), "default", [NOW], "test")

    assert event.retval == "done"
    assert [what for what, *_ in wrapper.seen] == ["before", "after"]
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "'the broken one'" in record.getMessage()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_wrapper_that_fails_fails_the_run_and_nothing_else(when: str) -> None:
    class Plugin:
        @hookimpl
        @contextmanager
        def apscheduler_wrap_call(self, run: Run) -> Iterator[None]:
            if when == "before":
                raise RuntimeError("no context")
            yield
            raise RuntimeError("no context")

    wrapper = Wrapper()
    get_hooks().register(Plugin())
    get_hooks().register(wrapper)

    (event,) = run_job(make_job(work), "default", [NOW], "test")

    assert str(event.exception) == "no context"
    assert current_run() is None
    assert [what for what, *_ in wrapper.seen] == ["before", "after"]


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
def test_a_run_whose_exception_a_wrapper_swallows_has_succeeded_without_result(
    is_async: bool,
) -> None:
    class Plugin:
        @hookimpl
        def apscheduler_wrap_call(self, run: Run) -> Any:
            return suppress(ZeroDivisionError)

    divisors = iter([1, 0])

    def divide() -> Any:
        return 1 // next(divisors)

    async def divide_async() -> Any:
        return divide()

    get_hooks().register(Plugin())
    job, times = make_job(divide_async if is_async else divide), [NOW, NOW]

    if is_async:
        events = asyncio.run(run_coroutine_job(job, "default", times, "test"))
    else:
        events = run_job(job, "default", times, "test")

    assert [event.exception for event in events] == [None, None]
    assert [event.retval for event in events] == [1, None]
    assert all(event.started_at for event in events)
    assert current_run() is None


# Components


def test_a_plugin_can_decide_what_a_name_means(make_scheduler: Any) -> None:
    class Plugin:
        @hookimpl
        def apscheduler_find_component(self, kind: str, name: str) -> type | None:
            return Once if (kind, name) == ("trigger", "by-hook") else None

    get_hooks().register(Plugin())
    scheduler = make_scheduler()
    scheduler._trigger_classes = {}

    job = scheduler.add_job(work, "by-hook")

    assert isinstance(job.trigger, Once)
    with pytest.raises(LookupError):
        scheduler.add_job(work, "not-by-hook")


def test_a_plugin_that_fails_to_say_what_a_name_means_is_named_and_skipped(
    make_scheduler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        @hookimpl
        def apscheduler_find_component(self, kind: str) -> type:
            raise RuntimeError("no")

    class Working:
        @hookimpl
        def apscheduler_find_component(self, kind: str, name: str) -> type | None:
            return Once if name == "by-hook" else None

    get_hooks().register(Working())
    get_hooks().register(Broken(), "the broken one")
    scheduler = make_scheduler()
    scheduler._trigger_classes = {}

    assert isinstance(scheduler.add_job(work, "by-hook").trigger, Once)
    assert "'the broken one' failed in apscheduler_find_component" in caplog.text


@pytest.mark.parametrize("kind", ["scheduler", "serializer", "executor", "jobstore"])
def test_a_plugin_can_decide_what_the_name_of_any_component_means(kind: Kind) -> None:
    class Plugin:
        @hookimpl
        def apscheduler_find_component(self, kind: str, name: str) -> type | None:
            return Once if name == f"{kind} by hook" else None

    get_hooks().register(Plugin())

    assert load_component(kind, f"{kind} by hook") is Once
    with pytest.raises(LookupError):
        load_component(kind, "not by hook")


# Loading


def fake_entry_points(*entries: Any) -> Any:
    return lambda group: list(entries) if group == PROJECT else []


def entry(name: str, load: Any) -> Any:
    return SimpleNamespace(name=name, value=f"module:{name}", load=load)


def raise_import_error() -> None:
    raise ImportError("nothing here")


class Misspelt:
    @hookimpl
    def apscheduler_job_aded(self, job_id: str) -> None: ...


class WrongArgument:
    @hookimpl
    def apscheduler_job_added(self, nonsense: str) -> None: ...


@pytest.mark.parametrize(
    "load",
    [raise_import_error, Misspelt, WrongArgument],
    ids=["import error", "misspelt hook", "wrong argument"],
)
def test_a_broken_plugin_is_named_and_skipped_and_the_others_are_loaded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, load: Any
) -> None:
    good = Recorder()
    monkeypatch.setattr(
        hooks_module,
        "entry_points_of",
        fake_entry_points(entry("broken", load), entry("good", lambda: good)),
    )
    manager = HookManager()

    manager.load_installed()
    manager.notify("apscheduler_job_added", scheduler=None, job_id="a", jobstore="b")

    assert good.names() == ["apscheduler_job_added"]
    assert [name for name, _ in manager.list_name_plugin()] == ["good"]
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "'broken'" in record.getMessage()


def test_installed_plugins_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []

    def load() -> Recorder:
        loads.append(1)
        return Recorder()

    monkeypatch.setattr(
        hooks_module, "entry_points_of", fake_entry_points(entry("p", load))
    )
    manager = HookManager()

    manager.load_installed()
    manager.load_installed()

    assert loads == [1]


def test_a_hook_that_nobody_implements_is_known_to_be_unused() -> None:
    manager = HookManager()
    assert not manager.has("apscheduler_run_starting")

    recorder = Recorder()
    manager.register(recorder)
    assert manager.has("apscheduler_run_starting")

    manager.unregister(recorder)
    assert not manager.has("apscheduler_run_starting")


def test_an_observer_can_wrap_the_others() -> None:
    order = []

    class Outer:
        @hookimpl(wrapper=True)
        def apscheduler_job_added(self) -> Any:
            order.append("before")
            result = yield
            order.append("after")
            return result

    class Inner:
        @hookimpl
        def apscheduler_job_added(self) -> None:
            order.append("inner")

    manager = HookManager()
    manager.register(Inner())
    manager.register(Outer())

    manager.notify("apscheduler_job_added", scheduler=None, job_id="a", jobstore="b")

    assert order == ["before", "inner", "after"]


def test_hooks_are_marked_for_this_project() -> None:
    assert isinstance(hookimpl, pluggy.HookimplMarker)
    assert hookimpl.project_name == "apscheduler"
