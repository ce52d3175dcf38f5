"""The double finds documents by their identifier at once, and the same ones as by looking at all."""

from typing import Any

import mongomock
import pytest

from apscheduler.testing.servers.mongo_double import lookup

DOCUMENTS: list[dict[str, Any]] = [
    {"_id": "a", "n": 1, "list": [{"x": 1}]},
    {"_id": "b", "n": 2},
    {"_id": "c", "n": None},
    {"_id": 1, "n": 4},
]


@pytest.mark.parametrize(
    "query",
    [
        pytest.param({"_id": "a"}, id="equal"),
        pytest.param({"_id": "unknown"}, id="unknown"),
        pytest.param({"_id": 1}, id="not a text"),
        pytest.param({"_id": {"$in": ["c", "unknown", "a"]}}, id="one of several"),
        pytest.param({"_id": {"$in": ["c", 1]}}, id="one of several kinds"),
        pytest.param({"_id": {"$in": []}}, id="one of none"),
        pytest.param({"_id": {"$gt": "a"}}, id="greater"),
        pytest.param({"_id": "a", "n": 2}, id="not the right one"),
        pytest.param({"_id": "c", "n": None, "m": None}, id="null or missing"),
        pytest.param({"_id": "a", "list": {"$elemMatch": {"x": 1}}}, id="part"),
        pytest.param({"_id": {"$in": ["a", "b"]}, "$or": [{"n": 2}]}, id="or"),
    ],
)
def test_the_same_documents_are_found_as_by_looking_at_all(
    query: dict[str, Any],
) -> None:
    collection: Any = mongomock.MongoClient()["database"]["collection"]
    collection.insert_many(DOCUMENTS)

    found = list(collection._iter_documents(query))

    slowly = list(lookup._find_among_all(collection, query))
    assert sorted(found, key=str) == sorted(slowly, key=str)


def test_what_is_found_is_updated_in_place_and_deleted() -> None:
    collection: Any = mongomock.MongoClient()["database"]["collection"]
    collection.insert_many(DOCUMENTS)

    collection.update_one({"_id": "a"}, {"$set": {"n": 9}})
    collection.update_one({"_id": "new"}, {"$set": {"n": 10}}, upsert=True)
    collection.delete_many({"_id": {"$in": ["b", "c"]}})

    assert [d["n"] for d in collection.find({}).sort("n")] == [4, 9, 10]
