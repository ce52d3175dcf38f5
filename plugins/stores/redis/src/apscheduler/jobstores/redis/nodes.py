"""Leases, and what happens to the runs of those who are dead."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.jobstores.history import end_or_retry
from apscheduler.jobstores.redis.documents import parse, taken_document
from apscheduler.jobstores.redis.run_scripts import (
    GIVE_LEASES,
    LEASES,
    OPEN_RUNS,
    TAKE,
)
from apscheduler.jobstores.redis.scripts import Runner, decode
from apscheduler.nodes import LEASE_SECONDS, Lease, Node
from apscheduler.runs import Run, RunState


def lease_document(node: Node, expires_at: datetime) -> str:
    """Return what is kept of a node while it owns runs."""
    lease = [node.host, node.boot, node.pid, expires_at.timestamp()]
    return json.dumps(lease)


def read_leases(runner: Runner) -> list[Lease]:
    """Return all leases."""
    leases, _ = runner.run(LEASES)
    return [to_lease(*pair) for pair in _to_dict(leases).items()]


def to_lease(node_id: str, document: str) -> Lease:
    """Return the lease of a node from what is kept of it."""
    host, boot, pid, expires_at = json.loads(document)
    return Lease(
        Node(node_id, host, boot, pid), datetime.fromtimestamp(expires_at, UTC)
    )


def take_over(runner: Runner, me: Node, now: datetime, alias: str | None) -> list[Run]:
    """Take the open runs of dead nodes, and let those without a lease show that they are alive."""
    leases, owners = (_to_dict(each) for each in runner.run(LEASES))
    unknown = [node for node in owners if node not in leases and node != me.id]
    if unknown:
        expires_at = now + timedelta(seconds=LEASE_SECONDS)
        given = [
            {"node": id, "lease": lease_document(Node(id, "", "", 0), expires_at)}
            for id in unknown
        ]
        runner.run(GIVE_LEASES, given)
    dead = {
        id: lease
        for id, lease in leases.items()
        if id != me.id and to_lease(id, lease).is_over(now)
    }
    return _take(runner, dead, now, alias) if dead else []


def _take(
    runner: Runner, dead: Mapping[str, str], now: datetime, alias: str | None
) -> list[Run]:
    running, _ = runner.run(OPEN_RUNS)
    runs: list[Run] = []
    changes: list[dict[str, Any]] = []
    for document in running[1::2]:
        run, raw = parse(document, alias, RunState.RUNNING)
        node = run.node
        if node not in dead:
            continue
        is_ready = end_or_retry(run, raw.get("max_attempts"), now)
        change = {
            "node": node,
            "id": run.id,
            "job_id": run.job_id,
            "old": decode(document),
            "document": taken_document(raw, run),
            "time": repr(now.timestamp()) if is_ready else False,
            "scheduled_time": repr(run.scheduled_time.timestamp()),
        }
        if "history" in raw:
            change["history"] = raw["history"]
        changes.append(change)
        runs.append(run)
    nodes = [{"node": id, "lease": lease} for id, lease in dead.items()]
    answer: bytes = runner.run(TAKE, {"nodes": nodes, "runs": changes})
    taken = [runs[int(number) - 1] for number in answer.split()]
    taken.sort(key=lambda run: (run.scheduled_time, run.id))
    return taken


def _to_dict(flat: Sequence[bytes]) -> dict[str, str]:
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return {name.decode(): value.decode() for name, value in pairs}
