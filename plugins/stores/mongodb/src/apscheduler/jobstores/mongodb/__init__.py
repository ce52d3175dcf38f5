"""A job store in MongoDB.

Whatever is written is one change of one document, so nothing depends on transactions. Where two documents are concerned,
the order decides what a crash in between leaves behind:

* **claim**: first the lease, then each job with its new runs, see ``claims``. The lease alone runs out.
* **completion**: first the finished run is added, then the run is taken out of the document of its job, see ``runs``.
  What is in both has ended; whoever takes over from the dead, or tidies up, takes it out.
* **takeover**: first the lease is deleted, which only one can do, then the runs are marked, then changed, see ``nodes``.
  What is marked is changed by whoever comes next. Runs whose owner has no lease are taken when one that they are given
  is over.
* **the last run of a job** ends: first the run is taken out, then the document without runs is deleted. It is no job,
  so nobody sees it, and tidying up deletes it.
* **removal** of a job with open runs: its document ceases to be a job in one step, and goes with the last of its runs.

Times come from those who call; the server's clock is read to compare.
"""

import pickle
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pymongo.errors import ConnectionFailure, OperationFailure

from apscheduler.job import Job
from apscheduler.jobstores.contract import (
    HISTORY_DAYS,
    HISTORY_RUNS,
    Claim,
    ClaimBatch,
    ClaimRequest,
)
from apscheduler.jobstores.mongodb.archive import RunArchive
from apscheduler.jobstores.mongodb.claims import ClaimPass
from apscheduler.jobstores.mongodb.database import Database, check_client
from apscheduler.jobstores.mongodb.keeping import DocumentJobStore
from apscheduler.jobstores.mongodb.nodes import NodeDocuments
from apscheduler.jobstores.mongodb.runs import RunDocuments
from apscheduler.nodes import Lease, Node
from apscheduler.runs import Completion, Run, RunFilter
from apscheduler.serializers import Serializer
from apscheduler.util import maybe_ref, utc_timestamp_to_datetime

if TYPE_CHECKING:
    from apscheduler.schedulers.base import BaseScheduler

__all__ = ("MongoDBJobStore",)


@contextmanager
def _explained(who: str) -> Iterator[None]:
    try:
        yield
    except ConnectionFailure as exc:
        raise type(exc)(f"{who} cannot reach MongoDB: {exc}") from exc
    except OperationFailure as exc:
        raise type(exc)(f"{who} cannot use MongoDB: {exc}", exc.code) from exc


class MongoDBJobStore(DocumentJobStore):
    """Keeps jobs in a collection of MongoDB, and the record of their runs in two collections beside it.

    :param database: the name of the database
    :param collection: the collection of jobs; the others are named after it
    :param client: a ``pymongo.MongoClient`` to use, or a reference to one; it stays open
    :param pickle_protocol: the protocol to write the state of jobs with
    :param serializer: how jobs become bytes, if not by pickle; or a reference to that
    :param history_days: for how long finished runs are kept; None: no limit
    :param history_runs: how many finished runs are kept of each job that does not say; 0: none; None: no limit
    :param connect_args: arguments for a client of its own, e.g. ``host``, which may be an address ``mongodb://…``
    :raises ValueError: if ``database`` or ``collection`` is empty, or writes are not to be acknowledged
    :raises TypeError: if ``client`` is one for asyncio, or not a client
    :raises pymongo.errors.ConfigurationError: if the arguments for the client are not valid
    """

    url_schemes = ("mongodb",)
    shareable = True
    performs_io = True
    poll_interval: float | None = 1.0

    def __init__(
        self,
        database: str = "apscheduler",
        collection: str = "jobs",
        client: Any = None,
        pickle_protocol: int = pickle.HIGHEST_PROTOCOL,
        *,
        serializer: Serializer | str | None = None,
        history_days: float | None = HISTORY_DAYS,
        history_runs: int | None = HISTORY_RUNS,
        **connect_args: Any,
    ):
        super().__init__(pickle_protocol, serializer, history_days, history_runs)
        if not database:
            raise ValueError('The "database" parameter must not be empty')
        if not collection:
            raise ValueError('The "collection" parameter must not be empty')
        given = maybe_ref(client)
        if given is not None:
            check_client(given)
        self._database = Database(given, database, collection, connect_args)
        self._runs = RunDocuments(self._database)
        self._archive = RunArchive(self._database, self._runs)
        self._nodes = NodeDocuments(self._database, self._runs)

    @classmethod
    def options_from_url(cls, url: str) -> dict[str, Any]:
        """Return the server and, if the URL has one, the database."""
        database = urlsplit(url).path.strip("/")
        return {"host": url} | ({"database": database} if database else {})

    @property
    def connection(self) -> Any:
        """The client, under the name that it had long ago."""
        warnings.warn(
            "The attribute 'connection' of MongoDBJobStore is deprecated: use 'client'",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.client

    def exists(self) -> bool:
        with _explained("The job store"):
            return self._database.exists()

    def start(self, scheduler: "BaseScheduler | None", alias: str) -> None:
        super().start(scheduler, alias)
        with _explained(f"Job store {alias!r}"):
            obstacles = self._database.open()
        if obstacles:
            self._logger.warning(
                "Job store %r cannot create its indexes, and is slow without them when there are many jobs: %s",
                *(alias, "; ".join(obstacles)),
            )

    def shutdown(self) -> None:
        super().shutdown()
        self._database.close()

    def claim(self, request: ClaimRequest) -> ClaimBatch:
        self._runs.complete(request.completions)
        first_due, first_ready = self._database.first_times()
        first = min(
            (t for t in (first_due, first_ready) if t is not None), default=None
        )
        if first is None or first > request.now.timestamp():
            return ClaimBatch(next_run_time=utc_timestamp_to_datetime(first))
        return ClaimPass(
            *(self._database, self._runs, self._nodes),
            *(self._restorer, self._alias, request),
            *(first_due, first_ready),
        ).carry_out()

    def complete(self, completions: Sequence[Completion]) -> None:
        self._runs.complete(completions)

    def add_ready_run(self, job: Job, run: Run) -> None:
        self._runs.add_ready(job, run, self._dump(job))

    def hand_back(self, claims: Sequence[Claim]) -> None:
        started = [claim for claim in claims if claim.run_times]
        if started:
            self._runs.hand_back([(claim, self._dump(claim.job)) for claim in started])

    def get_runs(self, which: RunFilter, limit: int, offset: int = 0) -> list[Run]:
        return self._archive.get_runs(which, limit, offset, self._alias)

    def prune_runs(
        self, max_age: timedelta | None, max_per_job: int | None, now: datetime
    ) -> int:
        return self._archive.prune(max_age, max_per_job, now)

    def renew_lease(self, node: Node, expires_at: datetime) -> None:
        self._nodes.renew(node, expires_at)

    def drop_lease(self, node: Node) -> None:
        self._nodes.drop(node)

    def read_leases(self) -> list[Lease]:
        return self._nodes.read()

    def take_over(self, node: Node, now: datetime) -> list[Run]:
        return self._nodes.take_over(node, now, self._alias)

    def read_clock(self) -> datetime | None:
        time: datetime = self.client.admin.command("hello")["localTime"]
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)

    def is_unreachable(self, exc: BaseException) -> bool:
        return isinstance(exc, ConnectionFailure) or super().is_unreachable(exc)

    def __repr__(self) -> str:
        # Not the client, which shows what it was made with.
        return f"<{type(self).__name__} (collection={self.collection.full_name})>"
