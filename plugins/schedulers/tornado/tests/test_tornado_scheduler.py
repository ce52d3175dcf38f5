import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tornado.gen import coroutine, sleep
from tornado.ioloop import IOLoop

from apscheduler.events import (
    EVENT_JOB_ADDED,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_LOST,
    EVENT_JOB_SUBMITTED,
    EVENT_SCHEDULER_SHUTDOWN,
)
from apscheduler.executors.asyncio import AsyncIOExecutor
from apscheduler.executors.tornado import TornadoExecutor
from apscheduler.schedulers import SchedulerNotRunningError, looping
from apscheduler.schedulers.tornado import TornadoScheduler, run_in_ioloop
from apscheduler.testing.clock import settle_async
from apscheduler.testing.jobs import PATIENCE
from apscheduler.testing.schedulers import (
    EventLog,
    EventLoopContract,
    EventLoopHarness,
)


class TornadoHarness(EventLoopHarness):
    """Runs a loop in a thread."""

    def __init__(self) -> None:
        super().__init__(TornadoScheduler)
        self.loop: Any = IOLoop(make_current=False)
        self.errors: list[Any] = []
        self.loop.asyncio_loop.set_exception_handler(lambda _, e: self.errors.append(e))
        self.thread = threading.Thread(target=self.loop.start)
        self.thread.start()

    def call(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        async def call() -> Any:
            return func(*args, **kwargs)

        return self.run(call())

    def call_later(self, seconds: float, func: Callable[[], Any]) -> None:
        self.loop.call_later(seconds, func)

    def run(self, coroutine: Any) -> Any:
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop.asyncio_loop)
        return future.result(10 * PATIENCE)

    def shutdown(self, scheduler: Any, wait: bool | float = True) -> None:
        self.call(scheduler.shutdown, wait)
        if wait:
            self.run(scheduler.wait_closed())

    def close(self) -> None:
        super().close()
        self.loop.add_callback(self.loop.stop)
        self.thread.join(PATIENCE)
        self.loop.close()
        assert self.errors == []


class TestTornadoScheduler(EventLoopContract):
    slice_module = looping

    @pytest.fixture
    def harness(self) -> Iterator[TornadoHarness]:
        harness = TornadoHarness()
        yield harness
        harness.close()


@pytest.fixture
def log() -> EventLog:
    return EventLog()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


# The loop


def test_it_is_started_before_its_loop_as_in_programs_for_apscheduler_3(
    tmp_path: Path,
) -> None:
    (tmp_path / "program.py").write_text(
        """
from tornado.ioloop import IOLoop
from apscheduler.schedulers.tornado import TornadoScheduler

def work():
    print("worked")
    IOLoop.current(instance=False)
    loop.add_callback(loop.stop)

scheduler = TornadoScheduler()
scheduler.add_job(work)
scheduler.start()
loop = IOLoop.current()
assert scheduler._ioloop is loop
try:
    loop.start()
finally:
    scheduler.shutdown()
loop.close()
print("ended")
"""
    )

    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )

    assert done.stdout.splitlines() == ["worked", "ended"], done.stderr


def test_start_in_a_thread_without_a_loop_says_what_to_do() -> None:
    scheduler = TornadoScheduler()

    async def main() -> None:
        with pytest.raises(RuntimeError, match="'io_loop'"):
            await asyncio.to_thread(scheduler.start)

    asyncio.run(main())

    assert not scheduler.running
    assert scheduler._ioloop is None


@pytest.mark.parametrize("value", [42, asyncio.BaseEventLoop], ids=["int", "asyncio"])
def test_io_loop_that_is_no_loop_of_tornado_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"'io_loop' must be a tornado.* got "):
        TornadoScheduler(io_loop=value)


def test_setting_of_the_asyncio_scheduler_is_unknown_here(
    caplog: pytest.LogCaptureFixture,
) -> None:
    TornadoScheduler(event_loop="somewhere:loop")

    assert "event_loop" in caplog.text


def test_configured_loop_is_used_before_it_runs_and_after_a_restart(
    log: EventLog,
) -> None:
    def has_run(number: int) -> bool:
        return log.count(EVENT_JOB_EXECUTED) == number

    loop = IOLoop(make_current=False)
    scheduler = TornadoScheduler(io_loop=loop)
    scheduler.add_listener(log, EVENT_JOB_EXECUTED)
    try:
        for number in range(1, 3):
            scheduler.start()
            scheduler.add_job(int)
            loop.run_sync(partial(until, partial(has_run, number)))
            loop.run_sync(lambda: settle_async(scheduler))
            scheduler.shutdown()
            loop.run_sync(scheduler.wait_closed)

            assert scheduler._ioloop is loop
    finally:
        loop.close()


def test_configured_loop_that_was_closed_is_replaced() -> None:
    loop = IOLoop(make_current=False)
    scheduler = TornadoScheduler(io_loop=loop)
    loop.close()

    async def main() -> None:
        async with scheduler:
            assert scheduler._ioloop is IOLoop.current()

    asyncio.run(main())


def test_scheduler_can_be_used_in_one_loop_after_the_other() -> None:
    scheduler = TornadoScheduler()

    async def main() -> None:
        async with scheduler:
            assert scheduler._ioloop is IOLoop.current()
            scheduler.add_job(int)
            await settle_async(scheduler)

    asyncio.run(main())
    asyncio.run(main())

    assert scheduler._ioloop is None
    assert not scheduler.running


def test_methods_can_be_sent_to_the_loop_of_their_scheduler() -> None:
    calls = []

    class Scheduler(TornadoScheduler):
        @run_in_ioloop
        def note(self, *args: Any) -> None:
            calls.append((threading.current_thread(), args))

    async def main() -> None:
        async with Scheduler() as scheduler:
            await asyncio.to_thread(scheduler.note, 1, 2)
            await until(lambda: calls)

    asyncio.run(main())

    assert calls == [(threading.current_thread(), (1, 2))]


# Jobs


def test_coroutines_of_tornado_run_on_the_loop(log: EventLog) -> None:
    @coroutine
    def work() -> Any:
        yield sleep(0.001)
        return threading.current_thread()

    async def main() -> None:
        async with TornadoScheduler() as scheduler:
            scheduler.add_listener(log, EVENT_JOB_EXECUTED)
            scheduler.add_job(work)
            await until(lambda: log.events)

    asyncio.run(main())

    assert log.results == [threading.current_thread()]


def test_functions_run_in_the_executor_of_tornado_by_default() -> None:
    async def main() -> None:
        async with TornadoScheduler() as scheduler:
            assert isinstance(scheduler._executors["default"], TornadoExecutor)

    asyncio.run(main())


def test_asyncio_executor_works_too(log: EventLog) -> None:
    async def work() -> threading.Thread:
        return threading.current_thread()

    async def main() -> None:
        executors: dict[str, Any] = {"default": {"type": "asyncio"}}
        async with TornadoScheduler(executors=executors) as scheduler:
            scheduler.add_listener(log, EVENT_JOB_EXECUTED)
            assert isinstance(scheduler._executors["default"], AsyncIOExecutor)
            scheduler.add_job(work)
            await until(lambda: log.events)

    asyncio.run(main())

    assert log.results == [threading.current_thread()]


# Shutting down


class Coroutine:
    """A coroutine job that is held up."""

    def __init__(self) -> None:
        self.has_begun, self.may_end = asyncio.Event(), asyncio.Event()

    async def run(self) -> str:
        self.has_begun.set()
        await self.may_end.wait()
        return "not interrupted"


@pytest.mark.parametrize("wait", [True, PATIENCE], ids=["ever", "a while"])
@pytest.mark.parametrize("performs_io", [False, True], ids=["memory", "server"])
def test_shutdown_waits_for_coroutines(
    log: EventLog, wait: bool | float, performs_io: bool
) -> None:
    async def main() -> None:
        work, scheduler = Coroutine(), TornadoScheduler()
        scheduler.add_listener(log, EVENT_JOB_EXECUTED | EVENT_SCHEDULER_SHUTDOWN)
        scheduler.start()
        scheduler._jobstores["default"].performs_io = performs_io  # type: ignore[attr-defined]  # of native stores
        scheduler.add_job(work.run)
        await work.has_begun.wait()
        scheduler.shutdown(wait)
        with pytest.raises(SchedulerNotRunningError):
            scheduler.shutdown(wait)
        await asyncio.sleep(0.01)
        assert log.events == []
        work.may_end.set()
        await scheduler.wait_closed()

    asyncio.run(main())

    assert log.codes == [EVENT_JOB_EXECUTED, EVENT_SCHEDULER_SHUTDOWN]
    assert log.results == ["not interrupted"]


@pytest.mark.parametrize("wait", [False, 0.01], ids=["not", "not enough"])
def test_coroutine_goes_on_after_a_shutdown_that_does_not_wait_for_it(
    log: EventLog, wait: bool | float
) -> None:
    async def main() -> None:
        work, scheduler = Coroutine(), TornadoScheduler()
        scheduler.add_listener(log, EVENT_JOB_EXECUTED | EVENT_SCHEDULER_SHUTDOWN)
        scheduler.start()
        scheduler.add_job(work.run)
        await work.has_begun.wait()
        scheduler.shutdown(wait)
        await scheduler.wait_closed()
        assert log.codes == [EVENT_SCHEDULER_SHUTDOWN]
        work.may_end.set()
        await until(lambda: len(log.events) == 2)

    asyncio.run(main())

    assert log.results == ["not interrupted"]


@pytest.mark.parametrize("wait", [True, PATIENCE], ids=["ever", "a while"])
def test_coroutine_job_can_shut_down_its_scheduler_and_wait_for_that(
    log: EventLog, wait: bool | float
) -> None:
    scheduler = TornadoScheduler()
    scheduler.add_listener(log, EVENT_JOB_EXECUTED | EVENT_SCHEDULER_SHUTDOWN)

    async def work() -> str:
        scheduler.shutdown(wait)
        await scheduler.wait_closed()
        return "waited"

    async def main() -> None:
        scheduler.start()
        scheduler.add_job(work)
        await until(lambda: len(log.events) == 2)

    asyncio.run(main())

    assert log.codes == [EVENT_SCHEDULER_SHUTDOWN, EVENT_JOB_EXECUTED]
    assert log.results == ["waited"]


def test_shutdown_from_another_thread_returns_when_it_is_complete(
    log: EventLog,
) -> None:
    async def main() -> None:
        work, scheduler = Coroutine(), TornadoScheduler()
        scheduler.add_listener(log, EVENT_JOB_EXECUTED | EVENT_SCHEDULER_SHUTDOWN)
        scheduler.start()
        scheduler.add_job(work.run)
        await work.has_begun.wait()
        shutting_down = asyncio.create_task(asyncio.to_thread(scheduler.shutdown))
        await until(lambda: not scheduler.running)
        work.may_end.set()
        await shutting_down
        assert log.codes == [EVENT_JOB_EXECUTED, EVENT_SCHEDULER_SHUTDOWN]

    asyncio.run(main())

    assert {*log.threads} == {threading.current_thread()}


def test_end_of_the_loop_loses_coroutines_and_the_scheduler_can_be_shut_down(
    log: EventLog,
) -> None:
    scheduler = TornadoScheduler()
    outcomes = EVENT_JOB_LOST | EVENT_JOB_EXECUTED | EVENT_SCHEDULER_SHUTDOWN
    scheduler.add_listener(log, outcomes)

    async def main() -> None:
        work = Coroutine()
        scheduler.start()
        scheduler.add_job(work.run)
        await work.has_begun.wait()

    asyncio.run(main())
    scheduler.wakeup()
    scheduler.shutdown()

    assert log.codes == [EVENT_JOB_LOST, EVENT_SCHEDULER_SHUTDOWN]
    assert log.events[0].started_at is not None


def test_context_manager_shuts_down_when_the_block_fails() -> None:
    scheduler = TornadoScheduler()

    async def main() -> None:
        async with scheduler:
            raise ValueError("something else went wrong")

    with pytest.raises(ValueError, match="something else"):
        asyncio.run(main())

    assert not scheduler.running


def test_jobs_can_be_added_from_other_threads(log: EventLog) -> None:
    async def main() -> None:
        async with TornadoScheduler() as scheduler:
            scheduler.add_listener(
                log, EVENT_JOB_ADDED | EVENT_JOB_SUBMITTED | EVENT_JOB_EXECUTED
            )
            await asyncio.to_thread(scheduler.add_job, int)
            await until(lambda: len(log.events) == 3)

    asyncio.run(main())

    added, submitted, executed = log.threads
    assert added is not threading.current_thread()  # the one of the caller
    assert submitted is executed is threading.current_thread()
