import itertools
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any

import pytest

from apscheduler.events import EVENT_JOB_EXECUTED, EVENT_JOB_LOST
from apscheduler.executors.looping import LoopExecutor
from apscheduler.testing import jobs
from apscheduler.testing.executors import NOON, RecordingScheduler
from apscheduler.testing.jobs import make_job


class Cancelled(BaseException):
    """Ends a coroutine on the loop below."""


class SteppedTask:
    """A coroutine that goes on by one step whenever its loop is turned."""

    def __init__(self, executor: "SteppedExecutor", coroutine: Any):
        self._executor = executor
        self._coroutine = coroutine
        # What the coroutine sets is not seen outside.
        self._context = copy_context()
        self._cancellations = 0
        self._exception: BaseException | None = None
        self._result: Any = None
        self._callbacks: list[Callable[[Any], object]] = []
        self._is_done = False
        executor.soon.append(self._step)

    def _step(self) -> None:
        try:
            if self._cancellations:
                self._context.run(self._coroutine.throw, Cancelled())
            else:
                self._context.run(self._coroutine.send, None)
        except StopIteration as exc:
            self._end(result=exc.value)
        except BaseException as exc:
            self._end(exception=exc)
        else:
            self._executor.soon.append(self._step)

    def _end(self, result: Any = None, exception: BaseException | None = None) -> None:
        self._is_done, self._result, self._exception = True, result, exception
        for callback in self._callbacks:
            callback(self)

    def cancel(self) -> None:
        if not self._is_done:
            self._cancellations += 1

    def cancelling(self) -> int:
        return self._cancellations

    def cancelled(self) -> bool:
        return isinstance(self._exception, Cancelled)

    def exception(self) -> BaseException | None:
        return self._exception

    def result(self) -> Any:
        return self._result

    def add_done_callback(self, callback: Callable[[Any], object], /) -> None:
        self._callbacks.append(callback)

    def remove_done_callback(self, callback: Callable[[Any], object], /) -> None:
        self._callbacks.remove(callback)


class SteppedExecutor(LoopExecutor):
    """Has a loop and threads that only go on when the test says so, in the order it says."""

    cancellations = (Cancelled,)

    def __init__(self) -> None:
        super().__init__()
        self.soon: list[Callable[[], object]] = []
        self.in_thread: list[Callable[[], object]] = []
        self.coroutines: list[Coroutine[Any, Any, Any]] = []
        self.is_closed = self.is_stopped = False
        self.is_on_loop = False

    def turn(self) -> None:
        """Do the next thing that is to be done on the loop, which runs again if it was stopped."""
        self.is_stopped = False
        if self.soon and not self.is_closed:
            self.is_on_loop = True
            self.soon.pop(0)()
            self.is_on_loop = False

    def let_thread_go_on(self) -> None:
        if self.in_thread:
            self.in_thread.pop(0)()

    def stop(self) -> None:
        self.is_stopped = True

    def close(self) -> None:
        self.is_closed = True

    def shutdown(self, wait: bool = False) -> None:
        super().shutdown(wait)

    def _is_on_loop(self) -> bool:
        return self.is_on_loop

    def _is_running(self) -> bool:
        return not (self.is_closed or self.is_stopped)

    def _is_closed(self) -> bool:
        return self.is_closed

    def _call_soon(self, func: Callable[..., object], *args: Any) -> None:
        if self.is_closed:
            raise RuntimeError("This loop is closed")
        self.soon.append(lambda: func(*args))

    def _create_task(self, coroutine: Coroutine[Any, Any, Any]) -> SteppedTask:
        self.coroutines.append(coroutine)
        return SteppedTask(self, coroutine)

    def _call_in_thread(self, func: Callable[[], None]) -> None:
        self.in_thread.append(func)


class ImpatientExecutor(SteppedExecutor):
    cancels_on_shutdown = True


def start(executor: SteppedExecutor) -> RecordingScheduler:
    scheduler = RecordingScheduler()
    executor.start(scheduler, "stepped")  # type: ignore[arg-type]  # a stand-in
    return scheduler


ACTIONS = {
    "turn": SteppedExecutor.turn,
    "thread": SteppedExecutor.let_thread_go_on,
    "shutdown": SteppedExecutor.shutdown,
    "stop": SteppedExecutor.stop,
    "close": SteppedExecutor.close,
}
ENDINGS: dict[str, list[Callable[[SteppedExecutor], object]]] = {
    "goes on until nothing is left": [
        *[SteppedExecutor.turn, SteppedExecutor.let_thread_go_on] * 6,
        SteppedExecutor.close,
        SteppedExecutor.shutdown,
    ],
    "stopped in the middle": [
        SteppedExecutor.stop,
        lambda executor: executor.shutdown(True),
    ],
}


@pytest.mark.parametrize("kind", [SteppedExecutor, ImpatientExecutor])
@pytest.mark.parametrize("func", [jobs.add, jobs.add_async], ids=["plain", "async"])
@pytest.mark.parametrize("on_loop", [True, False], ids=["on the loop", "elsewhere"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_each_run_has_one_outcome_in_whatever_order_things_happen(
    kind: type[SteppedExecutor], func: Any, on_loop: bool, ending: str
) -> None:
    calls: list[int] = []

    def note(*args: int) -> Any:
        calls.append(1)
        return 3

    async def note_async(*args: int) -> Any:
        calls.append(1)
        return await jobs.add_async(1, 2)

    job = make_job(note if func is jobs.add else note_async, 1, 2)
    for order in itertools.product(ACTIONS, repeat=5):
        executor = kind()
        scheduler = start(executor)
        calls.clear()
        executor.is_on_loop = on_loop
        executor.submit_job(job, [NOON])
        executor.is_on_loop = False

        for act in [*map(ACTIONS.__getitem__, order), *ENDINGS[ending]]:
            act(executor)

        for coroutine in executor.coroutines:
            coroutine.close()

        (event,) = scheduler.pending_events()
        assert event.code in (EVENT_JOB_EXECUTED, EVENT_JOB_LOST), order
        assert (event.started_at is not None) == bool(calls), order
        assert len(calls) <= 1, order
        assert dict(executor._instances) == {}, order
        if ending != "stopped in the middle" and not {"shutdown", "close"} & {*order}:
            assert event.retval == 3


def test_what_has_begun_goes_on_after_shutdown_and_what_has_not_is_given_back() -> None:
    executor = SteppedExecutor()
    scheduler = start(executor)
    for job_id in ("begun", "waiting"):
        job = make_job(jobs.add_async, 1, 2, id=job_id)
        executor.submit_job(job, [NOON])
    for _ in range(3):  # both are handed to the loop, and the first of them begins
        executor.turn()

    executor.is_on_loop = True
    executor.shutdown()
    while executor.soon:
        executor.turn()

    outcomes = {event.job_id: event.code for event in scheduler.pending_events()}
    assert outcomes == {"begun": EVENT_JOB_EXECUTED, "waiting": EVENT_JOB_LOST}


def test_loop_that_ends_while_a_thread_waits_for_it_lets_the_thread_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("apscheduler.executors.looping.LOOP_CHECK_SECONDS", 0.001)
    executor = SteppedExecutor()
    scheduler = start(executor)

    def work() -> Any:
        executor.close()
        executor.is_closed = (
            False  # it accepts the coroutine, but is never turned again
        )
        executor.soon.append(executor.close)
        return coroutine

    coroutine = jobs.add_async(1, 2)
    executor.submit_job(make_job(work), [NOON])
    executor.turn()
    monkeypatch.setattr(executor, "_is_closed", iter([False, False, True]).__next__)
    executor.let_thread_go_on()
    executor.close()
    executor.shutdown()

    (event,) = scheduler.pending_events()
    coroutine.close()
    assert event.code == EVENT_JOB_LOST
    assert event.started_at is not None


def test_scheduler_that_fails_does_not_keep_others_waiting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    executor = SteppedExecutor()
    scheduler = start(executor)
    ended: list[bool] = []

    def fail(event: object) -> None:
        raise ValueError("a scheduler that is broken")

    executor.submit_job(make_job(jobs.add_async, 1, 2), [NOON])
    (batch,) = executor._batches
    executor._call_when_reported(batch, lambda: ended.append(True))
    scheduler._dispatch_event = fail  # type: ignore[method-assign]  # stands in for a broken one
    while executor.soon:
        executor.turn()

    assert ended == [True]
    (record,) = caplog.records
    assert record.getMessage().startswith("Error reporting a run of job")
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "a scheduler that is broken"
