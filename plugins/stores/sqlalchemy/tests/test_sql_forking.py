"""Processes that fork use connections of their own, and lock nobody out."""

import os
import threading
from pathlib import Path

import pytest

from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.testing.jobs import PATIENCE, make_stored_job
from apscheduler.testing.jobstores.basic import T0


@pytest.fixture(params=["sqlite", "postgresql_database_url", "mysql_database_url"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'jobs.db'}"
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_uses_connections_of_its_own(
    store: SQLAlchemyJobStore,
) -> None:
    store.add_job(make_stored_job("parent", T0))
    pool = store.engine.pool

    pid = os.fork()
    if pid == 0:
        failure = 1
        try:
            assert store.engine.pool is not pool
            store.add_job(make_stored_job("child", T0))
            assert len(store.get_all_jobs()) == 2
            failure = 0
        finally:
            os._exit(failure)
    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert store.engine.pool is pool
    assert [job.id for job in store.get_all_jobs()] == ["child", "parent"]
    store.remove_job("child")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_process_that_forks_while_it_writes_locks_nobody_out(
    store: SQLAlchemyJobStore,
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def write() -> None:
        with store._database.write(store.jobs_t):
            begun.set()
            may_end.wait(0.3)  # longer than a fork takes

    writer = threading.Thread(target=write)
    writer.start()
    assert begun.wait(PATIENCE)

    pid = os.fork()
    if pid == 0:
        failure = 1
        try:
            store.add_job(make_stored_job("child", T0))
            failure = 0
        finally:
            os._exit(failure)
    may_end.set()
    writer.join()
    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert [job.id for job in store.get_all_jobs()] == ["child"]
    store.add_job(make_stored_job("parent", T0))
