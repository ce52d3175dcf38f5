"""What happens when the store opens a database on a server: drivers, tables, sharing, and errors that say what to do."""

import logging
import socket
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.ext.asyncio import create_async_engine

from apscheduler.job import Job
from apscheduler.jobstores.base import ConflictingIdError
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore, drivers
from apscheduler.jobstores.sqlalchemy.dialects import mysql as mysql_dialect
from apscheduler.nodes import Identity
from apscheduler.runs import Plan, RunState
from apscheduler.testing.jobs import PATIENCE, make_stored_job
from apscheduler.testing.jobstores.basic import SECOND, T0
from apscheduler.testing.jobstores.requests import (
    EVERYTHING,
    claim,
    claimed_ids,
    completions,
    ready_run,
    run_once,
)
from apscheduler.testing.servers import Server

SERVERS = ["postgresql_database_url", "mysql_database_url"]
OWN_SERVERS = ["own_postgresql", "own_mysql"]


@pytest.fixture(params=SERVERS)
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def opened() -> Iterator[list[SQLAlchemyJobStore]]:
    stores: list[SQLAlchemyJobStore] = []
    yield stores
    for store in stores:
        store.shutdown()


def open_store(
    opened: list[SQLAlchemyJobStore], *args: Any, **options: Any
) -> SQLAlchemyJobStore:
    store = SQLAlchemyJobStore(*args, **options)
    opened.append(store)
    store.start(None, "sql")
    return store


def execute(url: str, *statements: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


# Drivers.


@pytest.mark.parametrize(
    ("url", "installed", "expected"),
    [
        pytest.param("postgresql://h/d", {"psycopg"}, "psycopg", id="psycopg"),
        pytest.param("postgresql://h/d", {"psycopg2"}, "psycopg2", id="psycopg2"),
        pytest.param("mysql://h/d", {"pymysql"}, "pymysql", id="pymysql"),
        pytest.param("mysql://h/d", {"MySQLdb", "pymysql"}, "mysqldb", id="usual"),
        pytest.param("mariadb://h/d", {"pymysql"}, "pymysql", id="mariadb"),
        pytest.param("mysql+pymysql://h/d", set(), "pymysql", id="named"),
        pytest.param("oracle://h/d", set(), "cx_oracle", id="not ours"),
    ],
)
def test_a_url_without_a_driver_means_one_that_is_installed(
    monkeypatch: pytest.MonkeyPatch, url: str, installed: set[str], expected: str
) -> None:
    monkeypatch.setattr(drivers, "_is_installed", installed.__contains__)

    chosen = drivers.choose_driver(make_url(url))

    if expected == "cx_oracle":
        assert chosen == make_url(url)
    else:
        assert chosen.get_driver_name() == expected


@pytest.mark.parametrize(
    ("url", "package"),
    [
        ("postgresql://user:secret@h/d", r"apscheduler-store-sqlalchemy\[postgresql\]"),
        ("mysql://user:secret@h/d", r"apscheduler-store-sqlalchemy\[mysql\]"),
        ("mariadb://user:secret@h/d", r"apscheduler-store-sqlalchemy\[mysql\]"),
    ],
)
def test_a_database_without_any_driver_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, url: str, package: str
) -> None:
    monkeypatch.setattr(drivers, "_is_installed", lambda module: False)

    with pytest.raises(ImportError, match=f"pip install '{package}'") as caught:
        SQLAlchemyJobStore(url)

    assert "secret" not in str(caught.value)


def test_a_driver_that_is_named_and_not_installed_is_reported() -> None:
    url = "mysql+mariadbconnector://user:secret@h/d"

    with pytest.raises(ImportError, match="pip install 'mariadb'") as caught:
        SQLAlchemyJobStore(url)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("postgresql//user:secret@h/d", "expected something like postgresql://user"),
        ("postgresql://user:pass@h:secret/d", "expected something like"),
        ("postgresql://user:pass@secret@h/d", "write %40 instead"),
        ("postgres://user:secret@h/d", "no database 'postgres': expected something"),
    ],
)
def test_a_url_that_is_wrong_is_refused_with_what_is_right(
    url: str, advice: str
) -> None:
    with pytest.raises(ArgumentError, match=advice) as caught:
        SQLAlchemyJobStore(url)

    shown = "".join(traceback.format_exception(caught.value))
    assert "secret" not in shown


def test_an_asynchronous_engine_is_refused() -> None:
    engine: Any = create_async_engine("postgresql+psycopg://user:secret@h/d")

    with pytest.raises(ValueError, match="made by create_engine") as caught:
        SQLAlchemyJobStore(engine=engine)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://user:secret@h/d",
        "postgresql+psycopg://h/d?user=me&password=secret&sslpassword=secret",
        "mysql+pymysql://user:secret@h/d",
    ],
)
def test_passwords_are_not_shown(url: str) -> None:
    store = SQLAlchemyJobStore(url)

    assert "secret" not in repr(store)


def test_tls_is_asked_for_as_configured(url: str) -> None:
    """Whether the server of the tests has it or not."""
    options: dict[str, Any] = {}
    is_postgresql = make_url(url).get_backend_name() == "postgresql"
    if is_postgresql:
        url = make_url(url).update_query_dict({"sslmode": "require"}).render_as_string()
    else:
        options = {"ssl": {"check_hostname": False, "verify_mode": "none"}}
    store = SQLAlchemyJobStore(url, engine_options={"connect_args": options})

    try:
        with store.engine.connect() as connection:
            raw: Any = connection.connection.driver_connection
            is_asked_for = raw.pgconn.ssl_in_use if is_postgresql else raw.ssl
    except OperationalError as exc:
        is_asked_for = "SSL" in str(exc)
    store.shutdown()

    assert is_asked_for


def test_engine_options_are_those_of_the_user(
    postgresql_database_url: str, opened: list[SQLAlchemyJobStore]
) -> None:
    options = {
        "pool_pre_ping": False,
        "pool_size": 2,
        "connect_args": {"application_name": "mine", "connect_timeout": 3},
    }

    store = open_store(opened, postgresql_database_url, engine_options=options)

    with store.engine.connect() as connection:
        raw: Any = connection.connection.driver_connection
        assert raw.info.get_parameters()["connect_timeout"] == "3"
        assert raw.info.get_parameters()["application_name"] == "mine"
    assert store.engine.pool.size() == 2  # type: ignore[attr-defined]  # of a QueuePool


def settings_of(store: SQLAlchemyJobStore, *names: str) -> list[int]:
    """Return what the system does about a connection of the store that is silent."""
    with store.engine.connect() as connection:
        raw: Any = connection.connection.driver_connection
        end = socket.socket(fileno=raw.fileno())
        try:
            return [
                end.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
                for name in names
            ]
        finally:
            end.detach()


@pytest.mark.skipif(
    not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system does not have it"
)
def test_a_machine_that_is_gone_is_noticed_within_half_a_minute(
    url: str, opened: list[SQLAlchemyJobStore]
) -> None:
    store = open_store(opened, url)

    idle, timeout = settings_of(store, "TCP_KEEPIDLE", "TCP_USER_TIMEOUT")

    assert 0 < idle < 30
    assert 0 < timeout < 30_000


@pytest.mark.skipif(
    not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system does not have it"
)
@pytest.mark.parametrize("in_url", [True, False])
def test_who_says_when_a_machine_is_gone_is_heard(
    postgresql_database_url: str, opened: list[SQLAlchemyJobStore], in_url: bool
) -> None:
    url, options = postgresql_database_url, {}
    if in_url:
        url += f"{'&' if '?' in url else '?'}tcp_user_timeout=70000"
    else:
        options = {"connect_args": {"tcp_user_timeout": 70_000}}

    store = open_store(opened, url, engine_options=options)

    assert settings_of(store, "TCP_USER_TIMEOUT") == [70_000]


@pytest.mark.parametrize(
    ("options", "expected"), [({}, None), ({"prepare_threshold": 3}, 3)]
)
def test_statements_are_planned_each_time_unless_psycopg_is_told_otherwise(
    postgresql_database_url: str,
    opened: list[SQLAlchemyJobStore],
    options: dict[str, Any],
    expected: int | None,
) -> None:
    """A plan that was made when the tables were empty would be kept until the server looks at them."""
    store = open_store(
        opened, postgresql_database_url, engine_options={"connect_args": options}
    )

    with store.engine.connect() as connection:
        assert connection.connection.driver_connection.prepare_threshold == expected  # type: ignore[union-attr]  # psycopg's


# Errors.


def refuse(url: str, **options: Any) -> tuple[SQLAlchemyJobStore, DBAPIError]:
    store = SQLAlchemyJobStore(url, **options)
    with pytest.raises(DBAPIError) as caught:
        store.start(None, "sql")
    store.shutdown()
    message = str(caught.value)
    assert "'sql'" in message
    assert "secret" not in message
    return store, caught.value


@pytest.mark.parametrize("server", OWN_SERVERS)
def test_a_server_that_does_not_run_is_reported_with_what_to_do(
    server: str, request: pytest.FixtureRequest, opened: list[SQLAlchemyJobStore]
) -> None:
    own: Server = request.getfixturevalue(server)
    own.stop()
    url = make_url(own.url).set(password="secret").render_as_string(False)

    store, error = refuse(url)

    assert isinstance(error, OperationalError)
    assert "check that the server is running" in str(error)
    assert store.is_unreachable(error)
    own.start()
    assert open_store(opened, own.url).get_all_jobs() == []


@pytest.mark.parametrize(
    "state",
    [
        "starting up",
        "not yet accepting connections",
        "in recovery mode",
        "shutting down",
    ],
)
def test_a_postgresql_that_is_being_started_is_only_away(
    postgresql_url: str, state: str
) -> None:
    store = SQLAlchemyJobStore(postgresql_url)
    # Without a code, as drivers tell it of connections that were not made.
    text = f'connection to "127.0.0.1" failed: FATAL:  the database system is {state}'
    error = OperationalError(None, None, Exception(text))

    assert store.is_unreachable(error)


def test_a_wrong_password_is_no_server_that_is_away(
    url: str, opened: list[SQLAlchemyJobStore]
) -> None:
    wrong = make_url(url).set(username="nobody_at_all", password="secret")

    store, error = refuse(wrong.render_as_string(False))

    assert "user" in str(error)
    assert not store.is_unreachable(error)


def test_a_database_that_is_not_there_is_reported(url: str) -> None:
    store, error = refuse(make_url(url).set(database="nowhere").render_as_string(False))

    assert "check the name of the database" in str(error)
    assert not store.is_unreachable(error)


def test_what_is_wrong_with_a_statement_is_not_the_server(
    url: str, opened: list[SQLAlchemyJobStore]
) -> None:
    store = open_store(opened, url)
    execute(url, "DROP TABLE apscheduler_jobs")

    with pytest.raises(ProgrammingError) as caught:
        store.get_all_jobs()

    assert not store.is_unreachable(caught.value)


# Permissions.


def create_jobs(url: str) -> None:
    """Create the table of jobs and no other one."""
    store = SQLAlchemyJobStore(url, shared=False)
    store.start(None, "sql")
    store.shutdown()


@pytest.fixture
def restricted_url(url: str) -> Iterator[str]:
    """Return the address of the database for a user who may not create tables there; the table of jobs is there."""
    made = make_url(url)
    if made.get_backend_name() == "postgresql":
        create_jobs(url)
        options: Any = made.query["options"]
        schema = options.rpartition("=")[2]
        user = f"user_{schema}"
        execute(
            url,
            f"CREATE ROLE {user} LOGIN PASSWORD 'secret'",
            f"GRANT USAGE ON SCHEMA {schema} TO {user}",
            f"GRANT ALL ON apscheduler_jobs TO {user}",
        )
        ended = [f"DROP OWNED BY {user}", f"DROP ROLE {user}"]
    else:
        # In databases whose names begin with "test" everybody may do everything on some servers.
        database = f"closed_{made.database}"
        execute(url, f"CREATE DATABASE {database}")
        made = made.set(database=database)
        create_jobs(made.render_as_string(False))
        user = f"user_{made.database}"[:32]
        rights = f"SELECT, INSERT, UPDATE, DELETE ON {database}.*"
        ended = [f"DROP DATABASE {database}"]
        for host in ("localhost", "127.0.0.1"):
            execute(
                url,
                f"CREATE USER {user}@'{host}' IDENTIFIED BY 'secret'",
                f"GRANT {rights} TO {user}@'{host}'",
            )
            ended.append(f"DROP USER {user}@'{host}'")
    yield made.set(username=user, password="secret").render_as_string(False)
    execute(url, *ended)


def test_without_permission_for_new_tables_the_store_works_unshared(
    restricted_url: str,
    opened: list[SQLAlchemyJobStore],
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = open_store(opened, restricted_url)

    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "apscheduler_jobs_runs" in record.getMessage()
    assert "secret" not in record.getMessage()
    assert not (store.shareable or store.keeps_runs or store.pushes_changes)
    assert store.poll_interval is None
    me = Identity()
    store.add_jobs([make_stored_job("a", T0), make_stored_job("b")])
    store.add_ready_run(make_stored_job("c"), ready_run(me, "c"))
    batch = claim(store, me)
    assert sorted(claimed_ids(batch)) == ["a", "c"]
    for found in batch.claims:
        store.complete(completions(found, me))
    assert {run.state for run in store.get_runs(EVERYTHING, 9)} == {RunState.SUCCEEDED}


def test_sharing_that_was_asked_for_and_is_not_possible_is_an_error(
    restricted_url: str,
) -> None:
    _, error = refuse(restricted_url, shared=True)

    assert "let this user create tables" in str(error)


# Tables.


def test_processes_that_start_at_once_create_the_tables_once(
    url: str, opened: list[SQLAlchemyJobStore]
) -> None:
    barrier = threading.Barrier(6)
    failures: list[BaseException] = []
    stores = [SQLAlchemyJobStore(url) for _ in range(6)]
    opened += stores

    def start(store: SQLAlchemyJobStore) -> None:
        barrier.wait(PATIENCE)
        try:
            store.start(None, "sql")
            claim(store, Identity())
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=start, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert not failures
    inspector = inspect(stores[0].engine)
    assert len(inspector.get_indexes("apscheduler_jobs")) == 1
    assert len(inspector.get_indexes("apscheduler_jobs_runs")) == 3


def test_a_large_state_and_a_long_traceback_are_kept(
    url: str, opened: list[SQLAlchemyJobStore]
) -> None:
    store = open_store(opened, url)
    me, large = Identity(), "x" * 300_000
    store.add_job(make_stored_job("a", T0, args=(large, 2), on_lost="retry"))

    (found,) = claim(store, me).claims
    outcomes = completions(
        found, me, RunState.FAILED, exception="no", traceback="ü" * 100_000
    )
    store.complete(outcomes)

    assert found.job.args[0] == large
    (run,) = store.get_runs(EVERYTHING, 9)
    assert run.traceback == "ü" * 100_000


def test_texts_that_databases_refuse_are_spelled_out(
    url: str, opened: list[SQLAlchemyJobStore]
) -> None:
    store = open_store(opened, url)
    me = Identity()
    store.add_job(make_stored_job("a", T0))
    (found,) = claim(store, me).claims

    store.complete(
        completions(
            found,
            me,
            RunState.FAILED,
            exception="file \udcff\0 is\tnot \\there\n",
            traceback="'\"%s {} \U0001f600",
        )
    )

    (run,) = store.get_runs(EVERYTHING, 9)
    assert run.exception == "file \\udcff\\x00 is\tnot \\there\n"
    assert run.traceback == "'\"%s {} \U0001f600"


@pytest.mark.parametrize(
    "job_id",
    [
        *("ünï\U0001f600", "a'b\"c\\d,{e}", "%s%(x)s", "NULL"),
        *("it's", "ends with\\", "100%", "two\nlines"),
    ],
)
def test_identifiers_may_have_all_kinds_of_characters(
    url: str, opened: list[SQLAlchemyJobStore], job_id: str
) -> None:
    store = open_store(opened, url)
    me = Identity()
    store.add_jobs([make_stored_job(job_id, T0), make_stored_job("other", T0)])
    store.add_ready_run(make_stored_job(job_id), ready_run(me, job_id))

    first = claim(store, me)
    for found in first.claims:
        store.complete(completions(found, me))
    second = claim(store, me)

    assert sorted([*claimed_ids(first), *claimed_ids(second)]) == sorted(
        [job_id, job_id, "other"]
    )
    found_job = store.lookup_job(job_id)
    assert found_job is not None and found_job.id == job_id
    last = claim(store, me, T0 + timedelta(hours=1), run_once)
    assert sorted(claimed_ids(last)) == sorted([job_id, "other"])
    assert store.lookup_job(job_id) is None


def test_identifiers_that_differ_in_case_are_different(
    url: str, opened: list[SQLAlchemyJobStore]
) -> None:
    store = open_store(opened, url)
    store.add_jobs([make_stored_job(job_id, T0) for job_id in ("a", "A")])

    batch = claim(store, Identity())
    store.remove_job("A")

    assert claimed_ids(batch) == ["A", "a"]
    assert [job.id for job in store.get_all_jobs()] == ["a"]


def test_microseconds_are_kept(url: str, opened: list[SQLAlchemyJobStore]) -> None:
    store = open_store(opened, url)
    times = [
        datetime(2026, 6, 1, 12, 0, 0, microsecond, UTC)
        for microsecond in (1, 333_333, 999_999)
    ]
    for number, time in enumerate(times):
        store.add_job(make_stored_job(f"{number}", time))

    def plan_soon(job: Job) -> Plan:
        assert job.next_run_time is not None
        return Plan([job.next_run_time], job.next_run_time + timedelta(microseconds=7))

    batch = claim(store, Identity(), T0 + SECOND, plan_soon)

    assert [found.run_times[0] for found in batch.claims] == times
    moved = [job.next_run_time for job in store.get_all_jobs()]
    assert moved == [time + timedelta(microseconds=7) for time in times]
    stored = store.read_job("1")
    assert stored is not None
    assert store.change_job(stored, {"next_run_time": T0})


# Clocks.


def test_the_clock_of_the_server_is_read(
    url: str, opened: list[SQLAlchemyJobStore]
) -> None:
    store = open_store(opened, url, engine_options={"pool_size": 1})

    before = datetime.now(UTC)
    times = [store.read_clock() for _ in range(2)]

    first, second = times
    assert first is not None and second is not None
    assert abs(first - before) < timedelta(seconds=5)  # it is this machine
    assert first < second
    assert first.utcoffset() == timedelta(0)


def test_a_file_has_no_clock(opened: list[SQLAlchemyJobStore]) -> None:
    assert open_store(opened, "sqlite://").read_clock() is None


# MySQL and MariaDB alone.


OLD_TABLE = (
    "CREATE TABLE apscheduler_jobs (id VARCHAR(191) NOT NULL PRIMARY KEY, next_run_time DOUBLE, "
    "job_state BLOB NOT NULL) ENGINE {engine} CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"
)
OLD_INDEX = (
    "CREATE INDEX ix_apscheduler_jobs_next_run_time ON apscheduler_jobs (next_run_time)"
)


@pytest.fixture
def old_url(mysql_database_url: str) -> str:
    """Return the address of a database with a table of jobs as APScheduler 3 creates it."""
    execute(mysql_database_url, OLD_TABLE.format(engine="InnoDB"), OLD_INDEX)
    return mysql_database_url


def test_a_state_that_an_old_table_has_no_room_for_is_refused(
    old_url: str, opened: list[SQLAlchemyJobStore]
) -> None:
    store = open_store(opened, old_url)
    store.add_job(make_stored_job("small", T0, args=("x" * 60_000, 2)))

    with pytest.raises(ValueError, match=r"'large'.*65535.*LONGBLOB"):
        store.add_job(make_stored_job("large", T0, args=("x" * 70_000, 2)))
    stored = store.read_job("small")
    assert stored is not None
    with pytest.raises(ValueError, match="LONGBLOB"):
        store.change_job(stored, {"args": ("x" * 70_000, 2)})

    assert [len(job.args[0]) for job in store.get_all_jobs()] == [60_000]


def test_identifiers_in_an_old_table_conflict_whatever_their_case(
    old_url: str, opened: list[SQLAlchemyJobStore]
) -> None:
    store = open_store(opened, old_url)
    store.add_job(make_stored_job("a", T0))

    with pytest.raises(ConflictingIdError, match="'A'"):
        store.add_jobs([make_stored_job("new", T0), make_stored_job("A", T0)])

    me = Identity()
    assert claimed_ids(claim(store, me)) == ["a"]
    # Runs are told apart by their exact identifier.
    store.add_ready_run(make_stored_job("A"), ready_run(me, "A"))
    assert claimed_ids(claim(store, me)) == ["A"]


def test_a_table_without_transactions_is_not_shared(
    mysql_database_url: str,
    opened: list[SQLAlchemyJobStore],
    caplog: pytest.LogCaptureFixture,
) -> None:
    execute(mysql_database_url, OLD_TABLE.format(engine="MyISAM"), OLD_INDEX)

    store = open_store(opened, mysql_database_url)

    assert not store.shareable
    (record,) = caplog.records
    assert "MyISAM" in record.getMessage()
    store.add_job(make_stored_job("a", T0))
    assert claimed_ids(claim(store, Identity())) == ["a"]
    with pytest.raises(ValueError, match=r"cannot be shared.*MyISAM"):
        open_store(opened, mysql_database_url, shared=True)


def test_an_old_server_is_not_shared(
    mysql_database_url: str,
    opened: list[SQLAlchemyJobStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mysql_dialect, "OLDEST_MARIADB", (99,))

    store = open_store(opened, mysql_database_url)

    assert not store.shareable
    me = Identity()
    store.add_jobs([make_stored_job(f"{n}", T0) for n in range(9)])
    store.add_ready_run(make_stored_job("r"), ready_run(me, "r"))
    batch = claim(store, me)
    for found in batch.claims:
        store.complete(completions(found, me))
    assert len(batch.claims) == 10
    assert {run.state for run in store.get_runs(EVERYTHING, 20)} == {RunState.SUCCEEDED}


def test_an_index_that_is_missing_is_created(
    mysql_database_url: str, opened: list[SQLAlchemyJobStore]
) -> None:
    execute(mysql_database_url, OLD_TABLE.format(engine="InnoDB"))

    store = open_store(opened, mysql_database_url)

    assert store.shareable
    assert len(inspect(store.engine).get_indexes("apscheduler_jobs")) == 1
