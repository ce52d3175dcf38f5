"""The contract of schedulers."""

from apscheduler.testing.schedulers.event_loop import EventLoopContract
from apscheduler.testing.schedulers.harness import (
    BlockingHarness,
    EventLog,
    EventLoopHarness,
    SchedulerHarness,
)
from apscheduler.testing.schedulers.life_cycle import LifeCycleContract
from apscheduler.testing.schedulers.loop import LoopContract
from apscheduler.testing.schedulers.stopping import StoppingContract

__all__ = (
    "BlockingHarness",
    "EventLog",
    "EventLoopContract",
    "EventLoopHarness",
    "SchedulerContract",
    "SchedulerHarness",
)


class SchedulerContract(LifeCycleContract, LoopContract, StoppingContract):
    """What every scheduler promises. A subclass has a fixture ``harness``, which yields a :class:`SchedulerHarness`.

    What goes on inside stores, executors and triggers is the matter of their contracts.
    """
