"""What a type checker says about programs that use schedulers: nothing about right ones, the right thing about wrong ones."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MEMBERS = [
    "core",
    *(f"plugins/triggers/{name}" for name in ("cron", "interval")),
    *(f"plugins/schedulers/{name}" for name in ("asyncio", "background", "blocking")),
    "plugins/tools/testing",
]
PLUGIN = ROOT / "examples" / "third_party_plugin" / "src" / "office_scheduling"

HEAD = """
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from apscheduler.events import EVENT_JOB_ERROR, JobExecutionEvent
from apscheduler.hooks import hookimpl
from apscheduler.job import Job
from apscheduler.runs import Run
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

def nothing() -> None: ...
def one(number: int) -> int: return number
def two(number: int, text: str = "") -> None: ...
def named(number: int, *, text: str) -> None: ...
async def later(number: int) -> None: ...
class Machine:
    def work(self, number: int) -> None: ...

scheduler = BackgroundScheduler()
"""

RIGHT = """
scheduler.add_job(nothing)
scheduler.add_job(one, args=(1,))
scheduler.add_job(one, None, (1,))
scheduler.add_job(two, "interval", args=(1,), hours=1, jitter=5)
scheduler.add_job(two, "interval", args=[1, "text"], hours=1)
scheduler.add_job(named, "interval", (1,), {"text": "text"}, hours=1)
scheduler.add_job(Machine().work, "cron", args=(1,), hour="*/2", on_gap="skip", id="work")
scheduler.add_job(print, "date", args=("text", 1), run_date=datetime.now())
scheduler.add_job(lambda: None, "calendarinterval", months=1, hour=3)
scheduler.add_job(functools.partial(one, 1), "interval", minutes=5)
scheduler.add_job("module:function", "interval", minutes=5, misfire_grace_time=None)
scheduler.add_job(nothing, "interval", None, None, "id", "name", hours=1)
scheduler.add_job(later, IntervalTrigger(hours=1), args=(1,), max_instances=3)
scheduler.add_job(nothing, "a-trigger-of-others", anything=1)
job: Job = scheduler.add_job(nothing, "interval", hours=1, on_lost="retry", history=None)
job.reschedule("cron", hour=1).pause()
job.modify(name="other")
scheduler.reschedule_job("id", trigger="interval", hours=2)
scheduler.reschedule_job("id", None, "a-trigger-of-others", anything=1)

def forward(func: Callable[..., Any], args: Sequence[Any], trigger: str, **options: Any) -> Job:
    scheduler.add_job(func, "interval", args, **options)
    scheduler.add_job(func, "interval", **options)
    return scheduler.add_job(func, trigger, args, **options)

@scheduler.scheduled_job("interval", hours=1, id="decorated")
def decorated(number: int = 1) -> str: return ""
text: str = decorated(2)

@scheduler.scheduled_job("a-trigger-of-others", anything=1)
async def awaited() -> int: return 1

def report(event: JobExecutionEvent) -> None:
    print(event.job_id, event.exception)
scheduler.add_listener(report, EVENT_JOB_ERROR)

class Plugin:
    @hookimpl
    def apscheduler_run_finished(self, run: Run) -> None:
        print(run.duration)
    @hookimpl
    @contextmanager
    def apscheduler_wrap_call(self, run: Run) -> Iterator[None]:
        yield

async def main() -> None:
    async with AsyncIOScheduler() as loop_scheduler:
        loop_scheduler.add_job(later, "interval", args=(1,), seconds=1)

from apscheduler.testing.scheduling import SchedulerTest
def test_report(apscheduler_test: SchedulerTest) -> None:
    apscheduler_test.clock.advance(days=3)
    apscheduler_test.assert_ran("report", times=3)
    assert apscheduler_test.runs("report")[0].scheduled_time
"""

# Each line with what is reported about it.
WRONG = """
scheduler.add_job(one, "interval", hours=1)  # FunctionOrTriggerDoesNotTakeTheseArguments
scheduler.add_job(one)  # FunctionOrTriggerDoesNotTakeTheseArguments
scheduler.add_job(one, args=("text",))  # FunctionOrTriggerDoesNotTakeTheseArguments
scheduler.add_job(one, "cron", args=(1, 2), hour=1)  # FunctionOrTriggerDoesNotTakeTheseArguments
scheduler.add_job(nothing, "interval", hour=1)  # FunctionOrTriggerDoesNotTakeTheseArguments
scheduler.add_job(nothing, "interval", hours="1")  # FunctionOrTriggerDoesNotTakeTheseArguments
scheduler.add_job(nothing, "date", hours=1)  # FunctionOrTriggerDoesNotTakeTheseArguments
scheduler.add_job(one, "interval", args=[1], hour=1)  # TriggerHasNoSuchArgument
scheduler.add_job(one, "cron", kwargs={"number": 1}, hours=1)  # TriggerHasNoSuchArgument
scheduler.add_job(1, "interval", hours=1)  # call-overload
scheduler.add_job(nothing, "interval", hours=1).nonsense  # attr-defined
scheduler.reschedule_job("id", trigger="interval", hour=1)  # TriggerHasNoSuchArgument
job = scheduler.add_job(nothing)
job.reschedule("interval", hour=1)  # TriggerHasNoSuchArgument
@scheduler.scheduled_job("interval", hour=1)  # operator
def decorated() -> None: ...
@scheduler.scheduled_job("interval", hours=1)
def kept(number: int) -> str: return ""
number: int = kept(1)  # assignment
def listener(event: JobExecutionEvent, more: int) -> None: ...
scheduler.add_listener(listener)  # arg-type
"""

# The whole core is checked along.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[int, str]]:
    """Return what is reported about each line of the programs, checked as those of a user who has installed wheels."""
    directory = tmp_path_factory.mktemp("types")
    for member in MEMBERS:  # a wheel puts them into one tree
        source = ROOT / member / "src" / "apscheduler"
        shutil.copytree(
            source, directory / "installed" / "apscheduler", dirs_exist_ok=True
        )
    programs = {"right": HEAD + RIGHT, "wrong": HEAD + WRONG}
    for name, text in programs.items():
        (directory / f"{name}.py").write_text(text)
    shutil.copytree(PLUGIN, directory / PLUGIN.name)
    options = ["--strict", "--follow-imports=silent", "--no-pretty", "--config-file="]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "right.py", "wrong.py", PLUGIN.name],
        cwd=directory,
        env={**os.environ, "MYPYPATH": str(directory / "installed")},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    names = [*programs, *(f"{PLUGIN.name}/{path.stem}" for path in PLUGIN.glob("*.py"))]
    found: dict[str, dict[int, str]] = {name: {} for name in names}
    for name, line, report in re.findall(
        r"^([\w/]+)\.py:(\d+): error: (.+)$", done.stdout, re.MULTILINE
    ):
        before = found[name].get(int(line), "")
        found[name][int(line)] = before + report
    assert found["wrong"], done.stdout + done.stderr
    return found


def test_right_programs_pass_the_strict_check(
    reports: dict[str, dict[int, str]],
) -> None:
    lines = (HEAD + RIGHT).splitlines()

    assert {lines[number - 1]: text for number, text in reports["right"].items()} == {}


def test_plugins_of_third_parties_pass_the_strict_check(
    reports: dict[str, dict[int, str]],
) -> None:
    plugins = {name: reports[name] for name in reports if "/" in name}

    assert len(plugins) > 4
    assert not any(plugins.values()), plugins


def test_each_mistake_is_reported_where_it_is(
    reports: dict[str, dict[int, str]],
) -> None:
    for number, line in enumerate((HEAD + WRONG).splitlines(), 1):
        _, _, expected = line.partition("  # ")
        report = reports["wrong"].get(number, "")
        assert expected in report if expected else not report, (line, report)
