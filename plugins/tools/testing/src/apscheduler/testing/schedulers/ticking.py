"""Something else that an event loop has to do, and stores that would hold it up."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from apscheduler.jobstores.contract import NativeJobStore
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.testing.jobs import PATIENCE
from apscheduler.testing.schedulers.common import ContractBase
from apscheduler.testing.schedulers.harness import EventLoopHarness

TICK_SECONDS = 0.01
TICKS_PER_STORE_CALL = 20  # a latency of 0.2 seconds
# What a store does on a server. Starting it is the matter of who starts the scheduler.
STORE_CALLS = [
    name
    for name in dir(NativeJobStore)
    if callable(getattr(NativeJobStore, name))
    and not name.startswith("_")
    and name not in ("start", "is_unreachable")
]


class Ticker:
    """Something else that the loop has to do, every ten milliseconds."""

    def __init__(self, harness: EventLoopHarness):
        self.count = 0
        self.ident: int = harness.call(threading.get_ident)
        self._harness = harness
        self._is_stopped = False
        harness.call(self._tick)

    def _tick(self) -> None:
        self.count += 1
        if not self._is_stopped:
            self._harness.call_later(TICK_SECONDS, self._tick)

    def stop(self) -> None:
        self._is_stopped = True

    def goes_on(self, ticks: int) -> bool:
        """Wait, in another thread, until the loop has ticked so many times more; return False if it does not."""
        goal, deadline = self.count + ticks, time.monotonic() + PATIENCE
        while self.count < goal and time.monotonic() < deadline:
            time.sleep(TICK_SECONDS / 10)
        return self.count >= goal


class SlowCalls:
    """Has every call of a store last until the loop has done something else many times."""

    def __init__(self, store: Any, ticker: Ticker):
        self.names: list[str] = []
        # Calls that the loop had to wait for.
        self.on_loop: list[str] = []
        self.held_up: list[str] = []
        self._ticker = ticker
        for name in STORE_CALLS:
            setattr(store, name, self._slow(name, getattr(store, name)))

    def _slow(self, name: str, func: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.names.append(name)
            if threading.get_ident() == self._ticker.ident:
                self.on_loop.append(name)
            elif not self._ticker.goes_on(TICKS_PER_STORE_CALL):
                self.held_up.append(name)
            return func(*args, **kwargs)

        return call


class TickingContract(ContractBase):
    """Fixtures of the parts that are about event loops."""

    @pytest.fixture
    def ticker(self, harness: EventLoopHarness) -> Iterator[Ticker]:
        ticker = Ticker(harness)
        yield ticker
        ticker.stop()

    @pytest.fixture(params=[False, True], ids=["memory", "server"])
    def store(self, scheduler: BaseScheduler, request: pytest.FixtureRequest) -> Any:
        """A store over which passes are made on the loop, or beside it."""
        store = self.add_store(scheduler)
        store.performs_io = request.param
        return store
