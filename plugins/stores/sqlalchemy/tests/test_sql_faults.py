"""Connections that are cut, at the worst moment too: what is late is the only thing that is seen of it."""

import re
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, timedelta
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.nodes import Identity
from apscheduler.runs import RunFilter, RunState
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.testing.jobs import PATIENCE, make_stored_job
from apscheduler.testing.jobstores.basic import T0
from apscheduler.testing.jobstores.requests import (
    EVERYTHING,
    claim,
    claimed_ids,
    completions,
    run_every_minute,
    states,
)
from apscheduler.testing.servers import Server

# Not the isolation READ COMMITTED.
COMMIT = re.compile(rb"COMMIT(?!TED)")
# Where one statement is enough, it is the transaction.
COMMIT_OR_UPDATE = re.compile(rb"COMMIT(?!TED)|UPDATE apscheduler_jobs_runs ")
started: Counter[str] = Counter()


def note(job_id: str) -> None:
    started[job_id] += 1


@pytest.fixture(params=["postgresql_database_url", "mysql_database_url"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


class Proxy:
    """Stands between a store and its server, and cuts the connection that commits, when the server has done it.

    :ivar commit: what is taken for a commit
    :ivar cuts: how many commits are still to lose their answer
    """

    commit = COMMIT

    def __init__(self, url: str):
        target = make_url(url)
        self._target = target.host, target.port
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = target.set(port=port).render_as_string(hide_password=False)
        self.cuts = 0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            server = socket.create_connection(self._target)
            self._pairs.append((client, server))
            thread = threading.Thread(target=self._serve, args=(client, server))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        with client, server, selectors.DefaultSelector() as selector, suppress(OSError):
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in selector.select():
                    source: Any = key.fileobj
                    data = source.recv(65536)
                    if not data:
                        return
                    key.data.sendall(data)
                    if source is client and self.cuts and self.commit.search(data):
                        self.cuts -= 1
                        server.recv(65536)  # the answer: it is done
                        return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for pair in self._pairs:
            for end in pair:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    proxy = Proxy(url)
    yield proxy
    proxy.close()


@pytest.fixture
def store(proxy: Proxy) -> Iterator[SQLAlchemyJobStore]:
    store = SQLAlchemyJobStore(proxy.url)
    store.start(None, "sql")
    yield store
    store.shutdown()


def test_outcomes_whose_answer_is_lost_may_be_told_again(
    store: SQLAlchemyJobStore, proxy: Proxy
) -> None:
    me = Identity()
    store.add_job(make_stored_job("a", T0))
    (found,) = claim(store, me).claims

    proxy.commit = COMMIT_OR_UPDATE
    proxy.cuts = 1
    with pytest.raises(DBAPIError) as caught:
        store.complete(completions(found, me))
    store.complete(completions(found, me))

    assert store.is_unreachable(caught.value)
    assert states(store) == [RunState.SUCCEEDED]


def test_a_claim_whose_answer_is_lost_has_happened_once(
    store: SQLAlchemyJobStore, proxy: Proxy
) -> None:
    me = Identity()
    store.add_job(make_stored_job("a", T0, max_instances=9))

    proxy.cuts = 1
    with pytest.raises(DBAPIError) as caught:
        claim(store, me, plan=run_every_minute)

    assert store.is_unreachable(caught.value)
    assert claimed_ids(claim(store, me, plan=run_every_minute)) == []
    (run,) = store.get_runs(EVERYTHING, 9)
    assert (run.state, run.node, run.scheduled_time) == (
        *(RunState.RUNNING, me.node.id),
        T0,
    )


def make_scheduler(url: str) -> BackgroundScheduler:
    return BackgroundScheduler(
        timezone=UTC,
        jobstores={"default": {"type": "sqlalchemy", "url": url}},
        jobstore_retry_interval=0.05,
    )


def add_ticking_jobs(scheduler: BackgroundScheduler, names: list[str]) -> None:
    started.clear()
    for name in names:
        scheduler.add_job(
            *(note, "interval", [name]),
            seconds=0.1,
            id=name,
            coalesce=False,
            misfire_grace_time=None,
            max_instances=1000,
        )


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        threading.Event().wait(0.01)


def check_fires(url: str, names: list[str]) -> None:
    """Make sure that every fire has run once, and no fire time is missing."""
    store = SQLAlchemyJobStore(url)
    store.start(None, "sql")
    runs = store.get_runs(RunFilter(), 10_000)
    stored = {name: store.lookup_job(name) for name in names}
    store.shutdown()
    # What was not started before the end was handed back, and is ready for another scheduler.
    assert {run.state for run in runs} <= {RunState.SUCCEEDED, RunState.READY}
    for name, job in stored.items():
        assert job is not None
        mine = [run for run in runs if run.job_id == name]
        assert started[name] == sum(run.state is RunState.SUCCEEDED for run in mine)
        times = sorted(run.scheduled_time for run in mine)
        assert len(set(times)) == len(times)
        assert job.next_run_time is not None
        # None was passed over: they are a tenth of a second apart, and the next one follows.
        expected = timedelta(seconds=0.1) * len(times)
        assert round((job.next_run_time - times[0]) / expected, 6) == 1


def test_commits_whose_answers_are_lost_repeat_and_lose_no_run(
    url: str, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(100)
    names = [f"tick-{n}" for n in range(3)]
    scheduler = make_scheduler(proxy.url)
    scheduler.start()
    add_ticking_jobs(scheduler, names)

    for _ in range(6):
        before = sum(started.values())
        proxy.cuts = 1
        wait_until(lambda: proxy.cuts == 0, "nothing was committed")
        wait_until(lambda: sum(started.values()) > before + 6, "no more runs")  # noqa: B023  # used at once
    scheduler.shutdown()

    check_fires(url, names)


def test_connections_that_are_killed_in_the_middle_repeat_and_lose_no_run(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(100)
    names = [f"tick-{n}" for n in range(3)]
    marked = make_url(url)
    is_mysql = marked.get_backend_name() == "mysql"
    scheduler = make_scheduler(url)
    scheduler.start()
    add_ticking_jobs(scheduler, names)
    with ExitStack() as stack:
        engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        killer = stack.enter_context(engine.connect())

        def kill_all() -> int:
            """End all connections of the scheduler, whatever they are doing."""
            if is_mysql:
                query = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
                ids = killer.execute(text(query)).scalars().all()
                for number in ids:
                    with suppress(DBAPIError):  # it has gone
                        killer.execute(text(f"KILL {number}"))
                return len(ids)
            schema = marked.query["options"].removeprefix("-csearch_path=")  # type: ignore[union-attr]  # it is one
            query = (
                "SELECT pg_terminate_backend(l.pid) FROM (SELECT DISTINCT pid FROM pg_locks WHERE relation IN "
                "(SELECT oid FROM pg_class WHERE relnamespace = CAST(:schema AS regnamespace))) AS l "
                "WHERE l.pid <> pg_backend_pid()"
            )
            return len(killer.execute(text(query), {"schema": schema}).all())

        for _ in range(8):
            before = sum(started.values())
            wait_until(kill_all, "nobody is connected")
            wait_until(lambda: sum(started.values()) > before + 3, "no more runs")  # noqa: B023  # used at once
    scheduler.shutdown()

    check_fires(url, names)


@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest.mark.parametrize("kind", ["own_postgresql", "own_mysql"])
def test_a_server_that_goes_away_and_comes_back_repeats_and_loses_no_run(
    kind: str,
    how: str,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(100)
    names = [f"tick-{n}" for n in range(3)]
    server: Server = request.getfixturevalue(kind)
    scheduler = make_scheduler(server.url)
    scheduler.start()
    add_ticking_jobs(scheduler, names)

    for _ in range(2):
        before = sum(started.values())
        wait_until(lambda: sum(started.values()) > before, "no more runs")  # noqa: B023  # used at once
        getattr(server, how)()
        server.start()
    before = sum(started.values())
    wait_until(lambda: sum(started.values()) > before + 3, "no more runs")
    scheduler.shutdown()

    check_fires(server.url, names)
