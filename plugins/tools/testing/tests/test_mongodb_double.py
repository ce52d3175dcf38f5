"""The double of MongoDB: what stores build on holds as it does with the real one, the rest is refused."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
import pytest
from pymongo import ASCENDING, DESCENDING, DeleteOne, InsertOne, ReplaceOne, UpdateOne
from pymongo.errors import (
    BulkWriteError,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
)

from apscheduler.testing.servers import Server

Document = dict[str, Any]


@pytest.fixture
def client(mongodb_url: str) -> Iterator[pymongo.MongoClient[Document]]:
    with pymongo.MongoClient[Document](mongodb_url) as client:
        yield client


@pytest.fixture
def collection(client: Any, mongodb_database_name: str) -> Any:
    return client[mongodb_database_name]["jobs"]


def test_the_clock_of_the_server_is_told(client: Any) -> None:
    told = client.admin.command("hello")["localTime"].replace(tzinfo=UTC)

    assert abs(told - datetime.now(UTC)) < timedelta(minutes=1)


def test_one_document_is_found_and_changed_in_one_step(collection: Any) -> None:
    collection.insert_many([{"_id": n, "due": 10 - n, "owner": None} for n in range(3)])
    query = {"due": {"$lte": 9}, "$or": [{"owner": None}, {"owner": {"$lt": 5}}]}
    change = {"$set": {"owner": 7}, "$inc": {"revision": 1}}

    found = collection.find_one_and_update(
        query, change, sort=[("due", ASCENDING)], return_document=True
    )
    before = collection.find_one_and_update({"_id": 0}, change, projection=["owner"])

    assert found == {"_id": 2, "due": 8, "owner": 7, "revision": 1}
    assert before == {"_id": 0, "owner": None}
    assert collection.find_one_and_update({"_id": 3}, change) is None


def test_of_many_clients_one_gets_a_document(collection: Any, mongodb_url: str) -> None:
    collection.insert_many([{"_id": n, "owner": None} for n in range(40)])
    taken: list[int] = []

    def take() -> None:
        with pymongo.MongoClient[Document](mongodb_url) as own:
            mine = own[collection.database.name]["jobs"]
            while found := mine.find_one_and_update(
                {"owner": None}, {"$set": {"owner": 1}}
            ):
                taken.append(found["_id"])

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(taken) == list(range(40))


def test_writes_in_bulk_compare_what_they_are_told_to(collection: Any) -> None:
    collection.insert_many([{"_id": n, "revision": 1} for n in range(4)])

    result = collection.bulk_write(
        [
            UpdateOne({"_id": 0, "revision": 1}, {"$set": {"revision": 2}}),
            UpdateOne({"_id": 1, "revision": 9}, {"$set": {"revision": 2}}),
            ReplaceOne({"_id": 9}, {"revision": 5}, upsert=True),
            DeleteOne({"_id": 2, "revision": 9}),
            DeleteOne({"_id": 3, "revision": 1}),
        ],
        ordered=False,
    )

    assert (result.matched_count, result.modified_count) == (1, 1)
    assert (result.upserted_ids, result.deleted_count) == ({2: 9}, 1)
    assert {each["_id"]: each["revision"] for each in collection.find()} == {
        0: 2,
        1: 1,
        2: 1,
        9: 5,
    }


@pytest.mark.parametrize(("ordered", "kept"), [(True, {1, 2}), (False, {1, 2, 3})])
def test_an_error_in_bulk_ends_ordered_writes_alone(
    ordered: bool, kept: set[int], collection: Any
) -> None:
    collection.insert_one({"_id": 1})

    with pytest.raises(BulkWriteError) as caught:
        collection.bulk_write(
            [InsertOne({"_id": n}) for n in (2, 1, 3)], ordered=ordered
        )

    (error,) = caught.value.details["writeErrors"]
    assert (error["index"], error["code"]) == (1, 11000)
    assert {each["_id"] for each in collection.find()} == kept


def test_unique_indexes_refuse_duplicates_also_in_updates(collection: Any) -> None:
    collection.create_index([("job", ASCENDING), ("at", DESCENDING)], unique=True)
    collection.insert_many([{"job": "a", "at": 1}, {"job": "a", "at": 2}])

    with pytest.raises(DuplicateKeyError):
        collection.insert_one({"job": "a", "at": 1})
    with pytest.raises(DuplicateKeyError):
        collection.update_one({"at": 2}, {"$set": {"at": 1}})


def test_partial_and_sparse_indexes_look_at_their_documents_alone(
    collection: Any,
) -> None:
    collection.create_index("job", unique=True, partialFilterExpression={"open": True})
    collection.create_index("lease", unique=True, sparse=True)
    collection.insert_many([{"job": "a", "open": False} for _ in range(2)])
    collection.insert_one({"job": "a", "open": True, "lease": 1})

    with pytest.raises(DuplicateKeyError):
        collection.insert_one({"job": "a", "open": True})
    with pytest.raises(DuplicateKeyError):
        collection.insert_one({"job": "b", "open": True, "lease": 1})


def test_large_results_come_in_batches(collection: Any) -> None:
    collection.insert_many([{"_id": n, "state": b"\0\xff" * 100} for n in range(2500)])

    found = [each["_id"] for each in collection.find().sort("_id").batch_size(100)]

    assert found == list(range(2500))


@pytest.mark.parametrize(
    ("update", "options"),
    [
        ([{"$set": {"at": "$$NOW"}}], {}),
        ({"$set": {"runs.$[each].state": 1}}, {"array_filters": [{"each.id": 1}]}),
    ],
    ids=["the time of the server", "array filters"],
)
def test_updates_that_it_cannot_do_are_refused(
    update: Any, options: Document, collection: Any
) -> None:
    collection.insert_one({"_id": 1, "runs": [{"id": 1}]})

    with pytest.raises(OperationFailure, match="not supported by the double"):
        collection.update_one({"_id": 1}, update, **options)
    with pytest.raises(OperationFailure, match="not supported by the double"):
        collection.find_one_and_update({"_id": 1}, update, **options)

    assert collection.find_one() == {"_id": 1, "runs": [{"id": 1}]}


def test_transactions_and_change_streams_are_refused_as_by_a_single_server(
    client: Any, collection: Any
) -> None:
    with (
        pytest.raises(OperationFailure, match="only allowed on a replica set"),
        client.start_session() as session,
        session.start_transaction(),
    ):
        collection.insert_one({}, session=session)
    with pytest.raises(PyMongoError):
        collection.watch()

    assert collection.count_documents({}) == 0


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_everything_that_was_acknowledged_is_there_after_a_restart(
    how: str, own_mongodb: Server
) -> None:
    with pymongo.MongoClient[Document](own_mongodb.url) as client:
        jobs = client["test"]["jobs"]
        jobs.create_index("key", unique=True)
        jobs.insert_many([{"_id": n, "key": n} for n in range(3)])
        jobs.update_one({"_id": 0}, {"$inc": {"revision": 1}})
        jobs.find_one_and_update({"_id": 0}, {"$inc": {"revision": 1}})
        with pytest.raises(BulkWriteError):
            jobs.insert_many([{"_id": 5, "key": 5}, {"_id": 6, "key": 5}])
        jobs.delete_one({"_id": 1})
        client["test"]["gone"].insert_one({})
        client["test"].drop_collection("gone")

        getattr(own_mongodb, how)()
        own_mongodb.start()

        assert list(jobs.find().sort("_id")) == [
            {"_id": 0, "key": 0, "revision": 2},
            {"_id": 2, "key": 2},
            {"_id": 5, "key": 5},
        ]
        assert client["test"].list_collection_names() == ["jobs"]
        with pytest.raises(DuplicateKeyError):
            jobs.insert_one({"key": 0})


def test_a_write_that_was_cut_off_by_a_crash_is_not_there_and_in_nobodys_way(
    own_mongodb: Server,
) -> None:
    assert own_mongodb.directory is not None
    journal = own_mongodb.directory / "journal.bson"
    for name in ("first", "second"):
        with pymongo.MongoClient[Document](own_mongodb.url) as client:
            client["test"]["jobs"].insert_one({"_id": name})
        own_mongodb.kill()
        with journal.open("ab") as file:
            file.write(journal.read_bytes()[:50])
        own_mongodb.start()

    with pymongo.MongoClient[Document](own_mongodb.url) as client:
        found = [each["_id"] for each in client["test"]["jobs"].find()]

    assert found == ["first", "second"]
