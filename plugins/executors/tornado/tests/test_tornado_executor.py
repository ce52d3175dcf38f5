import asyncio
import threading
from collections.abc import Awaitable, Iterator
from functools import partial
from typing import Any

import pytest
from tornado.gen import coroutine, sleep
from tornado.ioloop import IOLoop

from apscheduler.events import EVENT_JOB_LOST
from apscheduler.executors.tornado import TornadoExecutor
from apscheduler.testing import jobs
from apscheduler.testing.executors import (
    NOON,
    LoopExecutorContract,
    RecordingScheduler,
)
from apscheduler.testing.jobs import PATIENCE, Gate, make_job


class LoopScheduler(RecordingScheduler):
    """Stands in for a scheduler with a Tornado loop."""

    def __init__(self, ioloop: IOLoop) -> None:
        super().__init__()
        self._ioloop = ioloop


@coroutine
def add_slowly(first: int, second: int) -> Any:
    yield sleep(0.001)
    return first + second, threading.get_ident(), jobs.tell_run()


class TestTornadoExecutor(LoopExecutorContract):
    """Everything is submitted from another thread than that of the loop."""

    def pause(self) -> Awaitable[Any]:
        return sleep(0.001)

    @pytest.fixture
    def executor(self) -> Any:
        return TornadoExecutor()

    @pytest.fixture
    def scheduler(self) -> Iterator[Any]:
        loop: Any = IOLoop(make_current=False)
        errors: list[Any] = []
        loop.asyncio_loop.set_exception_handler(lambda _, error: errors.append(error))
        thread = threading.Thread(target=loop.start)
        thread.start()
        yield LoopScheduler(loop)
        loop.add_callback(loop.stop)
        thread.join(PATIENCE)
        loop.close()
        assert errors == []

    @pytest.mark.parametrize(
        "func", [add_slowly, partial(add_slowly, 1)], ids=["function", "partial"]
    )
    def test_generators_that_are_coroutines_of_tornado_run_on_the_loop(
        self, started: Any, scheduler: RecordingScheduler, func: Any
    ) -> None:
        args = (2,) if isinstance(func, partial) else (1, 2)

        event = self.run(started, scheduler, make_job(func, *args))

        run = ("", "job", NOON, 1)
        assert event.retval == (3, self.loop_thread(started), run)

    def test_as_many_functions_run_at_a_time_as_there_are_workers(
        self, scheduler: RecordingScheduler
    ) -> None:
        executor: Any = TornadoExecutor("2")
        executor.start(scheduler, "narrow")
        with Gate() as gate:
            for number in range(3):
                job = make_job(jobs.pass_gate, gate.port, id=str(number))
                executor.submit_job(job, [NOON])
            gate.wait_for_arrival()
            gate.wait_for_arrival()
            self.on_loop(executor, lambda: None)  # it has handed on all of them
            waiting = executor.executor._work_queue.qsize()
            executor.shutdown(False)
            lost = scheduler.next_event()
            gate.open()
            rest = {scheduler.next_event().retval for _ in "ab"}

        assert waiting == 1
        assert (lost.job_id, lost.code, lost.started_at) == ("2", EVENT_JOB_LOST, None)
        assert rest == {"passed"}

    def test_threads_end_at_shutdown_and_there_are_others_after_the_next_start(
        self, started: Any, scheduler: RecordingScheduler
    ) -> None:
        first = started.executor
        self.run(started, scheduler, make_job(jobs.add, 1, 2))
        started.shutdown()
        started.start(scheduler, "tested")
        self.run(started, scheduler, make_job(jobs.add, 1, 2))

        assert started.executor is not first
        for thread in first._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


@pytest.mark.parametrize("max_workers", [0, -1, "many", None, "1.5"])
def test_number_of_workers_must_be_at_least_one(max_workers: Any) -> None:
    with pytest.raises(ValueError, match=f"at least 1, but is {max_workers!r}"):
        TornadoExecutor(max_workers)


def test_pool_is_there_before_the_start_and_is_shut_down() -> None:
    executor = TornadoExecutor(3)
    assert executor.executor._max_workers == 3

    executor.shutdown()

    assert executor.executor._shutdown


def test_end_of_the_loop_cancels_coroutines_and_says_so() -> None:
    async def main() -> RecordingScheduler:
        scheduler = LoopScheduler(IOLoop.current())
        executor: Any = TornadoExecutor()
        executor.start(scheduler, "default")
        executor.submit_job(make_job(asyncio.sleep, PATIENCE), [NOON])
        await sleep(0)
        await sleep(0)
        return scheduler

    (event,) = asyncio.run(main()).pending_events()

    assert event.code == EVENT_JOB_LOST
    assert event.started_at is not None
