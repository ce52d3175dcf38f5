"""Run unpatched by pytest itself, and patched in a process of its own by ``test_gevent_scheduler_patched.py``."""

import contextvars
from typing import Any

import gevent
import pytest
from gevent import monkey

from apscheduler.events import (
    EVENT_JOB_EXECUTED,
    EVENT_JOB_SUBMITTED,
    EVENT_SCHEDULER_SHUTDOWN,
)
from apscheduler.schedulers import SchedulerNotRunningError
from apscheduler.testing.jobs import PATIENCE
from apscheduler.testing.schedulers import EventLog

get_ident = monkey.get_original("_thread", "get_ident")


class GreenletLog(EventLog):
    """Keeps the greenlets, and the real threads, in which it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.greenlets: list[Any] = []
        self.idents: list[int] = []

    def __call__(self, event: Any) -> None:
        self.greenlets.append(gevent.getcurrent())
        self.idents.append(get_ident())
        super().__call__(event)


def test_jobs_added_in_any_thread_run_in_greenlets(
    scheduler: Any, log: EventLog, work: Any, in_each_thread: Any, until: Any
) -> None:
    scheduler.start()
    gevent.idle()  # it waits for a wakeup, and nothing else

    job = in_each_thread(scheduler.add_job, work)
    until(lambda: work.greenlets)
    work.may_end.set()
    until(lambda: log.results)

    assert not job.pending
    assert work.greenlets[0].parent is gevent.get_hub()


def test_wakeup_from_any_thread_leads_to_a_pass(
    scheduler: Any, in_each_thread: Any, until: Any
) -> None:
    passes = []
    real_process = scheduler._process_jobs

    def process() -> float | None:
        passes.append(get_ident())
        wait_seconds: float | None = real_process()
        return wait_seconds

    scheduler._process_jobs = process
    scheduler.start()
    until(lambda: passes)
    gevent.idle()
    count = len(passes)

    in_each_thread(scheduler.wakeup)
    until(lambda: len(passes) > count)

    assert {*passes} == {get_ident()}


def test_many_threads_use_the_scheduler_at_once(
    scheduler: Any, log: EventLog, in_each_thread: Any, until: Any
) -> None:
    scheduler.start()

    def use() -> None:
        for _ in range(20):
            job = scheduler.add_job(int, "interval", hours=1)
            scheduler.add_job(int)
            scheduler.pause_job(job.id)
            scheduler.get_jobs()
            scheduler.remove_job(job.id)

    calls = [in_each_thread.begin(use) for _ in range(4)]
    use()
    until(lambda: all(call.has_ended for call in calls))
    until(lambda: log.count(EVENT_JOB_EXECUTED) == 100)

    assert [call.result for call in calls] == 4 * [None]


def test_job_in_a_thread_of_the_pool_of_gevent_can_add_jobs(
    scheduler: Any, log: EventLog, until: Any
) -> None:
    def job() -> None:
        gevent.get_hub().threadpool.apply(scheduler.add_job, (int,))

    scheduler.start()
    scheduler.add_job(job)
    until(lambda: log.count(EVENT_JOB_EXECUTED) == 2)


@pytest.mark.parametrize("performs_io", [False, True], ids=["memory", "slow"])
def test_listeners_are_called_in_greenlets_of_the_hub_in_order(
    scheduler: Any, blocking_store: Any, until: Any, performs_io: bool
) -> None:
    blocking_store.performs_io = performs_io
    log = GreenletLog()
    scheduler.add_listener(log, EVENT_JOB_SUBMITTED | EVENT_JOB_EXECUTED)
    scheduler.start()
    for number in range(20):
        scheduler.add_job(int, id=f"{number:02}")
    until(lambda: log.count(EVENT_JOB_EXECUTED) == 20)
    until(lambda: log.count(EVENT_JOB_SUBMITTED) == 20)

    assert {*log.idents} == {get_ident()}
    assert all(isinstance(greenlet, gevent.Greenlet) for greenlet in log.greenlets)
    submitted = [e.job_id for e in log.events if e.code == EVENT_JOB_SUBMITTED]
    assert submitted == sorted(submitted)


@pytest.mark.parametrize("performs_io", [False, True], ids=["memory", "slow"])
def test_listeners_may_wait_and_use_the_scheduler(
    scheduler: Any, log: EventLog, blocking_store: Any, until: Any, performs_io: bool
) -> None:
    blocking_store.performs_io = performs_io
    added: list[Any] = []

    def add_another(event: Any) -> None:
        gevent.sleep(0.001)
        if len(added) < 3:
            added.append(scheduler.add_job(int))

    scheduler.add_listener(add_another, EVENT_JOB_EXECUTED)
    scheduler.start()
    scheduler.add_job(int)
    until(lambda: log.count(EVENT_JOB_EXECUTED) == 4)
    scheduler.shutdown()

    assert log.codes[-1] == EVENT_SCHEDULER_SHUTDOWN


@pytest.mark.parametrize("wait", [True, PATIENCE], ids=["ever", "a while"])
@pytest.mark.parametrize("performs_io", [False, True], ids=["memory", "slow"])
def test_shutdown_from_any_thread_waits_for_jobs(
    scheduler: Any,
    log: EventLog,
    work: Any,
    blocking_store: Any,
    in_each_thread: Any,
    until: Any,
    performs_io: bool,
    wait: bool | float,
) -> None:
    blocking_store.performs_io = performs_io
    greenlet = scheduler.start()
    scheduler.add_job(work)
    until(lambda: work.greenlets)

    call = in_each_thread.begin(scheduler.shutdown, wait)
    until(lambda: not scheduler.running)
    gevent.sleep(0.01)
    assert not call.has_ended
    assert log.count(EVENT_SCHEDULER_SHUTDOWN) == 0
    work.may_end.set()
    until(lambda: call.has_ended)

    assert call.result is None
    assert log.codes[-2:] == [EVENT_JOB_EXECUTED, EVENT_SCHEDULER_SHUTDOWN]
    greenlet.join(PATIENCE)
    assert greenlet.dead


def test_job_in_a_thread_of_the_pool_can_shut_the_scheduler_down(
    scheduler: Any, log: EventLog, until: Any
) -> None:
    """It carries the context of the job, so that nobody waits for the job."""
    pool = gevent.get_hub().threadpool

    def job() -> str:
        pool.apply(contextvars.copy_context().run, (scheduler.shutdown,))
        return "stopped"

    scheduler.start()
    scheduler.add_job(job)
    until(lambda: log.results)

    assert log.results == ["stopped"]
    assert log.count(EVENT_SCHEDULER_SHUTDOWN) == 1


def test_second_shutdown_from_another_thread_is_refused(
    scheduler: Any, in_each_thread: Any
) -> None:
    scheduler.start()
    scheduler.shutdown()

    with pytest.raises(SchedulerNotRunningError):
        in_each_thread(scheduler.shutdown)


def test_executor_that_a_thread_adds_uses_the_hub_of_the_scheduler(
    scheduler: Any, log: EventLog, work: Any, in_each_thread: Any, until: Any
) -> None:
    scheduler.start()

    in_each_thread(scheduler.add_executor, "gevent", "another")
    scheduler.add_job(work, executor="another")
    until(lambda: work.greenlets)
    work.may_end.set()
    until(lambda: log.results)

    assert work.greenlets[0].parent is gevent.get_hub()
