"""A collection that APScheduler 3.11.3 has written opens as it is; see fixtures/generate_3x_collection.py."""

import pickle
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import pymongo
import pytest
from bson import json_util

from apscheduler.jobstores.mongodb import MongoDBJobStore
from apscheduler.nodes import Identity
from apscheduler.planning import plan
from apscheduler.runs import RunState
from apscheduler.testing.jobstores.basic import ids
from apscheduler.testing.jobstores.requests import claim, completions, states

FIXTURE = Path(__file__).parent / "fixtures" / "jobs-3.11.3.json"
START = datetime(2026, 6, 1, 12, tzinfo=UTC)
FAR = datetime(2038, 1, 19, 3, 14, 8, 1, UTC)
DUE = [
    *("and", "bound-method", "calendarinterval", "cron", "date", "interval"),
    *("interval-jitter", "or"),
]


@pytest.fixture
def collection(mongodb_url: str, mongodb_database_name: str) -> Iterator[Any]:
    with pymongo.MongoClient[dict[str, Any]](mongodb_url) as client:
        jobs = client[mongodb_database_name]["jobs"]
        jobs.insert_many(json_util.loads(FIXTURE.read_text()))
        yield jobs


@pytest.fixture
def store(
    collection: Any, mongodb_url: str, mongodb_database_name: str
) -> Iterator[MongoDBJobStore]:
    store = MongoDBJobStore(mongodb_database_name, host=mongodb_url)
    store.start(None, "mongo")
    yield store
    store.shutdown()


def test_all_jobs_are_listed_with_their_attributes(store: MongoDBJobStore) -> None:
    assert ids(store.get_all_jobs()) == [*DUE, "far", "paused"]
    assert [record.error for record in store.get_job_records()] == [None] * 10
    job = store.lookup_job("interval")
    assert job is not None
    assert (job.name, job.func_ref, list(job.args)) == (
        *("Add one and two", "operator:add"),
        [1, 2],
    )
    assert (job.misfire_grace_time, job.coalesce, job.max_instances) == (30, False, 3)
    assert (job.executor, job.next_run_time) == ("other", START)
    far = store.lookup_job("far")
    assert far is not None and far.next_run_time == FAR


def test_opening_and_listing_changes_no_document(
    collection: Any, store: MongoDBJobStore
) -> None:
    store.get_all_jobs()
    claim(store, Identity(), START - timedelta(seconds=1))

    assert list(collection.find().sort("_id")) == json_util.loads(FIXTURE.read_text())


def test_due_jobs_run_and_move_on(store: MongoDBJobStore) -> None:
    me = Identity()

    batch = claim(store, me, START, lambda job: plan(job, START))

    assert ids([found.job for found in batch.claims]) == DUE
    results = {
        found.job.id: found.job.func(*found.job.args, **found.job.kwargs)
        for found in batch.claims
    }
    assert results["bound-method"] == PurePosixPath("/tmp/file")
    assert results["interval"] == 3
    store.complete([one for found in batch.claims for one in completions(found, me)])
    assert states(store) == [RunState.SUCCEEDED] * len(DUE)
    assert store.lookup_job("date") is None
    times = {job.id: job.next_run_time for job in store.get_all_jobs()}
    assert times["interval"] == START + timedelta(minutes=5)
    assert times["or"] == START + timedelta(hours=1)


def test_what_is_written_can_be_read_by_3x(
    collection: Any, store: MongoDBJobStore
) -> None:
    """Three fields as they were, and further ones that it does not look at; the state is a plain dictionary."""
    stored = store.read_job("interval")
    assert stored is not None
    assert store.change_job(stored, {"name": "changed"})
    claim(store, Identity(), START, lambda job: plan(job, START))

    document = collection.find_one({"_id": "interval"})

    assert document["next_run_time"] == (START + timedelta(minutes=5)).timestamp()
    state = pickle.loads(document["job_state"])
    assert (state["version"], state["name"]) == (1, "changed")
    assert collection.find_one({"_id": "paused"})["next_run_time"] is None
