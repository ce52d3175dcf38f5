"""Run unpatched by pytest itself, and patched in a process of its own by ``test_gevent_scheduler_patched.py``."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import gevent
import gevent.lock
import gevent.socket
import pytest
from gevent import monkey

from apscheduler import leases
from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_LOST,
    EVENT_SCHEDULER_SHUTDOWN,
)
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.nodes import Identity
from apscheduler.runs import RunState
from apscheduler.schedulers.gevent import waiting
from apscheduler.testing.jobs import PATIENCE
from apscheduler.testing.schedulers import EventLog
from apscheduler.threads import PassThread

IS_PATCHED = monkey.is_module_patched("socket")
LEASE_SECONDS = 1.5
hog = monkey.get_original("time", "sleep")
unpatched_only = pytest.mark.skipif(
    IS_PATCHED, reason="where Python is patched, stores are supposed to cooperate"
)


class Ticker:
    """Counts while the hub is free to do so."""

    def __init__(self) -> None:
        self.ticks = 0
        self._greenlet = gevent.spawn(self._tick)

    def _tick(self) -> None:
        while True:
            gevent.sleep(0.001)
            self.ticks += 1

    def wait(self, ticks: int) -> None:
        """Hold up a thread until there were so many ticks; on the hub, until patience is lost."""
        wanted = self.ticks + ticks
        deadline = time.monotonic() + PATIENCE
        while self.ticks < wanted:
            assert time.monotonic() < deadline, "the hub is held up"
            hog(0.001)

    def stop(self) -> None:
        self._greenlet.kill()


@pytest.fixture
def ticker() -> Iterator[Ticker]:
    ticker = Ticker()
    yield ticker
    ticker.stop()


# What jobs do: in a database is only the name of a function.
CURRENT: list[Callable[[], Any]] = []


def do_current() -> Any:
    return CURRENT[-1]()


@pytest.fixture
def do() -> Iterator[Callable[[Callable[[], Any]], Callable[[], Any]]]:
    """Return a function that can be stored for one that cannot."""

    def do(func: Callable[[], Any]) -> Callable[[], Any]:
        CURRENT.append(func)
        return do_current

    yield do
    CURRENT.clear()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/jobs.sqlite"


# Slow stores.


@unpatched_only
def test_store_that_blocks_does_not_hold_up_the_hub(
    scheduler: Any, log: EventLog, blocking_store: Any, until: Any, ticker: Ticker
) -> None:
    blocking_store.gate.acquire()
    scheduler.start()
    scheduler.add_job(int)
    until(lambda: blocking_store.is_claiming)
    before = ticker.ticks
    until(lambda: ticker.ticks >= before + 20)
    assert log.count(EVENT_JOB_EXECUTED) == 0

    blocking_store.gate.release()
    until(lambda: log.count(EVENT_JOB_EXECUTED))


@unpatched_only
def test_database_that_is_slow_in_everything_does_not_hold_up_the_hub(
    scheduler: Any, log: EventLog, url: str, until: Any, ticker: Ticker
) -> None:
    """Every call that the scheduler makes by itself lasts until the hub has ticked on."""
    calls = []

    class SlowStore(SQLAlchemyJobStore):
        is_slow = False

        def claim(self, request: Any) -> Any:
            return self._slowly("claim", super().claim, request)

        def complete(self, completions: Any) -> None:
            self._slowly("complete", super().complete, completions)

        def drop_lease(self, node: Any) -> None:
            self._slowly("drop_lease", super().drop_lease, node)

        def shutdown(self) -> None:
            self._slowly("shutdown", super().shutdown)

        def _slowly(self, name: str, func: Any, *args: Any) -> Any:
            if self.is_slow:
                calls.append(name)
                ticker.wait(20)
            return func(*args)

    store = SlowStore(url)
    scheduler.add_jobstore(store)
    scheduler.start()
    store.is_slow = True
    try:
        scheduler.add_job(int)
        until(lambda: log.count(EVENT_JOB_EXECUTED))
        scheduler.shutdown()
    finally:
        store.is_slow = False

    assert {*calls} == {"claim", "complete", "drop_lease", "shutdown"}
    assert log.codes[-1] == EVENT_SCHEDULER_SHUTDOWN


def test_store_that_waits_for_its_server_lets_greenlets_go_on(
    scheduler: Any, log: EventLog, blocking_store: Any, until: Any, ticker: Ticker
) -> None:
    """Patched sockets cooperate on the hub; others wait in a thread of the scheduler."""
    client, server = socket.socketpair()
    client.settimeout(PATIENCE)
    threads = []
    real_claim = blocking_store.claim

    def claim(request: Any) -> Any:
        threads.append(is_pass_thread())
        client.sendall(b"?")
        assert client.recv(1) == b"!"
        return real_claim(request)

    def serve() -> None:
        green = gevent.socket.socket(fileno=server.detach())
        with green:
            while green.recv(1):
                before = ticker.ticks
                until(lambda before=before: ticker.ticks >= before + 20)
                green.sendall(b"!")

    blocking_store.claim = claim
    serving = gevent.spawn(serve)
    scheduler.start()
    scheduler.add_job(int)
    until(lambda: log.count(EVENT_JOB_EXECUTED))
    scheduler.shutdown()
    client.close()
    serving.join()

    assert {*threads} == {not IS_PATCHED}


def is_pass_thread() -> bool:
    return isinstance(threading.current_thread(), PassThread)


def test_passes_over_stores_in_memory_are_made_in_the_greenlet(
    scheduler: Any, log: EventLog, until: Any
) -> None:
    greenlets = []
    real_process = scheduler._process_jobs

    def process() -> float | None:
        greenlets.append(gevent.getcurrent())
        wait_seconds: float | None = real_process()
        return wait_seconds

    scheduler._process_jobs = process
    greenlet = scheduler.start()
    scheduler.add_job(int)
    until(lambda: log.count(EVENT_JOB_EXECUTED))

    assert {*greenlets} == {greenlet}


def test_slow_store_does_not_hold_up_others(
    scheduler: Any, log: EventLog, blocking_store: Any, url: str, until: Any
) -> None:
    if IS_PATCHED:
        gate = gevent.lock.Semaphore()
        blocking_store.gate = gate
        real_claim = blocking_store.claim
        blocking_store.claim = lambda request: (gate.wait(), real_claim(request))[1]
    blocking_store.gate.acquire()
    scheduler.add_jobstore(SQLAlchemyJobStore(url), "fast")
    scheduler.start()
    until(lambda: blocking_store.is_claiming or IS_PATCHED)
    scheduler.add_job(int, jobstore="fast")
    until(lambda: log.count(EVENT_JOB_EXECUTED))

    blocking_store.gate.release()


@unpatched_only
def test_loop_that_is_killed_in_a_store_leaves_a_scheduler_that_can_be_shut_down(
    scheduler: Any, log: EventLog, blocking_store: Any, until: Any
) -> None:
    blocking_store.gate.acquire()
    greenlet = scheduler.start()
    until(lambda: blocking_store.is_claiming)

    greenlet.kill()
    stopping = gevent.spawn(scheduler.shutdown)
    until(lambda: not scheduler.running)
    blocking_store.gate.release()
    stopping.join(PATIENCE)

    assert log.codes[-1] == EVENT_SCHEDULER_SHUTDOWN


def test_killed_job_is_recorded_as_failed(
    scheduler: Any, log: EventLog, work: Any, do: Any, url: str, until: Any
) -> None:
    scheduler.add_jobstore(SQLAlchemyJobStore(url))
    scheduler.start()
    scheduler.add_job(do(work), id="work")
    until(lambda: work.greenlets)
    work.greenlets[0].kill()
    until(lambda: log.count(EVENT_JOB_ERROR))
    scheduler.shutdown()

    scheduler.start()
    (run,) = scheduler.get_runs("work")
    assert run.state == RunState.FAILED
    assert "GreenletExit" in run.exception


# The lease.


@pytest.fixture(params=["url", "postgresql_database_url"])
def any_url(request: pytest.FixtureRequest) -> str:
    """A database in the process, and one on a server: two kinds of waiting."""
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", LEASE_SECONDS)
    monkeypatch.setattr(leases, "LEASE", timedelta(seconds=LEASE_SECONDS))
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(waiting, "HUB_PATIENCE_SECONDS", 0.05)


@pytest.mark.usefixtures("short_leases")
def test_node_is_not_declared_dead_while_a_job_hogs_the_hub(
    scheduler: Any, log: EventLog, do: Any, any_url: str, until: Any
) -> None:
    other = SQLAlchemyJobStore(any_url)
    taken: list[Any] = []
    was_good = []

    def hog_the_hub() -> str:
        lease = scheduler._engine.drivers["default"].lease
        term = lease.term
        ends = time.monotonic() + 3 * LEASE_SECONDS
        while time.monotonic() < ends:
            hog(0.01)
            was_good.append(lease.is_good(term))
        taken.extend(other.take_over(Identity().node, datetime.now(UTC)))
        return "hogged"

    scheduler.add_jobstore(SQLAlchemyJobStore(any_url))
    scheduler.start()
    other.start(scheduler, "other")
    scheduler.add_job(do(hog_the_hub), id="hog")
    until(lambda: log.results)
    until(lambda: not scheduler._engine.is_busy())
    scheduler.add_job(int)  # the node may still start jobs
    until(lambda: len(log.results) == 2)
    scheduler.shutdown()
    other.shutdown()

    assert all(was_good)
    assert taken == []
    assert log.count(EVENT_JOB_LOST) == 0


@pytest.mark.usefixtures("short_leases")
def test_node_whose_lease_is_not_renewed_is_declared_dead(
    scheduler: Any,
    log: EventLog,
    work: Any,
    do: Any,
    url: str,
    until: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The opposite of the above, so that the test is known to look at the right thing."""
    monkeypatch.setattr(SQLAlchemyJobStore, "renew_lease", lambda *args: None)
    other = SQLAlchemyJobStore(url)
    taken: list[Any] = []
    scheduler.add_jobstore(SQLAlchemyJobStore(url))
    scheduler.start()
    other.start(scheduler, "other")
    scheduler.add_job(do(work), id="work")
    until(lambda: work.greenlets)

    def is_taken() -> bool:
        taken.extend(other.take_over(Identity().node, datetime.now(UTC)))
        return bool(taken)

    until(is_taken)
    work.may_end.set()
    scheduler.shutdown()
    other.shutdown()

    assert [run.job_id for run in taken] == ["work"]
