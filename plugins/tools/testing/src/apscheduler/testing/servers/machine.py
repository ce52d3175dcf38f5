"""What the machine offers to those who start servers: ports, programs, users, processes."""

import errno
import glob
import os
import pwd
import random
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: Below the range from which systems take the ports of clients, so that no client is on it when a server comes back.
PORTS = range(20000, 32000)

#: Where programs are that are not on the search path of every user.
OTHER_DIRECTORIES = ["/usr/local/sbin", "/usr/sbin"]


class NotInstalled(RuntimeError):
    """What a server needs is not on this machine."""


class DidNotStart(RuntimeError):
    """A server ended, or did not answer in time, while it was started."""


def free_port() -> int:
    """Return a port of the loopback address on which nobody listens."""
    for port in random.sample(PORTS, 100):
        if is_free(port):
            return port
    raise DidNotStart(f"No free port found from {PORTS.start} to {PORTS.stop - 1}")


def is_free(port: int) -> bool:
    """Return whether a server could take a port of the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
    return True


def find_program(*names: str, also_in: Sequence[str] = ()) -> str:
    """Return the path of the first of these programs that is installed.

    :param also_in: patterns of directories to look into beside the search path
    :raises NotInstalled: if there is none
    """
    found = [path for pattern in also_in for path in sorted(glob.glob(pattern))]
    directories = os.pathsep.join([*reversed(found), *OTHER_DIRECTORIES])
    for name in names:
        if path := shutil.which(name) or shutil.which(name, path=directories):
            return path
    raise NotInstalled(f"{' or '.join(names)} is not installed")


def unprivileged_user() -> dict[str, Any]:
    """Return the arguments of ``Popen`` that give up root; none for any other user.

    :raises NotInstalled: if there is no user to change to
    """
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise NotInstalled("there is no user 'postgres' or 'nobody' to change to from root")


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started, none where the system does not tell."""
    try:
        return [
            int(each)
            for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except OSError:
        return []


def has_ended(pid: int) -> bool:
    """Return whether a process is gone, or a zombie that only waits for its parent."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        )
    except OSError:
        return True


def has_stopped(pid: int) -> bool:
    """Return whether all threads of a process stand still; True where the system does not tell."""
    for path in glob.glob(f"/proc/{pid}/task/*/stat"):
        try:
            state = Path(path).read_text().rpartition(")")[2].split()[0]
        except OSError:  # a thread that has ended
            continue
        if state not in "TtZX":
            return False
    return True
