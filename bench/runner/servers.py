"""The servers that workloads measure with: one that was named, one that is running, or a private one."""

import os
import sys
from contextlib import ExitStack
from typing import Self

from apscheduler.testing.servers import SERVERS, DidNotStart, NotInstalled
from apscheduler.testing.servers.supply import is_listening


class Servers:
    """Starts private servers when they are first needed, and stops them in the end."""

    def __init__(self) -> None:
        self._started = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._started.close()

    def provide(self, kind: str) -> str | None:
        """See to it that workloads find a server of this kind; return why there is none."""
        variable, server = variable_of(kind), SERVERS[kind]
        # Workloads know the standard port themselves.
        if os.environ.get(variable) or is_listening(server.standard_port):
            return None
        try:
            own = self._started.enter_context(server())
        except (NotInstalled, DidNotStart) as exc:
            return f"There is no {kind} server to measure with: {exc}; install it, or set {variable}"
        print(f"Measuring with a private {kind} server", file=sys.stderr)
        os.environ[variable] = own.url
        return None


def variable_of(kind: str) -> str:
    """Return the name of the environment variable that says where the server of a kind is."""
    return f"APSCHEDULER_BENCH_{kind.upper()}_URL"
