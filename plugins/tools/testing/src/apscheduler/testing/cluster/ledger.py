"""What really happened, written by every process to one file that no store knows of."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Entry = dict[str, Any]


class Ledger:
    """A file of lines, each written in one piece, so that processes may die at any instant.

    Times are those of the monotonic clock, which all processes of a machine share, whatever time they believe it is.
    """

    def __init__(self, path: Path):
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, what: str, **details: Any) -> None:
        entry = {"what": what, "at": time.monotonic(), "pid": os.getpid(), **details}
        os.write(self._file, f"{json.dumps(entry)}\n".encode())

    def read(self) -> Iterator[Entry]:
        with self.path.open() as file:
            yield from map(json.loads, file)

    def size(self) -> int:
        """Return how much has been written: it grows while somebody works."""
        return os.fstat(self._file).st_size

    def close(self) -> None:
        os.close(self._file)
