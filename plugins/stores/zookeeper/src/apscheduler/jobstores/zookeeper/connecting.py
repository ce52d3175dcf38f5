"""The way to the server: a client of ours or of the user, many requests at a time, errors that say something."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

# kazoo has no types; the other modules take its names from here.
from kazoo.client import KazooClient  # type: ignore[import-untyped]
from kazoo.exceptions import (  # type: ignore[import-untyped]
    AuthFailedError,
    BadVersionError,
    ConnectionLoss,
    KazooException,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    OperationTimeoutError,
    RolledBackError,
    RuntimeInconsistency,
    SessionExpiredError,
)
from kazoo.handlers.threading import (  # type: ignore[import-untyped]
    KazooTimeoutError,
)
from kazoo.protocol.states import KazooState  # type: ignore[import-untyped]

from apscheduler.util import asbool

__all__ = (
    "GROUP_BYTES",
    "UNREACHABLE",
    "BadVersionError",
    "Connection",
    "HeadRefused",
    "KazooException",
    "NoNodeError",
    "NodeExistsError",
    "Step",
    "Write",
    "explain",
    "is_unreachable",
)

T = TypeVar("T")

# How long a start waits for the server, and how long after it was lost requests wait for a connection.
START_SECONDS, RECONNECT_SECONDS = 10.0, 3.0
# How a client of ours looks for a server that is away: kazoo itself would come to a pause of a minute.
RETRY = {"max_tries": -1, "max_delay": 2.0}
# What arguments of the client, which are texts in an INI file, are to be.
CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "timeout": float,
    "randomize_hosts": asbool,
    "use_ssl": asbool,
    "verify_certs": asbool,
}
# An answer comes before that, or the client takes the connection for lost.
ANSWER_SECONDS = 60.0
# So many requests are under way at a time.
PIPELINE = 500
# Servers refuse transactions of a mebibyte; so large becomes a group of steps, and so many writes.
GROUP_BYTES, GROUP_WRITES = 300_000, 100

UNREACHABLE = (
    ConnectionLoss,
    KazooTimeoutError,
    OperationTimeoutError,
    SessionExpiredError,
)


class Write(NamedTuple):
    """Part of a transaction.

    :ivar kind: create, set_data, delete or check
    :ivar version: what the version of the node must be; -1 if any will do
    """

    kind: str
    path: str
    data: bytes = b""
    version: int = -1

    def add_to(self, transaction: Any) -> None:
        """Make it part of a transaction of a client."""
        if self.kind == "create":
            transaction.create(self.path, self.data)
        elif self.kind == "set_data":
            transaction.set_data(self.path, self.data, self.version)
        else:
            getattr(transaction, self.kind)(self.path, self.version)


#: Writes that are carried out together or not at all.
Step = Sequence[Write]


class HeadRefused(Exception):
    """What every step begins with was refused; the argument is the reason."""


class Connection:
    """A client, and what all parts of the store do with it.

    :param client: a client of the user; None makes one of the arguments
    """

    def __init__(self, client: Any, connect_args: Mapping[str, Any]):
        self.owned = client is None
        if client is None:
            arguments = {
                name: CONVERSIONS[name](value) if name in CONVERSIONS else value
                for name, value in connect_args.items()
            }
            client = KazooClient(**{"connection_retry": RETRY, **arguments})
        self.client = client
        self._listeners: list[Callable[[bool], None]] = []
        # Whether the client was started here, which the end undoes.
        self._is_starter = False
        self._is_stopped = False
        self._changed_at = float("-inf")

    def __repr__(self) -> str:
        # As every object is shown by default: a client of the user may show more.
        return object.__repr__(self.client)

    @property
    def hosts(self) -> str:
        """Where the server is looked for."""
        hosts = getattr(self.client, "hosts", None)
        return ",".join(f"{host}:{port}" for host, port in hosts or ())

    def start(self) -> None:
        """Connect, if that is not done yet.

        :raises KazooTimeoutError: if no server answers
        """
        self._is_stopped = False
        self.client.add_listener(self._hear)
        if not self.client.connected:
            self._is_starter = True
            self.client.start(START_SECONDS)

    def stop(self, close: bool) -> None:
        """Disconnect what was connected here.

        :param close: a client of the user, too
        """
        self._is_stopped = True
        self.client.remove_listener(self._hear)
        if self.owned or close or self._is_starter:
            self.client.stop()
        if self.owned or close:
            self.client.close()
        self._is_starter = False

    def _hear(self, state: str) -> None:
        self._changed_at = time.monotonic()
        for listener in list(self._listeners):
            listener(state == KazooState.CONNECTED)

    def listen(self, listener: Callable[[bool], None]) -> Callable[[], None]:
        """Have a function told whether there is a connection, when that changes; return what ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # Requests.

    def ready(self) -> Any:
        """Return the client when it has a connection: without one a request would be carried out at any later time.

        :raises ConnectionLoss: if there is none for a while
        """
        client = self.client
        while not client.connected:
            if self._is_stopped:
                raise ConnectionLoss("the job store is shut down")
            if time.monotonic() > self._changed_at + RECONNECT_SECONDS:
                raise ConnectionLoss(f"no ZooKeeper server answers at {self.hosts}")
            time.sleep(0.02)
        return client

    def read(self, question: Callable[[Any], T]) -> T:
        """Return what a question to the client gives; it is asked again if the connection breaks."""
        try:
            return question(self.ready())
        except (ConnectionLoss, SessionExpiredError):
            with self._saying_why():
                return question(self.ready())

    @contextmanager
    def _saying_why(self) -> Iterator[None]:
        """Give errors of the connection a text, as the client does not."""
        try:
            yield
        except UNREACHABLE as exc:
            if str(exc):
                raise
            text = f"the connection to the ZooKeeper server at {self.hosts} was lost"
            raise type(exc)(text) from exc

    def get_all(self, paths: Sequence[str]) -> list[tuple[bytes, Any] | None]:
        """Return data and state of nodes, None for those that do not exist."""

        def ask(client: Any) -> list[tuple[bytes, Any] | None]:
            found: list[tuple[bytes, Any] | None] = []
            for start in range(0, len(paths), PIPELINE):
                page = paths[start : start + PIPELINE]
                for answer in [client.get_async(path) for path in page]:
                    try:
                        found.append(answer.get(timeout=ANSWER_SECONDS))
                    except NoNodeError:
                        found.append(None)
            return found

        return self.read(ask) if paths else []

    def list_now(self, path: str, other: str) -> tuple[list[str], Any, int]:
        """Return the names of the children of a node, and its state, with all that others had written before.

        :param other: a node of which the number of children is returned, too
        :raises NoNodeError: if there is no such node
        """

        def ask(client: Any) -> tuple[list[str], Any, int]:
            synced = client.sync_async(path)  # carried out before what is asked next
            listed = client.get_children_async(path, include_data=True)
            counted = client.exists_async(other)
            synced.get(timeout=ANSWER_SECONDS)
            names, stat = listed.get(timeout=ANSWER_SECONDS)
            counted_stat = counted.get(timeout=ANSWER_SECONDS)
            return names, stat, counted_stat.numChildren if counted_stat else 0

        return self.read(ask)

    def commit(
        self,
        steps: Sequence[Step],
        head: Step = (),
        note: "Callable[[list[Write]], list[Write]] | None" = None,
    ) -> list[list[Any] | Exception]:
        """Carry out steps, each completely or not at all, and return of each its results, or why it was refused.

        Several go together; if one of them is refused, all of them are tried one by one.

        :param head: writes that every step begins with; ``HeadRefused`` is returned if one of these was refused
        :param note: makes what every transaction ends with, of what is written before
        """
        with self._saying_why():
            return _commit(self.ready(), steps, head, note)


def _commit(
    client: Any,
    steps: Sequence[Step],
    head: Step,
    note: "Callable[[list[Write]], list[Write]] | None",
) -> list[list[Any] | Exception]:
    """Carry out groups of steps, and where one is refused each of its steps by itself."""
    outcomes: list[list[Any] | Exception] = [[] for _ in steps]
    groups = list(_group(steps))
    singles: list[list[int]] = []
    answers = _commit_groups(client, steps, groups, head, note)
    for group, answer in zip(groups, answers, strict=True):
        if isinstance(answer, list):
            _share_out(answer, group, steps, outcomes)
            continue
        if len(group) > 1 and not isinstance(answer, HeadRefused):
            singles += [[number] for number in group]
        for number in group:
            outcomes[number] = answer
    answers = _commit_groups(client, steps, singles, head, note)
    for single, answer in zip(singles, answers, strict=True):
        if isinstance(answer, list):
            _share_out(answer, single, steps, outcomes)
        else:
            outcomes[single[0]] = answer
    return outcomes


def _share_out(
    answer: list[Any],
    group: list[int],
    steps: Sequence[Step],
    outcomes: list[list[Any] | Exception],
) -> None:
    """Give every step of a group its part of the results."""
    start = 0
    for number in group:
        end = start + len(steps[number])
        outcomes[number] = answer[start:end]
        start = end


def _commit_groups(
    client: Any,
    steps: Sequence[Step],
    groups: list[list[int]],
    head: Step,
    note: "Callable[[list[Write]], list[Write]] | None",
) -> list[list[Any] | Exception]:
    """Carry out transactions, and return of each the results for its steps, or why it was refused."""
    outcomes: list[list[Any] | Exception] = []
    for start in range(0, len(groups), PIPELINE):
        answers = []
        for group in groups[start : start + PIPELINE]:
            transaction = client.transaction()
            writes = [write for number in group for write in steps[number]]
            last = [] if note is None else note(writes)
            for write in (*head, *writes, *last):
                write.add_to(transaction)
            answers.append(transaction.commit_async())
        outcomes += [_outcome_of(answer, len(head)) for answer in answers]
    return outcomes


def _outcome_of(answer: Any, head_size: int) -> list[Any] | Exception:
    results: list[Any] = answer.get(timeout=ANSWER_SECONDS)
    for number, result in enumerate(results):
        if isinstance(result, Exception) and not isinstance(
            result, (RolledBackError, RuntimeInconsistency)
        ):
            return HeadRefused(result) if number < head_size else result
    return results[head_size:]


def _group(steps: Sequence[Step]) -> Iterable[list[int]]:
    """Return numbers of steps that go together."""
    group: list[int] = []
    size = writes = 0
    for number, step in enumerate(steps):
        step_size = sum(len(write.path) + len(write.data) + 100 for write in step)
        if group and (
            size + step_size > GROUP_BYTES or writes + len(step) > GROUP_WRITES
        ):
            yield group
            group, size, writes = [], 0, 0
        group.append(number)
        size += step_size
        writes += len(step)
    if group:
        yield group


def explain(exc: Exception, what: str, hosts: str) -> Exception:
    """Return an error of the same type that says what failed, where, and what to do."""
    if isinstance(exc, UNREACHABLE):
        reason = f"no server answers at {hosts}: check that it is running, and 'hosts'"
    elif isinstance(exc, (AuthFailedError, NoAuthError)):
        reason = f"the server at {hosts} refuses access: check 'auth_data' and the access rights of the path"
    else:
        reason = f"{type(exc).__name__} from the server at {hosts}: {exc}"
    return type(exc)(f"{what}: {reason}")


def is_unreachable(exc: BaseException) -> bool:
    """Return whether an error says that there was no answer."""
    return isinstance(exc, UNREACHABLE)
