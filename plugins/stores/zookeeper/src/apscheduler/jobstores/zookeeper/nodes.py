"""Leases, and what happens to the runs of schedulers that are dead."""

import json
from datetime import UTC, datetime, timedelta
from functools import partial

from apscheduler.jobstores.zookeeper.connecting import (
    NodeExistsError,
    NoNodeError,
    Write,
)
from apscheduler.jobstores.zookeeper.ledgers import Ledger
from apscheduler.jobstores.zookeeper.storage import Storage
from apscheduler.nodes import LEASE_SECONDS, Lease, Node
from apscheduler.runs import Run


class Leases:
    """The leases of schedulers, one node each.

    They are not ephemeral: a session that has expired does not mean that its owner is dead, and host and process of
    one that has died tell at once that it is.
    """

    def __init__(self, storage: Storage):
        self._storage = storage
        self._known = storage.known_leases

    def renewal(self, node: Node, expires_at: datetime) -> Write:
        """Return what records that a node is alive."""
        data = lease_of(node, expires_at)
        if node.id not in self._known:
            self._create(node.id, data)
            self._known.add(node.id)
        return Write("set_data", self._path_of(node.id), data)

    def forget(self, node: Node) -> None:
        """Take note that there is no lease."""
        self._known.discard(node.id)

    def renew(self, node: Node, expires_at: datetime) -> None:
        """Record that a node is alive."""
        while True:
            write = self.renewal(node, expires_at)
            (outcome,) = self._storage.connection.commit([[write]])
            if not isinstance(outcome, Exception):
                return
            if not isinstance(outcome, NoNodeError):
                raise outcome
            self.forget(node)

    def drop(self, node: Node) -> None:
        """Record that a node has ended."""
        self.forget(node)
        try:
            self._storage.connection.ready().delete(self._path_of(node.id))
        except NoNodeError:
            pass

    def read(self) -> list[Lease]:
        """Return all leases."""
        found = self._read_all().items()
        return [to_lease(node_id, data) for node_id, (data, _) in found]

    def take_over(self, me: Node, now: datetime, alias: str | None) -> list[Run]:
        """Take the runs of dead nodes, and let owners without a lease show that they are alive."""
        leases = self._read_all()  # first: who claims after that has another lease
        owners: dict[str, list[str]] = {}
        for entry in self._storage.refresh_ledgers().values():
            for owner in entry.value.owners():
                owners.setdefault(owner, []).append(entry.name)
        until = now + timedelta(seconds=LEASE_SECONDS)
        for owner in owners.keys() - leases.keys() - {me.id}:
            self._create(owner, lease_of(Node(owner, "", "", 0), until))
        taken: list[Run] = []
        for node_id, (data, version) in leases.items():
            if node_id != me.id and to_lease(node_id, data).is_over(now):
                jobs = owners.get(node_id, [])
                taken += self._take(node_id, version, jobs, now, alias)
        taken.sort(key=lambda run: (run.scheduled_time, run.id))
        return taken

    def _take(
        self,
        node_id: str,
        version: int,
        job_ids: list[str],
        now: datetime,
        alias: str | None,
    ) -> list[Run]:
        """Take the runs of a node for as long as its lease stays as it is, and end that."""
        path = self._path_of(node_id)
        found: dict[str, list[Run] | None] = self._storage.change_ledgers(
            dict.fromkeys(
                job_ids, partial(Ledger.take, dead={node_id}, now=now, alias=alias)
            ),
            head=[Write("check", path, version=version)],
            wakes=True,
        )
        # Refused if it has come back, as the steps are.
        self._storage.connection.commit([[Write("delete", path, version=version)]])
        return [run for runs in found.values() for run in runs or ()]

    def _read_all(self) -> dict[str, tuple[bytes, int]]:
        connection, directory = self._storage.connection, self._storage.nodes_path
        names = connection.read(lambda client: client.get_children(directory))
        found = connection.get_all([self._path_of(name) for name in names])
        return {
            name: (each[0], each[1].version)
            for name, each in zip(names, found, strict=True)
            if each is not None
        }

    def _create(self, node_id: str, data: bytes) -> None:
        try:
            self._storage.connection.ready().create(
                self._path_of(node_id), data, makepath=True
            )
        except NodeExistsError:  # somebody was faster
            pass

    def _path_of(self, node_id: str) -> str:
        return f"{self._storage.nodes_path}/{node_id}"


def lease_of(node: Node, expires_at: datetime) -> bytes:
    """Return what is written of a node while it owns runs."""
    lease = [node.host, node.boot, node.pid, expires_at.timestamp()]
    return json.dumps(lease).encode()


def to_lease(node_id: str, data: bytes) -> Lease:
    """Return the lease of a node from what is written of it."""
    host, boot, pid, expires_at = json.loads(data)
    return Lease(
        Node(node_id, host, boot, pid), datetime.fromtimestamp(expires_at, UTC)
    )
