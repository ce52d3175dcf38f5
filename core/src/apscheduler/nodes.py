"""Nodes: one scheduler process, as other processes on the same store see it."""

import os
from datetime import datetime
from functools import cache
from itertools import count
from typing import NamedTuple

# A node renews its lease this often, and is dead when it has not for so long.
RENEW_SECONDS = 5.0
LEASE_SECONDS = 20.0


class Node(NamedTuple):
    """Who runs a scheduler.

    :ivar id: new at every start of a scheduler
    :ivar host: name of the machine
    :ivar boot: boot of the machine, and space of process ids in it; empty where the system does not tell
    :ivar pid: process id
    """

    id: str
    host: str
    boot: str
    pid: int

    def is_gone(self) -> bool:
        """Return whether this process is known to have ended; only known of processes of this host and boot."""
        if not self.boot or (self.host, self.boot) != (_host(), _boot()):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # it is there and belongs to somebody else
            return False
        return False


class Lease(NamedTuple):
    """What a store keeps of a node that owns runs: until when it counts as alive."""

    node: Node
    expires_at: datetime

    def is_over(self, now: datetime) -> bool:
        """Return whether the node is dead: it has not renewed the lease, or its process is gone."""
        return self.expires_at < now or self.node.is_gone()


class Identity:
    """The identity of one start of a scheduler, and the identifiers it hands out."""

    def __init__(self) -> None:
        self.node = Node(os.urandom(8).hex(), _host(), _boot(), os.getpid())
        self._prefix = f"{self.node.id}-"
        self._numbers = count(1)

    def new_id(self) -> str:
        """Return an identifier that nobody else hands out: unique without asking anyone, and quick to make."""
        return f"{self._prefix}{next(self._numbers):x}"


def _host() -> str:
    """Name this machine."""
    if hasattr(os, "uname"):
        return os.uname().nodename
    import platform  # slow to load, and only needed where the system is less forthcoming

    return platform.node()


@cache
def _boot() -> str:
    """Name this boot of the machine, and the process-id namespace: containers share the one, not the other."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
