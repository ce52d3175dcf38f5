"""Processes die before every single transaction: no fire is lost, none runs twice."""

from typing import Any

import pytest

# kazoo has no types.
from kazoo.protocol.connection import (  # type: ignore[import-untyped]
    ConnectionHandler,
)
from kazoo.protocol.serialization import (  # type: ignore[import-untyped]
    Create,
    Delete,
    SetData,
    Transaction,
)

from apscheduler.testing.crashes import CrashContract, Reach

# Each has many processes die, one after the other.
pytestmark = pytest.mark.timeout(300)

CHANGES = (Create, Delete, SetData, Transaction)


def watch_requests(reach: Reach) -> None:
    """Watch what changes nodes; the client sends it, in order, in a thread of its own."""
    submit = ConnectionHandler._submit

    def watched(self: Any, request: Any, *args: Any) -> Any:
        if isinstance(request, CHANGES):
            reach(type(request).__name__)
        return submit(self, request, *args)

    ConnectionHandler._submit = watched


class TestZooKeeper(CrashContract):
    places = ("path",)
    is_tidy = False  # the notes of the dead stay for some minutes
    watch = staticmethod(watch_requests)

    @pytest.fixture
    def jobstore(self, zookeeper_url: str, zookeeper_path: str) -> dict[str, Any]:
        path = f"{zookeeper_path}/jobs"
        return {"type": "zookeeper", "hosts": zookeeper_url, "path": path}
