"""The contracts of executors."""

from apscheduler.testing.executors.basic import (
    NOON,
    ExecutorContract,
    RecordingScheduler,
)
from apscheduler.testing.executors.looping import LoopExecutorContract

__all__ = ("NOON", "ExecutorContract", "LoopExecutorContract", "RecordingScheduler")
