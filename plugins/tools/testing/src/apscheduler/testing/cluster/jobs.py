"""The jobs of a cluster: of every kind that can go wrong in a way of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from apscheduler.testing.cluster.work import FAIL, WORK
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger


@dataclass(frozen=True)
class Kind:
    """Jobs that are alike.

    :ivar share: how many of them there are, as a share of all
    :ivar seconds: how long their function takes
    :ivar every: seconds between fire times; None: each second by cron
    """

    name: str
    share: int
    every: float | None = 0.5
    seconds: float = 0.0
    func: str = WORK
    options: Mapping[str, Any] = field(default_factory=dict)

    def trigger(self, begin: datetime) -> BaseTrigger:
        if self.every is None:
            return CronTrigger(second="*", start_date=begin, timezone="UTC")
        return IntervalTrigger(seconds=self.every, start_date=begin, timezone="UTC")

    def arguments(self, begin: datetime) -> dict[str, Any]:
        """Return the arguments of ``add_job``."""
        args = [self.seconds] if self.func == WORK else []
        trigger = self.trigger(begin)
        rules = {"coalesce": False, "misfire_grace_time": None, **KEEP, **self.options}
        return {"func": self.func, "trigger": trigger, "args": args, **rules}


#: Nothing is forgotten before the books are balanced.
KEEP: dict[str, Any] = {"history": 1_000_000}

RETRY: dict[str, Any] = {"on_lost": "retry", "max_attempts": 3}

#: Every fire time of these is known, and has to be in the books exactly once.
EXACT = (
    Kind("steady", 6, options={"max_instances": 5}),
    Kind("coalesced", 3, every=0.25, options={"coalesce": True}),
    Kind("cron", 3, every=None, options={"max_instances": 3}),
    Kind("retried", 3, options={**RETRY, "max_instances": 3}),
    Kind("single", 2, every=0.2, seconds=0.3),
    Kind("pair", 2, every=0.2, seconds=0.35, options={"max_instances": 2}),
    Kind("retried-single", 1, every=0.3, seconds=0.1, options=RETRY),
    Kind("failing", 1, func=FAIL),
    Kind("in-time", 1, every=0.25, options={"misfire_grace_time": 1}),
)

#: Paused, resumed and rescheduled by all nodes: nobody knows their fire times in advance.
CHANGED = Kind("changed", 2, options={"max_instances": 2})

#: Run by hand only.
MANUAL = "manual"
FAR = datetime.fromisoformat("2100-01-01T00:00:00+00:00")


def names(kind: Kind, scale: int) -> list[str]:
    """Return the identifiers of the jobs of a kind in a cluster of so many times the smallest size."""
    return [f"{kind.name}-{number}" for number in range(kind.share * scale)]
