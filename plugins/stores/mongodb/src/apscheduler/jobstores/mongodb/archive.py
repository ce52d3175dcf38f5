"""What is asked about runs, and which finished ones are kept."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from apscheduler.jobstores.mongodb.database import Database, again
from apscheduler.jobstores.mongodb.documents import (
    FINAL,
    HAS_NO_RUNS,
    IS_NO_JOB,
    RUNS,
    Document,
    runs_of,
    to_run,
)
from apscheduler.jobstores.mongodb.runs import RunDocuments
from apscheduler.runs import Run, RunFilter, RunState

# So many finished runs are deleted at a time.
PRUNE_BATCH = 500

# What runs are found by that is in their documents as it is.
EQUAL = frozenset({"id", "node", "attempt"})

LATEST_FIRST = [("scheduled_time", -1), ("_id", -1)]


class RunArchive:
    """The runs, finished or not, for those who look at them."""

    def __init__(self, database: Database, runs: RunDocuments):
        self._database = database
        self._runs = runs

    def get_runs(
        self, which: RunFilter, limit: int, offset: int, alias: str | None
    ) -> list[Run]:
        """Return runs that match, latest scheduled time first, of equal times the latest record first."""
        wanted = RunState if which.states is None else which.states
        states = sorted(state.value for state in wanted)
        query: Document = {"state": {"$in": states}}
        equal = {
            "id": which.run_id,
            "job_id": which.job_id,
            "node": which.node,
            "attempt": which.attempt,
        }
        query |= {name: value for name, value in equal.items() if value is not None}
        times = query.setdefault("scheduled_time", {})
        if which.since is not None:
            times["$gte"] = which.since.timestamp()
        if which.until is not None:
            times["$lt"] = which.until.timestamp()
        if not times:
            del query["scheduled_time"]
        # In this order: what ends meanwhile is in both.
        found = {run["id"]: run for run in self._find_open(query)}
        if not set(states).isdisjoint(FINAL):
            ended = {"_id" if n == "id" else n: value for n, value in query.items()}
            finished = self._database.runs.find(ended).sort(LATEST_FIRST)
            for run in finished.limit(offset + limit):
                other = found.get(run["_id"])
                if other is None or other["attempt"] <= run["attempt"]:
                    found[run["_id"]] = run
        ordered = sorted(
            (to_run(run, alias) for run in found.values()),
            key=lambda run: (run.scheduled_time, run.id),
            reverse=True,
        )
        return ordered[offset : offset + limit]

    def _find_open(self, query: Mapping[str, Any]) -> list[Document]:
        """Return the runs in documents of jobs that match."""
        where: Document = {f"{RUNS}.state": query["state"]}
        if "job_id" in query:
            where["_id"] = query["job_id"]
        times = query.get("scheduled_time", {})
        since, until = times.get("$gte", float("-inf")), times.get("$lt", float("inf"))
        return [
            run
            for document in self._database.jobs.find(where, {RUNS: 1})
            for run in runs_of(document)
            if run["state"] in query["state"]["$in"]
            and all(run.get(n) == query[n] for n in EQUAL & query.keys())
            and since <= run["scheduled_time"] < until
        ]

    def prune(
        self, max_age: timedelta | None, max_per_job: int | None, now: datetime
    ) -> int:
        """Delete some of the finished runs that need not be kept, and return how many."""
        self._tidy()
        found = self._find_old(max_age, now)
        if len(found) < PRUNE_BATCH:
            found += self._find_surplus(max_per_job)
        surplus = list(dict.fromkeys(found))[:PRUNE_BATCH]
        if not surplus:
            return 0
        return again(
            lambda _: self._database.runs.delete_many({"_id": {"$in": surplus}})
        ).deleted_count

    def _tidy(self) -> None:
        """Do what somebody who has crashed did not get to."""
        jobs = self._database.jobs
        unsettled = {
            "$or": [{f"{RUNS}.state": {"$in": FINAL}}, {**IS_NO_JOB, **HAS_NO_RUNS}]
        }
        left = [document["_id"] for document in jobs.find(unsettled, {"_id": 1})]
        if left:
            self._runs.settle(left)

    def _find_old(self, max_age: timedelta | None, now: datetime) -> list[str]:
        if max_age is None:
            return []
        old = {"finished_at": {"$lt": (now - max_age).timestamp()}}
        found = self._database.runs.find(old, {"_id": 1}).limit(PRUNE_BATCH)
        return [run["_id"] for run in found]

    def _find_surplus(self, max_per_job: int | None) -> list[str]:
        """Return the oldest finished runs of jobs that have more than they, or the store, want to keep."""
        runs = self._database.runs
        # Some of its runs may be from before the job has got a limit of its own, or another one.
        crowded: list[Document] = [{"limit": {"$ne": None}}]
        if max_per_job is not None:
            crowded.append({"count": {"$gt": max_per_job}})
        jobs = runs.aggregate(
            [
                {
                    "$group": {
                        "_id": "$job_id",
                        "count": {"$sum": 1},
                        "limit": {"$min": "$history"},
                    }
                },
                {"$match": {"$or": crowded}},
            ]
        )
        found: list[str] = []
        for job in jobs:
            lowest = job["limit"] if job["limit"] is not None else max_per_job
            if lowest is None or job["count"] <= lowest:
                continue
            finished = {"job_id": job["_id"]}
            latest = runs.find_one(finished, {"history": 1}, sort=LATEST_FIRST) or {}
            limit = latest.get("history", max_per_job)
            if limit is not None:
                page = runs.find(finished, {"_id": 1}).sort(LATEST_FIRST)
                found += [run["_id"] for run in page.skip(limit).limit(PRUNE_BATCH)]
            if len(found) >= PRUNE_BATCH:
                break
        return found
