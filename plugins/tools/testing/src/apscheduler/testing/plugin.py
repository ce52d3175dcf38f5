"""The pytest plugin of those who test their jobs. It imports nothing of the scheduler before a fixture is used."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from apscheduler.schedulers.base import BaseScheduler
    from apscheduler.testing.scheduling import SchedulerSource, SchedulerTest
    from apscheduler.testing.stepping import SteppingClock


@pytest.fixture
def apscheduler_start() -> datetime:
    """The time at which the clock begins: midnight of Tuesday, 1 January 2030, UTC. Override it for another one."""
    return datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def apscheduler_config() -> "SchedulerSource":
    """What the scheduler is made of: nothing but UTC. Override it to test your own.

    It may be a configuration as a dict, the path of one, or a function that returns a scheduler.
    """
    return {"timezone": "UTC"}


@pytest.fixture
def apscheduler_clock(apscheduler_start: datetime) -> "SteppingClock":
    """A clock that runs what is due when it is advanced."""
    from apscheduler.testing.stepping import SteppingClock

    return SteppingClock(apscheduler_start)


@pytest.fixture
def apscheduler_test(
    apscheduler_config: "SchedulerSource", apscheduler_clock: "SteppingClock"
) -> "Iterator[SchedulerTest]":
    """A scheduler on that clock, started unless it needs an event loop, with assertions on its jobs."""
    from apscheduler.testing.scheduling import SchedulerTest, needs_loop

    test = SchedulerTest(apscheduler_config, apscheduler_clock)
    try:
        if not needs_loop(test.scheduler):
            test.start()
        yield test
    finally:
        test.close()


@pytest.fixture
def apscheduler_scheduler(apscheduler_test: "SchedulerTest") -> "BaseScheduler":
    """The scheduler itself."""
    return apscheduler_test.scheduler
