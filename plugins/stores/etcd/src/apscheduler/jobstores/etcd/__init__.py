"""A job store in etcd."""

import pickle
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from etcd3gw.client import Etcd3Client
from etcd3gw.exceptions import Etcd3Exception

from apscheduler.job import Job
from apscheduler.jobstores.contract import (
    HISTORY_DAYS,
    HISTORY_RUNS,
    Claim,
    ClaimBatch,
    ClaimRequest,
)
from apscheduler.jobstores.etcd.claims import EtcdClaimPass
from apscheduler.jobstores.etcd.connecting import (
    explain,
    is_unreachable,
    make_client,
    options_from_url,
)
from apscheduler.jobstores.etcd.ended import Ended
from apscheduler.jobstores.etcd.gateway import Gateway
from apscheduler.jobstores.etcd.keeping import KeyJobStore
from apscheduler.jobstores.etcd.mirror import check_path
from apscheduler.jobstores.etcd.runs import Runs
from apscheduler.jobstores.etcd.storage import Storage
from apscheduler.nodes import Lease, Node
from apscheduler.runs import Completion, Run, RunFilter
from apscheduler.serializers import Serializer

if TYPE_CHECKING:
    from apscheduler.schedulers.base import BaseScheduler

__all__ = ("EtcdJobStore",)

# Who hears of changes at once looks from time to time all the same.
POLL_SECONDS = 5.0


class EtcdJobStore(KeyJobStore):
    """Keeps jobs in etcd, one key each, and their runs beside them.

    :param path: what the keys of the jobs begin with
    :param client: an ``etcd3gw.client.Etcd3Client`` to use instead of an own one, or a reference to one
    :param close_connection_on_exit: also close the connections of a client that was passed in
    :param pickle_protocol: the protocol to write the state of jobs with
    :param serializer: how jobs become bytes, if not by pickle; or a reference to that
    :param history_days: for how long finished runs are kept; None: no limit
    :param history_runs: how many finished runs are kept of each job that does not say; 0: none; None: no limit
    :param connect_args: arguments for ``Etcd3Client``, above all ``host`` and ``port``
    :raises ValueError: if the path cannot be used
    :raises TypeError: if the client is none of etcd3gw
    """

    url_schemes = ("etcd",)
    shareable = True
    pushes_changes = True
    poll_interval: float | None = POLL_SECONDS

    def __init__(
        self,
        path: str = "/apscheduler",
        client: Any = None,
        close_connection_on_exit: bool = False,
        pickle_protocol: int = pickle.DEFAULT_PROTOCOL,
        *,
        serializer: Serializer | str | None = None,
        history_days: float | None = HISTORY_DAYS,
        history_runs: int | None = HISTORY_RUNS,
        **connect_args: Any,
    ):
        super().__init__(pickle_protocol, serializer, history_days, history_runs)
        check_path(path)
        self.path = path
        self.close_connection_on_exit = close_connection_on_exit
        self.client, self._is_owner = make_client(client, connect_args)
        self._gateway = Gateway(self.client, self._use)
        self._storage = Storage(self._gateway, path, self.serializer, self._logger)
        self._ended = Ended(self._storage)
        self._runs = Runs(self._storage, self._ended)

    @classmethod
    def options_from_url(cls, url: str) -> dict[str, Any]:
        """Return server and path of ``etcd://host:2379/path``, or ``etcd+https://…``."""
        return options_from_url(url)

    def _use(self, client: Etcd3Client) -> None:
        """Go on in a process that was forked."""
        self.client = client
        self._runs.reset()

    def exists(self) -> bool:
        keys = self._storage.keys
        try:
            return any(
                next(self._gateway.read_prefix(prefix, page_size=1), None)
                for prefix in (keys.jobs, keys.live, keys.ended)
            )
        except Etcd3Exception as exc:
            raise explain(exc, "The job store cannot use etcd") from exc

    def start(self, scheduler: "BaseScheduler | None", alias: str) -> None:
        super().start(scheduler, alias)
        self._storage.logger = self._logger
        try:
            self._gateway.get(self._storage.keys.jobs)
            self._gateway.get(self._storage.keys.tick)
        except Etcd3Exception as exc:
            self._disconnect()
            raise explain(exc, f"Job store {alias!r} cannot use etcd") from exc

    def shutdown(self) -> None:
        super().shutdown()
        self._storage.stop()
        self._disconnect()

    def _disconnect(self) -> None:
        if self._is_owner or self.close_connection_on_exit:
            self._gateway.close()

    def __repr__(self) -> str:
        client = self.client
        host = client.host.rpartition("@")[2]  # without a password
        return (
            f"<{type(self).__name__} (client={client.protocol}://{host}:{client.port})>"
        )

    # Runs.

    def claim(self, request: ClaimRequest) -> ClaimBatch:
        self._runs.complete(request.completions)
        self._storage.sync()
        claiming = EtcdClaimPass(
            self._storage,
            self._runs,
            self._ended,
            self._restorer,
            self._alias,
            request,
            self._dump,
        )
        return claiming.carry_out()

    def complete(self, completions: Sequence[Completion]) -> None:
        self._runs.complete(completions)

    def add_ready_run(self, job: Job, run: Run) -> None:
        self._runs.add_ready(job, run, self._dump(job))

    def hand_back(self, claims: Sequence[Claim]) -> None:
        self._runs.hand_back(
            [(claim, self._dump(claim.job)) for claim in claims if claim.run_times]
        )

    def get_runs(self, which: RunFilter, limit: int, offset: int = 0) -> list[Run]:
        return self._runs.get_runs(which, limit, offset, self._alias)

    def prune_runs(
        self, max_age: timedelta | None, max_per_job: int | None, now: datetime
    ) -> int:
        return self._ended.prune(max_age, max_per_job, now)

    # Other schedulers.

    def renew_lease(self, node: Node, expires_at: datetime) -> None:
        self._runs.renew(node, expires_at)

    def drop_lease(self, node: Node) -> None:
        self._runs.drop(node)

    def read_leases(self) -> list[Lease]:
        return self._runs.read_leases()

    def take_over(self, node: Node, now: datetime) -> list[Run]:
        return self._runs.take_over(node, now, self._alias)

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None] | None:
        return self._storage.subscribe(callback)

    def is_unreachable(self, exc: BaseException) -> bool:
        return is_unreachable(exc) or super().is_unreachable(exc)
