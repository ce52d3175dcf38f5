import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.task import deferLater

from apscheduler.events import (
    EVENT_JOB_EXECUTED,
    EVENT_JOB_LOST,
    EVENT_SCHEDULER_SHUTDOWN,
)
from apscheduler.executors.twisted import TwistedExecutor
from apscheduler.schedulers import SchedulerNotRunningError, looping
from apscheduler.schedulers.twisted import (
    ReactorLoop,
    TwistedScheduler,
    run_in_reactor,
)
from apscheduler.testing.jobs import PATIENCE, Gate, pass_gate
from apscheduler.testing.reactors import KINDS, ReactorThread
from apscheduler.testing.schedulers import (
    EventLog,
    EventLoopContract,
    EventLoopHarness,
)

ENDS = EVENT_JOB_EXECUTED | EVENT_JOB_LOST | EVENT_SCHEDULER_SHUTDOWN


class TwistedHarness(EventLoopHarness):
    """Schedules on a reactor that runs in a thread."""

    def __init__(self, thread: ReactorThread) -> None:
        super().__init__(TwistedScheduler, reactor=thread.reactor)
        self.thread = thread

    def call(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.thread.call(func, *args, **kwargs)

    def call_later(self, seconds: float, func: Callable[[], Any]) -> None:
        self.thread.reactor.callLater(seconds, func)

    def shutdown(self, scheduler: Any, wait: bool | float = True) -> None:
        closed = threading.Event()

        def shut_down() -> None:
            scheduler.shutdown(wait)
            scheduler.wait_closed().addCallback(lambda _: closed.set())

        self.call(shut_down)
        if wait:
            assert closed.wait(10 * PATIENCE)


@pytest.fixture(params=KINDS)
def thread(request: pytest.FixtureRequest) -> Iterator[ReactorThread]:
    with ReactorThread(request.param) as thread:
        yield thread


@pytest.fixture
def harness(thread: ReactorThread) -> Iterator[TwistedHarness]:
    harness = TwistedHarness(thread)
    yield harness
    harness.close()


class TestTwistedScheduler(EventLoopContract):
    slice_module = looping

    @pytest.fixture
    def harness(self, thread: ReactorThread) -> Iterator[TwistedHarness]:
        harness = TwistedHarness(thread)
        yield harness
        harness.close()


@pytest.fixture
def scheduler(harness: TwistedHarness) -> Any:
    return harness.make()


@pytest.fixture
def log(scheduler: TwistedScheduler) -> EventLog:
    log = EventLog()
    scheduler.add_listener(log, ENDS)
    return log


class Work:
    """A coroutine job that is held up."""

    def __init__(self, thread: ReactorThread) -> None:
        self._reactor = thread.reactor
        self._released: Deferred[str] = Deferred()
        self.has_begun = threading.Event()

    async def run(self) -> str:
        self.has_begun.set()
        return await self._released

    def release(self) -> None:
        self._reactor.callFromThread(self._released.callback, "not interrupted")


@pytest.fixture
def work(harness: TwistedHarness, scheduler: TwistedScheduler) -> Work:
    """A coroutine that is running in the scheduler."""
    work = Work(harness.thread)
    harness.start(scheduler)
    scheduler.add_job(work.run)
    assert work.has_begun.wait(PATIENCE)
    return work


def run_program(text: str, directory: Path, *command: str) -> str:
    """Run a program in a process of its own, which has a reactor of its own; return what it prints."""
    (directory / "program.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-W", "error", *(command or ("program.py",))],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# The reactor

PROGRAM = """
from twisted.internet import reactor
from apscheduler.schedulers.twisted import TwistedScheduler

def work():
    print("worked")
    reactor.callFromThread(reactor.stop)

scheduler = TwistedScheduler()
scheduler.add_job(work)
scheduler.start()
assert scheduler._reactor is reactor
try:
    reactor.run()
finally:
    scheduler.shutdown()
print("ended")
"""


def test_it_is_started_before_its_reactor_as_in_programs_for_apscheduler_3(
    tmp_path: Path,
) -> None:
    assert run_program(PROGRAM, tmp_path).split() == ["worked", "ended"]


def test_another_reactor_may_be_installed_after_the_scheduler_was_made(
    tmp_path: Path,
) -> None:
    program = """
import asyncio, sys
from twisted.internet.defer import Deferred
from apscheduler.schedulers.twisted import TwistedScheduler

scheduler = TwistedScheduler()
assert "twisted.internet.reactor" not in sys.modules
from twisted.internet import asyncioreactor
asyncioreactor.install()
from twisted.internet import reactor

async def nap():
    await asyncio.sleep(0.001)
    return asyncio.get_running_loop()

async def work():
    loop = await Deferred.fromFuture(asyncio.ensure_future(nap()))
    print(loop is reactor._asyncioEventloop)
    scheduler.shutdown()
    await scheduler.wait_closed()
    reactor.stop()

scheduler.add_job(work)
scheduler.start()
reactor.run()
print(type(reactor).__name__)
"""

    assert run_program(program, tmp_path).split() == ["True", "AsyncioSelectorReactor"]


def test_trial_finds_nothing_left_in_the_reactor(tmp_path: Path) -> None:
    program = """
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from apscheduler.schedulers.twisted import TwistedScheduler

class Test(TestCase):
    async def test_scheduler(self):
        for _ in range(2):
            done = Deferred()
            async with TwistedScheduler() as scheduler:
                scheduler.add_job(int, "interval", hours=1)
                scheduler.add_job(lambda: reactor.callFromThread(done.callback, 1))
                await done
"""

    output = run_program(program, tmp_path, "-m", "twisted.trial", "program")

    assert "PASSED" in output


@pytest.mark.parametrize("value", [42, int], ids=str)
def test_reactor_that_is_no_reactor_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"'reactor' must be a Twisted reactor.* got "):
        TwistedScheduler(reactor=value)


def test_coroutines_run_in_the_executor_of_twisted_by_default(
    harness: TwistedHarness, scheduler: TwistedScheduler
) -> None:
    harness.start(scheduler)

    assert isinstance(scheduler._executors["default"], TwistedExecutor)


def test_nothing_stays_registered_with_the_reactor_after_many_starts(
    harness: TwistedHarness, scheduler: TwistedScheduler
) -> None:
    phases = harness.thread.reactor._eventTriggers["shutdown"]
    harness.thread.reactor.getThreadPool()  # registers itself
    before = [len(phases.before), len(phases.during), len(phases.after)]
    for _ in range(3):
        harness.start(scheduler)
        harness.shutdown(scheduler)

    assert [len(phases.before), len(phases.during), len(phases.after)] == before


def test_methods_can_be_sent_to_the_reactor_of_their_scheduler(
    thread: ReactorThread,
) -> None:
    calls = []

    class Scheduler(TwistedScheduler):
        @run_in_reactor
        def note(self, *args: Any) -> None:
            calls.append((threading.current_thread(), args))

    scheduler = Scheduler(reactor=thread.reactor)
    scheduler.start()
    scheduler.note(1, 2)
    thread.call(int)
    scheduler.shutdown()

    assert calls == [(thread.thread, (1, 2))]


# Jobs


def test_inline_callbacks_run_on_the_reactor(
    harness: TwistedHarness, scheduler: TwistedScheduler, log: EventLog
) -> None:
    @inlineCallbacks
    def work() -> Any:
        yield deferLater(harness.thread.reactor, 0.001)
        return threading.current_thread()

    harness.start(scheduler)
    scheduler.add_job(work)
    log.wait_for(EVENT_JOB_EXECUTED)

    assert log.results == [harness.thread.thread]


def test_deferred_of_a_function_is_waited_for(
    harness: TwistedHarness, scheduler: TwistedScheduler, log: EventLog
) -> None:
    deferred: Deferred[str] = Deferred()
    harness.start(scheduler)
    scheduler.add_job(lambda: deferred)
    harness.thread.reactor.callFromThread(deferred.callback, "fired")
    log.wait_for(EVENT_JOB_EXECUTED)

    assert log.results == ["fired"]


# Shutting down


@pytest.mark.parametrize("wait", [True, PATIENCE], ids=["ever", "a while"])
def test_shutdown_waits_for_coroutines(
    harness: TwistedHarness,
    scheduler: TwistedScheduler,
    log: EventLog,
    work: Work,
    wait: bool | float,
) -> None:
    harness.call(scheduler.shutdown, wait)
    with pytest.raises(SchedulerNotRunningError):
        harness.call(scheduler.shutdown)
    assert log.events == []
    work.release()
    log.wait_for(EVENT_SCHEDULER_SHUTDOWN)

    assert log.codes == [EVENT_JOB_EXECUTED, EVENT_SCHEDULER_SHUTDOWN]
    assert log.results == ["not interrupted"]


@pytest.mark.parametrize("wait", [False, 0.01], ids=["not", "not enough"])
def test_coroutine_goes_on_after_a_shutdown_that_does_not_wait_for_it(
    harness: TwistedHarness,
    scheduler: TwistedScheduler,
    log: EventLog,
    work: Work,
    wait: bool | float,
) -> None:
    harness.call(scheduler.shutdown, wait)
    log.wait_for(EVENT_SCHEDULER_SHUTDOWN)
    work.release()
    log.wait_for(EVENT_JOB_EXECUTED)

    assert log.codes == [EVENT_SCHEDULER_SHUTDOWN, EVENT_JOB_EXECUTED]
    assert log.results == ["not interrupted"]


def test_coroutine_job_can_shut_down_its_scheduler_and_wait_for_that(
    harness: TwistedHarness, scheduler: TwistedScheduler, log: EventLog
) -> None:
    async def stop() -> str:
        scheduler.shutdown()
        await scheduler.wait_closed()
        return "waited"

    harness.start(scheduler)
    scheduler.add_job(stop)
    log.wait_for(EVENT_JOB_EXECUTED)

    assert log.codes == [EVENT_SCHEDULER_SHUTDOWN, EVENT_JOB_EXECUTED]
    assert log.results == ["waited"]


def test_context_manager_starts_shuts_down_and_waits(
    harness: TwistedHarness, scheduler: TwistedScheduler, log: EventLog
) -> None:
    ran: list[Any] = []
    has_failed = threading.Event()

    async def main() -> None:
        async with scheduler:
            ran.append(scheduler.running)
            raise ValueError("something else went wrong")

    def note(failure: Any) -> None:
        ran.append(failure.type)
        has_failed.set()

    harness.call(lambda: Deferred.fromCoroutine(main()).addErrback(note) and None)

    assert has_failed.wait(PATIENCE)
    assert ran == [True, ValueError]
    assert log.codes == [EVENT_SCHEDULER_SHUTDOWN]


def test_waiting_for_a_scheduler_that_was_never_started_ends_at_once() -> None:
    assert TwistedScheduler().wait_closed().called


def test_waiting_for_the_shutdown_can_be_cancelled(
    harness: TwistedHarness, scheduler: TwistedScheduler
) -> None:
    harness.start(scheduler)
    ended: list[Any] = []

    def wait_twice() -> None:
        first, second = scheduler.wait_closed(), scheduler.wait_closed()
        first.addErrback(lambda failure: ended.append(failure.type))
        second.addCallback(ended.append)
        first.cancel()

    harness.call(wait_twice)
    harness.shutdown(scheduler)
    harness.wait_until(lambda: len(ended) == 2, "both have ended")

    assert ended == [CancelledError, None]


# The end of the reactor


def test_loop_says_when_nothing_will_be_called_any_more(thread: ReactorThread) -> None:
    loop = ReactorLoop(thread.reactor)
    is_called = threading.Event()
    assert loop.call_soon(is_called.set)
    assert is_called.wait(PATIENCE)

    thread.reactor.callFromThread(thread.reactor.stop)
    thread.thread.join(PATIENCE)

    assert not loop.call_soon(is_called.set)
    assert not loop.is_running()
    loop.close()


def test_loop_may_be_closed_in_a_thread_while_the_reactor_ends(
    thread: ReactorThread,
) -> None:
    errors: list[BaseException] = []

    class Meeting(ReactorLoop):
        def _end(self) -> None:
            other = threading.Thread(target=self._close)
            other.start()
            other.join(PATIENCE)
            super()._end()

        def _close(self) -> None:
            try:
                self.close()
            except BaseException as exc:
                errors.append(exc)

    Meeting(thread.reactor)

    thread.reactor.callFromThread(thread.reactor.stop)
    thread.thread.join(PATIENCE)

    assert errors == []


def test_timer_may_be_cancelled_when_it_has_fired(thread: ReactorThread) -> None:
    loop = ReactorLoop(thread.reactor)
    has_fired = threading.Event()

    timer = thread.call(loop.call_later, 0, has_fired.set)
    assert has_fired.wait(PATIENCE)
    thread.call(timer.cancel)

    thread.call(loop.close)


def test_reactor_can_be_made_to_wait_until_all_jobs_have_ended(
    harness: TwistedHarness, scheduler: TwistedScheduler, log: EventLog, work: Work
) -> None:
    def stop() -> "Deferred[None]":
        scheduler.shutdown()
        return scheduler.wait_closed()

    reactor = harness.thread.reactor
    harness.call(reactor.addSystemEventTrigger, "before", "shutdown", stop)
    with Gate() as gate:
        scheduler.add_job(pass_gate, args=[gate.port], id="function")
        gate.wait_for_arrival()
        reactor.callFromThread(reactor.stop)
        harness.wait_until(lambda: not scheduler.running, "shutting down has begun")
        work.release()
        gate.open()
        harness.thread.thread.join(PATIENCE)

    assert not harness.thread.thread.is_alive()
    assert log.codes == [
        EVENT_JOB_EXECUTED,
        EVENT_JOB_EXECUTED,
        EVENT_SCHEDULER_SHUTDOWN,
    ]
    assert {*log.results} == {"not interrupted", "passed"}


def test_end_of_the_reactor_loses_coroutines_and_the_scheduler_can_be_shut_down(
    harness: TwistedHarness, scheduler: TwistedScheduler, log: EventLog, work: Work
) -> None:
    reactor = harness.thread.reactor
    reactor.callFromThread(reactor.stop)
    harness.thread.thread.join(PATIENCE)
    scheduler.wakeup()
    scheduler.shutdown()

    assert log.codes == [EVENT_JOB_LOST, EVENT_SCHEDULER_SHUTDOWN]
    assert log.events[0].started_at is not None


def test_job_added_after_the_end_of_the_reactor_is_kept(
    harness: TwistedHarness, scheduler: TwistedScheduler, log: EventLog
) -> None:
    harness.start(scheduler)
    reactor = harness.thread.reactor
    reactor.callFromThread(reactor.stop)
    harness.thread.thread.join(PATIENCE)

    scheduler.add_job(int, id="kept")

    assert [job.id for job in scheduler.get_jobs()] == ["kept"]
    scheduler.shutdown()
    assert log.codes == [EVENT_SCHEDULER_SHUTDOWN]
