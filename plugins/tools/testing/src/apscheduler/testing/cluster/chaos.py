"""What is done to a cluster while it works."""

import time
from collections.abc import Sequence
from typing import Any

from apscheduler.testing.cluster.cluster import Cluster, Member

#: A machine that nobody else is on: whether its processes live is told by their leases only.
ELSEWHERE = "elsewhere"


class Chaos:
    """Kills nodes, and has new ones born in their place.

    :param minutes: by how much the clocks of the machines are wrong
    :param nodes: how many there are at any time
    :param store: their way to the store; None: as everybody's
    """

    def __init__(
        self,
        cluster: Cluster,
        nodes: int,
        minutes: Sequence[int] = (0,),
        store: dict[str, Any] | None = None,
    ):
        self.cluster, self.minutes, self.store = cluster, minutes, store
        self.frozen_at = 0.0
        for _ in range(nodes):
            self.start_node()

    def start_node(self) -> Member:
        chance = self.cluster.random
        host = chance.choice([None, ELSEWHERE])
        minutes = chance.choice(self.minutes)
        return self.cluster.start_node(minutes=minutes, host=host, store=self.store)

    def kill(self, pause: float = 0.05) -> None:
        """Kill a node at some instant, not before somebody works."""
        chance = self.cluster.random
        self.cluster.wait_for_work(chance.randrange(1, 3000))
        time.sleep(chance.uniform(0, pause))
        victims = [member for member in self.cluster.members if not member.is_frozen]
        self.cluster.kill(chance.choice(victims))
        self.start_node()

    def freeze_or_thaw(self, seconds: float, until: float) -> None:
        """Let one node be frozen at a time, each for so long, as long as there is time for it."""
        now = time.monotonic()
        frozen = [member for member in self.cluster.members if member.is_frozen]
        if frozen and now - self.frozen_at > seconds:
            self.cluster.thaw(frozen[0])
        elif not frozen and now + seconds < until:
            self.cluster.freeze(self.cluster.random.choice(self.cluster.members))
            self.frozen_at = now

    def thaw_all(self) -> None:
        for member in self.cluster.members:
            if member.is_frozen:
                self.cluster.thaw(member)
