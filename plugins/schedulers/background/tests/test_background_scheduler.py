import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from apscheduler.events import EVENT_SCHEDULER_SHUTDOWN
from apscheduler.executors.debug import DebugExecutor
from apscheduler.schedulers import blocking
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.testing.jobs import PATIENCE
from apscheduler.testing.schedulers import SchedulerContract, SchedulerHarness


@pytest.fixture
def harness() -> Iterator[SchedulerHarness]:
    harness = SchedulerHarness(BackgroundScheduler)
    yield harness
    harness.close()


class TestBackgroundScheduler(SchedulerContract):
    slice_module = blocking


@pytest.mark.parametrize(
    ("value", "is_daemon"), [(None, True), ("no", False), ("yes", True), (0, False)]
)
def test_thread_is_named_and_a_daemon_unless_told_otherwise(
    harness: SchedulerHarness, value: Any, is_daemon: bool
) -> None:
    scheduler: Any = harness.make(**{} if value is None else {"daemon": value})

    harness.start(scheduler)

    assert scheduler._thread.name == "APScheduler"
    assert scheduler._thread.daemon is scheduler._daemon is is_daemon


def test_thread_has_ended_when_shutdown_returns(harness: SchedulerHarness) -> None:
    scheduler: Any = harness.make()
    harness.start(scheduler)
    thread = scheduler._thread

    scheduler.shutdown()

    assert not thread.is_alive()
    assert scheduler._thread is None


def test_shutdown_from_the_thread_of_the_scheduler_ends_it(
    harness: SchedulerHarness,
) -> None:
    scheduler: Any = harness.make(executors={"default": DebugExecutor()})
    harness.start(scheduler)
    thread = scheduler._thread

    scheduler.add_job(scheduler.shutdown)
    thread.join(PATIENCE)

    assert not thread.is_alive()
    assert not scheduler.running


def test_listener_can_start_the_scheduler_again_at_its_shutdown(
    harness: SchedulerHarness,
) -> None:
    scheduler: Any = harness.make()
    starts: list[bool] = []

    def start_again(event: Any) -> None:
        if not starts:
            starts.append(True)
            scheduler.start()

    scheduler.add_listener(start_again, EVENT_SCHEDULER_SHUTDOWN)
    harness.start(scheduler)
    first_thread = scheduler._thread
    scheduler.shutdown()
    ran = threading.Event()
    scheduler.add_job(ran.set)

    assert ran.wait(PATIENCE)
    assert not first_thread.is_alive()


def test_start_without_threads_to_be_had_leaves_the_scheduler_stopped(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler: Any = harness.make(executors={"default": DebugExecutor()})

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        scheduler.start()
    monkeypatch.undo()

    assert not scheduler.running
    scheduler.start()


def test_program_that_ends_does_not_wait_for_a_daemon_scheduler() -> None:
    script = (
        "from apscheduler.schedulers.background import BackgroundScheduler\n"
        "scheduler = BackgroundScheduler()\n"
        "scheduler.start()\n"
        "scheduler.add_job(print, 'interval', hours=1)\n"
    )

    result = subprocess.run(
        [sys.executable, "-c", script],
        timeout=PATIENCE,
        capture_output=True,
        check=False,
    )

    assert (result.returncode, result.stderr) == (0, b"")
