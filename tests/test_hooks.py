"""Every hook is called when what it is about happens in a real scheduler, with everything that it is said to get."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import click
import pytest
from click.testing import CliRunner

from apscheduler.cli.main import CommandGroup
from apscheduler.hooks import PROJECT, Specifications, get_hooks, hookimpl
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.nodes import Identity, Node
from apscheduler.runs import Run, RunState
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.testing.jobstores.requests import claim
from apscheduler.triggers.interval import IntervalTrigger

WAIT_SECONDS = 20
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def work() -> str:
    return "done"


def fail() -> None:
    raise ValueError("bad")


class Recorder:
    """A plugin with every hook; says of each how it was called."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.called: dict[str, Event] = {}

    def note(self, name: str, arguments: dict[str, Any]) -> None:
        self.calls.append((name, arguments))
        self.called.setdefault(name, Event()).set()

    def wait(self, name: str) -> dict[str, Any]:
        """Return the arguments of the first call of a hook."""
        event = self.called.setdefault(name, Event())
        assert event.wait(WAIT_SECONDS), f"{name} was not called"
        return next(arguments for called, arguments in self.calls if called == name)


ANSWERS: dict[str, Callable[[], Any]] = {
    "apscheduler_wrap_call": nullcontext,
    "apscheduler_cli_commands": lambda: [click.Command("of-the-plugin")],
}


def _add_hook(name: str) -> None:
    signature = inspect.signature(getattr(Specifications, name))
    names = [each for each in signature.parameters if each != "self"]
    pairs = ", ".join(f"{each}={each}" for each in names)
    source = (
        f"def {name}(self, {', '.join(names)}):\n"
        f"    self.note({name!r}, dict({pairs}))\n"
        f"    return ANSWERS.get({name!r}, lambda: None)()\n"
    )
    namespace: dict[str, Any] = {"ANSWERS": ANSWERS}
    exec(source, namespace)  # noqa: S102  # our own text
    setattr(Recorder, name, hookimpl(namespace[name]))


HOOKS = sorted(name for name in vars(Specifications) if name.startswith(PROJECT))
for _name in HOOKS:
    _add_hook(_name)


class FailingStore(MemoryJobStore):
    """Fails to claim when it is told to."""

    is_broken = False

    def claim(self, request: Any) -> Any:
        if self.is_broken:
            raise RuntimeError("broken")
        return super().claim(request)


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    recorder = Recorder(tmp_path)
    get_hooks().register(recorder, "recorder")
    yield recorder
    get_hooks().unregister(recorder)


@pytest.fixture
def scheduler(recorder: Recorder) -> Iterator[BackgroundScheduler]:
    scheduler = BackgroundScheduler(
        jobstores={"default": FailingStore()},
        jobstore_retry_interval=0.01,
        timezone=UTC,
    )
    yield scheduler
    if scheduler.running:
        scheduler.shutdown()


Cause = Callable[[BackgroundScheduler, Recorder], None]
CAUSES: dict[str, Cause] = {}


def causes(*names: str) -> Callable[[Cause], Cause]:
    """Mark what makes hooks be called."""

    def mark(cause: Cause) -> Cause:
        CAUSES.update(dict.fromkeys(names, cause))
        return cause

    return mark


@causes("apscheduler_configure")
def configure(scheduler: BackgroundScheduler, recorder: Recorder) -> None:
    pass  # making it has


@causes(
    "apscheduler_scheduler_starting",
    "apscheduler_scheduler_started",
    "apscheduler_scheduler_shutdown",
    "apscheduler_scheduler_paused",
    "apscheduler_scheduler_resumed",
)
def live(scheduler: BackgroundScheduler, recorder: Recorder) -> None:
    scheduler.start()
    scheduler.pause()
    scheduler.resume()
    scheduler.shutdown()


@causes(
    "apscheduler_job_added",
    "apscheduler_job_modified",
    "apscheduler_job_removed",
    "apscheduler_all_jobs_removed",
)
def change_jobs(scheduler: BackgroundScheduler, recorder: Recorder) -> None:
    scheduler.start(paused=True)
    scheduler.add_job(work, "interval", hours=1, id="job")
    scheduler.modify_job("job", name="other")
    scheduler.remove_job("job")
    scheduler.remove_all_jobs("default")


@causes(
    "apscheduler_run_starting",
    "apscheduler_run_finished",
    "apscheduler_wrap_call",
    "apscheduler_find_component",
)
def run(scheduler: BackgroundScheduler, recorder: Recorder) -> None:
    type(scheduler)._trigger_classes.pop("interval", None)  # looked up only once
    scheduler.start()
    scheduler.add_job(work, "interval", hours=1, id="job", next_run_time=LONG_AGO)


@causes("apscheduler_run_failed")
def run_badly(scheduler: BackgroundScheduler, recorder: Recorder) -> None:
    scheduler.start()
    scheduler.add_job(fail, id="job")


@causes("apscheduler_run_missed")
def run_late(scheduler: BackgroundScheduler, recorder: Recorder) -> None:
    scheduler.start()
    trigger = IntervalTrigger(days=1, start_date=LONG_AGO)
    scheduler.add_job(
        work, trigger, id="job", misfire_grace_time=1, next_run_time=LONG_AGO
    )


@causes("apscheduler_run_skipped")
def run_once_for_many(scheduler: BackgroundScheduler, recorder: Recorder) -> None:
    scheduler.start()
    trigger = IntervalTrigger(days=1, start_date=LONG_AGO)
    scheduler.add_job(work, trigger, id="job", next_run_time=LONG_AGO)


@causes("apscheduler_job_unavailable")
def name_no_executor(scheduler: BackgroundScheduler, recorder: Recorder) -> None:
    scheduler.start()
    scheduler.add_job(work, id="job", executor="nowhere")


@causes("apscheduler_jobstore_failed", "apscheduler_jobstore_recovered")
def break_store(scheduler: BackgroundScheduler, recorder: Recorder) -> None:
    store = scheduler._jobstores["default"]
    assert isinstance(store, FailingStore)
    scheduler.start()
    store.is_broken = True
    scheduler.add_job(work, "interval", hours=1, id="job", next_run_time=LONG_AGO)
    recorder.wait("apscheduler_jobstore_failed")
    store.is_broken = False


@causes("apscheduler_run_lost")
def leave_a_run_behind(scheduler: BackgroundScheduler, recorder: Recorder) -> None:
    path = recorder.directory / "jobs.db"
    dead = Identity()
    dead.node = Node("dead", "elsewhere", "long ago", 1)
    store = SQLAlchemyJobStore(f"sqlite:///{path}")
    scheduler.add_jobstore(store, "shared")
    scheduler.start(paused=True)
    scheduler.add_job(work, id="job", jobstore="shared", next_run_time=LONG_AGO)
    store.renew_lease(dead.node, LONG_AGO)
    assert claim(store, dead, LONG_AGO).claims
    scheduler.resume()


@causes("apscheduler_cli_commands")
def list_commands(scheduler: BackgroundScheduler, recorder: Recorder) -> None:
    output = CliRunner().invoke(CommandGroup("apscheduler"), ["--help"]).output
    assert "of-the-plugin" in output


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_called_with_what_it_is_said_to_get(
    hook: str, scheduler: BackgroundScheduler, recorder: Recorder
) -> None:
    CAUSES[hook](scheduler, recorder)

    found = recorder.wait(hook)
    for name, value in found.items():
        if name == "scheduler":
            assert value is scheduler
        elif name == "run":
            assert isinstance(value, Run) and value.job_id == "job"
        elif name == "exception":
            assert isinstance(value, Exception)
        elif name == "jobstore":
            assert value in ("default", "shared")
        elif name == "job_id":
            assert value == "job"
        elif name == "config":
            assert value["timezone"] is UTC
        else:
            assert (name, found) == (
                name,
                {"kind": found["kind"], "name": found["name"]},
            )


def test_runs_that_are_skipped_say_why(
    scheduler: BackgroundScheduler, recorder: Recorder
) -> None:
    entered, leave = Event(), Event()

    def block() -> None:
        entered.set()
        leave.wait(WAIT_SECONDS)

    trigger = IntervalTrigger(days=1, start_date=LONG_AGO, timezone=UTC)
    scheduler.start()
    scheduler.add_job(block, trigger, id="job", next_run_time=LONG_AGO)
    assert entered.wait(WAIT_SECONDS)
    coalesced = recorder.wait("apscheduler_run_skipped")["run"]
    recorder.called["apscheduler_run_skipped"].clear()
    now = datetime.now(UTC)
    scheduler.modify_job("job", next_run_time=now)
    assert recorder.called["apscheduler_run_skipped"].wait(WAIT_SECONDS)
    leave.set()

    skipped = recorder.calls[-1][1]["run"]
    assert coalesced.state is RunState.COALESCED
    assert coalesced.first_time == LONG_AGO and coalesced.count > 365
    assert skipped.state is RunState.SKIPPED
    assert skipped.scheduled_time - now < timedelta(seconds=1)


def test_a_plugin_with_one_hook_does_not_make_the_others_cost_anything() -> None:
    class Plugin:
        @hookimpl
        @contextmanager
        def apscheduler_wrap_call(self, run: Run) -> Iterator[None]:
            yield

    plugin = Plugin()
    before = {name for name in HOOKS if get_hooks().has(name)}
    get_hooks().register(plugin)
    try:
        used = {name for name in HOOKS if get_hooks().has(name)}
    finally:
        get_hooks().unregister(plugin)

    assert used - before <= {"apscheduler_wrap_call"}
