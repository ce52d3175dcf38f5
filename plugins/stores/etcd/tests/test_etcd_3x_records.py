"""What APScheduler 3.11.3 has written opens, and its jobs run."""

import base64
import json
import pickle
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from etcd3gw.client import Etcd3Client

from apscheduler import planning
from apscheduler.jobstores.contract import ClaimRequest
from apscheduler.jobstores.etcd import EtcdJobStore
from apscheduler.nodes import Identity
from apscheduler.runs import RunState
from apscheduler.testing.jobs import make_stored_job
from apscheduler.testing.jobstores.basic import T0, ids
from apscheduler.testing.jobstores.requests import claim, completions, states

WRITTEN = Path(__file__).parent / "fixtures" / "records-3.11.3.json"
START = datetime(2026, 6, 1, 12, tzinfo=UTC)
PREFIXES = ("", "protocol-2-", "protocol-0-")
NAMES = ("date", "interval", "cron", "or/with a slash", "bound-method")


@pytest.fixture
def store(store: EtcdJobStore, etcd_path: str) -> EtcdJobStore:
    """Return a store on records that APScheduler 3.11.3 has written."""
    for name, value in json.loads(WRITTEN.read_text()).items():
        store.client.put(f"{etcd_path}{name}", base64.b64decode(value))
    return store


def test_all_jobs_are_listed(store: EtcdJobStore) -> None:
    listed = ids(store.get_all_jobs())

    due = sorted(f"{prefix}{name}" for prefix in PREFIXES for name in NAMES)
    far = sorted(f"{prefix}far" for prefix in PREFIXES)
    paused = sorted(f"{prefix}paused" for prefix in PREFIXES)
    assert listed == [*due, *far, *paused]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_jobs_are_as_they_were(store: EtcdJobStore, prefix: str) -> None:
    job = store.lookup_job(f"{prefix}interval")

    assert job is not None
    assert (job.name, job.func_ref, job.args) == (
        "Add one and two",
        "operator:add",
        (1, 2),
    )
    assert (job.misfire_grace_time, job.coalesce, job.max_instances) == (30, False, 3)
    assert (str(job.trigger), job.next_run_time) == ("interval[0:05:00]", START)
    far = store.lookup_job(f"{prefix}far")
    assert far is not None
    assert far.next_run_time == START + timedelta(days=4000, microseconds=1)
    paused = store.lookup_job(f"{prefix}paused")
    assert paused is not None and paused.next_run_time is None


def test_records_tell_about_all_jobs(store: EtcdJobStore) -> None:
    records = {record.id: record for record in store.get_job_records()}

    assert len(records) == 21
    assert records["cron"].trigger == "cron[hour='9-17']"
    assert not any(record.error for record in records.values())


def test_due_jobs_run_and_are_moved_on(store: EtcdJobStore) -> None:
    me = Identity()

    batch = store.claim(
        ClaimRequest(START, 100, lambda job: planning.plan(job, START), me)
    )

    assert len(batch.claims) == len(PREFIXES) * len(NAMES)
    results = {c.job.id: c.job.func(*c.job.args, **c.job.kwargs) for c in batch.claims}
    for prefix in PREFIXES:
        assert results[f"{prefix}interval"] == 3
        assert results[f"{prefix}or/with a slash"] == '{"a": [1, 2]}'
        assert str(results[f"{prefix}bound-method"]) == "/tmp/file"
        assert store.lookup_job(f"{prefix}date") is None, "it was due only once"
    for found in batch.claims:
        store.complete(completions(found, me))
    assert set(states(store)) == {RunState.SUCCEEDED}
    assert store.get_due_jobs(START) == []
    interval = store.lookup_job("interval")
    assert interval is not None
    assert interval.next_run_time == START + timedelta(minutes=5)


def test_records_are_written_as_apscheduler_3_reads_them(
    store: EtcdJobStore, etcd_path: str
) -> None:
    """It takes the run time from the state of the job, and every key that begins with the path for a job."""
    store.remove_all_jobs()
    store.add_job(make_stored_job("a", T0))
    me = Identity()
    (found,) = claim(store, me, lease_until=T0).claims
    store.hand_back([found])
    client: Etcd3Client = store.client

    ((value, metadata),) = client.get_prefix(etcd_path)

    assert metadata["key"] == f"{etcd_path}/a".encode()
    assert value.startswith(b"\x80\x04"), "the default protocol of Python 3.8 to 3.13"
    document = pickle.loads(value)
    assert list(document) == ["next_run_time", "job_state"]
    next_run_time = T0 + timedelta(minutes=1)
    assert document["next_run_time"] == next_run_time.timestamp()
    assert document["job_state"]["next_run_time"] == next_run_time
    assert type(document["job_state"]) is dict


def test_what_somebody_else_writes_is_noticed_without_being_told(
    store: EtcdJobStore, etcd_path: str
) -> None:
    """APScheduler 3 does not say that it has written."""
    told = threading.Event()
    unsubscribe = store.subscribe(told.set)
    assert unsubscribe is not None
    record = json.loads(WRITTEN.read_text())["/date"]

    store.client.put(f"{etcd_path}/another", base64.b64decode(record))

    assert told.wait(20)
    unsubscribe()
