"""A job store in a relational database, through SQLAlchemy."""

import pickle
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Engine, MetaData
from sqlalchemy.exc import DBAPIError

from apscheduler.job import Job
from apscheduler.jobstores.contract import (
    HISTORY_DAYS,
    HISTORY_RUNS,
    Claim,
    ClaimBatch,
    ClaimRequest,
)
from apscheduler.jobstores.sqlalchemy.claims import LockingClaim
from apscheduler.jobstores.sqlalchemy.database import Database
from apscheduler.jobstores.sqlalchemy.keeping import TableJobStore
from apscheduler.jobstores.sqlalchemy.listening import Channel, Listener
from apscheduler.jobstores.sqlalchemy.storage import Storage
from apscheduler.nodes import Lease, Node
from apscheduler.runs import Completion, Run, RunFilter, RunState
from apscheduler.serializers import Serializer
from apscheduler.util import maybe_ref, utc_timestamp_to_datetime

if TYPE_CHECKING:
    from apscheduler.schedulers.base import BaseScheduler

__all__ = ("SQLAlchemyJobStore",)

T = TypeVar("T")

# How soon to look again for what others had locked; it doubles as long as nothing else is found.
FIRST_LOCK_PAUSE_SECONDS, LONGEST_LOCK_PAUSE_SECONDS = 0.02, 1.0
# Who hears of changes at once looks from time to time all the same.
PUSHED_POLL_SECONDS = 5.0


class SQLAlchemyJobStore(TableJobStore):
    """Keeps jobs in a table of a relational database, and their runs in two tables beside it.

    :param url: where the database is, as SQLAlchemy writes it
    :param engine: an engine to use instead, or a reference to one
    :param tablename: the table of jobs; the others are named after it
    :param metadata: a ``MetaData`` that the tables become part of, or a reference to one
    :param pickle_protocol: the protocol to write the state of jobs with
    :param tableschema: the schema of the tables
    :param engine_options: more arguments for ``create_engine``, with ``url`` only
    :param serializer: how jobs become bytes, if not by pickle; or a reference to that
    :param history_days: for how long finished runs are kept; None: no limit
    :param history_runs: how many finished runs are kept of each job that does not say; 0: none; None: no limit
    :param shared: True: refuse to start where several schedulers cannot share the tables; False: do not try, and keep
        runs in memory; None: share them where that is possible
    :raises ValueError: if there is neither engine nor URL
    :raises ImportError: if the driver that the URL names is not installed
    """

    url_schemes = ("sqlite", "postgresql", "mysql", "mariadb", "oracle", "mssql")
    shareable = True
    performs_io = True
    poll_interval: float | None = 1.0

    def __init__(
        self,
        url: str | None = None,
        engine: Engine | str | None = None,
        tablename: str = "apscheduler_jobs",
        metadata: MetaData | str | None = None,
        pickle_protocol: int = pickle.HIGHEST_PROTOCOL,
        tableschema: str | None = None,
        engine_options: Mapping[str, Any] | None = None,
        *,
        serializer: Serializer | str | None = None,
        history_days: float | None = HISTORY_DAYS,
        history_runs: int | None = HISTORY_RUNS,
        shared: bool | None = None,
    ):
        super().__init__(pickle_protocol, serializer, history_days, history_runs)
        self._shared = shared
        if engine is not None:
            database = Database(maybe_ref(engine), owned=False)
        elif url:
            database = Database.from_url(url, engine_options or {})
        else:
            raise ValueError('Need either "engine" or "url" defined')
        # MetaData without tables is no false value, but asks to be compared to None.
        found = MetaData() if metadata is None else maybe_ref(metadata)
        self._database = database
        self._storage = Storage(database, tablename, found, tableschema)
        self.engine = database.engine
        self.jobs_t = self._storage.jobs_table
        self._listeners: list[Listener] = []
        self._lock_pause = FIRST_LOCK_PAUSE_SECONDS

    def exists(self) -> bool:
        try:
            return self._storage.exists()
        except DBAPIError as exc:
            what = "The job store cannot use the database"
            raise self._database.explain(exc, what) from exc

    def start(self, scheduler: "BaseScheduler | None", alias: str) -> None:
        super().start(scheduler, alias)
        database = self._database
        database.dialect.check(self.engine)
        try:
            if database.owned:
                database.is_closed = False
                database.dialect.tune(self.engine)
            self._prepare_runs(self._storage.open())
        except BaseException as exc:
            self._storage.close()
            if not isinstance(exc, DBAPIError):
                raise
            what = f"Job store {alias!r} cannot use the database"
            raise database.explain(exc, what) from exc

    def _prepare_runs(self, obstacle: str | None) -> None:
        """Create what other schedulers need to work on the same tables, if they can.

        :param obstacle: why they cannot
        """
        dialect, url = self._database.dialect, self._database.url
        is_private = dialect.is_private(self.engine)
        if is_private:
            obstacle = "it is in the memory of this process"
        if self._shared and obstacle:
            raise ValueError(
                f"Job store {self._alias!r} cannot be shared: several schedulers cannot use {url} at the same time: "
                f"{obstacle}; use another database, or leave out shared=True"
            )
        if self._shared is False:
            self._stay_alone(keeps_runs=False)
            return
        if obstacle and dialect.isolates_claims and not is_private:
            self._logger.warning(
                "Only one scheduler may use job store %r at %s: %s",
                *(self._alias, url, obstacle),
            )
        try:
            self._storage.create_runs()
        except DBAPIError as exc:
            if self._shared or not dialect.is_denied(exc):
                raise
            self._logger.warning(
                "Job store %r cannot create its tables %s and %s at %s: %s. It works without them, but only one "
                "scheduler may use it, and runs are forgotten when that ends",
                *(self._alias, self._storage.runs_table, self._storage.nodes_table),
                *(url, exc.orig),
            )
            self._stay_alone(keeps_runs=False)
        else:
            if obstacle:
                self._stay_alone(keeps_runs=not is_private)
            elif self._database.flavour.driver == "psycopg":
                with self._database.read() as connection:
                    self._channel = Channel.of(connection, self.jobs_t)
                self.pushes_changes = True
                self.poll_interval = PUSHED_POLL_SECONDS

    def _stay_alone(self, keeps_runs: bool) -> None:
        self.shareable = False
        self.poll_interval = None
        self.keeps_runs = keeps_runs
        if not keeps_runs and not self._database.dialect.is_private(self.engine):
            self._storage.keep_runs_in_memory()

    def shutdown(self) -> None:
        super().shutdown()
        for listener in self._listeners:
            listener.stop()
        self._storage.close()

    # Runs.

    def claim(self, request: ClaimRequest) -> ClaimBatch:
        storage = self._storage
        if not request.completions:
            with storage.read_all() as connections:
                times = storage.claims.find_times(*connections, None)
            first = min((time for time in times if time is not None), default=None)
            if first is None or first > request.now.timestamp():
                return ClaimBatch(next_run_time=utc_timestamp_to_datetime(first))

        def carry_out(connections: tuple[Connection, Connection]) -> LockingClaim:
            storage.runs.complete(connections[1], request.completions)
            claiming = LockingClaim(
                *(storage, connections, self._restorer, self._alias, request)
            )
            claiming.carry_out()
            return claiming

        claiming = storage.transact_all(carry_out)
        self._look_again(claiming, request.now)
        return claiming.batch

    def _look_again(self, claiming: LockingClaim, now: datetime) -> None:
        """Have the scheduler come back soon for what others had locked, but not without a pause."""
        batch = claiming.batch
        if batch.claims or not claiming.met_locks:
            self._lock_pause = FIRST_LOCK_PAUSE_SECONDS
        if not claiming.met_locks:
            return
        pause = self._lock_pause * random.uniform(0.5, 1.0)
        self._lock_pause = min(2 * self._lock_pause, LONGEST_LOCK_PAUSE_SECONDS)
        soon = now + timedelta(seconds=pause)
        if batch.next_run_time is None or batch.next_run_time > soon:
            batch.next_run_time = soon

    def complete(self, completions: Sequence[Completion]) -> None:
        if not completions:
            return
        storage = self._storage
        transact = (
            storage.transact_runs_each
            if storage.runs.completes_each
            else storage.transact_runs
        )
        transact(lambda connection: storage.runs.complete(connection, completions))

    def add_ready_run(self, job: Job, run: Run) -> None:
        data = self._dump(job)

        def add(connection: Connection) -> None:
            self._storage.runs.add_ready(connection, job, run, data)
            self._tell(connection)

        self._transact(add)

    def hand_back(self, claims: Sequence[Claim]) -> None:
        rows = [
            (
                *(claim.run_times[0].timestamp(), job_state, run_id),
                *(claim.run_times.claim_id, claim.run_times.attempt),
            )
            for claim in claims
            if claim.run_times
            for job_state in [self._dump(claim.job)]
            for run_id in claim.run_times.run_ids
        ]
        if not rows:
            return

        def give(connection: Connection) -> None:
            self._storage.runs.hand_back.execute(connection, rows)
            self._tell(connection)

        self._transact(give)

    def get_runs(self, which: RunFilter, limit: int, offset: int = 0) -> list[Run]:
        storage = self._storage
        with storage.runs_database.read() as connection:
            return storage.runs.get_runs(connection, which, limit, offset, self._alias)

    def count_runs(self, which: RunFilter) -> int:
        storage = self._storage
        with storage.runs_database.read() as connection:
            return storage.runs.count_runs(connection, which)

    def prune_runs(
        self, max_age: timedelta | None, max_per_job: int | None, now: datetime
    ) -> int:
        storage = self._storage
        with storage.runs_database.read() as connection:
            surplus = storage.runs.find_prunable(connection, max_age, max_per_job, now)
        if not surplus:
            return 0
        return storage.transact_runs_each(
            lambda connection: storage.runs.delete(connection, surplus)
        )

    def renew_lease(self, node: Node, expires_at: datetime) -> None:
        storage = self._storage
        storage.transact_runs_each(
            lambda connection: storage.nodes.renew(connection, node, expires_at)
        )

    def drop_lease(self, node: Node) -> None:
        storage = self._storage
        storage.transact_runs_each(
            lambda connection: storage.nodes.drop(connection, [node.id])
        )

    def read_leases(self) -> list[Lease]:
        with self._storage.runs_database.read() as connection:
            return self._storage.nodes.read(connection)

    def take_over(self, node: Node, now: datetime) -> list[Run]:
        nodes = self._storage.nodes
        with self._storage.runs_database.read() as connection:
            suspected = nodes.find_dead(connection, node, now)
            unknown = nodes.find_unknown(connection, node)
        if not suspected and not unknown:
            return []

        def take(connection: Connection) -> list[Run]:
            if unknown:
                nodes.give_leases(connection, node, unknown, now)
            # Another scheduler may have been faster, or a node have come back.
            dead = nodes.lock_dead(connection, suspected, now) if suspected else []
            if not dead:
                return []
            taken = nodes.take_runs(connection, dead, now, self._alias)
            if any(run.state is RunState.READY for run in taken):
                self._tell(connection)
            return taken

        return self._transact(take)

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None] | None:
        if self._channel is None:
            return None
        listener = Listener(
            self._database.engine, self._channel, callback, self._logger
        )
        self._listeners = [other for other in self._listeners if other.is_alive]
        self._listeners.append(listener)
        listener.start()
        return listener.stop

    def read_clock(self) -> datetime | None:
        with self._database.read() as connection:
            return self._database.dialect.read_clock(connection)

    def is_unreachable(self, exc: BaseException) -> bool:
        return self._database.is_unreachable(exc) or super().is_unreachable(exc)

    def _transact(self, work: Callable[[Connection], T]) -> T:
        return self._storage.transact_runs(work)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} (url={self._database.url})>"
