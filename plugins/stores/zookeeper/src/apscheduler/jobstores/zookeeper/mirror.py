"""A copy of the children of a node. What is written compares versions all the same."""

import threading
from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, TypeVar

from apscheduler.jobstores.zookeeper.connecting import Connection, NoNodeError, Write

T = TypeVar("T")

UNKNOWN = -1


class Entry(NamedTuple, Generic[T]):
    """A node as it was read or written.

    :ivar value: what the data means
    :ivar created: grows from one node to the next; a node that was created here and not read yet is the latest
    :ivar changed: the number of the transaction that has written it, or unknown
    :ivar modified_at: the time of the server then, in seconds since 1970
    """

    name: str
    data: bytes
    value: T
    version: int
    created: float
    changed: int
    modified_at: float


class Mirror(Generic[T]):
    """The children of one node, for as long as it is told of every change.

    :param parse: makes the value of name, data and the entry that was known before
    """

    def __init__(
        self,
        connection: Connection,
        path: str,
        parse: "Callable[[str, bytes, Entry[T] | None], T]",
    ):
        self.path = path
        self._connection = connection
        self._parse = parse
        self._entries: dict[str, Entry[T]] = {}
        # Names of nodes that are to be read.
        self._changed: set[str] = set()
        # Names that were written here while others are being read: what is read of them may be older.
        self._written: set[str] = set()
        # One thread reads at a time; the other lock protects what is above.
        self._reading = threading.Lock()
        self._lock = threading.Lock()

    def path_of(self, name: str) -> str:
        return f"{self.path}/{name}"

    def mark(self, names: Iterable[str]) -> None:
        """Take note of changes."""
        with self._lock:
            self._changed.update(names)

    def get(self, name: str) -> Entry[T] | None:
        """Return what is known of a node, None if that is nothing, or known to be old."""
        return None if name in self._changed else self._entries.get(name)

    def reload(self, known: bool = True) -> None:
        """Find out the names, and take everything for changed.

        :param known: False: only what has come or gone
        """
        try:
            names = self._connection.read(lambda client: client.get_children(self.path))
        except NoNodeError:
            names = []
        with self._lock:
            if known:
                self._changed.update(names, self._entries)
            else:
                self._changed.update(self._entries.keys() ^ names)

    def refresh(self) -> dict[str, Entry[T]]:
        """Read what has changed, and return all entries by name."""
        with self._reading:
            if self._changed:
                self._read()
            with self._lock:
                return dict(self._entries)

    def _read(self) -> None:
        with self._lock:
            names, self._changed, self._written = list(self._changed), set(), set()
        try:
            found = self._connection.get_all([self.path_of(name) for name in names])
        except BaseException:
            self.mark(names)
            raise
        with self._lock:
            for name, each in zip(names, found, strict=True):
                if name in self._written:
                    self._changed.add(name)
                elif each is None:
                    self._entries.pop(name, None)
                else:
                    self._take(name, *each)

    def _take(self, name: str, data: bytes, stat: Any) -> None:
        old = self._entries.get(name)
        # What is the same stays the same object, though its number may be known only now.
        value = (
            old.value
            if old is not None and old.data == data
            else self._parse(name, data, old)
        )
        self._entries[name] = Entry(
            *(name, data, value, stat.version),
            *(stat.czxid, stat.mzxid, stat.mtime / 1000),
        )

    def apply(self, write: Write, result: Any) -> None:
        """Take note of what was written here."""
        name = write.path[len(self.path) + 1 :]
        with self._lock:
            self._written.add(name)
            old = self._entries.get(name)
            if write.kind == "create" and old is None and name not in self._changed:
                latest = float("inf")
                value = self._parse(name, write.data, None)
                self._entries[name] = Entry(
                    name, write.data, value, 0, latest, UNKNOWN, latest
                )
            elif (
                write.kind == "set_data"
                and old is not None
                and result.version == old.version + 1
                and result.mzxid > old.changed
            ):
                self._take(name, write.data, result)
            else:
                self._changed.add(name)

    def forget(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries, self._changed = {}, set()
