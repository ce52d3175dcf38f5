"""A job store in ZooKeeper."""

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from apscheduler.job import Job
from apscheduler.jobstores.contract import (
    HISTORY_DAYS,
    HISTORY_RUNS,
    Claim,
    ClaimBatch,
    ClaimRequest,
)
from apscheduler.jobstores.zookeeper import history
from apscheduler.jobstores.zookeeper.claims import ZooKeeperClaimPass
from apscheduler.jobstores.zookeeper.connecting import (
    UNREACHABLE,
    Connection,
    KazooException,
    explain,
    is_unreachable,
)
from apscheduler.jobstores.zookeeper.keeping import NodeJobStore
from apscheduler.jobstores.zookeeper.ledgers import Ledger
from apscheduler.jobstores.zookeeper.listening import Listener
from apscheduler.jobstores.zookeeper.nodes import Leases
from apscheduler.jobstores.zookeeper.storage import Storage
from apscheduler.nodes import Lease, Node
from apscheduler.runs import Completion, Run, RunFilter
from apscheduler.serializers import Serializer
from apscheduler.util import maybe_ref

if TYPE_CHECKING:
    from apscheduler.schedulers.base import BaseScheduler

__all__ = ("ZooKeeperJobStore",)

# Who hears of changes at once looks from time to time all the same.
POLL_SECONDS = 5.0


class ZooKeeperJobStore(NodeJobStore):
    """Keeps jobs in ZooKeeper, one node each, and their runs beside them.

    :param path: the node that the jobs are below
    :param client: a ``KazooClient`` to use instead of an own one, or a reference to one. It is started if it is not
        connected, and then stopped again by ``shutdown()``
    :param close_connection_on_exit: also stop and close a client that was passed in
    :param pickle_protocol: the protocol to write the state of jobs with
    :param serializer: how jobs become bytes, if not by pickle; or a reference to that
    :param history_days: for how long finished runs are kept; None: no limit
    :param history_runs: how many finished runs are kept of each job that does not say; 0: none; None: no limit
    :param connect_args: arguments for ``KazooClient``, above all ``hosts``
    :raises ValueError: if the path is empty or the root
    """

    url_schemes = ("zookeeper",)
    shareable = True
    pushes_changes = True
    poll_interval: float | None = POLL_SECONDS

    def __init__(
        self,
        path: str = "/apscheduler",
        client: Any = None,
        close_connection_on_exit: bool = False,
        pickle_protocol: int = pickle.HIGHEST_PROTOCOL,
        *,
        serializer: Serializer | str | None = None,
        history_days: float | None = HISTORY_DAYS,
        history_runs: int | None = HISTORY_RUNS,
        **connect_args: Any,
    ):
        super().__init__(pickle_protocol, serializer, history_days, history_runs)
        if not path:
            raise ValueError('The "path" parameter must not be empty')
        self.path = "/" + path.strip("/")
        if self.path == "/":
            raise ValueError(
                f"'path' must name a node below the root, such as '/apscheduler', but is {path!r}"
            )
        self.close_connection_on_exit = close_connection_on_exit
        self._connect_args = connect_args
        self._listeners: list[Listener] = []
        self._open(maybe_ref(client))

    @classmethod
    def options_from_url(cls, url: str) -> dict[str, Any]:
        """Return the servers and the path of ``zookeeper://host1:2181,host2:2181/path``."""
        parts = urlsplit(url)
        if "@" in parts.netloc or parts.query:
            raise ValueError(
                "only hosts, ports and a path can be given; for anything else configure the store in a file"
            )
        options = {"hosts": parts.netloc or "localhost:2181"}
        return options | ({"path": parts.path} if parts.path.strip("/") else {})

    def _open(self, client: Any) -> None:
        self._pid = os.getpid()
        self._connection = Connection(client, self._connect_args)
        self._nodes = Storage(self._connection, self.path, self.serializer)
        self._listeners = []

    @property
    def client(self) -> Any:
        """The client of the ZooKeeper library."""
        return self._storage.connection.client

    @property
    def _storage(self) -> Storage:
        if self._pid != os.getpid():
            self._leave_to_parent()
        return self._nodes

    def _leave_to_parent(self) -> None:
        """In a forked process: make a client of its own, since threads and session belong to the parent."""
        if not self._connection.owned:
            raise RuntimeError(
                "The ZooKeeper client that was passed in cannot be used in a forked process: give the job store "
                "'hosts' instead, so that it makes a client of its own"
            )
        self._open(None)
        self._connection.start()

    def exists(self) -> bool:
        with self._connected("The job store") as connection:
            return bool(connection.read(lambda client: client.exists(self.path)))

    def start(self, scheduler: "BaseScheduler | None", alias: str) -> None:
        super().start(scheduler, alias)
        with self._connected(f"Job store {alias!r}"):
            self._storage.create()

    @contextmanager
    def _connected(self, who: str) -> Iterator[Connection]:
        """Connect, and stay connected unless what is done then fails."""
        connection = self._storage.connection
        try:
            connection.start()
            yield connection
        except (KazooException, *UNREACHABLE) as exc:
            connection.stop(close=False)
            what = f"{who} cannot use ZooKeeper"
            raise explain(exc, what, connection.hosts) from exc

    def shutdown(self) -> None:
        super().shutdown()
        if self._pid != os.getpid():
            return  # what is there belongs to the parent
        while self._listeners:
            self._listeners.pop().stop()
        self._connection.stop(self.close_connection_on_exit)
        self._nodes.forget()

    # Runs.

    def claim(self, request: ClaimRequest) -> ClaimBatch:
        self.complete(request.completions)
        claiming = ZooKeeperClaimPass(
            self, self._storage, self._restorer, self._alias, request
        )
        return claiming.carry_out()

    def complete(self, completions: Sequence[Completion]) -> None:
        ended: dict[str, list[Completion]] = {}
        for each in completions:
            ended.setdefault(each.job_id, []).append(each)

        def record(ledger: Ledger, those: list[Completion]) -> bool:
            recorded = [ledger.complete(each) for each in those]
            return any(recorded)

        self._storage.change_ledgers(
            {job_id: partial(record, those=those) for job_id, those in ended.items()}
        )

    def add_ready_run(self, job: Job, run: Run) -> None:
        data = self._dump(job)

        def add(ledger: Ledger) -> bool:
            ledger.add_ready(job, run, data)
            return True

        self._storage.change_ledgers({job.id: add}, wakes=True)

    def hand_back(self, claims: Sequence[Claim]) -> None:
        given: dict[str, list[tuple[Claim, bytes]]] = {}
        for claim in claims:
            if claim.run_times:
                back = (claim, self._dump(claim.job))
                given.setdefault(claim.job.id, []).append(back)

        def give(ledger: Ledger, those: list[tuple[Claim, bytes]]) -> bool:
            given_back = [ledger.hand_back(*each) for each in those]
            return any(given_back)

        self._storage.change_ledgers(
            {job_id: partial(give, those=those) for job_id, those in given.items()},
            wakes=True,
        )

    def get_runs(self, which: RunFilter, limit: int, offset: int = 0) -> list[Run]:
        return history.get_runs(self._storage, which, limit, offset, self._alias)

    def prune_runs(
        self, max_age: timedelta | None, max_per_job: int | None, now: datetime
    ) -> int:
        return history.prune_runs(self._storage, max_age, max_per_job, now)

    # Other schedulers.

    def renew_lease(self, node: Node, expires_at: datetime) -> None:
        Leases(self._storage).renew(node, expires_at)

    def drop_lease(self, node: Node) -> None:
        Leases(self._storage).drop(node)

    def read_leases(self) -> list[Lease]:
        return Leases(self._storage).read()

    def take_over(self, node: Node, now: datetime) -> list[Run]:
        return Leases(self._storage).take_over(node, now, self._alias)

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None] | None:
        listener = Listener(self._connection, self._storage.log, callback, self._logger)
        self._listeners.append(listener)
        return listener.stop

    def is_unreachable(self, exc: BaseException) -> bool:
        return is_unreachable(exc) or super().is_unreachable(exc)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} (client={self._connection!r})>"
