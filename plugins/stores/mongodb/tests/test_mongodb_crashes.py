"""Processes die before every single command that writes: no fire is lost, none runs twice."""

import re
from typing import Any

import pytest

from apscheduler.testing.crashes import CrashContract, Reach, watch_sockets

# Each has many processes die, one after the other.
pytestmark = pytest.mark.timeout(300)

# A message has 25 bytes before the type of the value, and the name, of its command.
QUERIES = re.compile(
    rb".{26}(find|getMore|aggregate|count|distinct|hello|ismaster|ping|buildInfo|listCollections|listIndexes|endSessions)\0",
    re.DOTALL,
)


def watch_requests(reach: Reach) -> None:
    watch_sockets(reach, QUERIES)


class TestMongoDB(CrashContract):
    places = ("database",)
    watch = staticmethod(watch_requests)

    @pytest.fixture
    def jobstore(self, mongodb_url: str, mongodb_database_name: str) -> dict[str, Any]:
        return {
            "type": "mongodb",
            "host": mongodb_url,
            "database": mongodb_database_name,
        }
