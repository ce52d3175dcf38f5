"""Processes die before every single request: no fire is lost, none runs twice."""

from typing import Any

import pytest

from apscheduler.testing.crashes import CrashContract

# Each has many processes die, one after the other.
pytestmark = pytest.mark.timeout(300)


class TestRedis(CrashContract):
    places = ("jobs_key", "run_times_key")

    @pytest.fixture
    def jobstore(self, redis_url: str, redis_prefix: str) -> dict[str, Any]:
        return {
            "type": "redis",
            "url": redis_url,
            "jobs_key": f"{redis_prefix}.jobs",
            "run_times_key": f"{redis_prefix}.run_times",
        }
