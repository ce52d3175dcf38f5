"""What MongoDB's commands about documents do, as far as stores need them: as mongomock, one command at a time."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import bson
from bson import Int64
from bson.errors import InvalidBSON
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError

from apscheduler.testing.servers.mongo_double import lookup  # noqa: F401  # finds documents by _id at once
from apscheduler.testing.servers.mongo_double.administration import (
    ONE_BATCH,
    Administration,
    Document,
)

NEXT_BATCH = 1000

WRITES = {
    "create",
    "createIndexes",
    "delete",
    "drop",
    "dropDatabase",
    "dropIndexes",
    "findAndModify",
    "findandmodify",
    "insert",
    "renameCollection",
    "update",
}


def failure(code: int, name: str, message: str) -> Document:
    return {"ok": 0.0, "errmsg": message, "code": code, "codeName": name}


def refuse_unsupported(statement: Document, update: Any) -> None:
    """Refuse what mongomock would pass over in silence.

    :raises OperationFailure: if an update uses it
    """
    if statement.get("arrayFilters"):
        raise OperationFailure("arrayFilters are not supported by the double", 9)
    if isinstance(update, list) and "$$NOW" in repr(update):
        raise OperationFailure("$$NOW is not supported by the double", 9)


def is_replacement(update: Any) -> bool:
    """Return whether an update is a whole document, neither operators nor a pipeline."""
    return isinstance(update, dict) and not next(iter(update), "$").startswith("$")


class Database(Administration):
    """All databases of the server; writes are in a journal, from which they come back."""

    def __init__(self, journal: Path) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.journal: Any = None
        if journal.exists():
            self._repeat(journal)
        self.journal = journal.open("ab", buffering=0)

    def _repeat(self, journal: Path) -> None:
        """Carry out again what is in the journal, and take out what was cut off when the double was killed."""
        end = 0
        with journal.open("rb+") as file:
            try:
                for entry in bson.decode_file_iter(file):
                    self.run(entry["command"])
                    end = file.tell()
            except InvalidBSON:
                file.truncate(end)

    def run(self, command: Document) -> Document:
        """Carry out a command and return the answer."""
        name = next(iter(command))
        do: Callable[[Document, Any], Document] | None = getattr(
            self, f"do_{name.lower()}", None
        )
        if do is None:
            return failure(59, "CommandNotFound", f"no such command: '{name}'")
        if "txnNumber" in command:  # as MongoDB without replicas answers
            return failure(
                20,
                "IllegalOperation",
                "Transaction numbers are only allowed on a replica set",
            )
        with self.lock:
            try:
                answer = do(command, self.client[command.get("$db", "test")])
            except DuplicateKeyError as error:
                return failure(11000, "DuplicateKey", str(error))
            except OperationFailure as error:
                return failure(error.code or 8, "UnknownError", str(error))
            except Exception as error:
                return failure(2, "BadValue", f"{type(error).__name__}: {error}")
            if self.journal is not None and name in WRITES:
                self.journal.write(bson.encode({"command": command}))
        return {**answer, "ok": 1.0}

    def do_insert(self, command: Document, database: Any) -> Document:
        collection, counts = database[command["insert"]], {"n": 0}

        def insert(index: int, document: Document) -> None:
            collection.insert_one(document)
            counts["n"] += 1

        return {**attempt_each(command, "documents", insert), **counts}

    def do_update(self, command: Document, database: Any) -> Document:
        collection, counts = database[command["update"]], {"n": 0, "nModified": 0}
        upserted: list[Document] = []

        def update(index: int, one: Document) -> None:
            refuse_unsupported(one, one["u"])
            replaces = is_replacement(one["u"])
            method = (
                "replace_one"
                if replaces
                else "update_many"
                if one.get("multi")
                else "update_one"
            )
            result = getattr(collection, method)(
                one["q"], one["u"], upsert=one.get("upsert", False)
            )
            counts["nModified"] += result.modified_count or 0
            if result.upserted_id is None:
                counts["n"] += result.matched_count
            else:
                counts["n"] += 1
                upserted.append({"index": index, "_id": result.upserted_id})

        errors = attempt_each(command, "updates", update)
        return {**errors, **counts, **({"upserted": upserted} if upserted else {})}

    def do_delete(self, command: Document, database: Any) -> Document:
        collection, counts = database[command["delete"]], {"n": 0}

        def delete(index: int, one: Document) -> None:
            method = (
                collection.delete_one
                if one.get("limit") == 1
                else collection.delete_many
            )
            counts["n"] += method(one["q"]).deleted_count

        return {**attempt_each(command, "deletes", delete), **counts}

    def do_findandmodify(self, command: Document, database: Any) -> Document:
        collection = database[next(iter(command.values()))]
        query = command.get("query") or {}
        sort = list((command.get("sort") or {}).items()) or None
        options: Document = {"sort": sort, "projection": command.get("fields")}
        if command.get("remove"):
            found = collection.find_one_and_delete(query, **options)
            return {"value": found, "lastErrorObject": {"n": int(found is not None)}}
        update = command["update"]
        refuse_unsupported(command, update)
        method = (
            "find_one_and_replace" if is_replacement(update) else "find_one_and_update"
        )
        found = getattr(collection, method)(
            query,
            update,
            upsert=command.get("upsert", False),
            return_document=ReturnDocument.AFTER
            if command.get("new")
            else ReturnDocument.BEFORE,
            **options,
        )
        told = {"n": int(found is not None), "updatedExisting": found is not None}
        return {"value": found, "lastErrorObject": told}

    def do_find(self, command: Document, database: Any) -> Document:
        name = command["find"]
        found = database[name].find(
            command.get("filter") or {}, command.get("projection")
        )
        if command.get("sort"):
            found = found.sort(list(command["sort"].items()))
        if command.get("skip"):
            found = found.skip(command["skip"])
        if command.get("limit"):
            found = found.limit(abs(command["limit"]))
        size = ONE_BATCH if command.get("singleBatch") else command.get("batchSize")
        return self.cursor_over(f"{database.name}.{name}", found, size)

    def do_aggregate(self, command: Document, database: Any) -> Document:
        name = command["aggregate"]
        found = database[name].aggregate(command["pipeline"])
        return self.cursor_over(
            f"{database.name}.{name}",
            found,
            (command.get("cursor") or {}).get("batchSize"),
        )

    def do_getmore(self, command: Document, database: Any) -> Document:
        cursor_id = command["getMore"]
        remaining = self.cursors.pop(cursor_id, [])
        size = command.get("batchSize") or NEXT_BATCH
        batch, remaining = remaining[:size], remaining[size:]
        if remaining:
            self.cursors[cursor_id] = remaining
        namespace = f"{database.name}.{command['collection']}"
        return {
            "cursor": {
                "id": Int64(cursor_id if remaining else 0),
                "ns": namespace,
                "nextBatch": batch,
            }
        }

    def do_killcursors(self, command: Document, database: Any) -> Document:
        for cursor_id in command["cursors"]:
            self.cursors.pop(cursor_id, None)
        return {"cursorsKilled": command["cursors"]}

    def do_count(self, command: Document, database: Any) -> Document:
        return {
            "n": database[command["count"]].count_documents(command.get("query") or {})
        }

    def do_distinct(self, command: Document, database: Any) -> Document:
        return {
            "values": database[command["distinct"]].distinct(
                command["key"], command.get("query") or {}
            )
        }


def attempt_each(
    command: Document, field: str, attempt: Callable[[int, Document], None]
) -> Document:
    """Try every write of a command, in order until the first error or all of them, and return the errors."""
    operations: Sequence[Document] = command[field]
    errors: list[Document] = []
    for index, operation in enumerate(operations):
        try:
            attempt(index, operation)
        except DuplicateKeyError as error:
            errors.append({"index": index, "code": 11000, "errmsg": str(error)})
        except PyMongoError as error:
            errors.append(
                {
                    "index": index,
                    "code": getattr(error, "code", None) or 8,
                    "errmsg": str(error),
                }
            )
        if errors and command.get("ordered", True):
            break
    return {"writeErrors": errors} if errors else {}
