"""How often a store asks its server, with the drivers that are recommended: over a network that is what takes time."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import make_url

from apscheduler.jobstores.base import ConflictingIdError
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.nodes import Identity
from apscheduler.runs import RunFilter
from apscheduler.testing.cluster.proxy import Proxy
from apscheduler.testing.jobs import make_stored_job
from apscheduler.testing.jobstores.basic import T0
from apscheduler.testing.jobstores.requests import LEASE, claim, completions

MINUTE = timedelta(minutes=1)


class CountingProxy(Proxy):
    """Counts what is asked on all connections."""

    def __init__(self, url: str):
        target = make_url(url)
        super().__init__(target.port or 0, seed=0)
        self.url = target.set(port=self.port).render_as_string(hide_password=False)
        self.asked = 0

    def _ask(
        self, client: socket.socket, server: socket.socket, is_doomed: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 20):
                self.asked += 1
                server.sendall(data)
        self._end(client, server)


@pytest.fixture(params=["postgresql_database_url", "mysql_database_url"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def proxy(url: str) -> Iterator[CountingProxy]:
    proxy = CountingProxy(url)
    yield proxy
    proxy.close()


@pytest.fixture
def store(proxy: CountingProxy) -> Iterator[SQLAlchemyJobStore]:
    store = SQLAlchemyJobStore(proxy.url)
    store.start(None, "sql")
    store.add_jobs([make_stored_job(job_id, T0) for job_id in ("a", "b", "c")])
    yield store
    store.shutdown()


def change(store: SQLAlchemyJobStore, **changes: Any) -> None:
    stored = store.read_job("a")
    assert stored is not None
    assert store.change_job(stored, changes)


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        pytest.param(lambda s: s.add_job(make_stored_job("d", T0)), 1, id="add"),
        pytest.param(lambda s: s.lookup_job("a"), 1, id="look up"),
        pytest.param(lambda s: s.get_all_jobs(), 1, id="list"),
        pytest.param(lambda s: change(s, name="new"), 2, id="rename"),
        pytest.param(
            lambda s: change(s, next_run_time=T0 + MINUTE), 2, id="reschedule"
        ),
        pytest.param(lambda s: s.update_job(make_stored_job("a", T0)), 1, id="update"),
        pytest.param(lambda s: s.remove_job("a"), 1, id="remove"),
        pytest.param(lambda s: s.get_runs(RunFilter(), 9), 1, id="list runs"),
        pytest.param(lambda s: s.read_clock(), 1, id="read the clock"),
        pytest.param(lambda s: claim(s, Identity(), T0 - MINUTE), 1, id="idle claim"),
    ],
)
def test_what_is_one_statement_is_one_question(
    store: SQLAlchemyJobStore,
    proxy: CountingProxy,
    act: Callable[[SQLAlchemyJobStore], object],
    expected: int,
) -> None:
    store.get_all_jobs()
    before = proxy.asked

    act(store)

    assert proxy.asked - before == expected


def test_a_lease_is_renewed_by_one_question(
    store: SQLAlchemyJobStore, proxy: CountingProxy
) -> None:
    node = Identity().node
    store.renew_lease(node, T0)
    before = proxy.asked

    store.renew_lease(node, T0 + MINUTE)

    assert proxy.asked - before == 1
    store.drop_lease(node)
    assert proxy.asked - before == 2
    assert store.read_leases() == []


def test_a_claim_asks_no_more_than_it_has_to(
    store: SQLAlchemyJobStore, proxy: CountingProxy
) -> None:
    """What is due, a transaction around seven statements, and the outcomes of the claim before: here and there."""
    me = Identity()
    first = claim(store, me, T0, lease_until=T0 + LEASE)
    ended = [outcome for found in first.claims for outcome in completions(found, me)]
    is_mysql = "mysql" in proxy.url
    before = proxy.asked

    second = claim(store, me, T0 + MINUTE, completions=ended)

    assert len(second.claims) == 3
    # Outcomes, ready runs, due jobs, open claims, run times, runs, what is left; and where they are locked before.
    assert proxy.asked - before == 2 + 7 + is_mysql


def test_what_is_written_by_one_statement_is_committed(
    store: SQLAlchemyJobStore, url: str
) -> None:
    other = SQLAlchemyJobStore(url)
    other.start(None, "other")
    # New connections, too.
    with store.engine.connect(), store.engine.connect():
        store.add_job(make_stored_job("d", T0))
        store.remove_job("a")
        store.update_job(make_stored_job("b", T0 + MINUTE))

    found = {job.id: job.next_run_time for job in other.get_all_jobs()}

    assert found == {"b": T0 + MINUTE, "c": T0, "d": T0}
    other.shutdown()


def test_of_many_jobs_all_are_added_or_none(store: SQLAlchemyJobStore) -> None:
    """Also where they are so large that it takes several statements."""
    large = [
        make_stored_job(f"{n}", T0, args=("x" * 400_000, str(n))) for n in range(5)
    ]

    with pytest.raises(ConflictingIdError):
        store.add_jobs([*large, make_stored_job("a", T0)])

    assert {job.id for job in store.get_all_jobs()} == {"a", "b", "c"}
    store.add_jobs(large)
    assert len(store.get_all_jobs()) == 8


def test_the_engine_has_transactions_as_ever(store: SQLAlchemyJobStore) -> None:
    jobs = store.jobs_t
    store.get_all_jobs()

    with pytest.raises(KeyError), store.engine.begin() as connection:
        connection.execute(jobs.delete())
        raise KeyError

    assert len(store.get_all_jobs()) == 3
    with store.engine.begin() as connection:
        connection.execute(jobs.delete())
    assert store.get_all_jobs() == []
