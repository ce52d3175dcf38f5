"""What MongoDB's commands about the server, its databases, collections and indexes do."""

import itertools
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import mongomock
from bson import Int64
from pymongo.errors import OperationFailure

from apscheduler.testing.servers.mongodb import MARK

Document = dict[str, Any]

VERSION = "7.0.0"
FIRST_BATCH, ONE_BATCH = 101, 10**9


class Administration:
    """The databases themselves, and cursors over results.

    The method ``do_<command>`` takes a command and returns what is answered beside ``ok``.
    """

    def __init__(self) -> None:
        self.client: Any = mongomock.MongoClient()
        self.cursors: dict[int, list[Document]] = {}
        self.cursor_ids = itertools.count(1000)

    def do_hello(self, command: Document, database: Any) -> Document:
        return {
            "helloOk": True,
            "isWritablePrimary": True,
            "ismaster": True,
            "maxBsonObjectSize": 16777216,
            "maxMessageSizeBytes": 48000000,
            "maxWriteBatchSize": 100000,
            "localTime": datetime.now(UTC),
            "minWireVersion": 0,
            "maxWireVersion": 21,
            "readOnly": False,
            "connectionId": 1,
            "logicalSessionTimeoutMinutes": 30,
        }

    do_ismaster = do_hello

    def do_ping(self, command: Document, database: Any) -> Document:
        return {}

    do_endsessions = do_ping

    def do_buildinfo(self, command: Document, database: Any) -> Document:
        return {
            "version": VERSION,
            "versionArray": [*map(int, VERSION.split(".")), 0],
            "modules": [MARK],
        }

    def do_serverstatus(self, command: Document, database: Any) -> Document:
        return {"localTime": datetime.now(UTC), "version": VERSION}

    def do_createindexes(self, command: Document, database: Any) -> Document:
        known = ("unique", "sparse", "expireAfterSeconds", "partialFilterExpression")
        for index in command["indexes"]:
            options = {name: index[name] for name in known if name in index}
            keys = list(index["key"].items())
            database[command["createIndexes"]].create_index(
                keys, name=index["name"], **options
            )
        return {}

    def do_listindexes(self, command: Document, database: Any) -> Document:
        indexes = database[command["listIndexes"]].index_information()
        if not indexes:
            raise OperationFailure("ns does not exist", 26)
        described = [
            {
                "v": 2,
                "name": name,
                "key": dict(index["key"]),
                **({"unique": True} if index.get("unique") else {}),
            }
            for name, index in indexes.items()
        ]
        return self.cursor_over(f"{database.name}.$cmd.listIndexes", described, None)

    def do_dropindexes(self, command: Document, database: Any) -> Document:
        collection = database[command["dropIndexes"]]
        if command["index"] == "*":
            collection.drop_indexes()
        else:
            collection.drop_index(command["index"])
        return {}

    def do_listcollections(self, command: Document, database: Any) -> Document:
        wanted = (command.get("filter") or {}).get("name")
        names = [
            name
            for name in database.list_collection_names()
            if not isinstance(wanted, str) or name == wanted
        ]
        found = [{"name": name, "type": "collection"} for name in names]
        return self.cursor_over(
            f"{database.name}.$cmd.listCollections", found, ONE_BATCH
        )

    def do_listdatabases(self, command: Document, database: Any) -> Document:
        names = self.client.list_database_names()
        return {
            "databases": [
                {"name": name, "sizeOnDisk": 1, "empty": False} for name in names
            ]
        }

    def do_create(self, command: Document, database: Any) -> Document:
        if command.get("capped"):
            raise OperationFailure(
                "capped collections are not supported by the double", 9
            )
        database.create_collection(command["create"])
        return {}

    def do_drop(self, command: Document, database: Any) -> Document:
        database.drop_collection(command["drop"])
        return {}

    def do_dropdatabase(self, command: Document, database: Any) -> Document:
        self.client.drop_database(database.name)
        return {}

    def do_renamecollection(self, command: Document, database: Any) -> Document:
        source, _, name = command["renameCollection"].partition(".")
        self.client[source][name].rename(command["to"].partition(".")[2])
        return {}

    def cursor_over(
        self, namespace: str, documents: Iterable[Document], size: int | None
    ) -> Document:
        """Return the first batch and where to ask for the others."""
        found = list(documents)
        size = size or FIRST_BATCH
        batch, remaining = found[:size], found[size:]
        cursor_id = 0
        if remaining:
            cursor_id = next(self.cursor_ids)
            self.cursors[cursor_id] = remaining
        return {
            "cursor": {"id": Int64(cursor_id), "ns": namespace, "firstBatch": batch}
        }
