"""Processes die between any two calls of a store: subclass the contract and say how the store is configured."""

from apscheduler.testing.crashes.contract import CrashContract
from apscheduler.testing.crashes.points import Reach, is_of_scenario, watch_sockets

__all__ = ("CrashContract", "Reach", "is_of_scenario", "watch_sockets")
