import threading
from collections.abc import Awaitable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    inlineCallbacks,
    maybeDeferred,
    succeed,
)
from twisted.internet.task import deferLater

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED, EVENT_JOB_LOST
from apscheduler.executors.twisted import TwistedExecutor
from apscheduler.testing import jobs
from apscheduler.testing.executors import (
    NOON,
    LoopExecutorContract,
    RecordingScheduler,
)
from apscheduler.testing.jobs import PATIENCE, Gate, make_job
from apscheduler.testing.reactors import KINDS, ReactorThread


class ReactorScheduler(RecordingScheduler):
    """Stands in for a scheduler with a reactor."""

    def __init__(self, reactor: Any) -> None:
        super().__init__()
        self._reactor = reactor


@pytest.fixture(params=KINDS)
def thread(request: pytest.FixtureRequest) -> Iterator[ReactorThread]:
    with ReactorThread(request.param) as thread:
        yield thread


@pytest.fixture
def scheduler(thread: ReactorThread) -> ReactorScheduler:
    return ReactorScheduler(thread.reactor)


class TestTwistedExecutor(LoopExecutorContract):
    """Everything is submitted from another thread than that of the reactor."""

    @pytest.fixture
    def executor(self) -> Any:
        return TwistedExecutor()

    @pytest.fixture
    def scheduler(self, thread: ReactorThread) -> Any:
        self.reactor = thread.reactor
        return ReactorScheduler(thread.reactor)

    def pause(self) -> Awaitable[Any]:
        return deferLater(self.reactor, 0.001)

    def test_inline_callbacks_run_on_the_reactor(
        self, started: Any, scheduler: RecordingScheduler
    ) -> None:
        @inlineCallbacks
        def add_slowly(first: int, second: int) -> Any:
            yield deferLater(self.reactor, 0.001)
            return first + second, threading.get_ident(), jobs.tell_run()

        run = ("", "job", NOON, 1)
        expected = (3, self.loop_thread(started), run)
        for job in (make_job(add_slowly, 1, 2), make_job(partial(add_slowly, 1), 2)):
            assert self.run(started, scheduler, job).retval == expected

    def test_methods_with_inline_callbacks_run_on_the_reactor(
        self, started: Any, scheduler: RecordingScheduler
    ) -> None:
        class Teller:
            @inlineCallbacks
            def tell(self) -> Any:
                yield succeed(None)
                return threading.get_ident()

        event = self.run(started, scheduler, make_job(Teller().tell))

        assert event.retval == self.loop_thread(started)

    def test_function_that_returns_a_deferred_is_called_in_a_thread_and_waited_for(
        self, started: Any, scheduler: RecordingScheduler
    ) -> None:
        deferred: Deferred[str] = Deferred()
        threads: list[int] = []

        def work() -> Deferred[str]:
            threads.append(threading.get_ident())
            self.reactor.callFromThread(deferred.callback, "done")
            return deferred

        event = self.run(started, scheduler, make_job(work))

        assert (event.code, event.retval) == (EVENT_JOB_EXECUTED, "done")
        assert threads != [self.loop_thread(started)]

    def test_deferred_that_fails_is_reported_with_its_exception(
        self, started: Any, scheduler: RecordingScheduler
    ) -> None:
        job = make_job(lambda: maybeDeferred(jobs.fail, "no paper"))

        event = self.run(started, scheduler, job)

        assert event.code == EVENT_JOB_ERROR
        assert str(event.exception) == "no paper"

    def test_nothing_stays_registered_with_the_reactor(
        self,
        started: Any,
        scheduler: RecordingScheduler,
        thread: ReactorThread,
        gate: Gate,
    ) -> None:
        started.submit_job(make_job(jobs.pass_gate, gate.port), [NOON])
        gate.wait_for_arrival()
        registered = count_triggers(thread.reactor)
        started.shutdown(False)
        assert count_triggers(thread.reactor) == registered

        gate.open()
        scheduler.next_event()
        thread.call(int)  # all has been done that goes with the event

        assert count_triggers(thread.reactor) == registered - 2


def count_triggers(reactor: Any) -> int:
    phases = reactor._eventTriggers["shutdown"]
    return len(phases.during) + len(phases.after)


def start(scheduler: ReactorScheduler) -> Any:
    executor: Any = TwistedExecutor()
    executor.start(scheduler, "default")
    return executor


class Waiting:
    """A coroutine job that ends only when it is cancelled."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()
        self.cancelled_with: list[BaseException] = []

    async def run(self) -> None:
        self.has_begun.set()
        try:
            await Deferred()
        except BaseException as exc:
            self.cancelled_with.append(exc)
            raise


@pytest.mark.parametrize("is_function", [False, True], ids=["async", "returned"])
def test_end_of_the_reactor_cancels_coroutines_and_says_so(
    thread: ReactorThread, scheduler: ReactorScheduler, is_function: bool
) -> None:
    executor, waiting = start(scheduler), Waiting()
    func = (lambda: waiting.run()) if is_function else waiting.run
    executor.submit_job(make_job(func), [NOON])
    assert waiting.has_begun.wait(PATIENCE)

    thread.reactor.callFromThread(thread.reactor.stop)
    event = scheduler.next_event()

    assert [type(exc) for exc in waiting.cancelled_with] == [CancelledError]
    assert event.code == EVENT_JOB_LOST
    assert event.started_at is not None
    assert dict(executor._instances) == {}


def test_coroutine_that_ignores_its_cancellation_does_not_keep_the_reactor_from_ending(
    thread: ReactorThread, scheduler: ReactorScheduler
) -> None:
    has_begun = threading.Event()

    async def stubborn() -> None:
        has_begun.set()
        while True:
            with suppress(Exception):
                await Deferred()

    executor = start(scheduler)
    executor.submit_job(make_job(stubborn), [NOON])
    assert has_begun.wait(PATIENCE)

    thread.reactor.callFromThread(thread.reactor.stop)

    event = scheduler.next_event()
    assert event.code == EVENT_JOB_LOST
    assert event.started_at is not None


def test_end_of_the_reactor_lets_functions_end_and_drops_what_waits_for_a_thread(
    thread: ReactorThread, scheduler: ReactorScheduler
) -> None:
    executor = start(scheduler)
    thread.call(thread.reactor.suggestThreadPoolSize, 1)
    with Gate() as gate:
        executor.submit_job(make_job(jobs.pass_gate, gate.port, id="runs"), [NOON])
        gate.wait_for_arrival()
        executor.submit_job(make_job(jobs.add, 1, 2, id="waits"), [NOON])
        thread.call(int)  # the reactor has handed it to its threads
        thread.reactor.callFromThread(thread.reactor.stop)
        thread.reactor.callFromThread(int)
        opener = threading.Timer(0.05, gate.open)
        opener.start()
        events = {
            event.job_id: event
            for event in (scheduler.next_event(), scheduler.next_event())
        }
        opener.join()

    assert events["runs"].retval == "passed"
    assert (events["waits"].code, events["waits"].started_at) == (EVENT_JOB_LOST, None)
    with pytest.raises(RuntimeError, match="shut down"):
        executor.submit_job(make_job(jobs.add, 1, 2), [NOON])
    executor.shutdown()


def test_work_submitted_before_the_reactor_runs_begins_with_it() -> None:
    thread = ReactorThread()
    scheduler = ReactorScheduler(thread.reactor)
    executor = start(scheduler)
    for func in (jobs.add, jobs.add_async):
        executor.submit_job(make_job(func, 1, 2, id=func.__name__), [NOON])
    assert scheduler.pending_events() == []

    with thread:
        assert [scheduler.next_event().retval for _ in "ab"] == [3, 3]
        executor.shutdown()


def test_shutdown_before_the_reactor_runs_gives_everything_back() -> None:
    thread = ReactorThread()
    scheduler = ReactorScheduler(thread.reactor)
    executor = start(scheduler)
    executor.submit_job(make_job(jobs.add, 1, 2), [NOON])

    executor.shutdown()

    (event,) = scheduler.pending_events()
    assert (event.code, event.started_at) == (EVENT_JOB_LOST, None)
    with thread:
        pass


def test_shutdown_in_a_thread_may_meet_the_end_of_the_reactor(
    thread: ReactorThread,
) -> None:
    errors: list[BaseException] = []

    class Meeting(TwistedExecutor):
        def _end(self) -> None:
            other = threading.Thread(target=self._shut_down)
            other.start()
            other.join(PATIENCE)
            super()._end()

        def _shut_down(self) -> None:
            try:
                self.shutdown(False)
            except BaseException as exc:
                errors.append(exc)

    executor = Meeting()
    executor.start(ReactorScheduler(thread.reactor), "default")  # type: ignore[arg-type]  # a stand-in

    thread.reactor.callFromThread(thread.reactor.stop)
    thread.thread.join(PATIENCE)

    assert errors == []
