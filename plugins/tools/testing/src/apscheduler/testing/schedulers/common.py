"""What the parts of the contract of schedulers have in common."""

from typing import Any

import pytest

from apscheduler.jobstores.contract import NativeJobStore
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.testing.clock import ManualClock
from apscheduler.testing.contracts import Contract
from apscheduler.testing.schedulers.harness import EventLog, SchedulerHarness


class ContractBase(Contract):
    """Fixtures, and helpers that make stores misbehave."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def scheduler(self, harness: SchedulerHarness, clock: ManualClock) -> BaseScheduler:
        return harness.make(clock=clock)

    @pytest.fixture
    def log(self, scheduler: BaseScheduler) -> EventLog:
        log = EventLog()
        scheduler.add_listener(log)
        return log

    def add_store(self, scheduler: BaseScheduler, alias: str = "default") -> Any:
        """Give the scheduler a memory store of which a test can replace methods, and return it."""
        store: NativeJobStore = scheduler._create_plugin_instance(
            "jobstore", "memory", {}
        )
        scheduler.add_jobstore(store, alias)
        return store
