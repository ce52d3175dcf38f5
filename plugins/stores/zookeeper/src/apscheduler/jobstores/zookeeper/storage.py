"""Where everything is: the nodes of a store, their mirrors, and changes of ledgers that compare."""

import re
import struct
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from apscheduler.jobstores.zookeeper.changes import ChangeLog
from apscheduler.jobstores.zookeeper.connecting import (
    BadVersionError,
    Connection,
    HeadRefused,
    NodeExistsError,
    NoNodeError,
    Step,
    Write,
    explain,
)
from apscheduler.jobstores.zookeeper.ledgers import Ledger
from apscheduler.jobstores.zookeeper.mirror import Entry, Mirror
from apscheduler.serializers import PickleSerializer, Serializer

# What a write is refused with when somebody else was faster.
CONFLICTS = (BadVersionError, NodeExistsError, NoNodeError)
# Servers take less than a mebibyte at once.
MAX_LEDGER_BYTES = 1_000_000
# A change is tried anew when somebody else was faster; so often in a row is no coincidence.
MAX_TRIES = 100

# How a pickled record begins, in protocols from 2: header, frame, dictionary, its first key, and a number or None.
BEGIN = re.compile(
    rb"\x80.(?:\x95.{8})?\}(?:\x94|q.)\((?:\x8c\x0d|X\x0d\0\0\0)next_run_time(?:\x94|q.)(?:G(.{8})|N)",
    re.DOTALL,
)
DOUBLE = struct.Struct(">d")


class JobNode(NamedTuple):
    """What is known of the node of a job.

    :ivar timestamp: its run time in seconds since 1970; that of a node that cannot be read is long ago, so that it
        is tried again
    :ivar base: bytes with the same job in them, except for the run time: those that it was restored from before
    """

    timestamp: float | None
    base: bytes


JobEntry = Entry[JobNode]
LedgerEntry = Entry[Ledger]


class Storage:
    """The nodes below and beside a path.

    Children of the path are jobs, as APScheduler 3 has them. Their ledgers, archives and the leases of schedulers
    are below nodes whose names begin like that of the path.
    """

    def __init__(self, connection: Connection, path: str, serializer: Serializer):
        self.connection = connection
        self.serializer = serializer
        self.path = path
        self.history_path = f"{path}.history"
        self.nodes_path = f"{path}.nodes"
        self.log = ChangeLog(connection, f"{path}.changes", path)
        self.jobs: Mirror[JobNode] = Mirror(connection, path, self._parse_job)
        self.ledgers: Mirror[Ledger] = Mirror(
            connection, f"{path}.runs", self._parse_ledger
        )
        self._mirrors: tuple[Mirror[Any], Mirror[Any]] = (self.jobs, self.ledgers)
        self._catching_up = threading.Lock()
        # How many claims in a row have failed because others were faster.
        self.losses = 0
        # Schedulers whose lease this process has seen to be there.
        self.known_leases: set[str] = set()
        # What claims have written: identifier → its bytes, and what is known of them.
        self.written: dict[str, tuple[bytes, JobNode]] = {}
        # Ledgers that are being written: identifier → their bytes, and what these mean.
        self._dumped: dict[str, tuple[bytes, Ledger]] = {}

    def create(self) -> None:
        """Create the nodes that the others are below."""
        for path in (
            *(self.path, self.ledgers.path),
            *(self.history_path, self.nodes_path, self.log.path),
        ):
            self.connection.read(partial(_ensure, path=path))

    def refresh(self) -> tuple[dict[str, JobEntry], dict[str, LedgerEntry]]:
        """Return jobs and ledgers as they are now."""
        self._catch_up()
        # Ledgers first: a job that is replaced between the two has a ledger that is newer than the one read.
        ledgers = self.ledgers.refresh()
        return self._read_jobs(), ledgers

    def refresh_jobs(self) -> dict[str, JobEntry]:
        """Return the jobs as they are now."""
        self._catch_up()
        return self._read_jobs()

    def refresh_ledgers(self) -> dict[str, LedgerEntry]:
        """Return the ledgers as they are now."""
        self._catch_up()
        return self.ledgers.refresh()

    def _read_jobs(self) -> dict[str, JobEntry]:
        entries = self.jobs.refresh()
        if len(entries) == self.log.job_count:
            return entries
        # Some may be of other programs, APScheduler 3 among them, which leave no notes.
        self.jobs.reload(known=False)
        return self.jobs.refresh()

    def _catch_up(self) -> None:
        """Find out what others have changed."""
        with self._catching_up:
            try:
                changed = self.log.read()
            except NoNodeError:  # somebody has removed the path
                self.create()
                changed = self.log.read()
            try:
                for mirror, names in zip(
                    self._mirrors, changed or (None, None), strict=True
                ):
                    if names is None:
                        mirror.reload()
                    else:
                        mirror.mark(names)
            except BaseException:
                self.log.forget()
                raise

    def forget(self) -> None:
        """Forget what was read."""
        self.log.forget()
        for mirror in self._mirrors:
            mirror.forget()
        self.written.clear()
        self._dumped.clear()

    def commit(
        self, steps: Sequence[Step], head: Step = (), wakes: bool = False
    ) -> list[Exception | None]:
        """Carry out steps, each completely or not at all, and return of each why it was refused.

        :param head: what every step begins with
        :param wakes: whether others may have to do something sooner
        """
        if not steps:
            return []
        try:
            outcomes = self.connection.commit(steps, head, partial(self._note, wakes))
        except BaseException:  # what was carried out of it is not known
            for step in steps:
                self._mark(step)
            raise
        failures: list[Exception | None] = []
        for step, outcome in zip(steps, outcomes, strict=True):
            if isinstance(outcome, list):
                self._apply(step, outcome)
                failures.append(None)
            else:
                self._mark(step)
                failures.append(self._explain(outcome))
        self.log.tidy()
        return failures

    def _explain(self, failure: Exception) -> Exception:
        if isinstance(failure, (*CONFLICTS, HeadRefused)):
            return failure
        what = f"Cannot write to ZooKeeper below {self.path!r}"
        return explain(failure, what, self.connection.hosts)

    def _note(self, wakes: bool, writes: Sequence[Write]) -> list[Write]:
        names: list[list[str]] = [[], []]
        for write in writes:
            parent, _, name = write.path.rpartition("/")
            for mirror, those in zip(self._mirrors, names, strict=True):
                if mirror.path == parent and write.kind != "check":
                    those.append(name)
        return self.log.note(names, wakes)

    def _apply(self, step: Step, results: Sequence[Any]) -> None:
        for write, result in zip(step, results, strict=True):
            parent = write.path.rpartition("/")[0]
            for mirror in self._mirrors:
                if mirror.path == parent and write.kind != "check":
                    mirror.apply(write, result)

    def _mark(self, step: Step) -> None:
        for write in step:
            parent, _, name = write.path.rpartition("/")
            for mirror in self._mirrors:
                if mirror.path == parent:
                    mirror.mark([name])

    def archive_path(self, job_id: str, number: int) -> str:
        return f"{self.history_path}/{job_id}.{number}"

    def _parse_job(self, name: str, data: bytes, old: JobEntry | None) -> JobNode:
        written, node = self.written.pop(name, (None, None))
        if node is not None and written == data:
            return node
        return JobNode(self.read_time(data), data)

    def _parse_ledger(self, name: str, data: bytes, old: LedgerEntry | None) -> Ledger:
        dumped, ledger = self._dumped.pop(name, (b"", None))
        return ledger if ledger is not None and dumped is data else Ledger.parse(data)

    def read_time(self, data: bytes) -> float | None:
        """Return the run time in stored bytes, without loading what else is in them where that is possible."""
        if type(self.serializer) is PickleSerializer and (found := BEGIN.match(data)):
            return None if found[1] is None else float(DOUBLE.unpack(found[1])[0])
        try:
            timestamp = self.serializer.loads(data)["next_run_time"]
            return None if timestamp is None else float(timestamp)
        except Exception:  # said when it is restored
            return 0.0

    # Writing.

    def read_ledgers(self, job_ids: Sequence[str]) -> list[tuple[Ledger, int | None]]:
        """Return ledgers with their versions, an empty one without version where there is none.

        They are those that were read or written last, which need not be the newest.
        """
        known = [self.ledgers.get(job_id) for job_id in job_ids]
        unknown = [
            job_id for job_id, e in zip(job_ids, known, strict=True) if e is None
        ]
        paths = [self.ledgers.path_of(job_id) for job_id in unknown]
        answers = iter(self.connection.get_all(paths))
        found: list[tuple[Ledger, int | None]] = []
        for entry in known:
            if entry is not None:
                found.append((entry.value.copy(), entry.version))
                continue
            answer = next(answers)
            if answer is None:
                found.append((Ledger(), None))
            else:
                found.append((Ledger.parse(answer[0]), answer[1].version))
        return found

    def write_ledger(
        self, job_id: str, ledger: Ledger, version: int | None
    ) -> list[Write]:
        """Return what writes a ledger if it still has this version.

        :param version: None if there was none
        """
        writes = []
        if packed := ledger.pack():
            archive, data = packed
            path = self.archive_path(job_id, archive.number)
            writes.append(Write("create", path, data))
        path, data = self.ledgers.path_of(job_id), ledger.dump()
        if len(data) > MAX_LEDGER_BYTES:
            raise ValueError(
                f"The runs of job {job_id!r} that are open take {len(data)} bytes, but a node in ZooKeeper has room "
                f"for {MAX_LEDGER_BYTES}: give it smaller arguments, or let fewer of its runs wait"
            )
        self._dumped[job_id] = (data, ledger)
        if version is None:
            writes.append(Write("create", path, data))
        else:
            writes.append(Write("set_data", path, data, version))
        return writes

    def change_ledgers(
        self,
        changes: "Mapping[str, Callable[[Ledger], Any]]",
        others: "Callable[[str], Iterable[Write]]" = lambda job_id: (),
        head: Step = (),
        wakes: bool = False,
    ) -> dict[str, Any]:
        """Change ledgers, again where somebody else was faster, and return what the functions have returned.

        :param changes: identifier → what changes the ledger; it is not written if that returns something false
        :param others: what else to write in the same step as the ledger of a job
        :param head: what every step begins with; where it is refused, None is returned
        """
        results: dict[str, Any] = {}
        waiting = list(changes)
        for _ in range(MAX_TRIES):
            steps: list[list[Write]] = []
            changed: list[str] = []
            ledgers = self.read_ledgers(waiting)
            for job_id, (ledger, version) in zip(waiting, ledgers, strict=True):
                results[job_id] = changes[job_id](ledger)
                if results[job_id]:
                    changed.append(job_id)
                    writes = self.write_ledger(job_id, ledger, version)
                    steps.append([*others(job_id), *writes])
            failures = self.commit(steps, head, wakes)
            waiting, is_missing = [], False
            for job_id, failure in zip(changed, failures, strict=True):
                if isinstance(failure, HeadRefused):
                    results[job_id] = None
                elif isinstance(failure, CONFLICTS):
                    waiting.append(job_id)
                    is_missing |= isinstance(failure, NoNodeError)
                elif failure is not None:
                    raise failure
            if not waiting:
                return results
            if is_missing:  # perhaps somebody has removed what the nodes are below
                self.create()
        raise RuntimeError(
            f"The runs of {waiting[0]!r} were changed by others {MAX_TRIES} times in a row"
        )


def _ensure(client: Any, path: str) -> None:
    client.ensure_path(path)
