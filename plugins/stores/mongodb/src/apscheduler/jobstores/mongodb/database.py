"""The client, the three collections, and what is done when a connection breaks before the answer is there."""

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from bson import ObjectId
from bson.codec_options import CodecOptions
from pymongo import IndexModel, MongoClient, ReadPreference, UpdateOne
from pymongo.collection import Collection
from pymongo.database import Database as MongoDatabase
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    OperationFailure,
    ServerSelectionTimeoutError,
)
from pymongo.results import BulkWriteResult

from apscheduler.jobstores.mongodb.documents import (
    BY_TIME,
    NEXT_RUN_TIME,
    READY_AT,
    Document,
)

T = TypeVar("T")

JOB_INDEXES = (
    # As APScheduler 3 makes it.
    IndexModel([(NEXT_RUN_TIME, 1)], sparse=True),
    IndexModel(BY_TIME),
    IndexModel([(READY_AT, 1)], sparse=True),
    IndexModel([("runs.state", 1)], sparse=True),
)
RUN_INDEXES = (
    IndexModel([("scheduled_time", -1), ("_id", -1)]),
    IndexModel([("job_id", 1), ("scheduled_time", -1)]),
    IndexModel([("finished_at", 1)]),
)

EVER = float("-inf")

# Not allowed; there is another one with this name, or on these fields.
NO_INDEX = frozenset((13, 85, 86))
# What is repeated is refused, since there are no replicas.
NO_REPLICAS = 20


class Database:
    """The collections of one store.

    :param client: a client that stays open; None: one of its own is made of the arguments
    :ivar client: the client
    :ivar collection: the collection of jobs, with the options of the client
    :ivar jobs: the same with the options that this store needs, and so are the next two
    :ivar runs: how runs have ended
    :ivar nodes: which schedulers are alive
    """

    def __init__(
        self,
        client: Any,
        database: str,
        collection: str,
        connect_args: Mapping[str, Any],
    ):
        self._names = database, collection
        self._connect_args = dict(connect_args) if client is None else None
        self._is_closed = False
        self._inherited: list[Any] = []
        self._use(connect(connect_args) if client is None else client)
        if not self.collection.write_concern.acknowledged:
            raise ValueError(
                "Job stores have to know what they have written, but the MongoDB client has the write concern w=0: "
                "use w=1 or w='majority'"
            )
        if client is None:
            _owning.add(self)

    def _use(self, client: Any) -> None:
        self.client = client
        database, name = self._names
        self.collection: Collection[Document] = client[database][name]
        # Whatever documents the program likes elsewhere, and wherever it reads them from.
        options: Any = {
            "codec_options": CodecOptions(),
            "read_preference": ReadPreference.PRIMARY,
        }
        self.jobs: Collection[Document] = self.collection.with_options(**options)
        self.runs: Collection[Document] = client[database].get_collection(
            f"{name}_runs", **options
        )
        self.nodes: Collection[Document] = client[database].get_collection(
            f"{name}_nodes", **options
        )

    def exists(self) -> bool:
        """Return whether any of the collections is there."""
        names = [each.name for each in (self.jobs, self.runs, self.nodes)]
        database = self.jobs.database
        return bool(database.list_collection_names(filter={"name": {"$in": names}}))

    def open(self) -> list[str]:
        """Connect, and create the indexes; return why some cannot be created."""
        if self._is_closed:
            self._use(connect(self._connect_args or {}))
            self._is_closed = False
        wanted = [(self.jobs, index) for index in JOB_INDEXES]
        wanted += [(self.runs, index) for index in RUN_INDEXES]
        # One at a time, so that one that cannot be created does not keep the others from it.
        obstacles = [
            _create_index(*collection_and_index) for collection_and_index in wanted
        ]
        return list(dict.fromkeys(filter(None, obstacles)))

    def close(self) -> None:
        """Close a client that was made here."""
        if self._connect_args is not None:
            self._is_closed = True
            self.client.close()

    def leave_to_parent(self) -> None:
        """In a forked process: use a client of its own, since threads and connections are those of the parent."""
        # Not closed, which would end the sessions of the parent; and kept, since it would be closed otherwise.
        self._inherited.append(self.client)
        self._use(connect(self._connect_args or {}))

    def first_times(self) -> tuple[float | None, float | None]:
        """Return the first time at which a job is due, and the first at which a ready run is available."""
        return self._first(NEXT_RUN_TIME, EVER), self._first(READY_AT, EVER)

    def first_time(self, after: float) -> float | None:
        """Return the first time later than this at which a job is due or a ready run available."""
        times = self._first(NEXT_RUN_TIME, after), self._first(READY_AT, after)
        return min((time for time in times if time is not None), default=None)

    def _first(self, field: str, after: float) -> float | None:
        later = {field: {"$gt": after}}
        found = self.jobs.find_one(later, {"_id": 0, field: 1}, sort=[(field, 1)])
        return None if found is None else found[field]

    def write(self, updates: Sequence[UpdateOne]) -> int | None:
        """Update documents of jobs, each on its own, and return how many were found.

        None if that is not known: each update was carried out, or its document was not found, but the connection
        broke before the answer. Each must look for a revision that it changes.
        """

        def attempt(is_repeated: bool) -> int | None:
            result: BulkWriteResult = self.jobs.bulk_write(updates, ordered=False)
            return None if is_repeated else result.matched_count

        return again(attempt) if updates else 0


def _create_index(collection: Collection[Document], index: IndexModel) -> str | None:
    """Create an index, unless it is there, and return why that is not possible."""
    try:
        again(lambda _: collection.create_indexes([index]))
    except OperationFailure as exc:
        if exc.code not in NO_INDEX:
            raise
        return str((exc.details or {}).get("errmsg", exc))
    return None


def new_revision() -> str:
    """Return a text that no document has ever had as its revision."""
    return str(ObjectId())


def again(action: Callable[[bool], T]) -> T:
    """Do what does no harm when it is done twice; once more if the connection breaks before the answer.

    A server without replicas does not know of writes that are repeated, so the driver does not repeat them, but when it
    could not connect at first: then the server refuses them.

    :param action: is told whether this is the second time
    """
    try:
        return action(False)
    except ServerSelectionTimeoutError:  # nothing was sent, and it has waited already
        raise
    except AutoReconnect:
        pass
    except OperationFailure as exc:
        if exc.code != NO_REPLICAS:
            raise
    return action(True)


def connect(arguments: Mapping[str, Any]) -> Any:
    """Return a client that connects when it is used first.

    :raises ConfigurationError: if the address is not valid
    """
    options = {"connect": False, **arguments}
    host = options.get("host")
    hosts = [host] if isinstance(host, str) else list(host or [])
    # What is in the address is overruled by arguments.
    if not any("w=" in str(address).partition("?")[2] for address in hosts):
        options.setdefault("w", 1)
    try:
        return MongoClient(**options)
    except (ConfigurationError, ValueError):  # among them InvalidURI
        if not any("@" in str(address) for address in hosts):
            raise
        # The driver quotes the part that it did not understand, which may be part of the password.
        raise ConfigurationError(
            "The MongoDB address in 'host' is not valid. It is not shown, since it contains a password; it looks like "
            "'mongodb://user:password@host:27017/?option=value', and in user and password every character besides "
            "letters and digits is written as urllib.parse.quote_plus does"
        ) from None


def check_client(client: Any) -> None:
    """Raise an error unless this is a client that can be waited for.

    :raises TypeError: if it is for asyncio, or no client
    """
    kind = type(client)
    if kind.__module__.startswith(("pymongo.asynchronous", "motor.")):
        raise TypeError(
            f"'client' must be a pymongo.MongoClient, but is a {kind.__name__}: job stores are used from threads, also "
            "by the scheduler for asyncio; pass a MongoClient, or leave it out"
        )
    if isinstance(client, (str, Mapping, MongoDatabase, Collection)):
        raise TypeError(
            f"'client' must be a pymongo.MongoClient, but is a {kind.__name__}; names go to 'database' and 'collection'"
        )


_owning: "weakref.WeakSet[Database]" = weakref.WeakSet()


def _after_fork() -> None:
    for database in list(_owning):
        database.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
