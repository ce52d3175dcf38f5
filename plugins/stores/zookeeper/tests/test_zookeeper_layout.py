"""What is in the nodes: jobs as APScheduler 3 has them, and beside them what it does not know."""

import base64
import json
import pickle
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from kazoo.client import KazooClient  # type: ignore[import-untyped]  # it has none

from apscheduler import planning
from apscheduler.jobstores.zookeeper import ZooKeeperJobStore, changes, history
from apscheduler.jobstores.zookeeper.ledgers import ARCHIVE_SIZE
from apscheduler.nodes import Identity
from apscheduler.runs import Plan, RunFilter, RunState
from apscheduler.serializers import PickleSerializer
from apscheduler.testing.jobs import make_stored_job
from apscheduler.testing.jobstores.basic import SECOND, T0, ids
from apscheduler.testing.jobstores.requests import (
    EVERYTHING,
    LEASE,
    claim,
    claimed_ids,
    completions,
    run_again,
    run_once,
    states,
)

FIXTURE = Path(__file__).parent / "fixtures" / "jobs-3.11.3.json"
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def client(zookeeper_url: str) -> Iterator[Any]:
    client = KazooClient(hosts=zookeeper_url)
    client.start()
    yield client
    client.stop()
    client.close()


@pytest.fixture
def path(zookeeper_path: str) -> str:
    return f"{zookeeper_path}/jobs"


@pytest.fixture
def store(zookeeper_url: str, path: str) -> Iterator[ZooKeeperJobStore]:
    store = ZooKeeperJobStore(path, hosts=zookeeper_url)
    store.start(None, "zk")
    yield store
    store.shutdown()


@pytest.fixture
def written_by_3x(client: Any, path: str, store: ZooKeeperJobStore) -> None:
    for name, data in json.loads(FIXTURE.read_text()).items():
        client.create(f"{path}/{name}", base64.b64decode(data))


@pytest.mark.usefixtures("written_by_3x")
def test_jobs_of_3x_are_found_with_all_that_they_are(store: ZooKeeperJobStore) -> None:
    found = {job.id: job for job in store.get_all_jobs()}

    assert list(found)[-2:] == ["far", "paused"]
    assert {"date", "interval", "cron ü"} == set(found) - {"far", "paused"}
    interval, cron = found["interval"], found["cron ü"]
    assert (interval.name, interval.func_ref) == ("Add one and two", "operator:add")
    assert (interval.args, interval.max_instances) == ((1, 2), 3)
    assert (interval.misfire_grace_time, interval.coalesce) == (30, False)
    assert interval.next_run_time == T0
    assert cron.kwargs == {"sort_keys": True}
    assert str(cron.trigger) == "cron[minute='*/15', second='5']"
    assert cron.next_run_time == T0.astimezone(BERLIN)
    assert found["far"].next_run_time == T0 + timedelta(days=4000, microseconds=1)
    assert found["paused"].next_run_time is None
    assert store.get_next_run_time() == T0
    assert {each.id: each.func for each in store.get_job_records()} == {
        "date": "time:time",
        "interval": "operator:add",
        "cron ü": "json:dumps",
        "far": "time:time",
        "paused": "time:time",
    }


@pytest.mark.usefixtures("written_by_3x")
def test_jobs_of_3x_run_and_are_moved_on(store: ZooKeeperJobStore) -> None:
    me = Identity()

    batch = claim(store, me, plan=lambda job: planning.plan(job, T0))

    assert claimed_ids(batch) == ["cron ü", "date", "interval"]
    results = {each.job.id: each.job.func(*each.job.args) for each in batch.claims}
    assert results["interval"] == 3
    for each in batch.claims:
        store.complete(completions(each, me))
    assert states(store) == [RunState.SUCCEEDED] * 3
    assert ids(store.get_all_jobs()) == ["cron ü", "interval", "far", "paused"]
    assert store.get_next_run_time() == T0 + 5 * SECOND
    assert not claim(store, me).claims


def test_a_job_is_written_as_3x_does_it(
    store: ZooKeeperJobStore, client: Any, path: str
) -> None:
    job = make_stored_job("a", T0, args=(1, "two"))

    store.add_job(job)
    added = pickle.loads(client.get(f"{path}/a")[0])
    claim(store, Identity())
    claimed = pickle.loads(client.get(f"{path}/a")[0])

    assert list(added) == ["next_run_time", "job_state"]
    assert added["next_run_time"] == T0.timestamp()
    assert added["job_state"]["args"] == (1, "two")
    assert added["job_state"].keys() == job.__getstate__().keys()
    moved = T0 + timedelta(minutes=1)
    assert claimed["next_run_time"] == moved.timestamp()
    assert claimed["job_state"]["next_run_time"] == moved
    assert client.get_children(path) == ["a"], "3.x takes every child for a job"


def test_every_protocol_of_pickle_is_read(
    store: ZooKeeperJobStore, client: Any, path: str
) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        state = make_stored_job(str(protocol), T0).__getstate__()
        document = {"next_run_time": T0.timestamp(), "job_state": state}
        client.create(f"{path}/{protocol}", pickle.dumps(document, protocol))
    state = make_stored_job("x", T0).__getstate__()
    reordered = {"job_state": state, "next_run_time": T0.timestamp()}
    client.create(f"{path}/x", pickle.dumps(reordered))

    assert len(store.get_due_jobs(T0)) == pickle.HIGHEST_PROTOCOL + 2
    assert store.get_due_jobs(T0 - SECOND) == []


def test_a_node_that_is_no_job_is_left_alone_and_reported_once(
    store: ZooKeeperJobStore,
    client: Any,
    path: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client.create(f"{path}/strange", b"no job")
    store.add_job(make_stored_job("a", T0))

    assert claimed_ids(claim(store, Identity())) == ["a"]
    assert ids(store.get_all_jobs()) == ["a"]
    assert ids(store.get_due_jobs(T0 + timedelta(days=1))) == ["a"]
    assert ["strange" in record.getMessage() for record in caplog.records] == [True]
    assert client.get(f"{path}/strange")[0] == b"no job"


def test_the_run_time_of_the_node_counts_and_not_the_copy_in_the_state(
    store: ZooKeeperJobStore, client: Any, path: str
) -> None:
    store.add_job(make_stored_job("a", T0.astimezone(BERLIN)))
    document = pickle.loads(client.get(f"{path}/a")[0])
    document["next_run_time"] += 1
    client.set(f"{path}/a", pickle.dumps(document))
    store._storage.forget()

    (job,) = store.get_all_jobs()

    assert job.next_run_time == T0 + SECOND
    assert job.next_run_time is not None
    assert job.next_run_time.utcoffset() == timedelta(hours=2)


class Reversed(PickleSerializer):
    """Bytes that are no pickle."""

    def dumps(self, state: dict[str, Any]) -> bytes:
        return super().dumps(state)[::-1]

    def loads(self, data: bytes) -> dict[str, Any]:
        return super().loads(data[::-1])


def test_jobs_can_be_written_by_another_serializer(
    zookeeper_url: str, path: str
) -> None:
    store = ZooKeeperJobStore(path, serializer=Reversed(), hosts=zookeeper_url)
    store.start(None, "zk")
    try:
        store.add_job(make_stored_job("a", T0, on_lost="retry"))
        store.add_job(make_stored_job("paused"))

        assert store.get_next_run_time() == T0
        assert claimed_ids(claim(store, Identity(), lease_until=T0 + LEASE)) == ["a"]
        store.take_over(Identity().node, T0 + 2 * LEASE)
        (again,) = claim(store, Identity(), T0 + timedelta(seconds=59)).claims
        assert (again.ready, again.job.id) == (True, "a")
    finally:
        store.shutdown()


# Runs.


def finish_runs(store: ZooKeeperJobStore, count: int, **options: Any) -> None:
    me = Identity()
    store.add_job(make_stored_job("a", T0, **options))
    for number in range(count):
        time = T0 + number * SECOND

        def plan(job: Any, time: datetime = time) -> Plan:
            return Plan([time], time + SECOND)

        (found,) = claim(store, me, time, plan).claims
        store.complete(completions(found, me, finished_at=time))


def test_a_long_history_goes_to_archives(
    store: ZooKeeperJobStore, client: Any, path: str
) -> None:
    count = 2 * ARCHIVE_SIZE + 5

    finish_runs(store, count)

    assert len(client.get_children(f"{path}.history")) == 2
    times = [run.scheduled_time for run in store.get_runs(EVERYTHING, 1000)]
    assert times == [T0 + n * SECOND for n in reversed(range(count))]
    some = store.get_runs(RunFilter(since=T0 + SECOND, until=T0 + 3 * SECOND), 10)
    assert [run.scheduled_time for run in some] == [T0 + 2 * SECOND, T0 + SECOND]
    assert store.get_runs(RunFilter(states=frozenset([RunState.RUNNING])), 10) == []


def test_archives_are_pruned_in_part_and_as_a_whole(
    store: ZooKeeperJobStore, client: Any, path: str
) -> None:
    finish_runs(store, 2 * ARCHIVE_SIZE + 5)
    keep = ARCHIVE_SIZE + 8

    pruned = store.prune_runs(None, keep, T0)

    assert pruned == ARCHIVE_SIZE - 3
    times = [run.scheduled_time for run in store.get_runs(EVERYTHING, 1000)]
    end = 2 * ARCHIVE_SIZE + 5
    assert times == [T0 + n * SECOND for n in reversed(range(end - keep, end))]
    assert len(client.get_children(f"{path}.history")) == 2
    assert store.prune_runs(2 * SECOND, None, T0 + (end + 10) * SECOND) == keep
    assert client.get_children(f"{path}.history") == []
    assert states(store) == []


def test_a_job_can_limit_its_history(store: ZooKeeperJobStore) -> None:
    finish_runs(store, 5, history=2)

    assert store.prune_runs(None, 1000, T0) == 3
    assert store.prune_runs(None, 1000, T0) == 0
    assert len(states(store)) == 2


def test_what_is_left_of_a_job_goes_after_a_while(
    store: ZooKeeperJobStore,
    client: Any,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store.add_job(make_stored_job("a", T0, history=0))
    store.add_job(make_stored_job("kept", T0, history=0))
    me = Identity()
    for each in claim(store, me, plan=run_again).claims:
        store.complete(completions(each, me, keep=False))
    store.remove_job("a")

    store.prune_runs(None, None, T0)
    soon = client.get_children(f"{path}.runs")
    monkeypatch.setattr(history, "IDLE_SECONDS", -60.0)
    monkeypatch.setattr(changes, "STRAY_SECONDS", -60.0)
    store.prune_runs(None, None, T0)
    store.read_job("kept")  # answered after what was sent before

    assert sorted(soon) == ["a", "kept"]
    assert client.get_children(f"{path}.runs") == ["kept"]
    assert client.get_children(f"{path}.changes") == []


def test_notes_of_changes_go_after_a_while(
    store: ZooKeeperJobStore,
    client: Any,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(5):
        store.add_job(make_stored_job(str(number), T0))
    before = client.get_children(f"{path}.changes")

    monkeypatch.setattr(changes, "KEEP_SECONDS", -1.0)
    store.remove_job("0")
    store.read_job("1")

    assert len(before) == 5
    assert client.get_children(f"{path}.changes") == []


def test_who_has_not_looked_for_long_sees_everything_all_the_same(
    store: ZooKeeperJobStore,
    zookeeper_url: str,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = ZooKeeperJobStore(path, hosts=zookeeper_url)
    other.start(None, "other")
    try:
        for job_id in "abc":
            other.add_job(make_stored_job(job_id, T0))
        assert ids(store.get_all_jobs()) == ["a", "b", "c"]

        monkeypatch.setattr(changes, "KEEP_SECONDS", -1.0)
        other.update_job(make_stored_job("a", T0 + SECOND))
        other.remove_job("b")
        other.add_job(make_stored_job("d", T0))
        monkeypatch.setattr(changes, "FORGET_SECONDS", -1.0)

        assert ids(store.get_all_jobs()) == ["c", "d", "a"]
    finally:
        other.shutdown()


def test_jobs_that_another_program_adds_and_removes_are_seen(
    store: ZooKeeperJobStore, client: Any, path: str
) -> None:
    store.add_job(make_stored_job("a", T0))
    assert ids(store.get_all_jobs()) == ["a"]

    client.create(f"{path}/b", client.get(f"{path}/a")[0].replace(b"\x01a", b"\x01b"))
    added = claimed_ids(claim(store, Identity()))
    client.delete(f"{path}/b")

    assert len(added) == 2
    assert ids(store.get_all_jobs()) == ["a"]


def test_a_change_by_another_program_is_not_overwritten(
    store: ZooKeeperJobStore, client: Any, path: str
) -> None:
    store.add_job(make_stored_job("a", T0))
    store.add_job(make_stored_job("b", T0 + timedelta(days=1)))
    store.get_all_jobs()

    client.set(f"{path}/a", client.get(f"{path}/b")[0])

    assert claim(store, Identity()).claims == []
    assert store.get_next_run_time() == T0 + timedelta(days=1)


def test_a_finished_job_that_is_added_again_starts_anew(
    store: ZooKeeperJobStore,
) -> None:
    me = Identity()
    for _ in range(3):
        store.add_job(make_stored_job("a", T0))
        (found,) = claim(store, me, plan=run_once).claims
        store.complete(completions(found, me))

    assert states(store) == [RunState.SUCCEEDED] * 3
