import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import timedelta
from typing import Any

import pytest

from apscheduler.events import (
    EVENT_JOB_EXECUTED,
    EVENT_JOB_REMOVED,
    EVENT_JOB_SUBMITTED,
    EVENT_SCHEDULER_SHUTDOWN,
    SchedulerEvent,
)
from apscheduler.schedulers import looping, qt
from apscheduler.schedulers.qt import QtCore, QtLoop, QtScheduler
from apscheduler.testing.clock import find_work
from apscheduler.testing.jobs import PATIENCE
from apscheduler.testing.schedulers import (
    EventLog,
    EventLoopContract,
    EventLoopHarness,
)


@pytest.fixture(scope="session", autouse=True)
def application() -> Any:
    """The application of this process, of which Qt allows one. It stays until the process ends."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    return QtCore.QCoreApplication.instance() or QtCore.QCoreApplication(["tests"])


class LoopThread(QtCore.QThread):  # type: ignore[misc]  # which class it is depends on what is installed
    """A thread of Qt with an event loop, in which functions can be called."""

    def __init__(self) -> None:
        super().__init__()
        self._is_ready = threading.Event()
        self.start()
        assert self._is_ready.wait(PATIENCE)

    def run(self) -> None:
        self.loop = QtLoop()
        self.loop.call_soon(self._is_ready.set)
        self.exec()

    def call(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result: Future[Any] = Future()

        def call() -> None:
            try:
                result.set_result(func(*args, **kwargs))
            except BaseException as exc:
                result.set_exception(exc)

        self.loop.call_soon(call)
        return result.result(PATIENCE)

    def end(self) -> None:
        self.loop.call_soon(self.quit)
        assert self.wait(PATIENCE * 1000)


class QtHarness(EventLoopHarness):
    """Runs an event loop in a thread of Qt, as it runs in the main thread of a program."""

    def __init__(self) -> None:
        super().__init__(QtScheduler)
        self.thread = LoopThread()
        self.call = self.thread.call  # type: ignore[method-assign]  # the same

    def call_later(self, seconds: float, func: Callable[[], Any]) -> None:
        QtCore.QTimer.singleShot(round(seconds * 1000), func)

    def close(self) -> None:
        super().close()
        self.thread.end()


class TestQtScheduler(EventLoopContract):
    runs_coroutines = False  # Qt has no coroutines
    slice_module = looping

    @pytest.fixture
    def harness(self, application: Any) -> Iterator[QtHarness]:
        harness = QtHarness()
        yield harness
        harness.close()


# In the thread of the tests, as in the main thread of most programs


@pytest.fixture
def scheduler(application: Any) -> Iterator[QtScheduler]:
    scheduler = QtScheduler(timezone="UTC")
    yield scheduler
    if scheduler.running:
        scheduler.shutdown()
    turn_loop()  # and forget what is left in it


@pytest.fixture
def log(scheduler: QtScheduler) -> EventLog:
    log = EventLog()
    scheduler.add_listener(log)
    return log


def run_loop_until(condition: Callable[[], object]) -> None:
    """Run the event loop of this thread until a condition holds."""
    loop, looking = QtCore.QEventLoop(), QtCore.QTimer()
    looking.timeout.connect(lambda: condition() and loop.quit())
    looking.start(1)
    QtCore.QTimer.singleShot(PATIENCE * 1000, loop.quit)
    loop.exec()
    looking.stop()
    assert condition()


def turn_loop() -> None:
    """Have the event loop of this thread do what there is to do."""
    over: list[bool] = []
    QtCore.QTimer.singleShot(0, lambda: over.append(True))
    run_loop_until(lambda: over)


def turn_by_hand_until(condition: Callable[[], object]) -> None:
    """Do without a running loop, as some programs do."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        QtCore.QCoreApplication.processEvents()
        time.sleep(0.001)


def watch_passes(scheduler: QtScheduler) -> list[float | None]:
    passes: list[float | None] = []
    real_process = scheduler._process_jobs

    def process() -> float | None:
        wait_seconds = real_process()
        passes.append(wait_seconds)
        return wait_seconds

    scheduler._process_jobs = process  # type: ignore[method-assign]  # as tests of APScheduler 3 do
    return passes


def count_timers() -> int:
    return sum(len(receiver.timed) for receiver in qt._receivers)


def test_jobs_run_while_the_program_runs_its_loop(
    scheduler: QtScheduler, log: EventLog
) -> None:
    threads: list[threading.Thread] = []
    scheduler.start()
    scheduler.add_job(lambda: threads.append(threading.current_thread()))

    run_loop_until(lambda: log.count(EVENT_JOB_EXECUTED))

    assert threads[0] is not threading.current_thread()
    submitted = log.codes.index(EVENT_JOB_SUBMITTED)
    assert log.threads[submitted] is threading.current_thread()


def test_jobs_run_while_the_program_processes_events_by_itself(
    scheduler: QtScheduler, log: EventLog
) -> None:
    scheduler.start()
    scheduler.add_job(int, "interval", seconds=0.01)

    turn_by_hand_until(lambda: log.count(EVENT_JOB_EXECUTED) >= 3)
    scheduler.shutdown()

    assert log.codes[-1] == EVENT_SCHEDULER_SHUTDOWN


def test_jobs_added_by_another_thread_wake_the_loop(
    scheduler: QtScheduler, log: EventLog
) -> None:
    scheduler.start()
    run_loop_until(lambda: find_work(scheduler) is None)

    thread = threading.Thread(target=scheduler.add_job, args=(int,))
    thread.start()
    run_loop_until(lambda: log.count(EVENT_JOB_EXECUTED))
    thread.join()


def test_each_wakeup_leaves_one_timer_and_shutdown_none(
    scheduler: QtScheduler,
) -> None:
    passes = watch_passes(scheduler)
    scheduler.start()
    scheduler.add_job(int, "interval", hours=1)
    for number in range(1, 6):
        scheduler.wakeup()
        run_loop_until(lambda number=number: len(passes) >= number)  # type: ignore[misc]
        assert count_timers() == 1

    scheduler.shutdown()
    assert count_timers() == 0
    made = len(passes)
    turn_loop()
    assert len(passes) == made


def test_shutdown_by_another_thread_stops_the_timer(scheduler: QtScheduler) -> None:
    scheduler.start()
    scheduler.add_job(int, "interval", hours=1)
    run_loop_until(count_timers)

    thread = threading.Thread(target=scheduler.shutdown)
    thread.start()
    run_loop_until(lambda: not thread.is_alive())
    thread.join()

    assert count_timers() == 0


def test_long_pause_is_no_longer_than_a_timer_of_qt_can_be(
    scheduler: QtScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = watch_passes(scheduler)
    monkeypatch.setattr(looping, "SLICE_SECONDS", float("inf"))
    scheduler.start()
    days = timedelta(days=10_000)
    scheduler.add_job(int, "interval", days=10_000)

    run_loop_until(lambda: any(passes))

    assert passes[-1] == pytest.approx(days.total_seconds(), abs=60)
    [receiver] = (receiver for receiver in qt._receivers if receiver.timed)
    [timer_id] = receiver.timed
    milliseconds = QtCore.QAbstractEventDispatcher.instance().remainingTime(timer_id)
    assert 2**31 - 60_000 < milliseconds < 2**31


def test_shutdown_after_the_loop_has_ended_waits_for_jobs(
    scheduler: QtScheduler, log: EventLog
) -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    def work() -> bool:
        has_begun.set()
        return may_end.wait(PATIENCE)

    scheduler.start()
    scheduler.add_job(work)
    run_loop_until(has_begun.is_set)
    threading.Timer(0.01, may_end.set).start()
    scheduler.shutdown()

    assert log.codes[-2:] == [EVENT_JOB_EXECUTED, EVENT_SCHEDULER_SHUTDOWN]
    assert log.results == [True]
    assert log.threads[-1] is threading.current_thread()


def test_scheduler_can_be_used_without_the_loop_ever_running(
    scheduler: QtScheduler, log: EventLog
) -> None:
    for _ in range(3):
        scheduler.start()
        scheduler.add_job(int)
        scheduler.shutdown()

    assert log.count(EVENT_SCHEDULER_SHUTDOWN) == 3
    assert log.count(EVENT_JOB_EXECUTED) == 0


@pytest.mark.parametrize("performs_io", [False, True], ids=["memory", "server"])
def test_window_that_a_listener_opens_does_not_stop_the_scheduler(
    scheduler: QtScheduler, log: EventLog, performs_io: bool
) -> None:
    store: Any = scheduler._create_plugin_instance("jobstore", "memory", {})
    store.performs_io = performs_io
    scheduler.add_jobstore(store)
    told: list[str] = []

    def open_window(event: SchedulerEvent) -> None:
        told.append(event.job_id)  # type: ignore[attr-defined]  # only events of jobs come
        if len(told) == 1:  # it stays open while two other jobs run
            scheduler.add_job(int, id="second")
            scheduler.add_job(int, id="third")
            run_loop_until(lambda: log.count(EVENT_JOB_EXECUTED) == 3)

    scheduler.add_listener(open_window, EVENT_JOB_REMOVED)
    scheduler.start()
    scheduler.add_job(int, id="first")
    scheduler.add_job(int, "interval", hours=1)
    run_loop_until(lambda: len(told) == 3)

    assert told == ["first", "second", "third"]
    run_loop_until(lambda: find_work(scheduler) is None)
    assert count_timers() == 1


def test_call_that_fails_ends_neither_the_loop_nor_the_program(
    scheduler: QtScheduler, log: EventLog, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ArithmeticError("there is no such number")

    scheduler.start()
    assert scheduler._life is not None
    loop = scheduler._life.loop
    loop.call_soon(fail)
    loop.call_later(0.001, fail)
    run_loop_until(lambda: caplog.text.count("no such number") >= 2)
    scheduler.add_job(int)
    run_loop_until(lambda: log.count(EVENT_JOB_EXECUTED))


def test_timer_that_was_cancelled_or_has_fired_can_be_cancelled(
    scheduler: QtScheduler,
) -> None:
    loop, calls = QtLoop(), list[str]()
    cancelled = loop.call_later(0.001, calls.append, "cancelled")
    fired = loop.call_later(0.001, calls.append, "fired")
    cancelled.cancel()
    cancelled.cancel()
    run_loop_until(lambda: calls)
    fired.cancel()
    turn_loop()
    loop.close()

    assert calls == ["fired"]
    assert not loop.call_soon(calls.append, "never")


def test_receivers_are_deleted_in_their_thread(scheduler: QtScheduler) -> None:
    turn_loop()
    before = {*qt._receivers}
    for _ in range(3):
        scheduler.start()
        thread = threading.Thread(target=scheduler.shutdown)
        thread.start()
        run_loop_until(lambda thread=thread: not thread.is_alive())  # type: ignore[misc]
        thread.join()

    run_loop_until(lambda: {*qt._receivers} <= before)


def test_scheduler_is_shut_down_when_its_thread_has_ended(
    scheduler: QtScheduler, log: EventLog
) -> None:
    thread = LoopThread()
    thread.call(scheduler.start)
    scheduler.add_job(int, "interval", hours=1)
    thread.end()

    scheduler.wakeup()
    scheduler.shutdown()

    assert log.codes[-1] == EVENT_SCHEDULER_SHUTDOWN
    assert not scheduler.running


def test_thread_without_an_event_loop_is_refused(scheduler: QtScheduler) -> None:
    failures: list[BaseException] = []

    def start() -> None:
        try:
            scheduler.start()
        except RuntimeError as exc:
            failures.append(exc)

    thread = threading.Thread(target=start, name="loopless")
    thread.start()
    thread.join()

    assert "'loopless' has none" in str(failures[0])
    assert not scheduler.running
    scheduler.start()  # here it can
