"""What happens when the store opens its database: tables, sharing, and errors that say what to do."""

import logging
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import MetaData, create_engine, event, inspect
from sqlalchemy.exc import DatabaseError, InvalidRequestError, OperationalError
from sqlalchemy.pool import StaticPool

from apscheduler.jobstores.contract import ClaimRequest
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.jobstores.sqlalchemy.dialects import sqlite as sqlite_dialect
from apscheduler.nodes import Identity
from apscheduler.runs import Plan, RunFilter
from apscheduler.testing.jobs import make_stored_job

T0 = datetime(2026, 6, 1, 12, tzinfo=UTC)

an_engine = create_engine("sqlite:///referred.db")
some_metadata = MetaData()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def opened() -> Iterator[list[SQLAlchemyJobStore]]:
    stores: list[SQLAlchemyJobStore] = []
    yield stores
    for store in stores:
        store.shutdown()


def open_store(
    opened: list[SQLAlchemyJobStore], *args: object, **options: object
) -> SQLAlchemyJobStore:
    store = SQLAlchemyJobStore(*args, **options)  # type: ignore[arg-type]
    opened.append(store)
    store.start(None, "sql")
    return store


def claim_once(store: SQLAlchemyJobStore, now: datetime = T0) -> list[str]:
    request = ClaimRequest(now, 9, lambda job: Plan([now], None), Identity())
    return [claim.job.id for claim in store.claim(request).claims]


def test_without_url_and_engine_there_is_no_store() -> None:
    with pytest.raises(ValueError, match=r"engine.*url"):
        SQLAlchemyJobStore()


def test_engine_and_metadata_may_be_references() -> None:
    store = SQLAlchemyJobStore(
        engine=f"{__name__}:an_engine", metadata=f"{__name__}:some_metadata"
    )

    assert store.engine is an_engine
    assert store.jobs_t.metadata is some_metadata


def test_an_engine_wins_over_a_url() -> None:
    assert SQLAlchemyJobStore("sqlite:///x.db", an_engine).engine is an_engine


def test_two_stores_cannot_have_the_same_table_in_one_metadata() -> None:
    metadata = MetaData()
    SQLAlchemyJobStore("sqlite://", metadata=metadata)

    with pytest.raises(InvalidRequestError, match="apscheduler_jobs"):
        SQLAlchemyJobStore("sqlite://", metadata=metadata)


def test_the_password_is_not_shown() -> None:
    store = SQLAlchemyJobStore("postgresql+psycopg://user:secret@host/db")

    shown = "postgresql+psycopg://user:***@host/db"
    assert repr(store) == f"<SQLAlchemyJobStore (url={shown})>"


def test_tables_are_named_after_the_table_of_jobs(
    url: str, opened: list[SQLAlchemyJobStore]
) -> None:
    store = open_store(opened, url, tablename="tasks")

    inspector = inspect(store.engine)
    assert inspector.get_table_names() == ["tasks", "tasks_nodes", "tasks_runs"]
    indexes = {index["name"] for index in inspector.get_indexes("tasks")}
    assert indexes == {"ix_tasks_next_run_time"}


def test_a_schema_holds_all_tables(
    url: str, tmp_path: Path, opened: list[SQLAlchemyJobStore]
) -> None:
    engine = create_engine(url)
    attached = str(tmp_path / "attached.db")

    @event.listens_for(engine, "connect")
    def attach(connection: sqlite3.Connection, record: object) -> None:
        connection.execute("ATTACH ? AS other", [attached])

    store = open_store(opened, engine=engine, tableschema="other")
    store.add_job(make_stored_job("a", T0))

    assert claim_once(store) == ["a"]
    assert len(inspect(engine).get_table_names("other")) == 3
    assert inspect(engine).get_table_names() == []
    engine.dispose()


def test_several_stores_keep_apart_in_one_database(
    url: str, opened: list[SQLAlchemyJobStore]
) -> None:
    first = open_store(opened, url)
    second = open_store(opened, url, tablename="others")
    first.add_job(make_stored_job("a", T0))

    assert claim_once(second) == []
    assert claim_once(first) == ["a"]


def test_jobs_and_runs_survive_a_restart(
    url: str, opened: list[SQLAlchemyJobStore]
) -> None:
    store = open_store(opened, url)
    store.add_job(make_stored_job("a", T0))
    store.add_job(make_stored_job("b"))
    claim_once(store)
    store.shutdown()

    again = open_store(opened, url)

    assert [job.id for job in again.get_all_jobs()] == ["b"]
    assert [run.job_id for run in again.get_runs(RunFilter(), 9)] == ["a"]


def test_readers_and_writers_do_not_wait_for_each_other(
    url: str, path: Path, opened: list[SQLAlchemyJobStore]
) -> None:
    open_store(opened, url)

    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_an_engine_of_the_user_is_left_as_it_is(path: Path, url: str) -> None:
    engine = create_engine(url)
    store = SQLAlchemyJobStore(engine=engine)
    pool = engine.pool

    store.start(None, "sql")
    store.shutdown()

    assert engine.pool is pool
    with engine.connect() as connection:
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
    assert mode == "delete"
    engine.dispose()


def test_an_engine_that_begins_transactions_itself_is_served(
    url: str, opened: list[SQLAlchemyJobStore]
) -> None:
    engine = create_engine(url)

    @event.listens_for(engine, "connect")
    def take_over(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: object) -> None:
        connection.exec_driver_sql("BEGIN")  # type: ignore[attr-defined]

    store = open_store(opened, engine=engine)
    store.add_job(make_stored_job("a", T0))

    assert claim_once(store) == ["a"]
    assert store.get_all_jobs() == []
    engine.dispose()


def test_an_engine_with_a_database_per_thread_is_refused() -> None:
    store = SQLAlchemyJobStore(engine=create_engine("sqlite://"))

    with pytest.raises(ValueError, match="StaticPool"):
        store.start(None, "sql")


def test_a_database_in_memory_is_not_shared(
    opened: list[SQLAlchemyJobStore],
) -> None:
    store = open_store(opened, "sqlite://")

    assert isinstance(store.engine.pool, StaticPool)
    assert not store.shareable
    assert not store.keeps_runs
    with pytest.raises(ValueError, match="'sql' cannot be shared"):
        open_store(opened, "sqlite://", shared=True)


def test_unshared_stores_create_no_more_than_the_table_of_jobs(
    url: str, opened: list[SQLAlchemyJobStore]
) -> None:
    store = open_store(opened, url, shared=False)
    store.add_job(make_stored_job("a", T0))

    assert claim_once(store) == ["a"]
    assert len(store.get_runs(RunFilter(), 9)) == 1
    assert inspect(store.engine).get_table_names() == ["apscheduler_jobs"]


def deny_new_tables(engine: object) -> None:
    """Have the database answer as if this user may not create tables."""

    def check(action: int, *details: object) -> int:
        denied = action == sqlite3.SQLITE_CREATE_TABLE
        return sqlite3.SQLITE_DENY if denied else sqlite3.SQLITE_OK

    @event.listens_for(engine, "connect")
    def connect(connection: sqlite3.Connection, record: object) -> None:
        connection.set_authorizer(check)


def test_without_permission_for_new_tables_the_store_works_unshared(
    url: str, opened: list[SQLAlchemyJobStore], caplog: pytest.LogCaptureFixture
) -> None:
    open_store(opened, url, shared=False).add_job(make_stored_job("a", T0))
    engine = create_engine(url)
    deny_new_tables(engine)

    store = open_store(opened, engine=engine)

    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "apscheduler_jobs_runs" in record.getMessage()
    assert not store.shareable
    assert store.poll_interval is None
    assert claim_once(store) == ["a"]
    assert len(store.get_runs(RunFilter(), 9)) == 1
    assert store.get_all_jobs() == []
    engine.dispose()


def test_sharing_that_was_asked_for_and_is_not_possible_is_an_error(
    url: str, opened: list[SQLAlchemyJobStore]
) -> None:
    open_store(opened, url, shared=False)
    engine = create_engine(url)
    deny_new_tables(engine)

    with pytest.raises(DatabaseError, match="not authorized"):
        open_store(opened, engine=engine, shared=True)
    engine.dispose()


def test_a_file_that_is_no_database_is_reported_with_what_to_do(path: Path) -> None:
    path.write_text("This is no database, but long enough to look like one. " * 40)
    store = SQLAlchemyJobStore(f"sqlite:///{path}")

    with pytest.raises(DatabaseError, match="not an SQLite database; give another"):
        store.start(None, "sql")


def test_a_directory_that_is_not_there_is_reported_with_what_to_do(
    tmp_path: Path,
) -> None:
    store = SQLAlchemyJobStore(f"sqlite:///{tmp_path}/missing/jobs.db")

    with pytest.raises(OperationalError, match=r"'sql'.*missing.*directory exists"):
        store.start(None, "sql")


def test_a_database_that_stays_locked_is_reported_with_what_to_do(
    path: Path, url: str
) -> None:
    with closing(sqlite3.connect(path)) as blocking:
        blocking.execute("CREATE TABLE other (x)")
        blocking.execute("BEGIN EXCLUSIVE")
        options = {"connect_args": {"timeout": 0.05}}
        store = SQLAlchemyJobStore(url, engine_options=options)

        with pytest.raises(OperationalError, match="another process has locked it"):
            store.start(None, "sql")

        blocking.rollback()
        store.start(None, "sql")
        assert store.get_all_jobs() == []
        store.shutdown()


def test_a_write_waits_for_a_lock_and_can_be_repeated_when_that_takes_too_long(
    path: Path, url: str, opened: list[SQLAlchemyJobStore]
) -> None:
    options = {"connect_args": {"timeout": 0.05}}
    store = open_store(opened, url, engine_options=options)
    store.add_job(make_stored_job("a", T0))
    with closing(sqlite3.connect(path)) as blocking:
        blocking.execute("BEGIN IMMEDIATE")

        with pytest.raises(OperationalError, match="locked"):
            claim_once(store)
        assert len(store.get_all_jobs()) == 1, "reading does not wait"

        blocking.rollback()
    assert claim_once(store) == ["a"]


def test_a_full_database_changes_nothing_and_works_again_when_there_is_room(
    path: Path, url: str
) -> None:
    engine = create_engine(url)
    limits = {"pages": 30}

    @event.listens_for(engine, "checkout")
    def limit(connection: sqlite3.Connection, record: object, proxy: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {limits['pages']}")

    store = SQLAlchemyJobStore(engine=engine)
    store.start(None, "sql")
    large = [make_stored_job(f"{n}", T0, args=(n, "x" * 4000)) for n in range(50)]

    with pytest.raises(OperationalError, match="full"):
        store.add_jobs(large)
    assert store.get_all_jobs() == []

    limits["pages"] = 10_000
    store.add_jobs(large)
    assert len(store.get_all_jobs()) == 50
    engine.dispose()


def test_a_full_database_is_reported_with_what_to_do(path: Path, url: str) -> None:
    engine = create_engine(url)

    @event.listens_for(engine, "connect")
    def limit(connection: sqlite3.Connection, record: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")

    store = SQLAlchemyJobStore(engine=engine)

    with pytest.raises(OperationalError, match="free disk space"):
        store.start(None, "sql")
    engine.dispose()


def test_a_read_only_database_is_reported_with_what_to_do(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE other (x)")
    store = SQLAlchemyJobStore(f"sqlite:///file:{path}?mode=ro&uri=true")

    with pytest.raises(OperationalError, match="read-only; let this user write"):
        store.start(None, "sql")


def test_jobs_in_a_read_only_database_can_be_listed(
    path: Path, url: str, opened: list[SQLAlchemyJobStore]
) -> None:
    engine = create_engine(url)
    writing = SQLAlchemyJobStore(engine=engine, shared=False)
    writing.start(None, "sql")
    writing.add_job(make_stored_job("a", T0))
    writing.shutdown()
    engine.dispose()

    store = open_store(opened, f"sqlite:///file:{path}?mode=ro&uri=true")

    assert [job.id for job in store.get_all_jobs()] == ["a"]
    assert not store.shareable
    with pytest.raises(OperationalError, match="readonly"):
        claim_once(store)


def test_every_piece_of_advice_names_an_error_of_sqlite() -> None:
    for name in sqlite_dialect.ADVICE:
        assert hasattr(sqlite3, name)


def test_no_more_than_one_kind_of_database_is_loaded(tmp_path: Path) -> None:
    program = """
import sys
from apscheduler.schedulers.background import BackgroundScheduler

scheduler = BackgroundScheduler(timezone="UTC")
scheduler.add_jobstore("sqlalchemy", url=sys.argv[1])
scheduler.start()
scheduler.add_job(print, "interval", hours=1)
scheduler.shutdown()
names = ("mysql", "postgresql", "sqlite")
print([name for name in names if f"sqlalchemy.dialects.{name}" in sys.modules])
"""

    output = subprocess.run(
        [sys.executable, "-c", program, f"sqlite:///{tmp_path / 'jobs.sqlite'}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout

    assert output.splitlines()[-1] == "['sqlite']"
