"""Statements on the table of leases, and what happens to the runs of those who are dead."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Select,
    Table,
    bindparam,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.sql.expression import Executable

from apscheduler.jobstores.sqlalchemy.flavours import Flavour
from apscheduler.jobstores.sqlalchemy.runs import RunTable
from apscheduler.jobstores.sqlalchemy.statements import (
    ListStatement,
    Statement,
    Values,
)
from apscheduler.jobstores.sqlalchemy.tables import (
    NODE,
    RUNNING,
    AnyRow,
    to_datetime,
    to_run,
)
from apscheduler.jobstores.sqlalchemy.writing import deleting, updating
from apscheduler.nodes import LEASE_SECONDS, Lease, Node
from apscheduler.runs import Run, RunState

# What is written of a run that is taken over.
TAKEN = ("state", "node", "attempt", "available_at", "finished_at", "job_state")


class NodeTable:
    """What is done to leases. Every method works within the transaction of its caller."""

    def __init__(self, nodes: Table, runs: RunTable):
        self.nodes = nodes
        self.runs = runs
        flavour = runs.flavour
        chosen = nodes.c.id == bindparam("_id")
        renewed = update(nodes).values(expires_at=bindparam("expires_at"))
        self._renew = Statement(renewed.where(chosen), ("expires_at", "_id"))
        self._insert = Statement(_upsert(flavour, nodes), NODE)
        self._drop = deleting(flavour, nodes, ("id",))
        self._all = Statement(select(nodes))
        others = select(nodes).where(nodes.c.id != bindparam("_id"))
        self._others = Statement(others, ("_id",))
        leases = select(nodes).order_by(nodes.c.id)
        leases = flavour.lock(leases, nodes, waits=True)
        self._lock = ListStatement(flavour, leases, nodes.c.id)
        c = runs.runs.c
        self._unknown = Statement(
            select(c.node)
            .distinct()
            .where(
                runs.is_open,
                c.state == RUNNING,
                c.node != bindparam("_id"),
                c.node.not_in(select(nodes.c.id)),
            ),
            ("_id",),
        )
        owned: Select[Any] = (
            select(*runs.record, c.max_attempts, c.job_state)
            .where(runs.is_open, c.state == RUNNING)
            .order_by(c.id)
        )
        owned = flavour.lock(owned, runs.runs, "finished_at", waits=True)
        self._owned = ListStatement(flavour, owned, c.node)
        key = ("id", "node")
        self._take = updating(flavour, runs.runs, TAKEN, key, RUNNING, is_locked=True)

    def renew(self, connection: Connection, node: Node, expires_at: datetime) -> None:
        """Record that a node is alive."""
        timestamp = expires_at.timestamp()
        if not self._renew.execute(connection, timestamp, node.id).rowcount:
            self._add(connection, node, timestamp)

    def _add(self, connection: Connection, node: Node, timestamp: float) -> None:
        values = (node.id, node.host, node.boot, node.pid, timestamp)
        self._insert.execute(connection, *values)

    def drop(self, connection: Connection, node_ids: Sequence[str]) -> None:
        """Forget leases."""
        self._drop.execute(connection, [(node_id,) for node_id in node_ids])

    def read(self, connection: Connection) -> list[Lease]:
        """Return all leases."""
        return [_to_lease(row) for row in self._all.execute(connection)]

    def find_dead(self, connection: Connection, me: Node, now: datetime) -> list[str]:
        """Return the nodes whose lease is over or whose process is gone."""
        return _dead_of(self._others.execute(connection, me.id), now)

    def lock_dead(
        self, connection: Connection, node_ids: Sequence[str], now: datetime
    ) -> list[str]:
        """Return those of some nodes that are still there and still dead; nobody else takes over from them."""
        return _dead_of(self._lock.execute(connection, node_ids), now)

    def find_unknown(self, connection: Connection, me: Node) -> list[str]:
        """Return the owners of open runs that have no lease."""
        return list(self._unknown.execute(connection, me.id).scalars())

    def give_leases(
        self, connection: Connection, me: Node, node_ids: Sequence[str], now: datetime
    ) -> None:
        """Let nodes without a lease show that they are alive, before they are taken for dead."""
        unknown = set(node_ids).intersection(self.find_unknown(connection, me))
        for node_id in sorted(unknown):
            node = Node(node_id, "", "", 0)
            self._add(connection, node, now.timestamp() + LEASE_SECONDS)

    def take_runs(
        self,
        connection: Connection,
        node_ids: Sequence[str],
        now: datetime,
        alias: str | None,
    ) -> list[Run]:
        """End the leases of dead nodes, and make their open runs ready or lost."""
        taken: list[Run] = []
        changes: list[Values] = []
        for row in self._owned.execute(connection, node_ids):
            run = to_run(row, alias)
            changes.append(_take(run, row, now))
            taken.append(run)
        if changes:
            self._take.execute(connection, changes)
        self.drop(connection, node_ids)
        taken.sort(key=lambda run: (run.scheduled_time, run.id))
        return taken


def _dead_of(rows: Iterable[AnyRow], now: datetime) -> list[str]:
    leases = map(_to_lease, rows)
    return [lease.node.id for lease in leases if lease.is_over(now)]


def _to_lease(row: AnyRow) -> Lease:
    node = Node(row.id, row.host, row.boot, row.pid)
    return Lease(node, to_datetime(row.expires_at))


def _upsert(flavour: Flavour, nodes: Table) -> Executable:
    """Return what adds a lease, or renews one that somebody else has added meanwhile."""
    # Loaded where they are needed: both take long.
    if flavour.is_mysql:
        from sqlalchemy.dialects import mysql

        added = mysql.insert(nodes)
        expires_at = func.greatest(nodes.c.expires_at, func.values(nodes.c.expires_at))
        return added.on_duplicate_key_update(expires_at=expires_at)
    if flavour.name == "postgresql":
        from sqlalchemy.dialects import postgresql

        new = postgresql.insert(nodes)
        expires_at = func.greatest(nodes.c.expires_at, new.excluded.expires_at)
        return new.on_conflict_do_update(
            index_elements=["id"], set_={"expires_at": expires_at}
        )
    return insert(nodes)


def _take(run: Run, row: AnyRow, now: datetime) -> Values:
    """Change the run, and return what to write of it."""
    retried = (
        row.job_state is not None
        and row.max_attempts is not None
        and run.attempt < row.max_attempts
    )
    if retried:
        run.state, run.node, run.available_at = RunState.READY, None, now
        run.attempt += 1
    else:
        run.state, run.finished_at = RunState.LOST, now
    return (
        run.state.value,
        run.node,
        run.attempt,
        now.timestamp() if retried else None,
        None if retried else now.timestamp(),
        bytes(row.job_state) if retried else None,  # some drivers give a view of them
        run.id,
        row.node,
    )
