"""The server goes away and comes back: what is late is the only thing that is seen of it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from apscheduler.events import (
    EVENT_JOB_EXECUTED,
    EVENT_JOBSTORE_FAILED,
    EVENT_JOBSTORE_RECOVERED,
)
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.nodes import Identity
from apscheduler.runs import RunFilter, RunState
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.testing.jobs import PATIENCE, Gate, make_stored_job, pass_gate
from apscheduler.testing.jobstores.basic import T0
from apscheduler.testing.jobstores.requests import (
    EVERYTHING,
    LEASE,
    claim,
    claimed_ids,
    completions,
    run_every_minute,
    states,
)
from apscheduler.testing.servers import Server

MINUTE = timedelta(minutes=1)


@pytest.fixture(params=["own_postgresql", "own_mysql"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def store(server: Server) -> Iterator[SQLAlchemyJobStore]:
    store = SQLAlchemyJobStore(server.url)
    store.start(None, "sql")
    yield store
    store.shutdown()


def use_connections(store: SQLAlchemyJobStore, number: int) -> None:
    """Leave so many connections in the pool."""
    connections = [store.engine.connect() for _ in range(number)]
    for connection in connections:
        connection.close()


def test_connections_from_before_a_restart_are_replaced_without_an_error(
    server: Server, store: SQLAlchemyJobStore
) -> None:
    me = Identity()
    store.add_job(make_stored_job("a", T0))
    use_connections(store, 4)

    server.restart()

    assert len(store.get_all_jobs()) == 1
    assert claimed_ids(claim(store, me, lease_until=T0 + LEASE)) == ["a"]
    store.renew_lease(me.node, T0 + LEASE)
    store.add_job(make_stored_job("b", T0))


def test_connections_that_a_crash_has_cut_are_replaced_without_an_error(
    server: Server, store: SQLAlchemyJobStore
) -> None:
    store.add_job(make_stored_job("a", T0))
    use_connections(store, 4)

    server.kill()
    server.start()

    assert len(store.get_all_jobs()) == 1
    assert claimed_ids(claim(store, Identity())) == ["a"]


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda store: store.add_job(make_stored_job("b")), id="add"),
        pytest.param(lambda store: store.get_all_jobs(), id="list"),
        pytest.param(lambda store: store.lookup_job("a"), id="look up"),
        pytest.param(lambda store: claim(store, Identity()), id="claim"),
        pytest.param(
            lambda store: store.renew_lease(Identity().node, T0), id="renew a lease"
        ),
        pytest.param(lambda store: store.read_clock(), id="read the clock"),
    ],
)
def test_a_server_that_is_away_is_known_by_the_error(
    server: Server, store: SQLAlchemyJobStore, act: Callable[[Any], Any]
) -> None:
    store.add_job(make_stored_job("a", T0))
    server.stop()

    for _ in range(2):  # with the connections from before, and without any
        with pytest.raises(DBAPIError) as caught:
            act(store)
        assert store.is_unreachable(caught.value)

    server.start()
    act(store)


def test_a_claim_that_is_cut_off_has_not_happened(
    server: Server, store: SQLAlchemyJobStore
) -> None:
    me = Identity()
    store.add_job(make_stored_job("a", T0, max_instances=2))
    (earlier,) = claim(store, me).claims

    def crash(job: Any) -> Any:
        server.kill()
        return run_every_minute(job)

    with pytest.raises(DBAPIError) as caught:
        claim(store, me, T0 + MINUTE, crash, completions=completions(earlier, me))
    assert store.is_unreachable(caught.value)
    server.start()

    assert states(store) == [RunState.RUNNING]
    # The outcomes are given once more with the next claim.
    batch = claim(store, me, T0 + MINUTE, completions=completions(earlier, me))
    assert claimed_ids(batch) == ["a"]
    assert states(store) == [RunState.RUNNING, RunState.SUCCEEDED]


def test_a_scheduler_goes_on_when_its_server_is_back(server: Server) -> None:
    """A run is going on while the server restarts; it is recorded, the next ones come, and the lease is kept."""
    scheduler = BackgroundScheduler(
        timezone=UTC,
        jobstores={"default": {"type": "sqlalchemy", "url": server.url}},
        jobstore_retry_interval=0.2,
    )
    failed, recovered, ticked = (threading.Event() for _ in range(3))
    scheduler.add_listener(lambda event: failed.set(), EVENT_JOBSTORE_FAILED)
    scheduler.add_listener(lambda event: recovered.set(), EVENT_JOBSTORE_RECOVERED)
    scheduler.start()
    with Gate() as gate:
        scheduler.add_job(pass_gate, args=[gate.port], id="long")
        scheduler.add_job("builtins:len", "interval", args=[""], seconds=0.1, id="tick")
        gate.wait_for_arrival()

        server.stop()

        assert failed.wait(PATIENCE)
        with pytest.raises(DBAPIError):
            scheduler.get_jobs()
        with pytest.raises(DBAPIError):
            scheduler.add_job("builtins:len", args=[""], id="later")
    stopped = datetime.now(UTC)
    server.start()
    assert recovered.wait(PATIENCE)

    def tick(event: Any) -> None:
        if event.job_id == "tick" and event.scheduled_run_time > stopped:
            ticked.set()

    scheduler.add_listener(tick, EVENT_JOB_EXECUTED)
    assert ticked.wait(PATIENCE)
    scheduler.add_job("builtins:len", args=[""], id="later")
    (long_run,) = wait_for_runs(scheduler, "long")
    assert [run.job_id for run in wait_for_runs(scheduler, "later")] == ["later"]
    scheduler.shutdown()
    assert long_run.state is RunState.SUCCEEDED

    store = SQLAlchemyJobStore(server.url)
    store.start(None, "sql")
    runs = store.get_runs(EVERYTHING, 10_000)
    fires = [run.scheduled_time for run in runs if run.job_id == "tick"]
    assert len(set(fires)) == len(fires)
    # On a busy machine one may still be going on when the next one comes.
    expected = {RunState.SUCCEEDED, RunState.COALESCED, RunState.SKIPPED}
    assert {run.state for run in runs} <= expected
    store.shutdown()


def wait_for_runs(scheduler: BackgroundScheduler, job_id: str) -> list[Any]:
    """Return the runs of a job as soon as there is one that has ended."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(DBAPIError):
            runs = scheduler.get_runs(job_id=job_id)
            if runs and all(run.finished_at for run in runs):
                return list(runs)
        threading.Event().wait(0.05)
    raise AssertionError(f"No run of {job_id!r} has ended after {PATIENCE} seconds")


def test_the_locks_of_a_process_that_hangs_are_released(
    server: Server, store: SQLAlchemyJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        f"apscheduler.jobstores.sqlalchemy.dialects.{_module_of(server)}.IDLE_SECONDS",
        1,
    )
    hanging = SQLAlchemyJobStore(server.url)
    hanging.start(None, "hanging")
    store.add_job(make_stored_job("a", T0))
    taken: list[str] = []

    def hang(job: Any) -> Any:
        deadline = time.monotonic() + PATIENCE
        while not taken and time.monotonic() < deadline:
            threading.Event().wait(0.1)
            taken.extend(claimed_ids(claim(store, Identity())))
        return run_every_minute(job)

    with pytest.raises(DBAPIError) as caught:
        claim(hanging, Identity(), plan=hang)

    assert taken == ["a"]
    assert hanging.is_unreachable(caught.value)
    assert len(store.get_runs(RunFilter(), 9)) == 1
    hanging.shutdown()


def _module_of(server: Server) -> str:
    return server.kind
