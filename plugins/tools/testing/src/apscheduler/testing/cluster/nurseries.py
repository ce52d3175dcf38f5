"""Where nodes are born: one process per clock, which forks them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Self

from apscheduler.testing.cluster.node import Settings


class Nurseries:
    """Processes that fork nodes, started when they are needed.

    :param lease: after how many seconds a node is dead; None: as in earnest
    """

    def __init__(self, lease: float | None = None):
        self._options = [] if lease is None else ["--lease", str(lease)]
        self._processes: dict[int, subprocess.Popen[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        for process in self._processes.values():
            process.communicate()

    def bear(self, minutes: int, settings: Settings) -> int:
        """Start a node whose clock is ahead by so many minutes, and return its process id."""
        process = self._processes.get(minutes) or self._start(minutes)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(settings.as_json()) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    def _start(self, minutes: int) -> "subprocess.Popen[str]":
        self._processes[minutes] = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.nursery", *self._options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **wrong_clock(minutes)},
        )
        return self._processes[minutes]


def wrong_clock(minutes: int) -> dict[str, str]:
    """Return the environment of a process whose clock is ahead."""
    if not minutes:
        return {}
    return {
        "LD_PRELOAD": str(find_libfaketime()),
        "FAKETIME": f"{minutes:+}m",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def find_libfaketime() -> Path | None:
    """Return the library that makes the clock of a process wrong."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
