"""Stores tell each other of changes at once, where the database can pass that on."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, text

from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore, listening
from apscheduler.nodes import Identity
from apscheduler.testing.jobs import PATIENCE, make_stored_job
from apscheduler.testing.jobstores.basic import T0
from apscheduler.testing.jobstores.requests import (
    LEASE,
    claim,
    completions,
    ready_run,
    run_once,
)
from apscheduler.testing.servers import Server

MINUTE = timedelta(minutes=1)
SILENCE_SECONDS = 0.3


def open_store(url: str, **options: Any) -> SQLAlchemyJobStore:
    store = SQLAlchemyJobStore(url, **options)
    store.start(None, "sql")
    return store


@pytest.fixture
def store(postgresql_database_url: str) -> Iterator[SQLAlchemyJobStore]:
    store = open_store(postgresql_database_url)
    yield store
    store.shutdown()


@pytest.fixture
def other(
    postgresql_database_url: str, store: SQLAlchemyJobStore
) -> Iterator[SQLAlchemyJobStore]:
    other = open_store(postgresql_database_url)
    yield other
    other.shutdown()


@pytest.fixture
def heard(store: SQLAlchemyJobStore) -> Iterator[threading.Event]:
    """Return the event that is set when the store hears of a change."""
    heard = threading.Event()
    end = store.subscribe(heard.set)
    assert end is not None
    yield heard
    end()


def listeners() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "APScheduler listener"]


def add(store: SQLAlchemyJobStore) -> None:
    store.add_job(make_stored_job("new", T0))


def update(store: SQLAlchemyJobStore) -> None:
    store.update_job(make_stored_job("a", T0))


def reschedule(store: SQLAlchemyJobStore) -> None:
    stored = store.read_job("a")
    assert stored is not None
    assert store.change_job(stored, {"next_run_time": T0})


def add_ready(store: SQLAlchemyJobStore) -> None:
    store.add_ready_run(make_stored_job("a"), ready_run(Identity()))


def hand_back(store: SQLAlchemyJobStore) -> None:
    store.hand_back(claim(store, Identity(), T0 + MINUTE).claims)


def take_over(store: SQLAlchemyJobStore) -> None:
    now = T0 + MINUTE
    claim(store, Identity(), now, plan=run_once, lease_until=now)
    assert store.take_over(Identity().node, now + LEASE)


@pytest.mark.parametrize(
    "change", [add, update, reschedule, add_ready, hand_back, take_over]
)
def test_what_is_to_be_done_sooner_is_heard_at_once(
    store: SQLAlchemyJobStore,
    other: SQLAlchemyJobStore,
    heard: threading.Event,
    change: Callable[[SQLAlchemyJobStore], None],
) -> None:
    store.add_job(make_stored_job("a", T0 + MINUTE, on_lost="retry"))

    change(other)

    assert heard.wait(PATIENCE)


def rename(store: SQLAlchemyJobStore) -> None:
    stored = store.read_job("a")
    assert stored is not None
    assert store.change_job(stored, {"name": "new"})


def run(store: SQLAlchemyJobStore) -> None:
    me = Identity()
    (found,) = claim(store, me, T0 + MINUTE, lease_until=T0 + LEASE).claims
    store.complete(completions(found, me))


def pause(store: SQLAlchemyJobStore) -> None:
    stored = store.read_job("a")
    assert stored is not None
    assert store.change_job(stored, {"next_run_time": None})


def remove(store: SQLAlchemyJobStore) -> None:
    store.remove_job("a")


@pytest.mark.parametrize("change", [rename, run, pause, remove])
def test_what_gives_nobody_more_to_do_is_not_told(
    store: SQLAlchemyJobStore,
    other: SQLAlchemyJobStore,
    heard: threading.Event,
    change: Callable[[SQLAlchemyJobStore], None],
) -> None:
    store.add_job(make_stored_job("a", T0 + MINUTE))

    change(other)

    assert not heard.wait(SILENCE_SECONDS)


def test_a_store_does_not_wake_itself(
    store: SQLAlchemyJobStore, heard: threading.Event
) -> None:
    add(store)

    assert not heard.wait(SILENCE_SECONDS)


def test_jobs_are_added_and_told_by_one_statement(
    store: SQLAlchemyJobStore, other: SQLAlchemyJobStore, heard: threading.Event
) -> None:
    statements: list[str] = []

    @event.listens_for(other.engine, "before_cursor_execute")
    def note(connection: Any, cursor: Any, statement: str, *others: Any) -> None:
        statements.append(statement)

    other.add_jobs([make_stored_job(f"{n}", T0) for n in range(50)])

    assert heard.wait(PATIENCE)
    assert len(other.get_all_jobs()) == 50
    assert ["pg_notify" in statement for statement in statements] == [True, False]


def test_what_is_not_committed_is_not_told(
    store: SQLAlchemyJobStore, other: SQLAlchemyJobStore, heard: threading.Event
) -> None:
    store.add_job(make_stored_job("new", T0))

    with pytest.raises(KeyError):
        add(other)

    assert not heard.wait(SILENCE_SECONDS)


def test_tables_have_channels_of_their_own(
    postgresql_database_url: str, store: SQLAlchemyJobStore, heard: threading.Event
) -> None:
    another = open_store(postgresql_database_url, tablename="others")

    add(another)

    assert not heard.wait(SILENCE_SECONDS)
    another.shutdown()


def test_long_names_of_tables_make_channels_too(postgresql_database_url: str) -> None:
    name = "table_with_a_name_that_is_as_long_as_it_may_be"
    stores = [open_store(postgresql_database_url, tablename=name) for _ in range(2)]
    heard = threading.Event()
    stores[0].subscribe(heard.set)

    add(stores[1])

    assert heard.wait(PATIENCE)
    for store in stores:
        store.shutdown()


def test_the_thread_ends_when_nobody_wants_to_hear_any_more(
    store: SQLAlchemyJobStore,
) -> None:
    end = store.subscribe(lambda: None)
    assert end is not None
    assert len(listeners()) == 1
    started = time.monotonic()

    end()
    end()

    assert listeners() == []
    assert time.monotonic() - started < listening.END_SECONDS


def test_the_thread_ends_with_the_store(postgresql_database_url: str) -> None:
    store = open_store(postgresql_database_url)
    store.subscribe(lambda: None)

    store.shutdown()

    assert listeners() == []


def test_a_callback_that_fails_is_called_again(
    store: SQLAlchemyJobStore,
    other: SQLAlchemyJobStore,
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = threading.Semaphore(0)

    def fail() -> None:
        calls.release()
        raise RuntimeError("no")

    end = store.subscribe(fail)
    for _ in range(2):
        update_or_add(other)
        assert calls.acquire(timeout=PATIENCE)
    assert end is not None
    end()

    assert "Error telling the scheduler of a change" in caplog.text


def update_or_add(store: SQLAlchemyJobStore) -> None:
    if store.lookup_job("a") is None:
        store.add_job(make_stored_job("a", T0))
    else:
        update(store)


def test_a_listener_leaves_the_pool_as_it_was(postgresql_database_url: str) -> None:
    options = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 1}
    store = open_store(postgresql_database_url, engine_options=options)
    store.subscribe(lambda: None)

    add(store)

    assert len(store.get_all_jobs()) == 1
    store.shutdown()


def test_a_lost_connection_is_made_again_and_what_was_missed_is_looked_for(
    store: SQLAlchemyJobStore, other: SQLAlchemyJobStore, heard: threading.Event
) -> None:
    assert store._channel is not None
    with other.engine.begin() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE query = :listening"
            ),
            {"listening": f'LISTEN "{store._channel.name}"'},
        )

    assert heard.wait(PATIENCE), "something may have been missed"
    heard.clear()
    add(other)
    assert heard.wait(PATIENCE)


def test_a_server_that_comes_back_is_listened_to_again(
    own_postgresql: Server,
) -> None:
    store, other = (open_store(own_postgresql.url) for _ in range(2))
    heard = threading.Event()
    store.subscribe(heard.set)

    own_postgresql.restart()

    assert heard.wait(PATIENCE)
    heard.clear()
    add(other)
    assert heard.wait(PATIENCE)
    store.shutdown()
    other.shutdown()


def test_a_subscription_may_begin_and_end_while_the_server_is_away(
    own_postgresql: Server,
) -> None:
    store = open_store(own_postgresql.url)
    own_postgresql.stop()
    heard = threading.Event()
    end = store.subscribe(heard.set)
    never = store.subscribe(lambda: None)
    assert end is not None and never is not None
    never()

    own_postgresql.start()

    assert heard.wait(PATIENCE)
    end()
    assert listeners() == []
    store.shutdown()


def test_stores_that_hear_of_changes_look_less_often(
    store: SQLAlchemyJobStore, mysql_database_url: str, tmp_path: Path
) -> None:
    assert (store.pushes_changes, store.poll_interval) == (True, 5.0)
    for url in (mysql_database_url, f"sqlite:///{tmp_path / 'jobs.db'}"):
        without = open_store(url)
        assert (without.pushes_changes, without.poll_interval) == (False, 1.0)
        assert without.subscribe(lambda: None) is None
        without.shutdown()


def test_a_store_that_is_not_shared_tells_nobody(postgresql_database_url: str) -> None:
    store = open_store(postgresql_database_url, shared=False)

    assert store.subscribe(lambda: None) is None
    assert not store.pushes_changes
    store.shutdown()


def test_an_engine_of_the_user_is_listened_with(postgresql_database_url: str) -> None:
    engine = create_engine(postgresql_database_url)
    store = SQLAlchemyJobStore(engine=engine)
    store.start(None, "sql")
    other = open_store(postgresql_database_url)
    heard = threading.Event()
    store.subscribe(heard.set)

    add(other)

    assert heard.wait(PATIENCE)
    store.shutdown()
    other.shutdown()
    engine.dispose()
