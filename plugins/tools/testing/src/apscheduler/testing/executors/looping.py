"""What every executor promises that runs jobs on an event loop."""

import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED, EVENT_JOB_LOST
from apscheduler.executors.looping import LoopExecutor
from apscheduler.hooks import get_hooks, hookimpl
from apscheduler.runs import Run, RunTimes
from apscheduler.testing import jobs
from apscheduler.testing.executors.basic import (
    NOON,
    ExecutorContract,
    RecordingScheduler,
)
from apscheduler.testing.jobs import PATIENCE, Gate, make_job


class Held:
    """A coroutine job that is held up on the loop without holding up the loop."""

    def __init__(self, pause: Callable[[], Awaitable[Any]]):
        self._pause = pause
        self.has_begun = threading.Event()
        self.may_end = threading.Event()
        self.was_cancelled = False

    async def __call__(self) -> str:
        self.has_begun.set()
        try:
            while not self.may_end.is_set():
                await self._pause()
        except BaseException:
            self.was_cancelled = True
            raise
        return "passed"

    async def run(self) -> str:
        """Do the same; the loop sees at once that this is a coroutine function."""
        return await self()


class LoopExecutorContract(ExecutorContract):
    """A subclass has also a fixture ``scheduler``, whose loop runs in a thread of its own, and a method ``pause``."""

    runs_coroutines = True
    cancels_on_shutdown = False  # True: coroutines that have begun are cancelled

    def pause(self) -> Awaitable[Any]:
        """Override this: return what is awaited on the loop for a moment."""
        raise NotImplementedError("return an awaitable")

    @pytest.fixture(params=["coroutine function", "function that returns a coroutine"])
    def held(self, request: pytest.FixtureRequest) -> Iterator[tuple[Held, Any]]:
        """What is held up, and the function for a job with it."""
        held = Held(self.pause)
        yield held, held.run if request.param == "coroutine function" else held
        held.may_end.set()

    def on_loop(self, executor: Any, func: Callable[[], Any]) -> Any:
        """Call a function on the thread of the loop, and return its result."""
        outcome: Future[Any] = Future()

        def call() -> None:
            try:
                outcome.set_result(func())
            except BaseException as exc:
                outcome.set_exception(exc)

        executor._call_soon(call)
        return outcome.result(PATIENCE)

    def loop_thread(self, executor: Any) -> int:
        ident: int = self.on_loop(executor, threading.get_ident)
        return ident

    # Where jobs run

    def test_coroutines_run_on_the_loop_and_functions_beside_it(
        self, started: Any, scheduler: RecordingScheduler
    ) -> None:
        loop = self.loop_thread(started)

        async def here() -> int:
            await self.pause()
            return threading.get_ident()

        assert self.run(started, scheduler, make_job(here)).retval == loop
        returned = self.run(started, scheduler, make_job(lambda: here()))
        assert returned.retval == loop
        beside = self.run(started, scheduler, make_job(threading.get_ident))
        assert beside.retval != loop

    def test_listeners_are_called_on_the_thread_of_the_loop(
        self, started: Any, scheduler: RecordingScheduler
    ) -> None:
        for func in (jobs.add, jobs.add_async, jobs.start_adding):
            self.run(started, scheduler, make_job(func, 1, 2))
        self.run(started, scheduler, make_job(jobs.fail, "no paper"))

        threads = {thread.ident for thread in scheduler.threads}
        assert threads == {self.loop_thread(started)}

    def test_jobs_can_be_submitted_on_the_loop(
        self, started: Any, scheduler: RecordingScheduler
    ) -> None:
        for func in (jobs.add, jobs.add_async, jobs.start_adding):
            job = make_job(func, 1, 2)
            self.on_loop(started, lambda job=job: started.submit_job(job, [NOON]))  # type: ignore[misc]

            assert scheduler.next_event().retval == 3

    def test_submitting_on_the_loop_does_not_wait_for_the_job_to_begin(
        self, started: Any, scheduler: RecordingScheduler
    ) -> None:
        calls: list[str] = []

        async def work() -> None:
            calls.append("work")

        def submit() -> None:
            started.submit_job(make_job(work), [NOON])
            calls.append("submitted")

        self.on_loop(started, submit)
        scheduler.next_event()

        assert calls == ["submitted", "work"]

    def test_loop_goes_on_while_functions_run(
        self, started: Any, scheduler: RecordingScheduler, gate: Gate
    ) -> None:
        started.submit_job(make_job(jobs.pass_gate, gate.port, id="slow"), [NOON])
        gate.wait_for_arrival()

        assert self.run(started, scheduler, make_job(jobs.add_async, 1, 2)).retval == 3

        gate.open()
        assert scheduler.next_event().job_id == "slow"

    def test_many_coroutines_run_at_a_time(
        self, started: Any, scheduler: RecordingScheduler
    ) -> None:
        everybody = [Held(self.pause) for _ in range(50)]
        for number, held in enumerate(everybody):
            started.submit_job(make_job(held.run, id=str(number)), [NOON])
        for held in everybody:
            assert held.has_begun.wait(PATIENCE)

        for held in everybody:
            held.may_end.set()

        assert {scheduler.next_event().retval for _ in everybody} == {"passed"}

    def test_coroutine_knows_its_run_also_after_it_was_suspended(
        self, started: Any, scheduler: RecordingScheduler
    ) -> None:
        async def tell() -> Any:
            before = jobs.tell_run()
            await self.pause()
            return before, jobs.tell_run()

        expected = ("a", "job", NOON, 2)
        for func in (tell, lambda: tell()):
            started.submit_job(
                make_job(func), RunTimes([NOON], ("a",), "claim", attempt=2)
            )

            assert scheduler.next_event().retval == (expected, expected)

    def test_hook_is_wrapped_around_the_call_in_its_thread_and_context(
        self, started: Any, scheduler: RecordingScheduler
    ) -> None:
        async def work() -> int:
            await self.pause()
            return threading.get_ident()

        with _wrapping() as (entered, left):
            ran = [
                self.run(started, scheduler, make_job(work, id="a")).retval,
                self.run(started, scheduler, make_job(threading.get_ident, id="b")),
            ]

        expected = [("a", ran[0]), ("b", ran[1].retval)]
        assert entered == left == expected

    # Outcomes

    @pytest.mark.parametrize("is_function", [False, True], ids=["async", "returned"])
    def test_exit_of_the_program_in_a_coroutine_does_not_end_the_loop(
        self, started: Any, scheduler: RecordingScheduler, is_function: bool
    ) -> None:
        async def leave() -> None:
            await self.pause()
            raise SystemExit(3)

        job = make_job((lambda: leave()) if is_function else leave)
        event = self.run(started, scheduler, job)

        assert event.code == EVENT_JOB_ERROR
        assert isinstance(event.exception, SystemExit)
        assert self.run(started, scheduler, make_job(jobs.add_async, 1, 2)).retval == 3

    @pytest.mark.parametrize("kind", ["async", "returned", "plain"])
    def test_job_that_raises_cancellation_by_itself_has_failed_and_runs_again(
        self, started: Any, scheduler: RecordingScheduler, kind: str
    ) -> None:
        cancellation = started.cancellations[0]
        if kind == "plain":
            cancellation = CancelledError  # of a future in a pool
        outcomes = iter([cancellation("no more"), None])

        def give_up() -> None:
            if exc := next(outcomes):
                raise exc

        async def give_up_later() -> None:
            await self.pause()
            give_up()

        funcs: dict[str, Any] = {
            "async": give_up_later,
            "returned": lambda: give_up_later(),
            "plain": give_up,
        }
        started.submit_job(make_job(funcs[kind]), [NOON, NOON])
        first, second = scheduler.next_event(), scheduler.next_event()

        assert (first.code, second.code) == (EVENT_JOB_ERROR, EVENT_JOB_EXECUTED)
        assert isinstance(first.exception, cancellation)
        assert "give_up" in str(first.traceback)

    def test_timeout_in_a_returned_coroutine_is_its_own_failure(
        self, started: Any, scheduler: RecordingScheduler
    ) -> None:
        async def run_out() -> None:
            raise TimeoutError("too long")

        event = self.run(started, scheduler, make_job(lambda: run_out()))

        assert event.code == EVENT_JOB_ERROR
        assert str(event.exception) == "too long"

    def test_every_run_is_reported_once_whenever_it_is_shut_down(
        self, started: Any, scheduler: RecordingScheduler
    ) -> None:
        accepted: list[str] = []

        def submit(prefix: str) -> None:
            for number in count():
                func = (jobs.add, jobs.add_async, jobs.start_adding)[number % 3]
                job_id = f"{prefix}{number}"
                try:
                    started.submit_job(make_job(func, 1, 2, id=job_id), [NOON])
                except RuntimeError:  # it has been shut down
                    return
                accepted.append(job_id)

        with ThreadPoolExecutor(2) as threads:
            submitting = [threads.submit(submit, prefix) for prefix in "ab"]
            told = [scheduler.next_event().job_id for _ in range(100)]
            started.shutdown(True)
            for future in submitting:
                future.result(PATIENCE)

        told += [event.job_id for event in scheduler.pending_events()]
        assert sorted(told) == sorted(accepted)
        assert dict(started._instances) == {}

    # Shutting down

    def test_coroutine_that_has_begun_is_cancelled_or_goes_on_after_shutdown(
        self, started: Any, scheduler: RecordingScheduler, held: tuple[Held, Any]
    ) -> None:
        work, func = held
        started.submit_job(make_job(func), [NOON])
        assert work.has_begun.wait(PATIENCE)

        started.shutdown(False)
        if not self.cancels_on_shutdown:
            self.on_loop(started, lambda: None)
            assert scheduler.pending_events() == []
            work.may_end.set()
        event = scheduler.next_event()

        assert work.was_cancelled == self.cancels_on_shutdown
        expected = EVENT_JOB_LOST if self.cancels_on_shutdown else EVENT_JOB_EXECUTED
        assert event.code == expected
        assert event.started_at is not None
        assert dict(started._instances) == {}

    def test_shutdown_that_waits_returns_when_coroutines_have_ended(
        self, started: Any, scheduler: RecordingScheduler, held: tuple[Held, Any]
    ) -> None:
        work, func = held
        started.submit_job(make_job(func), [NOON])
        assert work.has_begun.wait(PATIENCE)
        opener = threading.Timer(0.05, work.may_end.set)
        opener.start()

        started.shutdown(True)

        assert len(scheduler.pending_events()) == 1
        opener.join()

    def test_shutdown_on_the_loop_returns_at_once_and_can_be_waited_for(
        self, started: Any, scheduler: RecordingScheduler, gate: Gate
    ) -> None:
        started.submit_job(make_job(jobs.pass_gate, gate.port), [NOON])
        gate.wait_for_arrival()
        closed = threading.Event()

        def shut_down() -> None:
            started.shutdown(True)
            task = started._create_task(_wait_closed(started, closed))
            task.add_done_callback(lambda task: None)

        self.on_loop(started, shut_down)
        assert scheduler.pending_events() == []
        assert not closed.is_set()
        gate.open()

        assert closed.wait(PATIENCE)
        assert [event.retval for event in scheduler.pending_events()] == ["passed"]

    def test_what_has_not_begun_is_lost_at_shutdown_without_having_started(
        self, started: Any, scheduler: RecordingScheduler
    ) -> None:
        calls: list[int] = []

        async def work() -> None:
            calls.append(1)

        def submit_and_shut_down() -> None:
            started.submit_job(make_job(work), [NOON, NOON])
            started.shutdown()

        self.on_loop(started, submit_and_shut_down)
        events = [scheduler.next_event() for _ in "ab"]

        assert [event.code for event in events] == [EVENT_JOB_LOST] * 2
        assert [event.started_at for event in events] == [None, None]
        assert calls == []

    def test_what_is_on_its_way_to_the_loop_is_lost_at_shutdown_too(
        self, started: Any, scheduler: RecordingScheduler
    ) -> None:
        is_busy, may_go_on = threading.Event(), threading.Event()

        def be_busy() -> None:
            is_busy.set()
            may_go_on.wait(PATIENCE)

        started._call_soon(be_busy)
        assert is_busy.wait(PATIENCE)
        for func in (jobs.add, jobs.add_async):
            started.submit_job(make_job(func, 1, 2, id=func.__name__), [NOON])
        started.shutdown(False)
        may_go_on.set()
        events = [scheduler.next_event() for _ in "ab"]

        assert [event.code for event in events] == [EVENT_JOB_LOST] * 2
        assert [event.started_at for event in events] == [None, None]

    def test_coroutine_that_a_function_returns_after_shutdown_is_treated_alike(
        self, started: Any, scheduler: RecordingScheduler, gate: Gate
    ) -> None:
        def work() -> Any:
            jobs.pass_gate(gate.port)
            return jobs.add_async(1, 2)

        started.submit_job(make_job(work), [NOON])
        gate.wait_for_arrival()
        started.shutdown(False)
        gate.open()
        event = scheduler.next_event()

        if self.cancels_on_shutdown:
            assert event.code == EVENT_JOB_LOST
            assert event.started_at is not None
        else:
            assert event.retval == 3

    def test_work_is_refused_after_shutdown(
        self, started: Any, scheduler: RecordingScheduler
    ) -> None:
        started.shutdown()

        with pytest.raises(RuntimeError, match="shut down"):
            started.submit_job(make_job(jobs.add, 1, 2), [NOON])

        assert dict(started._instances) == {}

    def test_functions_that_shut_down_do_not_wait_for_one_another(
        self, started: Any, scheduler: RecordingScheduler
    ) -> None:
        both = threading.Barrier(2)

        def stop() -> str:
            both.wait(PATIENCE)
            started.shutdown(True)
            return "stopped"

        for job_id in "ab":
            started.submit_job(make_job(stop, id=job_id), [NOON])

        assert [scheduler.next_event().retval for _ in "ab"] == ["stopped"] * 2

    def test_coroutine_may_shut_down_and_wait_for_the_others(
        self, started: Any, scheduler: RecordingScheduler, gate: Gate
    ) -> None:
        async def stop() -> str:
            started.shutdown(True)
            await started.wait_closed()
            return "stopped"

        started.submit_job(make_job(jobs.pass_gate, gate.port, id="other"), [NOON])
        gate.wait_for_arrival()
        started.submit_job(make_job(stop, id="caller"), [NOON])
        self.on_loop(started, lambda: None)
        gate.open()
        events = [scheduler.next_event() for _ in "ab"]

        outcomes = [(event.job_id, event.retval) for event in events]
        assert outcomes == [("other", "passed"), ("caller", "stopped")]

    def test_it_can_be_started_again_while_old_runs_go_on(
        self, started: Any, scheduler: RecordingScheduler, gate: Gate
    ) -> None:
        started.submit_job(make_job(jobs.pass_gate, gate.port, id="old"), [NOON])
        gate.wait_for_arrival()
        started.shutdown(False)
        self.on_loop(started, lambda: None)

        started.start(scheduler, "tested")
        assert self.run(started, scheduler, make_job(jobs.add, 1, 2)).retval == 3
        assert self.run(started, scheduler, make_job(jobs.add_async, 1, 2)).retval == 3
        gate.open()

        assert scheduler.next_event().job_id == "old"

    def test_scheduler_without_such_a_loop_is_refused(
        self, executor: LoopExecutor
    ) -> None:
        with pytest.raises(AttributeError, match="RecordingScheduler does not have"):
            executor.start(RecordingScheduler(), "tested")  # type: ignore[arg-type]  # a stand-in


async def _wait_closed(executor: Any, closed: threading.Event) -> None:
    await executor.wait_closed()
    closed.set()


@contextmanager
def _wrapping() -> Iterator[tuple[list[Any], list[Any]]]:
    """Wrap calls of jobs; say which were entered and left, and in which thread."""
    entered: list[Any] = []
    left: list[Any] = []

    @contextmanager
    def wrap(run: Run) -> Iterator[None]:
        entered.append((run.job_id, threading.get_ident()))
        yield
        left.append((run.job_id, threading.get_ident()))

    class Plugin:
        @hookimpl
        def apscheduler_wrap_call(self, run: Run) -> Any:
            return wrap(run)

    hooks = get_hooks()
    plugin = Plugin()
    hooks.register(plugin)
    try:
        yield entered, left
    finally:
        hooks.unregister(plugin)
