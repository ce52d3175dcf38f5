import asyncio
import concurrent.futures
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from apscheduler.events import (
    EVENT_JOB_ADDED,
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_LOST,
    EVENT_JOB_SUBMITTED,
    EVENT_SCHEDULER_SHUTDOWN,
    EVENT_SCHEDULER_STARTED,
)
from apscheduler.runs import RunState
from apscheduler.schedulers import (
    SchedulerAlreadyRunningError,
    SchedulerNotRunningError,
    looping,
)
from apscheduler.schedulers.asyncio import AsyncIOScheduler, run_in_event_loop
from apscheduler.testing.clock import settle_async
from apscheduler.testing.jobs import PATIENCE
from apscheduler.testing.schedulers import (
    EventLog,
    EventLoopContract,
    EventLoopHarness,
)


class AsyncIOHarness(EventLoopHarness):
    """Runs an event loop in a thread."""

    def __init__(self) -> None:
        super().__init__(AsyncIOScheduler)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def call(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        async def call() -> Any:
            return func(*args, **kwargs)

        return self.run(call())

    def call_later(self, seconds: float, func: Callable[[], Any]) -> None:
        self.loop.call_later(seconds, func)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        return future.result(10 * PATIENCE)

    def close(self) -> None:
        super().close()
        self.run(self.loop.shutdown_default_executor())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE)
        self.loop.close()


class TestAsyncIOScheduler(EventLoopContract):
    slice_module = looping

    @pytest.fixture
    def harness(self) -> Iterator[AsyncIOHarness]:
        harness = AsyncIOHarness()
        yield harness
        harness.close()


def slow_down(scheduler: AsyncIOScheduler) -> Any:
    """Give the scheduler a store whose claims take until the event that is returned is set."""
    store: Any = scheduler._create_plugin_instance("jobstore", "memory", {})
    store.performs_io = True
    gate = threading.Event()
    real_claim = store.claim
    store.threads = []

    def claim(request: Any) -> Any:
        store.threads.append(threading.current_thread())
        assert gate.wait(PATIENCE)
        return real_claim(request)

    store.claim = claim
    store.gate = gate
    scheduler.add_jobstore(store)
    return store


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


def test_start_without_a_loop_says_what_to_do() -> None:
    scheduler = AsyncIOScheduler()

    with pytest.raises(RuntimeError, match="'event_loop'"):
        scheduler.start()

    assert not scheduler.running
    assert scheduler._eventloop is None


def test_event_loop_that_is_no_loop_is_refused() -> None:
    with pytest.raises(TypeError, match=r"'event_loop' must be .* got 42"):
        AsyncIOScheduler(event_loop=42)


def test_configured_loop_is_used_before_it_runs_and_after_a_restart() -> None:
    loop = asyncio.new_event_loop()
    try:
        scheduler = AsyncIOScheduler(event_loop=loop)
        for _ in range(2):
            ran = asyncio.Event()
            scheduler.start()
            scheduler.add_job(ran.set)
            loop.run_until_complete(asyncio.wait_for(ran.wait(), PATIENCE))
            loop.run_until_complete(settle_async(scheduler))
            scheduler.shutdown()
            loop.run_until_complete(scheduler.wait_closed())

            assert scheduler._eventloop is None
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def test_remembered_loop_that_was_closed_is_replaced() -> None:
    loop = asyncio.new_event_loop()
    scheduler = AsyncIOScheduler(event_loop=loop)
    loop.close()

    async def main() -> None:
        async with scheduler:
            assert scheduler._eventloop is asyncio.get_running_loop()

    asyncio.run(main())


def test_scheduler_can_be_used_in_one_loop_after_the_other() -> None:
    scheduler = AsyncIOScheduler()

    async def main() -> None:
        async with scheduler:
            assert scheduler.running
            scheduler.add_job(int)
            await settle_async(scheduler)

    asyncio.run(main())
    asyncio.run(main())

    assert not scheduler.running


def test_loop_is_not_held_up_by_a_slow_store() -> None:
    scheduler, log, ticks = AsyncIOScheduler(), EventLog(), []
    scheduler.add_listener(log, EVENT_JOB_EXECUTED)
    store = slow_down(scheduler)

    async def main() -> None:
        async with scheduler:
            scheduler.add_job(int)
            await until(lambda: store.threads)
            for _ in range(20):  # the claim is going on all the time
                await asyncio.sleep(0.001)
                ticks.append(log.codes)
            store.gate.set()
            await until(lambda: log.events)

    asyncio.run(main())

    assert ticks == [[]] * 20
    assert threading.main_thread() not in store.threads


def test_passes_over_stores_in_memory_are_made_on_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scheduler, threads = AsyncIOScheduler(), []
    real_process = scheduler._process_jobs

    def process() -> float | None:
        threads.append(threading.current_thread())
        return real_process()

    monkeypatch.setattr(scheduler, "_process_jobs", process)

    async def main() -> None:
        async with scheduler:
            scheduler.add_job(int)
            await settle_async(scheduler)

    asyncio.run(main())

    assert {*threads} == {threading.current_thread()}


def test_wakeups_during_a_pass_lead_to_one_more_pass() -> None:
    scheduler = AsyncIOScheduler()
    store = slow_down(scheduler)

    async def main() -> None:
        async with scheduler:
            await until(lambda: store.threads)
            for _ in range(10):
                scheduler.wakeup()
                await asyncio.sleep(0)
            store.gate.set()
            await until(lambda: len(store.threads) == 2)
            await settle_async(scheduler)

    asyncio.run(main())

    assert len(store.threads) == 2
    assert len({*store.threads}) == 1


def test_listeners_are_called_on_the_loop_in_order() -> None:
    scheduler, log = AsyncIOScheduler(), EventLog()
    scheduler.add_listener(log)
    store = slow_down(scheduler)
    store.gate.set()

    async def main() -> None:
        async with scheduler:
            for number in range(20):
                scheduler.add_job(int, id=f"{number:02}")
            await settle_async(scheduler)

    asyncio.run(main())

    assert {*log.threads} == {threading.current_thread()}
    submitted = [e.job_id for e in log.events if e.code == EVENT_JOB_SUBMITTED]
    assert submitted == sorted(submitted)
    assert log.count(EVENT_JOB_EXECUTED) == len(submitted) == 20
    assert log.codes[-1] == EVENT_SCHEDULER_SHUTDOWN


def test_jobs_can_be_added_from_other_threads() -> None:
    scheduler, log = AsyncIOScheduler(), EventLog()
    scheduler.add_listener(log, EVENT_JOB_ADDED | EVENT_JOB_EXECUTED)

    async def main() -> None:
        async with scheduler:
            await asyncio.to_thread(scheduler.add_job, int)
            await until(lambda: log.count(EVENT_JOB_EXECUTED))

    asyncio.run(main())

    added, executed = log.threads
    assert added is not threading.current_thread()  # the one of the caller
    assert executed is threading.current_thread()


def test_shutdown_stops_at_once_and_a_second_one_is_refused_at_once() -> None:
    scheduler = AsyncIOScheduler()

    async def main() -> None:
        scheduler.start()
        scheduler.shutdown()
        assert not scheduler.running
        with pytest.raises(SchedulerNotRunningError):
            scheduler.shutdown()
        await scheduler.wait_closed()

    asyncio.run(main())


def test_scheduler_with_nothing_to_wait_for_can_be_started_again_at_once() -> None:
    scheduler, log = AsyncIOScheduler(), EventLog()
    scheduler.add_listener(log, EVENT_SCHEDULER_SHUTDOWN | EVENT_SCHEDULER_STARTED)

    async def main() -> None:
        for _ in range(3):
            scheduler.start()
            scheduler.shutdown()

    asyncio.run(main())

    assert log.codes == 3 * [EVENT_SCHEDULER_STARTED, EVENT_SCHEDULER_SHUTDOWN]


def test_scheduler_cannot_be_started_while_it_is_being_shut_down() -> None:
    scheduler = AsyncIOScheduler()
    store = slow_down(scheduler)

    async def main() -> None:
        scheduler.start()
        await until(lambda: store.threads)
        scheduler.shutdown()
        with pytest.raises(SchedulerAlreadyRunningError):
            scheduler.start()
        store.gate.set()
        await scheduler.wait_closed()
        async with scheduler:
            pass

    asyncio.run(main())


def test_scheduler_whose_loop_was_closed_can_be_shut_down() -> None:
    scheduler, log = AsyncIOScheduler(), EventLog()
    scheduler.add_listener(log)

    async def main() -> None:
        scheduler.start()
        scheduler.add_job(asyncio.sleep, args=(PATIENCE,))
        await until(lambda: log.count(EVENT_JOB_SUBMITTED))

    asyncio.run(main())
    scheduler.wakeup()
    scheduler.shutdown()

    assert log.codes[-1] == EVENT_SCHEDULER_SHUTDOWN
    assert not scheduler.running


def test_program_can_end_right_after_shutdown_of_a_slow_store() -> None:
    scheduler, log = AsyncIOScheduler(), EventLog()
    scheduler.add_listener(log, EVENT_SCHEDULER_SHUTDOWN)
    store = slow_down(scheduler)

    async def main() -> None:
        scheduler.start()
        await until(lambda: store.threads)
        scheduler.shutdown()

    asyncio.run(main())
    store.gate.set()
    asyncio.run(scheduler.wait_closed())

    assert log.codes == [EVENT_SCHEDULER_SHUTDOWN]


def test_shutdown_from_another_thread_returns_when_it_is_complete() -> None:
    scheduler, log = AsyncIOScheduler(), EventLog()
    scheduler.add_listener(log, EVENT_SCHEDULER_SHUTDOWN | EVENT_JOB_LOST)
    has_begun = asyncio.Event()

    async def work() -> None:
        has_begun.set()
        await asyncio.sleep(PATIENCE)

    async def main() -> None:
        scheduler.start()
        scheduler.add_job(work)
        await has_begun.wait()
        await asyncio.to_thread(scheduler.shutdown)
        assert log.codes == [EVENT_JOB_LOST, EVENT_SCHEDULER_SHUTDOWN]

    asyncio.run(main())

    assert {*log.threads} == {threading.current_thread()}


@pytest.mark.parametrize("performs_io", [False, True], ids=["memory", "slow"])
def test_coroutine_that_shutdown_cancels_is_lost_and_not_an_error(
    performs_io: bool,
) -> None:
    scheduler, log, unwound = AsyncIOScheduler(), EventLog(), []
    scheduler.add_listener(log, EVENT_JOB_LOST | EVENT_JOB_ERROR)
    store = slow_down(scheduler)
    store.performs_io = performs_io
    store.gate.set()
    store.completions = []
    store.complete = store.completions.extend
    has_begun = asyncio.Event()

    async def work() -> None:
        has_begun.set()
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            await asyncio.sleep(0.001)  # cleaning up takes a while
            unwound.append(True)
            raise

    async def main() -> None:
        scheduler.start()
        scheduler.add_job(work)
        await has_begun.wait()
        scheduler.shutdown()
        await scheduler.wait_closed()
        assert unwound == [True]

    asyncio.run(main())

    assert log.codes == [EVENT_JOB_LOST]
    assert isinstance(log.events[0].exception, asyncio.CancelledError)
    assert [completion.state for completion in store.completions] == [RunState.LOST]


def test_numeric_wait_lets_coroutines_end() -> None:
    scheduler, log = AsyncIOScheduler(), EventLog()
    scheduler.add_listener(log, EVENT_JOB_EXECUTED | EVENT_SCHEDULER_SHUTDOWN)
    has_begun, may_end = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        has_begun.set()
        await may_end.wait()

    async def main() -> None:
        scheduler.start()
        scheduler.add_job(work)
        await has_begun.wait()
        scheduler.shutdown(wait=PATIENCE)
        await asyncio.sleep(0.01)
        may_end.set()
        await scheduler.wait_closed()

    asyncio.run(main())

    assert log.codes == [EVENT_JOB_EXECUTED, EVENT_SCHEDULER_SHUTDOWN]


@pytest.mark.parametrize("wait", [True, PATIENCE], ids=["ever", "a while"])
@pytest.mark.parametrize("performs_io", [False, True], ids=["memory", "slow"])
def test_coroutine_job_can_shut_down_its_scheduler_and_wait_for_that(
    performs_io: bool, wait: bool | float
) -> None:
    scheduler, log = AsyncIOScheduler(), EventLog()
    scheduler.add_listener(log, EVENT_JOB_EXECUTED | EVENT_SCHEDULER_SHUTDOWN)
    store = slow_down(scheduler)
    store.performs_io = performs_io
    store.gate.set()

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


def test_run_that_was_submitted_but_not_begun_at_shutdown_is_handed_back() -> None:
    scheduler, log = AsyncIOScheduler(), EventLog()
    scheduler.add_listener(log, EVENT_JOB_EXECUTED)
    store = slow_down(scheduler)
    store.keeps_runs = True
    store.gate.set()
    handed_back: list[Any] = []
    store.hand_back = handed_back.extend
    has_begun = threading.Event()
    may_end = threading.Event()

    def work() -> None:
        has_begun.set()
        assert may_end.wait(PATIENCE)

    async def main() -> None:
        pool = concurrent.futures.ThreadPoolExecutor(1)
        asyncio.get_running_loop().set_default_executor(pool)
        scheduler.start()
        scheduler.add_job(work, id="first")
        await until(has_begun.is_set)
        scheduler.add_job(int, id="second")  # waits for the only thread
        await until(lambda: len(scheduler._executors["default"]._instances) == 2)
        scheduler.shutdown()
        may_end.set()
        await scheduler.wait_closed()

    asyncio.run(main())

    assert [event.job_id for event in log.events] == ["first"]
    assert [claim.job.id for claim in handed_back] == ["second"]
    assert len(handed_back[0].run_times.run_ids) == 1


def test_waiting_for_a_scheduler_that_was_never_started_returns_at_once() -> None:
    asyncio.run(asyncio.wait_for(AsyncIOScheduler().wait_closed(), PATIENCE))


def test_waiting_for_the_shutdown_can_be_cancelled() -> None:
    async def main() -> list[bool]:
        async with AsyncIOScheduler() as scheduler:
            waiting = [asyncio.create_task(scheduler.wait_closed()) for _ in "ab"]
            await asyncio.sleep(0)
            waiting[0].cancel()
        await asyncio.wait(waiting)
        return [task.cancelled() for task in waiting]

    assert asyncio.run(main()) == [True, False]


def test_context_manager_shuts_down_when_the_block_fails() -> None:
    scheduler = AsyncIOScheduler()

    async def main() -> None:
        async with scheduler:
            raise ValueError("something else went wrong")

    with pytest.raises(ValueError, match="something else"):
        asyncio.run(main())

    assert not scheduler.running


def test_methods_can_be_sent_to_the_loop_of_their_scheduler() -> None:
    calls = []

    class Scheduler(AsyncIOScheduler):
        @run_in_event_loop
        def note(self, *args: Any, **kwargs: Any) -> None:
            calls.append((threading.current_thread(), args, kwargs))

    async def main() -> None:
        scheduler = Scheduler()
        scheduler.note("too early")
        async with scheduler:
            await asyncio.to_thread(scheduler.note, 1, two=2)
            await until(lambda: calls)

    asyncio.run(main())

    assert calls == [(threading.current_thread(), (1,), {"two": 2})]


def test_timer_is_stopped_by_shutdown() -> None:
    scheduler = AsyncIOScheduler()

    async def main() -> None:
        scheduler.start()
        scheduler.add_job(int, "interval", hours=1)
        await until(lambda: scheduler._timeout is not None)
        timer = scheduler._timeout
        assert isinstance(timer, asyncio.TimerHandle)
        scheduler.shutdown()
        assert timer.cancelled()
        assert scheduler._timeout is None

    asyncio.run(main())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_shuts_down_without_the_loop_of_its_parent() -> None:
    asyncio.run(_shut_down_in_child())


async def _shut_down_in_child() -> None:
    scheduler = AsyncIOScheduler()
    scheduler.start()

    pid = os.fork()
    if pid == 0:
        failure = 1
        try:
            signal.alarm(20)  # rather than wait for ever
            scheduler.shutdown()
            failure = int(scheduler.running)
        finally:
            os._exit(failure)
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert scheduler.running
    scheduler.shutdown()
    await scheduler.wait_closed()
