"""The nodes of a cluster, seen from the process that kills them."""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

from apscheduler.runs import Run, RunState
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.testing.cluster.jobs import CHANGED, EXACT, FAR, KEEP, MANUAL, names
from apscheduler.testing.cluster.ledger import Ledger
from apscheduler.testing.cluster.node import QUIET, Settings
from apscheduler.testing.cluster.nurseries import Nurseries
from apscheduler.testing.cluster.work import WORK
from apscheduler.triggers.base import BaseTrigger

#: How long everything may take that ends by itself.
PATIENCE = 90.0

OPEN = (RunState.READY, RunState.RUNNING)


@dataclass(eq=False)
class Member:
    """A node: its process, and what has been done to it."""

    pid: int
    is_frozen: bool = False

    @property
    def is_alive(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True


class Cluster:
    """Schedulers on one store, the jobs that they run, and the ledger of what happened.

    :param store: the configuration of the store, which every process can use
    :param nurseries: where nodes are born
    :ivar client: a scheduler that runs nothing
    :ivar expected: job → the fire times that it has had, where these are known
    """

    def __init__(
        self,
        store: dict[str, Any],
        directory: Path,
        seed: int,
        nurseries: Nurseries,
        *,
        scale: int = 1,
        workers: int = 4,
        mischief: float = 10.0,
    ):
        self.store, self.directory, self.seed, self.scale = (
            store,
            directory,
            seed,
            scale,
        )
        self.random = random.Random(seed)
        self.ledger = Ledger(directory / "ledger")
        self.members: list[Member] = []
        self.kills = self.pauses = 0
        self._nurseries, self._workers, self._mischief = nurseries, workers, mischief
        self.client = BackgroundScheduler(
            timezone="UTC", jobstores={"default": store}, start_retry=30
        )
        self.client.start(paused=True)
        self.limits: dict[str, int] = {}
        self.expected: dict[str, list[float]] = {}
        self._first: dict[str, float] = {}
        self._begun = self.client._now()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for member in self.members:
            with suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGKILL)
        self.client.shutdown()
        self.ledger.close()

    def add_jobs(self) -> None:
        """Add the jobs of all kinds."""
        self._begun = self.client._now() + timedelta(seconds=0.5)
        for kind in (*EXACT, CHANGED):
            for job_id in names(kind, self.scale):
                job = self.client.add_job(id=job_id, **kind.arguments(self._begun))
                self.limits[job_id] = job.max_instances
                self._first[job_id] = job.next_run_time.timestamp()
        self.client.add_job(
            WORK, "date", run_date=FAR, id=MANUAL, max_instances=99, **KEEP
        )

    def finish_jobs(self) -> None:
        """Remove the jobs, and note which fire times each has had: all before that which was next in the end."""
        wait_until(self._is_answered, "the store does not answer", every=0.1)
        store: Any = self.client._lookup_jobstore("default")
        for kind in EXACT:
            for job_id in names(kind, self.scale):
                while not store.discard_job(stored := store.read_job(job_id)):
                    pass  # it has just been moved on
                last = stored.job.next_run_time
                times = walk(kind.trigger(self._begun), last)
                first = self._first[job_id]
                self.expected[job_id] = [time for time in times if time >= first]
        for job_id in names(CHANGED, self.scale):
            self.client.remove_job(job_id)

    def start_node(
        self,
        *,
        minutes: int = 0,
        host: str | None = None,
        store: dict[str, Any] | None = None,
        mischief: float | None = None,
    ) -> Member:
        """Start a node, on a machine whose clock is ahead by so many minutes, and which may have a way of its own to the store."""
        settings = Settings(
            *(store or self.store, str(self.ledger.path), self.random.getrandbits(32)),
            host=host,
            workers=self._workers,
            mischief=self._mischief if mischief is None else mischief,
            scale=self.scale,
        )
        member = Member(self._nurseries.bear(minutes, settings))
        self.members.append(member)
        return member

    def kill(self, member: Member) -> None:
        """End a node as a crash would."""
        assert member.is_alive, f"a node has ended by itself:\n{self.log()}"
        self.members.remove(member)
        os.kill(member.pid, signal.SIGKILL)
        wait_until(lambda: not member.is_alive, "a killed process is still there")
        self.ledger.write("killed", victim=member.pid)
        self.kills += 1

    def freeze(self, member: Member) -> None:
        """Stop a node, which knows nothing of it."""
        assert member.is_alive, f"a node has ended by itself:\n{self.log()}"
        self.ledger.write("frozen", victim=member.pid)
        os.kill(member.pid, signal.SIGSTOP)
        member.is_frozen = True
        self.pauses += 1

    def thaw(self, member: Member) -> None:
        os.kill(member.pid, signal.SIGCONT)
        member.is_frozen = False
        self.ledger.write("thawed", victim=member.pid)

    def end(self, member: Member) -> None:
        """End a node in an orderly way."""
        assert member.is_alive, f"a node has ended by itself:\n{self.log()}"
        os.kill(member.pid, signal.SIGTERM)
        wait_until(lambda: not member.is_alive, "a node does not shut down")
        self.members.remove(member)
        ended = [e for e in self.ledger.read() if e["what"] == "ended"]
        assert any(entry["pid"] == member.pid for entry in ended), self.log()

    def settle(self) -> None:
        """Wait until the nodes have run everything, and end them."""
        (self.directory / QUIET).touch()
        wait_until(self._is_quiet, "a node does not listen", every=0.1)
        wait_until(self._is_over, self._tell_what_is_left, every=0.1)
        for member in list(self.members):
            self.end(member)
        wait_until(self._is_over, "a run was left behind", every=0.1)

    def wait_for_work(self, amount: int) -> None:
        """Wait until so many bytes more are in the ledger."""
        size = self.ledger.size() + amount
        wait_until(lambda: self.ledger.size() >= size, "nobody works")

    def runs(self) -> list[Run]:
        return self.client.get_runs(limit=1_000_000)

    def log(self) -> str:
        """Return the last of what the nodes have complained of."""
        return "".join(
            path.read_text()[-5000:] for path in self.directory.glob("*.log")
        )

    def _is_answered(self) -> bool:
        try:
            self.client.get_jobs()
        except (
            Exception
        ):  # clients look for a server that has been away at times of their own
            return False
        return True

    def _is_quiet(self) -> bool:
        quiet = {e["pid"] for e in self.ledger.read() if e["what"] == "quiet"}
        return {member.pid for member in self.members} <= quiet

    def _is_over(self) -> bool:
        jobs = {job.id for job in self.client.get_jobs()} - {MANUAL}
        return not jobs and not self.client.get_runs(states=OPEN, limit=1)

    def _tell_what_is_left(self) -> str:
        store = self.client._native_store("default")
        jobs = [f"{job.id} at {job.next_run_time}" for job in self.client.get_jobs()]
        lines = ["there is something left to do"]
        lines += ["jobs:", *jobs, "runs:"]
        lines += map(str, self.client.get_runs(states=OPEN, limit=20))
        lines += ["schedulers:", *map(str, store.read_leases())]
        lines += [f"members: {[member.pid for member in self.members]}", self.log()]
        return "\n".join(lines)


def walk(trigger: BaseTrigger, end: datetime) -> list[float]:
    """Return all fire times of a trigger before a time."""
    times: list[float] = []
    time = trigger.get_next_fire_time(None, trigger.start_date)  # type: ignore[attr-defined]  # these have one
    while time is not None and time < end:
        times.append(time.timestamp())
        time = trigger.get_next_fire_time(time, time)
    return times


def wait_until(
    condition: Callable[[], bool],
    complaint: str | Callable[[], str],
    every: float = 0.005,
) -> None:
    """Wait for something that a process of its own brings about.

    :raises TimeoutError: with the complaint, if it does not come
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            what = complaint if isinstance(complaint, str) else complaint()
            raise TimeoutError(f"After {PATIENCE:g} seconds {what}")
        time.sleep(every)
