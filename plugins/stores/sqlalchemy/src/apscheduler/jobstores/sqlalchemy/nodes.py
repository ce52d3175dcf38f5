"""Statements on the table of leases, and what happens to the runs of those who are dead."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Table,
    bindparam,
    delete,
    insert,
    select,
    update,
)

from apscheduler.jobstores.sqlalchemy.runs import RunTable
from apscheduler.jobstores.sqlalchemy.statements import Statement
from apscheduler.jobstores.sqlalchemy.tables import NODE, RUNNING, AnyRow, to_run
from apscheduler.nodes import LEASE_SECONDS, Node
from apscheduler.runs import Run, RunState


class NodeTable:
    """What is done to leases. Every method works within the transaction of its caller."""

    def __init__(self, nodes: Table, runs: RunTable):
        self.nodes = nodes
        self.runs = runs
        chosen = nodes.c.id == bindparam("_id")
        renewed = update(nodes).values(expires_at=bindparam("expires_at"))
        self._renew = Statement(renewed.where(chosen), ("expires_at", "_id"))
        self._insert = Statement(insert(nodes), NODE)
        self._drop = Statement(delete(nodes).where(chosen), ("_id",))
        others = select(nodes).where(nodes.c.id != bindparam("_id"))
        self._others = Statement(others, ("_id",))
        c = runs.runs.c
        unknown = (
            select(c.node)
            .distinct()
            .where(
                runs.is_open,
                c.state == RUNNING,
                c.node != bindparam("_id"),
                c.node.not_in(select(nodes.c.id)),
            )
        )
        self._unknown = Statement(unknown, ("_id",))
        self._take = (
            update(runs.runs)
            .where(runs.runs.c.id == bindparam("_id"), runs.runs.c.state == RUNNING)
            .values(
                state=bindparam("state"),
                node=bindparam("node"),
                attempt=bindparam("attempt"),
                available_at=bindparam("available_at"),
                finished_at=bindparam("finished_at"),
                job_state=bindparam("job_state"),
            )
        )

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
        self._drop.execute_many(connection, [(node_id,) for node_id in node_ids])

    def find_dead(self, connection: Connection, me: Node, now: datetime) -> list[str]:
        """Return the nodes whose lease is over or whose process is gone."""
        timestamp = now.timestamp()
        return [
            row.id
            for row in self._others.execute(connection, me.id)
            if row.expires_at < timestamp
            or Node(row.id, row.host, row.boot, row.pid).is_gone()
        ]

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
        c = self.runs.runs.c
        owned = (
            select(*self.runs.record, c.max_attempts, c.job_state)
            .where(self.runs.is_open, c.state == RUNNING, c.node.in_(node_ids))
            .order_by(c.scheduled_time, c.id)
        )
        taken: list[Run] = []
        changes: list[dict[str, Any]] = []
        for row in connection.execute(owned):
            run = to_run(row, alias)
            changes.append(_take(run, row, now))
            taken.append(run)
        if changes:
            connection.execute(self._take, changes)
        self.drop(connection, node_ids)
        return taken


def _take(run: Run, row: AnyRow, now: datetime) -> dict[str, Any]:
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
    return {
        "_id": run.id,
        "state": run.state.value,
        "node": run.node,
        "attempt": run.attempt,
        "available_at": now.timestamp() if retried else None,
        "finished_at": None if retried else now.timestamp(),
        "job_state": row.job_state if retried else None,
    }
