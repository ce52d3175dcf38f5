import signal
import threading
from collections.abc import Iterator

import pytest

from apscheduler.events import EVENT_SCHEDULER_SHUTDOWN, EVENT_SCHEDULER_STARTED
from apscheduler.schedulers import blocking
from apscheduler.schedulers.base import STATE_RUNNING, STATE_STOPPED
from apscheduler.schedulers.blocking import BlockingScheduler
from apscheduler.testing.jobs import PATIENCE
from apscheduler.testing.schedulers import BlockingHarness, SchedulerContract


@pytest.fixture
def harness() -> Iterator[BlockingHarness]:
    harness = BlockingHarness(BlockingScheduler)
    yield harness
    harness.close()


class TestBlockingScheduler(SchedulerContract):
    slice_module = blocking


def test_start_returns_after_the_shutdown_is_complete() -> None:
    scheduler = BlockingScheduler()
    told = []
    scheduler.add_listener(lambda event: told.append("told"), EVENT_SCHEDULER_SHUTDOWN)
    scheduler.add_job(scheduler.shutdown)

    scheduler.start()

    assert told == ["told"]


def test_start_does_not_return_while_shutdown_waits_for_a_job(
    harness: BlockingHarness,
) -> None:
    scheduler = harness.make()
    has_begun, may_end = threading.Event(), threading.Event()

    def work() -> None:
        has_begun.set()
        may_end.wait(PATIENCE)

    harness.start(scheduler)
    scheduler.add_job(work)
    assert has_begun.wait(PATIENCE)
    thread = threading.Thread(target=scheduler.shutdown)
    thread.start()
    harness.wait_until(lambda: not scheduler.running, "shutting down has begun")

    scheduler.wakeup()
    harness.threads[0].join(0.05)
    still_waits = harness.threads[0].is_alive()
    may_end.set()
    harness.threads[0].join(PATIENCE)
    thread.join(PATIENCE)

    assert still_waits
    assert not harness.threads[0].is_alive()


@pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(),
    reason="signals arrive in the main thread",
)
def test_keyboard_interrupt_leaves_start_and_the_scheduler_can_then_be_shut_down() -> (
    None
):
    scheduler = BlockingScheduler()
    scheduler.add_listener(
        lambda event: signal.setitimer(signal.ITIMER_REAL, 0.02),
        EVENT_SCHEDULER_STARTED,
    )
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            scheduler.start()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert scheduler.state == STATE_RUNNING

    scheduler.shutdown()

    assert scheduler.state == STATE_STOPPED


def test_signal_handler_can_shut_the_scheduler_down() -> None:
    scheduler = BlockingScheduler()
    scheduler.add_listener(
        lambda event: signal.setitimer(signal.ITIMER_REAL, 0.02),
        EVENT_SCHEDULER_STARTED,
    )
    before = signal.signal(signal.SIGALRM, lambda number, frame: scheduler.shutdown())
    try:
        scheduler.start()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert not scheduler.running


def test_first_pass_needs_a_wakeup(
    harness: BlockingHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = harness.make()
    passes: list[str] = []
    monkeypatch.setattr(scheduler, "_process_jobs", lambda: passes.append("pass"))
    harness.start(scheduler, paused=True)
    assert passes == []

    scheduler.wakeup()
    harness.wait_until(lambda: passes, "a pass has been made")
