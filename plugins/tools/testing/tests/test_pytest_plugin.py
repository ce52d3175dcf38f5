"""The fixtures with which users test their jobs."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from apscheduler.config import create_scheduler
from apscheduler.runs import RunState
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.schedulers.blocking import BlockingScheduler
from apscheduler.testing.jobs import add, add_async, fail
from apscheduler.testing.recording import JobFailedError
from apscheduler.testing.scheduling import SchedulerTest
from apscheduler.testing.stepping import SteppingClock
from apscheduler.triggers.interval import IntervalTrigger

START = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(params=["memory", "sqlalchemy"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if request.param == "memory":
        return {"type": "memory"}
    return {"type": "sqlalchemy", "url": f"sqlite:///{tmp_path / 'jobs.sqlite'}"}


class TestAdvancing:
    @pytest.fixture(params=["threadpool", "processpool", "debug"])
    def executor(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def apscheduler_config(self, store: Any, executor: str) -> dict[str, Any]:
        return {
            "timezone": "UTC",
            "executors": {"default": {"type": executor, "max_workers": 2}}
            if executor != "debug"
            else {"default": {"type": executor}},
            "jobstores": {"default": store},
        }

    def test_everything_runs_that_would_have_run_at_its_own_time(
        self, apscheduler_test: SchedulerTest
    ) -> None:
        scheduler = apscheduler_test.scheduler
        scheduler.add_job(add, "interval", args=[1, 2], hours=8, id="often")
        scheduler.add_job(add, "cron", args=[3, 4], hour=12, id="noon")
        apscheduler_test.clock.advance(days=2)

        ran = [(run.job_id, run.scheduled_time) for run in apscheduler_test.runs()]
        noons = [START + 12 * HOUR, START + 36 * HOUR]
        assert [time for _, time in ran] == sorted(time for _, time in ran)
        apscheduler_test.assert_ran("noon", at=noons)
        apscheduler_test.assert_ran(
            "often", at=[START + n * 8 * HOUR for n in range(1, 7)]
        )
        assert {run.result for run in apscheduler_test.runs("noon")} == {7}
        assert apscheduler_test.not_run() == []
        assert apscheduler_test.clock.now() == START + timedelta(days=2)


@pytest.fixture
def started() -> list[datetime]:
    return []


class TestJobsThatChangeJobs:
    def test_a_job_that_is_added_by_a_job_runs_in_the_same_advance(
        self, apscheduler_test: SchedulerTest
    ) -> None:
        scheduler, clock = apscheduler_test.scheduler, apscheduler_test.clock

        def add_next(left: int) -> None:
            if left:
                run_date = clock.now() + HOUR
                scheduler.add_job(
                    add_next, "date", args=[left - 1], run_date=run_date, id=str(left)
                )

        scheduler.add_job(add_next, args=[3], id="first")
        clock.advance(hours=4)

        ran = [(run.job_id, run.scheduled_time) for run in apscheduler_test.runs()]
        assert ran == [
            (id, START + n * HOUR) for n, id in enumerate(["first", "3", "2", "1"])
        ]

    def test_a_job_that_removes_or_reschedules_another_takes_effect_at_once(
        self, apscheduler_test: SchedulerTest
    ) -> None:
        scheduler, clock = apscheduler_test.scheduler, apscheduler_test.clock

        def change() -> None:
            scheduler.remove_job("removed")
            scheduler.reschedule_job("slower", trigger="interval", hours=6)

        scheduler.add_job(add, "interval", args=[1, 2], hours=1, id="removed")
        scheduler.add_job(add, "interval", args=[1, 2], hours=1, id="slower")
        scheduler.add_job(change, "date", run_date=START + 2.5 * HOUR)
        clock.advance(hours=9)

        apscheduler_test.assert_ran("removed", at=[START + HOUR, START + 2 * HOUR])
        apscheduler_test.assert_ran(
            "slower", at=[START + n * HOUR for n in (1, 2, 8.5)]
        )
        apscheduler_test.assert_not_scheduled("removed")

    def test_run_due_runs_what_is_due_now_and_no_more(
        self, apscheduler_test: SchedulerTest
    ) -> None:
        scheduler = apscheduler_test.scheduler
        scheduler.add_job(add, args=[1, 2], id="now")
        scheduler.add_job(add, "interval", args=[1, 2], seconds=1, id="later")
        apscheduler_test.run_due()

        apscheduler_test.assert_ran("now", times=1)
        apscheduler_test.assert_not_ran("later")

    def test_a_paused_scheduler_runs_nothing(
        self, apscheduler_test: SchedulerTest
    ) -> None:
        scheduler = apscheduler_test.scheduler
        scheduler.add_job(add, "interval", args=[1, 2], hours=1, id="job")
        scheduler.pause()
        apscheduler_test.clock.advance(hours=5)
        apscheduler_test.assert_not_ran("job")

        scheduler.resume()
        apscheduler_test.run_due()

        apscheduler_test.assert_ran("job", at=[START + 5 * HOUR])
        assert [(run.state, run.count) for run in apscheduler_test.not_run()] == [
            (RunState.COALESCED, 4)
        ]


class TestEndlessJobs:
    def test_a_job_that_always_fires_again_is_named(
        self, apscheduler_test: SchedulerTest
    ) -> None:
        apscheduler_test.clock.limit = 20
        apscheduler_test.scheduler.add_job(
            add, "interval", args=[1, 2], seconds=1, id="tick"
        )

        with pytest.raises(
            RuntimeError, match=r"More than 20 fire times .* 'tick' 20 times"
        ):
            apscheduler_test.clock.advance(days=1)

    def test_a_job_that_adds_itself_for_now_is_stopped(
        self, apscheduler_test: SchedulerTest
    ) -> None:
        apscheduler_test.clock.run_limit = 20

        def again() -> None:
            apscheduler_test.scheduler.add_job(again)

        again()

        with pytest.raises(RuntimeError, match="More than 20 runs at one time"):
            apscheduler_test.run_due()

    def test_a_run_that_does_not_end_is_reported(
        self, apscheduler_test: SchedulerTest
    ) -> None:
        ended = threading.Event()
        apscheduler_test.clock.timeout = 0.05
        apscheduler_test.scheduler.add_job(ended.wait, args=[20])
        try:
            with pytest.raises(TimeoutError, match="a run is going on"):
                apscheduler_test.run_due()
        finally:
            ended.set()


class TestFailures:
    def test_a_failing_job_ends_the_test_at_its_time(
        self, apscheduler_test: SchedulerTest
    ) -> None:
        apscheduler_test.scheduler.add_job(
            fail, "interval", args=["broken"], hours=1, id="bad"
        )

        with pytest.raises(JobFailedError, match=r"'bad' failed at .*broken") as caught:
            apscheduler_test.clock.advance(hours=3)

        assert isinstance(caught.value.__cause__, RuntimeError)
        assert apscheduler_test.clock.now() == START + HOUR

    def test_failures_can_be_looked_at_instead(
        self, apscheduler_test: SchedulerTest
    ) -> None:
        apscheduler_test.raise_failures = False
        apscheduler_test.scheduler.add_job(
            fail, "interval", args=["broken"], hours=1, id="bad"
        )
        apscheduler_test.clock.advance(hours=3)

        assert len(apscheduler_test.failures("bad")) == 3
        assert str(apscheduler_test.failures()[0].exception) == "broken"

    def test_a_job_that_cannot_be_run_is_a_failure_and_hides_no_other(
        self, apscheduler_test: SchedulerTest
    ) -> None:
        scheduler = apscheduler_test.scheduler
        scheduler.add_job(add, args=[1, 2], executor="missing", id="stuck")
        scheduler.add_job(add, "interval", args=[1, 2], hours=1, id="fine")

        with pytest.raises(JobFailedError, match="'stuck' cannot be run"):
            apscheduler_test.run_due()
        apscheduler_test.raise_failures = False
        apscheduler_test.clock.advance(hours=2)

        apscheduler_test.assert_ran("fine", times=2)
        apscheduler_test.assert_not_ran("stuck")


class TestAssertions:
    @pytest.fixture
    def job_test(self, apscheduler_test: SchedulerTest) -> SchedulerTest:
        apscheduler_test.scheduler.add_job(
            add, "interval", args=[1, 2], hours=1, id="sum", name="Sum"
        )
        return apscheduler_test

    def test_a_job_that_is_as_expected_is_returned(
        self, job_test: SchedulerTest
    ) -> None:
        job = job_test.assert_scheduled(
            "sum",
            IntervalTrigger(hours=1),
            next_run_time=START + HOUR,
            func=add,
            args=[1, 2],
        )
        assert job.name == "Sum"
        job_test.assert_scheduled("sum", trigger="interval[1:00:00]")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"job_id": "other"}, r"No job 'other' is scheduled[^$]*Sum \(trigger"),
            (
                {"job_id": "sum", "next_run_time": None},
                r"next_run_time: should be None, but is 2030-01-01 01:00",
            ),
            (
                {"job_id": "sum", "trigger": "date"},
                r"trigger: should be date, but is interval\[1:00:00\]",
            ),
            (
                {"job_id": "sum", "args": [1]},
                r"args: should be \(1,\), but is \(1, 2\)",
            ),
        ],
    )
    def test_what_is_wrong_with_a_job_is_said(
        self, job_test: SchedulerTest, arguments: Any, message: str
    ) -> None:
        with pytest.raises(AssertionError, match=message):
            job_test.assert_scheduled(**arguments)

    def test_attributes_that_no_job_has_are_refused(
        self, job_test: SchedulerTest
    ) -> None:
        with pytest.raises(TypeError, match="no attribute 'next_run'"):
            job_test.assert_scheduled("sum", next_run=None)

    def test_what_has_run_is_said(self, job_test: SchedulerTest) -> None:
        with pytest.raises(AssertionError, match=r"'sum' has not run[^$]*\(nothing\)"):
            job_test.assert_ran("sum")
        job_test.clock.advance(hours=2)

        with pytest.raises(AssertionError, match="3 times, but ran 2 times"):
            job_test.assert_ran("sum", times=3)
        with pytest.raises(AssertionError, match="should have run at"):
            job_test.assert_ran("sum", at=[START])
        with pytest.raises(AssertionError, match="should not have run"):
            job_test.assert_not_ran("sum")
        with pytest.raises(AssertionError, match="There should be no such job"):
            job_test.assert_not_scheduled("sum")
        job_test.forget_runs()
        job_test.assert_not_ran("sum")


class TestOnAnEventLoop:
    @pytest.fixture
    def apscheduler_config(self, store: Any) -> dict[str, Any]:
        return {
            "timezone": "UTC",
            "scheduler": {"type": "asyncio"},
            "jobstores": {"default": store},
        }

    def test_coroutines_and_functions_run_while_the_clock_is_advanced(
        self, apscheduler_test: SchedulerTest
    ) -> None:
        async def main() -> None:
            async with apscheduler_test as test:
                assert isinstance(test.scheduler, AsyncIOScheduler)
                test.scheduler.add_job(
                    add_async, "interval", args=[1, 2], hours=8, id="coroutine"
                )
                test.scheduler.add_job(
                    add, "interval", args=[1, 2], hours=12, id="function"
                )
                test.scheduler.add_job(add, args=[1, 2], id="now")
                await test.run_due_async()
                test.assert_ran("now", at=[START])
                await test.clock.advance_async(days=2)

        asyncio.run(main())

        apscheduler_test.assert_ran("coroutine", times=6)
        apscheduler_test.assert_ran("function", times=4)

    def test_holding_up_the_event_loop_is_refused(
        self, apscheduler_test: SchedulerTest
    ) -> None:
        async def main() -> None:
            async with apscheduler_test as test:
                with pytest.raises(RuntimeError, match=r"await clock\.advance_async"):
                    test.clock.advance(days=3)

        asyncio.run(main())

    def test_a_scheduler_that_is_not_started_is_not_advanced(
        self, apscheduler_test: SchedulerTest
    ) -> None:
        with pytest.raises(RuntimeError, match="start it first"):
            apscheduler_test.clock.advance(days=3)


class TestOwnScheduler:
    @pytest.fixture(params=["file", "function", "blocking"])
    def apscheduler_config(self, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
        path = tmp_path / "scheduler.ini"
        path.write_text(
            "[apscheduler]\ntimezone = UTC\n"
            "[apscheduler.jobs.report]\n"
            "func = apscheduler.testing.jobs:add\nargs = [1, 2]\ntrigger = cron\nhour = 8\n"
        )

        def make() -> BaseScheduler:
            kind = (
                BlockingScheduler
                if request.param == "blocking"
                else BackgroundScheduler
            )
            scheduler = kind(timezone="UTC")
            scheduler.add_job(add, "cron", args=[1, 2], hour=8, id="report")
            return scheduler

        return path if request.param == "file" else make

    def test_its_jobs_run(self, apscheduler_test: SchedulerTest) -> None:
        apscheduler_test.assert_scheduled("report", next_run_time=START + 8 * HOUR)
        apscheduler_test.clock.advance(days=3)

        apscheduler_test.assert_ran("report", times=3)


def test_a_scheduler_gets_its_clock_back() -> None:
    scheduler = BackgroundScheduler(timezone="UTC")
    before = scheduler._clock
    test = SchedulerTest(scheduler, SteppingClock(START))
    test.start()
    test.close()

    assert scheduler._clock is before
    assert scheduler._listeners == []


def test_a_scheduler_that_runs_already_is_refused() -> None:
    scheduler = BackgroundScheduler()
    scheduler.start()
    try:
        with pytest.raises(ValueError, match="is running already"):
            SchedulerTest(scheduler, SteppingClock(START))
    finally:
        scheduler.shutdown()


def test_a_function_that_makes_no_scheduler_is_named() -> None:
    with pytest.raises(TypeError, match="must return a scheduler, but returned None"):
        SchedulerTest(lambda: None, SteppingClock(START))  # type: ignore[arg-type,return-value]  # that is the point


def test_the_clock_does_not_go_back_by_advancing() -> None:
    with pytest.raises(ValueError, match=r"use set\(\)"):
        SteppingClock(START).advance(days=-1)


class TestTwoSchedulersOnOneStore:
    @pytest.fixture
    def tests(self, tmp_path: Path) -> Iterator[list[SchedulerTest]]:
        clock = SteppingClock(START)
        store = {"type": "sqlalchemy", "url": f"sqlite:///{tmp_path / 'jobs.sqlite'}"}
        config = {"timezone": "UTC", "jobstores": {"default": store}}
        tests = [
            SchedulerTest(lambda: create_scheduler(config), clock) for _ in range(2)
        ]
        for test in tests:
            test.start()
        yield tests
        for test in tests:
            test.close()

    def test_each_fire_time_runs_once(self, tests: list[SchedulerTest]) -> None:
        tests[0].scheduler.add_job(add, "interval", args=[1, 2], hours=1, id="job")
        tests[0].clock.advance(hours=10)

        times = [run.scheduled_time for test in tests for run in test.runs("job")]
        assert sorted(times) == [START + n * HOUR for n in range(1, 11)]


def test_the_plugin_imports_nothing_of_the_scheduler_before_it_is_used(
    tmp_path: Path,
) -> None:
    (tmp_path / "test_nothing.py").write_text(
        "import sys\n"
        "def test_nothing(request):\n"
        "    assert 'apscheduler.testing.plugin' in sys.modules\n"
        "    assert 'apscheduler.schedulers.base' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
