"""Run unpatched by pytest itself, and patched in a process of its own by ``test_gevent_executor_patched.py``."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Self

import gevent
import gevent.socket
import pytest
from gevent import monkey
from gevent.event import Event
from gevent.threadpool import ThreadPool

from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_LOST,
    JobExecutionEvent,
)
from apscheduler.executors.gevent import GeventExecutor
from apscheduler.runs import RunTimes
from apscheduler.testing import jobs
from apscheduler.testing.executors import NOON, ExecutorContract, RecordingScheduler
from apscheduler.testing.jobs import PATIENCE, Gate, make_job

start_real_thread = monkey.get_original("_thread", "start_new_thread")
get_real_ident = monkey.get_original("_thread", "get_ident")


class GreenScheduler(RecordingScheduler):
    """Stands in for a scheduler; the test waits for its events as greenlets do."""

    def __init__(self) -> None:
        super().__init__()
        self.greenlets: list[Any] = []

    def _dispatch_event(self, event: JobExecutionEvent) -> None:
        self.greenlets.append(gevent.getcurrent())
        super()._dispatch_event(event)

    def next_event(self) -> JobExecutionEvent:
        until(lambda: not self._events.empty())
        return self._events.get_nowait()


def until(condition: Callable[[], object]) -> None:
    with gevent.Timeout(PATIENCE):
        while not condition():
            gevent.sleep(0.001)


class GreenGate(Gate):
    """A gate at which greenlets wait."""

    def __enter__(self) -> Self:
        super().__enter__()
        self._listener = gevent.socket.socket(fileno=self._listener.detach())
        self._listener.settimeout(PATIENCE)
        return self


@pytest.fixture
def executor() -> GeventExecutor:
    return GeventExecutor()


@pytest.fixture
def scheduler() -> GreenScheduler:
    return GreenScheduler()


@pytest.fixture
def started(executor: GeventExecutor, scheduler: Any) -> Iterator[GeventExecutor]:
    executor.start(scheduler, "tested")
    yield executor
    executor.shutdown()
    assert executor._batches == set()


class TestGeventExecutor(ExecutorContract):
    @pytest.fixture
    def executor(self) -> Any:
        return GeventExecutor()

    @pytest.fixture
    def scheduler(self) -> Any:
        return GreenScheduler()

    @pytest.fixture
    def gate(self, started: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
        # What a program that has not been patched does in its jobs.
        monkeypatch.setattr(jobs, "socket", gevent.socket)
        with GreenGate() as gate:
            yield gate


class Work:
    """A job that begins, and goes on when the test says so, in one greenlet for each batch."""

    def __init__(self) -> None:
        self.greenlets: list[Any] = []
        self.may_end = Event()

    def __call__(self) -> str:
        self.greenlets.append(gevent.getcurrent())
        assert self.may_end.wait(PATIENCE)
        return "worked"

    def wait(self, count: int = 1) -> None:
        until(lambda: len(self.greenlets) == count)


@pytest.fixture
def work() -> Work:
    return Work()


def call_in_real_thread(func: Callable[[], object]) -> list[object]:
    """Call a function in a thread that is none of gevent's, and return a list that then gets its result."""
    results: list[object] = []

    def call() -> None:
        try:
            results.append(func())
        except BaseException as exc:
            results.append(exc)

    start_real_thread(call, ())
    return results


def test_batches_run_in_greenlets_of_their_own_on_the_hub_of_the_starter(
    started: GeventExecutor, scheduler: GreenScheduler, work: Work
) -> None:
    for name in "ab":
        started.submit_job(make_job(work, id=name), [NOON])
    work.wait(2)
    work.may_end.set()
    codes = [scheduler.next_event().code for _ in "ab"]

    assert codes == 2 * [EVENT_JOB_EXECUTED]
    assert len({*work.greenlets, gevent.getcurrent()}) == 3
    assert {greenlet.parent for greenlet in work.greenlets} == {gevent.get_hub()}


def test_greenlets_that_take_turns_know_which_run_each_of_them_is(
    started: GeventExecutor, scheduler: GreenScheduler, work: Work
) -> None:
    def tell() -> Any:
        before = jobs.tell_run()
        work()
        return before, jobs.tell_run()

    for name in "ab":
        run_times = RunTimes([NOON], (f"run-{name}",), "claim", attempt=2)
        started.submit_job(make_job(tell, id=name), run_times)
    work.wait(2)
    work.may_end.set()
    events = [scheduler.next_event() for _ in "ab"]

    assert {event.job_id: event.retval for event in events} == {
        name: ((f"run-{name}", name, NOON, 2),) * 2 for name in "ab"
    }


def test_listeners_are_called_in_greenlets_that_may_wait(
    started: GeventExecutor, scheduler: GreenScheduler, work: Work
) -> None:
    waited = []
    work.may_end.set()
    real_dispatch = scheduler._dispatch_event

    def dispatch(event: JobExecutionEvent) -> None:
        gevent.sleep(0.001)
        waited.append(get_real_ident())
        real_dispatch(event)

    scheduler._dispatch_event = dispatch  # type: ignore[method-assign]  # a stand-in
    started.submit_job(make_job(work), [NOON])
    scheduler.next_event()

    assert waited == [get_real_ident()]
    assert isinstance(scheduler.greenlets[0], gevent.Greenlet)


def submit_in_thread(func: Callable[[], None]) -> None:
    thread = threading.Thread(target=func)
    thread.start()
    thread.join()


def submit_in_pool(func: Callable[[], None]) -> None:
    pool = ThreadPool(1)
    pool.apply(func)
    pool.kill()


def submit_in_real_thread(func: Callable[[], None]) -> None:
    results = call_in_real_thread(func)
    until(lambda: results)
    assert results == [None]


@pytest.mark.parametrize(
    "submit", [submit_in_thread, submit_in_pool, submit_in_real_thread]
)
def test_jobs_can_be_submitted_from_any_thread(
    started: GeventExecutor,
    scheduler: GreenScheduler,
    work: Work,
    submit: Callable[[Callable[[], None]], None],
) -> None:
    submit(lambda: started.submit_job(make_job(work), [NOON]))
    work.wait()
    work.may_end.set()

    assert scheduler.next_event().retval == "worked"
    assert work.greenlets[0].parent is gevent.get_hub()
    assert scheduler.greenlets[0].parent is gevent.get_hub()


def test_executor_started_in_another_thread_uses_the_hub_of_its_scheduler(
    executor: GeventExecutor, scheduler: Any, work: Work
) -> None:
    scheduler._hub = gevent.get_hub()
    submit_in_pool(lambda: executor.start(scheduler, "added"))
    executor.submit_job(make_job(work), [NOON])
    work.wait()
    work.may_end.set()

    assert scheduler.next_event().retval == "worked"
    assert work.greenlets[0].parent is gevent.get_hub()


# Killing.


def test_killed_job_is_reported_as_failed_and_no_longer_counted(
    started: GeventExecutor,
    scheduler: GreenScheduler,
    work: Work,
    caplog: pytest.LogCaptureFixture,
) -> None:
    started.submit_job(make_job(work), [NOON])
    work.wait()

    work.greenlets[0].kill()
    event = scheduler.next_event()

    assert event.code == EVENT_JOB_ERROR
    assert isinstance(event.exception, gevent.GreenletExit)
    assert "in __call__" in (event.traceback or "")
    assert event.started_at is not None
    assert dict(started._instances) == {}
    assert started._outstanding == 0
    assert [r.levelname for r in caplog.records if "killed" in r.message] == ["ERROR"]


def test_job_killed_with_an_exception_of_its_own_is_reported_with_that(
    started: GeventExecutor, scheduler: GreenScheduler, work: Work
) -> None:
    started.submit_job(make_job(work), [NOON])
    work.wait()

    work.greenlets[0].kill(ValueError("no paper"))
    event = scheduler.next_event()

    assert (event.code, str(event.exception)) == (EVENT_JOB_ERROR, "no paper")
    assert dict(started._instances) == {}


def test_kill_ends_the_batch_and_runs_that_never_began_are_lost(
    started: GeventExecutor, scheduler: GreenScheduler, work: Work
) -> None:
    times = [NOON + timedelta(seconds=second) for second in range(3)]
    job = make_job(work)
    started.submit_job(job, times)
    work.wait()

    work.greenlets[0].kill()
    events = [scheduler.next_event() for _ in times]

    assert [event.scheduled_run_time for event in events] == times
    assert [event.code for event in events] == [
        EVENT_JOB_ERROR,
        EVENT_JOB_LOST,
        EVENT_JOB_LOST,
    ]
    assert [event.started_at is None for event in events] == [False, True, True]
    assert len(work.greenlets) == 1
    assert dict(started._instances) == {}


def test_run_that_is_killed_before_it_begins_is_lost(
    started: GeventExecutor, scheduler: GreenScheduler, work: Work
) -> None:
    spawned: list[Any] = []
    gevent.Greenlet.add_spawn_callback(spawned.append)
    try:
        started.submit_job(make_job(work), [NOON])
    finally:
        gevent.Greenlet.remove_spawn_callback(spawned.append)

    spawned[0].kill(block=False)
    event = scheduler.next_event()

    assert (event.code, event.started_at) == (EVENT_JOB_LOST, None)
    assert isinstance(event.exception, gevent.GreenletExit)
    assert work.greenlets == []
    assert dict(started._instances) == {}


def test_job_that_survives_being_killed_has_succeeded(
    started: GeventExecutor, scheduler: GreenScheduler
) -> None:
    greenlets: list[Any] = []

    def stubborn() -> str:
        greenlets.append(gevent.getcurrent())
        try:
            gevent.sleep(PATIENCE)
        except gevent.GreenletExit:
            return "cleaned up"
        return "slept"

    started.submit_job(make_job(stubborn), [NOON])
    until(lambda: greenlets)
    greenlets[0].kill()

    assert scheduler.next_event().retval == "cleaned up"


def test_timeout_of_gevent_is_a_failure_like_any_other(
    started: GeventExecutor, scheduler: GreenScheduler
) -> None:
    def impatient() -> None:
        with gevent.Timeout(0.001):
            gevent.sleep(PATIENCE)

    started.submit_job(make_job(impatient), [NOON])
    event = scheduler.next_event()

    assert event.code == EVENT_JOB_ERROR
    assert isinstance(event.exception, gevent.Timeout)


def test_failure_outside_the_job_is_reported(
    started: GeventExecutor,
    scheduler: GreenScheduler,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise OSError("the disk with the log is full")

    monkeypatch.setattr("apscheduler.executors.gevent.run_job", broken)
    started.submit_job(make_job(jobs.add, 1, 2), [NOON])
    event = scheduler.next_event()

    assert (event.code, type(event.exception)) == (EVENT_JOB_ERROR, OSError)
    assert dict(started._instances) == {}


# Shutting down.


def shut_down_in_greenlet(executor: GeventExecutor) -> Callable[[], object]:
    greenlet = gevent.spawn(executor.shutdown)
    return lambda: greenlet.dead


def shut_down_in_pool(executor: GeventExecutor) -> Callable[[], object]:
    pool = ThreadPool(1)
    result = pool.spawn(executor.shutdown)
    result.rawlink(lambda result: pool.kill())
    return result.ready


def shut_down_in_real_thread(executor: GeventExecutor) -> Callable[[], object]:
    results = call_in_real_thread(executor.shutdown)
    return lambda: results


@pytest.mark.parametrize(
    "shut_down", [shut_down_in_greenlet, shut_down_in_pool, shut_down_in_real_thread]
)
def test_shutdown_waits_wherever_it_is_called(
    started: GeventExecutor,
    scheduler: GreenScheduler,
    work: Work,
    shut_down: Callable[[GeventExecutor], Callable[[], object]],
) -> None:
    for name in "ab":
        started.submit_job(make_job(work, id=name), [NOON])
    work.wait(2)
    has_returned = shut_down(started)
    until(lambda: started._is_shut_down)
    gevent.sleep(0.02)
    assert not has_returned()
    assert scheduler.pending_events() == []

    work.may_end.set()
    until(has_returned)

    assert [event.retval for event in scheduler.pending_events()] == 2 * ["worked"]


def test_shutdown_returns_when_listeners_have_been_told(
    started: GeventExecutor, scheduler: Any, work: Work
) -> None:
    told = []

    def dispatch(event: JobExecutionEvent) -> None:
        gevent.sleep(0.01)
        told.append(event.code)

    scheduler._dispatch_event = dispatch
    work.may_end.set()
    started.submit_job(make_job(work), [NOON])

    started.shutdown()

    assert told == [EVENT_JOB_EXECUTED]


def test_job_that_shuts_its_executor_down_waits_for_others_and_not_for_itself(
    started: GeventExecutor, scheduler: GreenScheduler, work: Work
) -> None:
    def shut_down() -> str:
        started.shutdown()
        return "shut down"

    started.submit_job(make_job(work, id="other"), [NOON])
    work.wait()
    started.submit_job(make_job(shut_down), [NOON])
    until(lambda: started._is_shut_down)
    gevent.sleep(0.01)
    assert scheduler.pending_events() == []
    work.may_end.set()
    results = [scheduler.next_event().retval for _ in "ab"]

    assert results == ["worked", "shut down"]


def test_shutdown_waits_for_jobs_that_are_killed(
    started: GeventExecutor, scheduler: GreenScheduler, work: Work
) -> None:
    started.submit_job(make_job(work), [NOON])
    work.wait()
    killing = gevent.spawn_later(0.01, work.greenlets[0].kill)

    started.shutdown()

    assert [event.code for event in scheduler.pending_events()] == [EVENT_JOB_ERROR]
    killing.join()


def test_work_after_shutdown_is_refused(started: GeventExecutor) -> None:
    started.shutdown()

    with pytest.raises(RuntimeError, match="has been shut down"):
        started.submit_job(make_job(jobs.add, 1, 2), [NOON])

    assert dict(started._instances) == {}


def test_hub_of_another_thread_carries_out_what_that_thread_has_started(
    executor: GeventExecutor, scheduler: Any, work: Work
) -> None:
    idents = []

    def program() -> None:
        work.may_end = Event()
        executor.start(scheduler, "elsewhere")
        executor.submit_job(make_job(lambda: idents.append(get_real_ident())), [NOON])
        executor.shutdown()
        idents.append(get_real_ident())
        gevent.get_hub().destroy(destroy_loop=True)

    results = call_in_real_thread(program)
    until(lambda: results)

    assert results == [None]
    assert len(idents) == 2
    assert {*idents} == {idents[0]}
    assert idents[0] != get_real_ident()


def test_nothing_stays_on_the_hub_or_in_memory(
    executor: GeventExecutor, scheduler: Any
) -> None:
    counts = []

    def program() -> None:
        hub = gevent.get_hub()
        gevent.sleep(0.001)
        counts.append(hub.loop.activecnt)
        executor.start(scheduler, "measured")
        for number in range(5):
            executor.submit_job(make_job(time.time, id=str(number)), [NOON])
        executor.shutdown()
        gevent.sleep(0.001)
        counts.append(hub.loop.activecnt)
        hub.destroy(destroy_loop=True)

    results = call_in_real_thread(program)
    until(lambda: results)

    assert results == [None]
    assert counts[0] == counts[1]
    assert (executor._batches, dict(executor._instances)) == (set(), {})
