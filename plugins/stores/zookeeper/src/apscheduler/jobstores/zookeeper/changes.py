"""The log of changes, by which readers know what to read again.

Every transaction adds a node to it that names what was written. It stays for a while, so that who looks often enough
misses nothing. Nobody waits for another to write it, which a common version would ask for.
"""

import json
import os
import time
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import count

from apscheduler.jobstores.zookeeper.connecting import Connection, Write

# How long a note stays, and after what pause a reader takes everything for changed.
KEEP_SECONDS, FORGET_SECONDS = 20.0, 10.0
# A note that its writer has left is removed after this time.
STRAY_SECONDS = 300.0

# Time that passes while the machine is suspended counts.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class ChangeLog:
    """The log of changes of a store.

    :ivar path: the node that the notes are below; its data changes when others may have something to do sooner
    :ivar writer: what the names of the notes of this process begin with, and what it writes as data
    :ivar job_count: how many jobs there were at the last look
    """

    def __init__(self, connection: Connection, path: str, jobs_path: str):
        self.path = path
        self.job_count = 0
        self._jobs_path = jobs_path
        self._connection = connection
        self.writer = os.urandom(6).hex()
        self._numbers = count(1)
        self._own: deque[tuple[float, str]] = deque()
        self._seen: set[str] = set()
        self._looked_at = float("-inf")
        self._last_change = 0

    def note(self, names: Iterable[Sequence[str]], wakes: bool) -> list[Write]:
        """Return what adds a note.

        :param names: what was written, of each kind
        :param wakes: also have those told that listen
        """
        name = f"{self.writer}-{next(self._numbers):x}"
        self._own.append((time.clock_gettime(_CLOCK), name))
        data = json.dumps([*names]).encode()
        writes = [Write("create", f"{self.path}/{name}", data)]
        if wakes:
            writes.append(Write("set_data", self.path, self.writer.encode()))
        return writes

    def read(self) -> list[list[str]] | None:
        """Return the names in the notes that others have added since this was asked last, of each kind.

        None if some may be gone already.

        :raises NoNodeError: if there is no log
        """
        now = time.clock_gettime(_CLOCK)
        is_late, self._looked_at = now > self._looked_at + FORGET_SECONDS, float("-inf")
        names, stat, self.job_count = self._connection.list_now(
            self.path, self._jobs_path
        )
        if stat.pzxid == self._last_change:  # not a single note has come or gone
            is_late = False
        new = [name for name in names if name not in self._seen]
        foreign = [
            f"{self.path}/{name}" for name in new if not name.startswith(self.writer)
        ]
        notes = [] if is_late else self._connection.get_all(foreign)
        self._seen, self._looked_at, self._last_change = set(names), now, stat.pzxid
        if is_late or None in notes:
            return None
        found: list[list[str]] = [[], []]
        for note in notes:
            assert note is not None
            for every, these in zip(found, json.loads(note[0]), strict=True):
                every += these
        return found

    def forget(self) -> None:
        """Have the next reading take everything for changed."""
        self._looked_at, self._last_change = float("-inf"), 0

    def tidy(self) -> None:
        """Remove notes of this process that are old enough, without waiting for that."""
        client, oldest = (
            self._connection.client,
            time.clock_gettime(_CLOCK) - KEEP_SECONDS,
        )
        while client.connected and self._own and self._own[0][0] < oldest:
            _, name = self._own.popleft()
            client.delete_async(f"{self.path}/{name}")

    def remove_strays(self) -> None:
        """Remove what others have left."""
        names, _, _ = self._connection.list_now(self.path, self._jobs_path)
        paths = [f"{self.path}/{name}" for name in names]
        for path, found in zip(paths, self._connection.get_all(paths), strict=True):
            if found and found[1].mtime / 1000 < time.time() - STRAY_SECONDS:
                self._connection.ready().delete_async(path)
