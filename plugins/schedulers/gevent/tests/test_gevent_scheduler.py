"""Run unpatched by pytest itself, and patched in a process of its own by ``test_gevent_scheduler_patched.py``."""

import threading
import time
from typing import Any

import gevent
import pytest
from gevent import monkey
from gevent.event import Event

from apscheduler import completions
from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_LOST,
    EVENT_SCHEDULER_SHUTDOWN,
    EVENT_SCHEDULER_STARTED,
)
from apscheduler.executors.gevent import GeventExecutor
from apscheduler.schedulers import SchedulerNotRunningError, blocking
from apscheduler.schedulers.gevent import GeventScheduler
from apscheduler.testing.jobs import PATIENCE
from apscheduler.testing.schedulers import (
    EventLog,
    EventLoopContract,
    SchedulerContract,
)

IS_PATCHED = monkey.is_module_patched("socket")


if IS_PATCHED:  # what blocks is supposed to cooperate

    class TestPatchedGeventScheduler(SchedulerContract):
        slice_module = blocking

else:

    class TestGeventScheduler(EventLoopContract):
        runs_coroutines = False
        slice_module = blocking


# Starting, and the greenlet.


def test_start_returns_the_greenlet_which_ends_with_the_shutdown(
    scheduler: Any,
) -> None:
    greenlet = scheduler.start()
    assert isinstance(greenlet, gevent.Greenlet)
    gevent.idle()
    assert not greenlet.dead

    scheduler.shutdown()

    assert greenlet.dead
    assert greenlet.successful()
    assert isinstance(scheduler._executors["default"], GeventExecutor)


def test_program_can_join_the_greenlet_while_nothing_is_due(
    scheduler: Any, beside: Any
) -> None:
    def program() -> str:
        greenlet = scheduler.start()
        gevent.spawn_later(0.02, scheduler.shutdown)
        greenlet.join()
        gevent.get_hub().destroy(destroy_loop=True)
        return "joined"

    assert beside(program) == "joined"


def test_idle_scheduler_that_only_a_thread_wakes_does_not_make_the_hub_give_up(
    scheduler: Any, beside: Any, until: Any
) -> None:
    """Without a timer or a watcher, the hub would raise LoopExit in the main greenlet."""

    def program() -> str:
        scheduler.start().join()
        gevent.get_hub().destroy(destroy_loop=True)
        return "joined"

    call = beside.begin(program)
    until(lambda: scheduler.running)
    gevent.sleep(0.02)
    beside(scheduler.shutdown)
    until(lambda: call.has_ended)

    assert call.result == "joined"


def test_shutdown_right_after_start_ends_the_greenlet_before_its_first_pass(
    scheduler: Any, log: EventLog
) -> None:
    greenlet = scheduler.start()
    scheduler.shutdown()

    assert greenlet.dead
    assert log.codes[-2:] == [EVENT_SCHEDULER_STARTED, EVENT_SCHEDULER_SHUTDOWN]


def test_restart_in_the_same_breath_leaves_one_loop(
    scheduler: Any, log: EventLog, until: Any
) -> None:
    greenlets = []
    for _ in range(3):
        greenlets.append(scheduler.start())
        scheduler.shutdown(wait=False)
    greenlets.append(scheduler.start())
    scheduler.add_job(int)
    until(lambda: log.count(EVENT_JOB_EXECUTED))

    assert [greenlet.dead for greenlet in greenlets] == [True, True, True, False]


def test_listener_can_start_the_scheduler_again(
    scheduler: Any, log: EventLog, until: Any
) -> None:
    starts = [True]

    def start_again(event: Any) -> None:
        if starts:
            starts.pop()
            scheduler.start()

    scheduler.add_listener(start_again, EVENT_SCHEDULER_SHUTDOWN)
    first = scheduler.start()
    gevent.idle()
    scheduler.shutdown()
    assert scheduler.running
    scheduler.add_job(int)
    until(lambda: log.count(EVENT_JOB_EXECUTED))

    assert first.dead
    assert not scheduler._greenlet.dead


def test_scheduler_can_be_started_again_on_the_hub_of_another_thread(
    scheduler: Any, log: EventLog, beside: Any
) -> None:
    hubs = []

    def program() -> None:
        scheduler.start()
        done = Event()

        def work() -> None:
            hubs.append(gevent.get_hub())
            done.set()

        scheduler.add_job(work)
        assert done.wait(PATIENCE)
        scheduler.shutdown()

    def program_beside() -> None:
        program()
        gevent.get_hub().destroy(destroy_loop=True)

    program()
    beside(program_beside)
    program()

    assert hubs[0] is hubs[2] is gevent.get_hub()
    assert hubs[1] is not hubs[0]
    assert log.count(EVENT_JOB_EXECUTED) == 3


# Killing.


def test_killed_job_has_failed_and_makes_room_for_the_next_run(
    scheduler: Any, log: EventLog, work: Any, until: Any
) -> None:
    scheduler.start()
    scheduler.add_job(work, "interval", seconds=0.01, id="work")
    until(lambda: work.greenlets)

    work.greenlets[0].kill()
    until(lambda: log.count(EVENT_JOB_ERROR))
    until(lambda: len(work.greenlets) == 2)
    scheduler.remove_job("work")
    work.may_end.set()
    scheduler.shutdown()

    failed = log.wait_for(EVENT_JOB_ERROR)
    assert isinstance(failed.exception, gevent.GreenletExit)
    assert log.results == ["worked"]
    assert not scheduler._engine.is_busy()


@pytest.mark.parametrize("wait", [True, PATIENCE], ids=["ever", "a while"])
def test_shutdown_that_waits_sees_jobs_that_are_killed(
    scheduler: Any, log: EventLog, work: Any, until: Any, wait: bool | float
) -> None:
    scheduler.start()
    scheduler.add_job(work)
    until(lambda: work.greenlets)
    killing = gevent.spawn_later(0.01, work.greenlets[0].kill)

    scheduler.shutdown(wait)

    assert log.codes[-2:] == [EVENT_JOB_ERROR, EVENT_SCHEDULER_SHUTDOWN]
    killing.join()


def test_killed_loop_leaves_a_scheduler_that_can_be_shut_down_and_started_again(
    scheduler: Any, log: EventLog, until: Any
) -> None:
    greenlet = scheduler.start()
    gevent.idle()

    greenlet.kill()
    assert scheduler.running
    scheduler.shutdown()
    scheduler.start()
    scheduler.add_job(int)
    until(lambda: log.count(EVENT_JOB_EXECUTED))

    assert log.count(EVENT_SCHEDULER_SHUTDOWN) == 1


# Shutting down.


def test_shutdown_from_many_greenlets_at_once_succeeds_in_one(
    scheduler: Any, log: EventLog, work: Any, until: Any
) -> None:
    scheduler.start()
    scheduler.add_job(work)
    until(lambda: work.greenlets)
    refused = []

    def shut_down() -> None:
        try:
            scheduler.shutdown()
        except SchedulerNotRunningError:
            refused.append(True)

    greenlets = [gevent.spawn(shut_down) for _ in range(3)]
    until(lambda: len(refused) == 2)
    assert log.count(EVENT_SCHEDULER_SHUTDOWN) == 0
    work.may_end.set()
    gevent.joinall(greenlets, raise_error=True)

    assert log.codes[-2:] == [EVENT_JOB_EXECUTED, EVENT_SCHEDULER_SHUTDOWN]


def test_job_that_shuts_its_scheduler_down_waits_for_other_jobs(
    scheduler: Any, log: EventLog, work: Any, until: Any
) -> None:
    def stop() -> str:
        scheduler.shutdown()
        return "stopped"

    scheduler.start()
    scheduler.add_job(work)
    until(lambda: work.greenlets)
    scheduler.add_job(stop)
    until(lambda: not scheduler.running)
    gevent.sleep(0.01)
    assert log.count(EVENT_SCHEDULER_SHUTDOWN) == 0
    work.may_end.set()
    until(lambda: len(log.results) == 2)

    assert log.results == ["worked", "stopped"]
    assert log.codes.index(EVENT_JOB_EXECUTED) < log.codes.index(
        EVENT_SCHEDULER_SHUTDOWN
    )


def test_scheduler_whose_hub_is_gone_can_be_shut_down(
    scheduler: Any, log: EventLog, work: Any, beside: Any, until: Any
) -> None:
    def program() -> None:
        scheduler.start()
        scheduler.add_job(work)
        while not work.greenlets:
            gevent.sleep(0.001)
        gevent.get_hub().destroy(destroy_loop=True)

    beside(program)
    scheduler.wakeup()
    scheduler.shutdown()

    assert log.codes[-2:] == [EVENT_JOB_LOST, EVENT_SCHEDULER_SHUTDOWN]
    assert not scheduler._engine.is_busy()


def test_nothing_stays_behind(beside: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completions, "LINGER_SECONDS", 0.01)
    left = []

    def more_threads() -> set[str]:
        return {thread.name for thread in {*threading.enumerate()} - threads}

    def program() -> None:
        hub = gevent.get_hub()
        gevent.sleep(0.001)
        before = hub.loop.activecnt
        for _ in range(3):
            scheduler = GeventScheduler()
            store: Any = scheduler._create_plugin_instance("jobstore", "memory", {})
            store.performs_io = True
            scheduler.add_jobstore(store)
            scheduler.start()
            scheduler.add_job(int)
            scheduler.add_job(int, "interval", hours=1)
            gevent.sleep(0.01)
            scheduler.shutdown(wait=PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while (
            hub.loop.activecnt > before or more_threads()
        ) and time.monotonic() < deadline:
            gevent.sleep(0.001)
        left.append((hub.loop.activecnt - before, more_threads()))
        hub.destroy(destroy_loop=True)

    threads = {*threading.enumerate()}
    beside(program)

    assert left == [(0, set())]
