"""Leases: which schedulers are alive, and what becomes of the runs of those that are not.

Whoever finds a lease over deletes it, if nobody has renewed it meanwhile, and takes the runs. When that one dies in
between, their owner has no lease: it is given one, which is over 20 seconds later.

Their owner may come back in between, hand them back, and claim them again. So they are marked first, unless it has a
lease again; what is marked is touched by nobody but those who take over, whoever it may be.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from pymongo.errors import DuplicateKeyError

from apscheduler.jobstores.history import encode_run, end_or_retry
from apscheduler.jobstores.mongodb.database import Database, again
from apscheduler.jobstores.mongodb.documents import (
    JOB_STATE,
    READY,
    RUNNING,
    RUNS,
    TAKEN,
    Document,
    runs_of,
    to_run,
)
from apscheduler.jobstores.mongodb.runs import RunDocuments
from apscheduler.nodes import LEASE_SECONDS, Lease, Node
from apscheduler.runs import Run

# In the lease that a node is given by others.
UNKNOWN = {"host": "", "boot": "", "pid": 0}


class NodeDocuments:
    """What is done to leases."""

    def __init__(self, database: Database, runs: RunDocuments):
        self._database = database
        self._runs = runs

    def renew(self, node: Node, expires_at: datetime) -> None:
        """Record that a node is alive."""
        update = {
            "$set": {"host": node.host, "boot": node.boot, "pid": node.pid},
            "$max": {"expires_at": expires_at.timestamp()},
        }
        nodes = self._database.nodes
        again(lambda _: nodes.update_one({"_id": node.id}, update, upsert=True))

    def drop(self, node: Node) -> None:
        """Forget a lease."""
        again(lambda _: self._database.nodes.delete_one({"_id": node.id}))

    def read(self) -> list[Lease]:
        """Return all leases."""
        return [_to_lease(document) for document in self._database.nodes.find()]

    def take_over(self, me: Node, now: datetime, alias: str | None) -> list[Run]:
        """Make the runs of dead nodes ready or lost, and return them."""
        alive, buried = [me.id], set()
        for lease in list(self._database.nodes.find({"_id": {"$ne": me.id}})):
            if not _to_lease(lease).is_over(now):
                alive.append(lease["_id"])
            elif self._bury(lease):
                buried.add(lease["_id"])
        orphaned = {
            "state": RUNNING,
            "$or": [{"node": {"$nin": alive}}, {TAKEN: True}],
        }
        fields = {f"{RUNS}.{name}": 1 for name in ("node", "state", TAKEN)}
        documents = self._database.jobs.find({RUNS: {"$elemMatch": orphaned}}, fields)
        job_ids, unknown = [], set()
        for document in documents:
            running = [run for run in runs_of(document) if run["state"] == RUNNING]
            owners = {run["node"] for run in running if TAKEN not in run}
            if owners & buried or any(TAKEN in run for run in running):
                job_ids.append(document["_id"])
            unknown |= owners.difference(alive, buried)
        for node_id in unknown:
            self._give_lease(node_id, now)
        if not job_ids:
            return []
        self._mark_runs(job_ids, buried)
        return self._take_runs(job_ids, now, alias)

    def _bury(self, lease: Document) -> bool:
        """Delete a lease that is over; return False if it was renewed, or somebody else has deleted it."""
        nodes = self._database.nodes
        same = {"_id": lease["_id"], "expires_at": lease["expires_at"]}

        def bury(is_repeated: bool) -> bool:
            if nodes.delete_one(same).deleted_count:
                return True
            # If somebody else has, both take the runs; each can be taken only once.
            return is_repeated and nodes.find_one({"_id": lease["_id"]}) is None

        return again(bury)

    def _give_lease(self, node_id: str, now: datetime) -> None:
        """Let a node show that it is alive, before it is taken for dead."""
        expires_at = now.timestamp() + LEASE_SECONDS
        lease = {"_id": node_id, **UNKNOWN, "expires_at": expires_at}
        try:
            again(lambda _: self._database.nodes.insert_one(lease))
        except DuplicateKeyError:  # it has shown just now, or somebody else was faster
            pass

    def _mark_runs(self, job_ids: list[str], dead: set[str]) -> None:
        """Let nobody touch the runs of dead nodes from here on but those who take over."""

        def edit(document: Document) -> list[Document] | None:
            # In this order: the document was read before, and who comes back renews its lease before it claims.
            gone = dead - self._find_back(dead)
            runs = [
                {**run, TAKEN: True}
                if run["state"] == RUNNING and run["node"] in gone
                else run
                for run in runs_of(document)
            ]
            return None if runs == runs_of(document) else runs

        # What is remembered of a document may be from before these runs.
        self._runs.change(job_ids, edit, with_state=True)

    def _find_back(self, dead: set[str]) -> set[str]:
        """Return which of the nodes have renewed the lease that was deleted."""
        renewed = {"_id": {"$in": [*dead]}, "pid": {"$ne": UNKNOWN["pid"]}}
        return {lease["_id"] for lease in self._database.nodes.find(renewed)}

    def _take_runs(
        self, job_ids: list[str], now: datetime, alias: str | None
    ) -> list[Run]:
        taken: dict[str, list[Run]] = {}

        def edit(document: Document) -> list[Document] | None:
            attempts = {
                run["id"]: run["attempt"] for run in runs_of(document) if TAKEN in run
            }
            mine: list[Run] = []
            taken[document["_id"]] = mine
            if not attempts:
                return None
            recorded = self._find_recorded(attempts)
            runs = []
            for run in runs_of(document):
                if run["id"] in attempts:
                    if run["id"] in recorded:
                        continue
                    run = _take(run, document.get(JOB_STATE), now, alias, mine)
                runs.append(run)
            return runs

        self._runs.change(job_ids, edit, with_state=True)
        found = [run for runs in taken.values() for run in runs]
        return sorted(found, key=lambda run: (run.scheduled_time, run.id))

    def _find_recorded(self, attempts: Mapping[str, int]) -> set[str]:
        """Return which of these have ended, and their scheduler died before it could take them out of the job."""
        ended = self._database.runs.find({"_id": {"$in": [*attempts]}}, {"attempt": 1})
        return {run["_id"] for run in ended if run["attempt"] >= attempts[run["_id"]]}


def _to_lease(document: Document) -> Lease:
    node = Node(document["_id"], document["host"], document["boot"], document["pid"])
    return Lease(node, datetime.fromtimestamp(document["expires_at"], UTC))


def _take(
    document: Document,
    job_state: bytes | None,
    now: datetime,
    alias: str | None,
    taken: list[Run],
) -> Document:
    """Return what the document of a run becomes whose scheduler has died, and note the run."""
    run = to_run(document, alias)
    copy = document.get(JOB_STATE, job_state)
    max_attempts = document.get("max_attempts") if copy is not None else None
    end_or_retry(run, max_attempts, now)
    taken.append(run)
    changed = encode_run(run)
    for option in ("max_attempts", "history"):
        if option in document:
            changed[option] = document[option]
    if changed["state"] == READY:
        changed[JOB_STATE] = copy
    return changed
