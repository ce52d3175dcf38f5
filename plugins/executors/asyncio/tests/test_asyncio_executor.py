import asyncio
import gc
import threading
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED, EVENT_JOB_LOST
from apscheduler.executors.asyncio import AsyncIOExecutor
from apscheduler.testing import jobs
from apscheduler.testing.executors import NOON, LoopExecutorContract, RecordingScheduler
from apscheduler.testing.jobs import PATIENCE, Gate, make_job


class LoopScheduler(RecordingScheduler):
    """Stands in for a scheduler with an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._eventloop = loop


class TestAsyncIOExecutor(LoopExecutorContract):
    """Everything is submitted from another thread than that of the loop."""

    cancels_on_shutdown = True  # as in APScheduler 3

    def pause(self) -> Awaitable[Any]:
        return asyncio.sleep(0.001)

    @pytest.fixture
    def executor(self) -> Any:
        return AsyncIOExecutor()

    @pytest.fixture
    def scheduler(self) -> Any:
        loop = asyncio.new_event_loop()
        errors: list[Any] = []
        loop.set_exception_handler(lambda _, error: errors.append(error))
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        yield LoopScheduler(loop)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        assert errors == []


def start() -> Any:
    """Return a started executor and its scheduler, for the loop that is running."""
    scheduler = LoopScheduler(asyncio.get_running_loop())
    executor: Any = AsyncIOExecutor()
    executor.start(scheduler, "default")
    return executor, scheduler


def codes(scheduler: RecordingScheduler) -> list[int]:
    return [event.code for event in scheduler.pending_events()]


def outcome(func: Any, *args: Any) -> Any:
    """Run one job on a loop of its own, wait for it to end, and return its event."""

    async def main() -> Any:
        executor, scheduler = start()
        executor.submit_job(make_job(func, *args), [NOON])
        await asyncio.wait_for(executor.wait_closed(), PATIENCE)
        assert dict(executor._instances) == {}
        assert executor._pending_futures == set()
        (event,) = scheduler.pending_events()
        return event

    return asyncio.run(main())


@pytest.mark.parametrize(
    "func",
    [
        jobs.add_async,
        partial(partial(jobs.add_async, 1), 2),
        partial(jobs.start_adding, 1, 2),
        jobs.async_adder,
        partial(jobs.async_adder, 1),
        lambda first, second: jobs.add_async(first, second),
        jobs.AsyncAdder.__call__,
    ],
    ids=[
        "coroutine function",
        "partial",
        "partial of a function that returns a coroutine",
        "async call",
        "partial of async call",
        "lambda",
        "unbound async call",
    ],
)
def test_whatever_gives_a_coroutine_is_awaited(func: Any) -> None:
    wanted = 3 - len(getattr(func, "args", ())) - 1
    args: tuple[Any, ...] = (1, 2)[-wanted:] if wanted else ()
    if func is jobs.AsyncAdder.__call__:
        args = (jobs.async_adder, 1, 2)

    event = outcome(func, *args)

    assert (event.exception, event.retval) == (None, 3)


def test_shutdown_cancels_coroutines_and_keeps_what_had_ended_before() -> None:
    async def main() -> Any:
        executor, scheduler = start()
        entered = asyncio.Event()
        calls: list[int] = []

        async def second_waits() -> None:
            calls.append(len(calls))
            if len(calls) == 2:
                entered.set()
                await asyncio.Event().wait()

        executor.submit_job(make_job(second_waits), [NOON] * 3)
        await entered.wait()
        (task,) = executor._pending_futures

        executor.shutdown()
        executor.shutdown()
        await asyncio.wait_for(executor.wait_closed(), PATIENCE)

        assert task.cancelled()
        events = scheduler.pending_events()
        assert [event.code for event in events] == [
            EVENT_JOB_EXECUTED,
            EVENT_JOB_LOST,
            EVENT_JOB_LOST,
        ]
        assert [event.started_at is not None for event in events] == [1, 1, 0]
        assert dict(executor._instances) == {}

    asyncio.run(main())


def test_shutdown_lets_functions_finish_and_drops_those_that_wait_for_a_thread() -> (
    None
):
    async def main() -> Any:
        executor, scheduler = start()
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        with Gate() as gate:
            executor.submit_job(make_job(jobs.pass_gate, gate.port, id="runs"), [NOON])
            await loop.run_in_executor(helper, gate.wait_for_arrival)
            executor.submit_job(make_job(jobs.add, 1, 2, id="waits"), [NOON])

            executor.shutdown()
            dropped = scheduler.pending_events()
            gate.open()
            await asyncio.wait_for(executor.wait_closed(), PATIENCE)

        ended = scheduler.pending_events()
        assert [(e.job_id, e.code, e.started_at) for e in dropped] == [
            ("waits", EVENT_JOB_LOST, None)
        ]
        assert [(e.job_id, e.retval) for e in ended] == [("runs", "passed")]

    with ThreadPoolExecutor(1) as helper:
        asyncio.run(main())


def test_end_of_the_loop_cancels_coroutines_and_says_so() -> None:
    async def main() -> Any:
        executor, scheduler = start()
        executor.submit_job(make_job(asyncio.sleep, PATIENCE), [NOON])
        await asyncio.sleep(0)
        return executor, scheduler

    executor, scheduler = asyncio.run(main())

    assert codes(scheduler) == [EVENT_JOB_LOST]
    assert dict(executor._instances) == {}
    executor.shutdown()


def test_closed_loop_refuses_work_and_can_be_shut_down() -> None:
    async def main() -> Any:
        return start()

    executor, _ = asyncio.run(main())

    with pytest.raises(RuntimeError, match="closed"):
        executor.submit_job(make_job(jobs.add, 1, 2), [NOON])
    executor.shutdown()
    executor.shutdown()
    assert dict(executor._instances) == {}


def test_what_a_closed_loop_has_left_behind_is_reported_at_shutdown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.new_event_loop()
    scheduler = LoopScheduler(loop)
    executor: Any = AsyncIOExecutor()
    executor.start(scheduler, "default")
    executor.submit_job(make_job(jobs.add, 1, 2, id="never begun"), [NOON])
    loop.close()

    executor.shutdown()

    (event,) = scheduler.pending_events()
    assert (event.code, event.started_at) == (EVENT_JOB_LOST, None)
    assert dict(executor._instances) == {}


def test_function_that_outlives_the_loop_is_reported() -> None:
    with Gate() as gate, ThreadPoolExecutor(1) as pool:

        async def main() -> Any:
            executor, scheduler = start()
            executor.submit_job(make_job(jobs.pass_gate, gate.port), [NOON])
            await asyncio.get_running_loop().run_in_executor(
                pool, gate.wait_for_arrival
            )
            return executor, scheduler

        loop = asyncio.new_event_loop()
        executor, scheduler = loop.run_until_complete(main())
        loop.close()
        executor.shutdown(False)
        before = scheduler.pending_events()
        gate.open()
        event = scheduler.next_event()

    assert before == []
    assert event.retval == "passed"


@pytest.mark.parametrize("is_closed", [False, True], ids=["stopped", "closed"])
def test_shutdown_without_the_loop_waits_for_functions_and_reports_all_the_rest(
    is_closed: bool,
) -> None:
    awaits = threading.Semaphore(0)

    async def wait_for_ever() -> None:
        awaits.release()
        await asyncio.Event().wait()

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(
        lambda *_: None
    )  # it complains of tasks it leaves behind
    loop.set_default_executor(ThreadPoolExecutor(2))
    scheduler = LoopScheduler(loop)
    executor: Any = AsyncIOExecutor()
    executor.start(scheduler, "default")

    async def run_until_all_are_busy(gate: Gate, others: ThreadPoolExecutor) -> None:
        functions: dict[str, Any] = {
            "awaited": lambda: wait_for_ever(),
            "coroutine": wait_for_ever,
            "function": partial(jobs.pass_gate, gate.port),
            "waits for a thread": int,
        }
        for job_id, func in functions.items():
            executor.submit_job(make_job(func, id=job_id), [NOON])
        await loop.run_in_executor(others, gate.wait_for_arrival)
        await loop.run_in_executor(others, awaits.acquire, True, PATIENCE)
        await loop.run_in_executor(others, awaits.acquire, True, PATIENCE)

    with Gate() as gate, ThreadPoolExecutor(1) as others:
        loop.run_until_complete(run_until_all_are_busy(gate, others))
        if is_closed:
            loop.close()
        opener = threading.Timer(0.05, gate.open)
        opener.start()
        executor.shutdown(True)
        events = {event.job_id: event for event in scheduler.pending_events()}
        opener.join()
    if not is_closed:  # and nothing is told twice when the loop goes on
        loop.run_until_complete(asyncio.sleep(0.001))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    assert {job_id: event.code for job_id, event in events.items()} == {
        "awaited": EVENT_JOB_LOST,
        "coroutine": EVENT_JOB_LOST,
        "function": EVENT_JOB_EXECUTED,
        "waits for a thread": EVENT_JOB_LOST,
    }
    not_begun = [job_id for job_id in events if events[job_id].started_at is None]
    assert not_begun == ["waits for a thread"]
    assert scheduler.pending_events() == []
    assert dict(executor._instances) == {}
    gc.collect()


def test_default_executor_that_was_shut_down_is_reported() -> None:
    async def main() -> Any:
        executor, scheduler = start()
        await asyncio.get_running_loop().shutdown_default_executor()
        submit = partial(executor.submit_job, make_job(jobs.add, 1, 2), [NOON])

        with pytest.raises(RuntimeError):
            submit()
        thread = threading.Thread(target=submit)
        thread.start()
        thread.join()
        await executor.wait_closed()

        assert codes(scheduler) == [EVENT_JOB_ERROR]
        assert dict(executor._instances) == {}

    asyncio.run(main())


def test_abandoned_coroutine_is_taken_apart_quietly(
    caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    async def wait() -> None:
        await asyncio.get_running_loop().create_future()

    loop = asyncio.new_event_loop()
    executor: Any = AsyncIOExecutor()
    executor.start(LoopScheduler(loop), "default")
    executor.submit_job(make_job(wait), [NOON, NOON])
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    executor.shutdown()
    del executor
    gc.collect()

    assert [r for r in caplog.records if r.name.startswith("apscheduler")] == []
