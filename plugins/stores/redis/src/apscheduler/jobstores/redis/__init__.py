"""A job store in Redis."""

import pickle
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from redis import RedisCluster
from redis.exceptions import RedisClusterException, RedisError

from apscheduler.job import Job
from apscheduler.jobstores.contract import (
    HISTORY_DAYS,
    HISTORY_RUNS,
    Claim,
    ClaimBatch,
    ClaimRequest,
)
from apscheduler.jobstores.redis import nodes, runs
from apscheduler.jobstores.redis.claims import RedisClaimPass
from apscheduler.jobstores.redis.connecting import (
    SCHEMES,
    check_slots,
    explain,
    is_unreachable,
    listening_pool,
    make_client,
)
from apscheduler.jobstores.redis.documents import (
    handed_back,
    outcome_of,
    ready_document,
)
from apscheduler.jobstores.redis.job_scripts import CLOCK, OPEN
from apscheduler.jobstores.redis.keeping import HashJobStore
from apscheduler.jobstores.redis.listening import Listener
from apscheduler.jobstores.redis.run_scripts import (
    ADD_READY,
    COMPLETE,
    DROP,
    EXISTS,
    HAND_BACK,
    RENEW,
)
from apscheduler.jobstores.redis.scripts import Runner, encode
from apscheduler.nodes import Lease, Node
from apscheduler.runs import Completion, Run, RunFilter
from apscheduler.serializers import Serializer
from apscheduler.util import utc_timestamp_to_datetime

if TYPE_CHECKING:
    from apscheduler.schedulers.base import BaseScheduler

__all__ = ("RedisJobStore",)

# Who hears of changes at once looks from time to time all the same.
POLL_SECONDS, PUSHED_POLL_SECONDS = 1.0, 5.0


class RedisJobStore(HashJobStore):
    """Keeps jobs in Redis, and their runs beside them.

    :param db: the number of the database
    :param jobs_key: the key of the jobs; those of the runs begin with it
    :param run_times_key: the key of the run times
    :param pickle_protocol: the protocol to write the state of jobs with
    :param url: where the server is: ``redis://``, ``rediss://`` or ``unix://``; what it says goes before other options
    :param client: a client to use instead, or a reference to one; it is not closed
    :param serializer: how jobs become bytes, if not by pickle; or a reference to that
    :param history_days: for how long finished runs are kept; None: no limit
    :param history_runs: how many finished runs are kept of each job that does not say; 0: none; None: no limit
    :param connect_args: more arguments for ``redis.Redis``
    :raises ValueError: if there is no database or key, or a client or URL that cannot be used
    """

    url_schemes = SCHEMES
    shareable = True
    pushes_changes = True
    poll_interval: float | None = PUSHED_POLL_SECONDS

    def __init__(
        self,
        db: int = 0,
        jobs_key: str = "apscheduler.jobs",
        run_times_key: str = "apscheduler.run_times",
        pickle_protocol: int = pickle.HIGHEST_PROTOCOL,
        *,
        url: str | None = None,
        client: Any = None,
        serializer: Serializer | str | None = None,
        history_days: float | None = HISTORY_DAYS,
        history_runs: int | None = HISTORY_RUNS,
        **connect_args: Any,
    ):
        super().__init__(pickle_protocol, serializer, history_days, history_runs)
        if db is None:
            raise ValueError("'db' must be the number of a database, but is None")
        for name, value in (("jobs_key", jobs_key), ("run_times_key", run_times_key)):
            if not value:
                raise ValueError(f"{name!r} must not be empty, but is {value!r}")
        if jobs_key == run_times_key:
            raise ValueError(
                f"'jobs_key' and 'run_times_key' must be different, but are both {jobs_key!r}"
            )
        self.jobs_key = jobs_key
        self.run_times_key = run_times_key
        self.redis, self._is_owner = make_client(url, client, int(db), connect_args)
        check_slots(self.redis, jobs_key, run_times_key)
        self._runner = Runner(
            *(lambda: self.redis, jobs_key, run_times_key), self._count_listeners
        )
        self._listeners: list[Listener] = []

    def exists(self) -> bool:
        try:
            return bool(self._runner.run(EXISTS))
        except (RedisError, RedisClusterException) as exc:
            raise explain(exc, "The job store cannot use Redis") from exc

    def start(self, scheduler: "BaseScheduler | None", alias: str) -> None:
        super().start(scheduler, alias)
        try:
            kinds = self._runner.run(OPEN)
        except (RedisError, RedisClusterException) as exc:
            self._disconnect()
            raise explain(exc, f"Job store {alias!r} cannot use Redis") from exc
        keys = (self.jobs_key, self.run_times_key)
        for key, kind, wanted in zip(keys, kinds, (b"hash", b"zset"), strict=True):
            if kind not in (wanted, b"none"):
                raise ValueError(
                    f"Job store {alias!r} cannot use the key {key!r}: it holds a {kind.decode()}, not a "
                    f"{wanted.decode()}; give another 'jobs_key' and 'run_times_key'"
                )

    def shutdown(self) -> None:
        super().shutdown()
        for listener in self._listeners:
            listener.stop()
        self._disconnect()

    def _disconnect(self) -> None:
        if self._is_owner:
            self.redis.close()
            self.redis.connection_pool.disconnect()

    # Runs.

    def claim(self, request: ClaimRequest) -> ClaimBatch:
        claiming = RedisClaimPass(
            self._runner, self._restorer, self._alias, request, self._report_stray
        )
        if not claiming.look():
            claiming.batch.next_run_time = utc_timestamp_to_datetime(
                claiming.find_next()
            )
            return claiming.batch
        return claiming.carry_out()

    def _report_stray(self, job_ids: Sequence[str]) -> None:
        self._logger.warning(
            "There is no job for the run times of %s; they are removed from %r",
            ", ".join(map(repr, job_ids)),
            self.run_times_key,
        )

    def complete(self, completions: Sequence[Completion]) -> None:
        if completions:
            self._runner.run(COMPLETE, [outcome_of(each) for each in completions])

    def add_ready_run(self, job: Job, run: Run) -> None:
        available_at = run.available_at or run.scheduled_time
        given = {
            "id": run.id,
            "document": ready_document(job, run),
            "time": repr(available_at.timestamp()),
        }
        self._runner.run(ADD_READY, given, self._dump(job))

    def hand_back(self, claims: Sequence[Claim]) -> None:
        claims = [claim for claim in claims if claim.run_times]
        given = [
            {
                "id": run.id,
                "claim_id": run.claim_id,
                "attempt": run.attempt,
                "document": ready_document(claim.job, run),
                "time": repr(available_at),
                "copy": number,
            }
            for number, claim in enumerate(claims, start=1)
            for run, available_at in handed_back(claim)
        ]
        if given:
            copies = [self._dump(claim.job) for claim in claims]
            self._runner.run(HAND_BACK, given, *copies)

    def get_runs(self, which: RunFilter, limit: int, offset: int = 0) -> list[Run]:
        return runs.get_runs(self._runner, which, limit, offset, self._alias)

    def prune_runs(
        self, max_age: timedelta | None, max_per_job: int | None, now: datetime
    ) -> int:
        return runs.prune_runs(self._runner, max_age, max_per_job, now)

    # Other schedulers.

    def renew_lease(self, node: Node, expires_at: datetime) -> None:
        lease = nodes.lease_document(node, expires_at)
        self._runner.run(RENEW, {"node": node.id, "lease": lease})

    def drop_lease(self, node: Node) -> None:
        self._runner.run(DROP, node.id)

    def read_leases(self) -> list[Lease]:
        return nodes.read_leases(self._runner)

    def take_over(self, node: Node, now: datetime) -> list[Run]:
        return nodes.take_over(self._runner, node, now, self._alias)

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None] | None:
        listener = Listener(
            lambda: listening_pool(self.redis),
            encode(self._runner.channel),
            lambda: self._runner.writer,
            callback,
            self._logger,
        )
        self._listeners = [other for other in self._listeners if other.is_alive]
        self.poll_interval = POLL_SECONDS  # until it is known that listening is allowed
        listener.start()
        self.poll_interval = PUSHED_POLL_SECONDS
        self._listeners.append(listener)
        return listener.stop

    def _count_listeners(self) -> int:
        if isinstance(self.redis, RedisCluster):  # others listen at other nodes
            return -1
        writer = self._runner.writer
        return sum(listener.heard_as == writer for listener in self._listeners)

    def read_clock(self) -> datetime | None:
        seconds, microseconds = map(int, self._runner.run(CLOCK))
        return utc_timestamp_to_datetime(seconds + microseconds / 1e6)

    def is_unreachable(self, exc: BaseException) -> bool:
        return is_unreachable(exc) or super().is_unreachable(exc)
