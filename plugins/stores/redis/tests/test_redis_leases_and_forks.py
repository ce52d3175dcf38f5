"""A lease that is renewed at the last moment, and processes that fork."""

import os
import threading
from datetime import timedelta

import pytest

from apscheduler.jobstores.redis import RedisJobStore
from apscheduler.nodes import Identity
from apscheduler.runs import RunFilter, RunState
from apscheduler.testing.jobs import PATIENCE, make_stored_job
from apscheduler.testing.jobstores.basic import T0
from apscheduler.testing.jobstores.requests import claim


def test_a_node_that_renews_its_lease_at_the_last_moment_keeps_its_runs(
    store: RedisJobStore, other_store: RedisJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = Identity()
    store.add_job(make_stored_job("a", T0))
    claim(store, owner, lease_until=T0)
    now = T0 + timedelta(seconds=1)
    run_script = other_store._runner.run

    def renew_first(script: object, given: object = None, *blobs: bytes) -> object:
        if isinstance(given, dict) and "nodes" in given:
            store.renew_lease(owner.node, now + timedelta(seconds=20))
        return run_script(script, given, *blobs)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(other_store._runner, "run", renew_first)

    assert other_store.take_over(Identity().node, now) == []
    assert [run.state for run in store.get_runs(RunFilter(), 9)] == [RunState.RUNNING]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_uses_connections_of_its_own(store: RedisJobStore) -> None:
    store.add_job(make_stored_job("parent", T0))
    heard = threading.Event()
    end = store.subscribe(heard.set)
    writer = store._runner.writer

    pid = os.fork()
    if pid == 0:
        failure = 1
        try:
            assert store._runner.writer != writer
            store.add_job(make_stored_job("child", T0))
            assert len(store.get_all_jobs()) == 2
            failure = 0
        finally:
            os._exit(failure)
    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert heard.wait(PATIENCE), "the child is not the one who listens"
    assert [job.id for job in store.get_all_jobs()] == ["child", "parent"]
    assert end is not None
    end()
