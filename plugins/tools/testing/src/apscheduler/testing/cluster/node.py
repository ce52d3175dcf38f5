"""One node: a real scheduler with a thread pool, and a main thread that adds, changes and removes jobs."""

import logging
import random
import signal
import threading
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from apscheduler.events import EVENT_JOB_LOST
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.testing.cluster import work
from apscheduler.testing.cluster.jobs import CHANGED, MANUAL, names
from apscheduler.testing.cluster.ledger import Ledger

#: A file beside the ledger that tells nodes to leave jobs alone from here on.
QUIET = "quiet"


@dataclass(frozen=True)
class Settings:
    """What a node is told when it is born.

    :ivar store: the configuration of the job store
    :ivar host: the machine it pretends to be on; None: the one that it is on
    :ivar mischief: what it does per second, beside running jobs
    """

    store: dict[str, Any]
    ledger: str
    seed: int
    host: str | None = None
    workers: int = 4
    mischief: float = 10.0
    scale: int = 1

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Node:
    """Lives until it is killed, or told to end by SIGTERM."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.ledger = work.ledger = Ledger(Path(settings.ledger))
        self.random = random.Random(settings.seed)
        self.number = 0
        self.mine: list[str] = []
        self.stop = threading.Event()
        if settings.host is not None:
            pretend_to_be_on(settings.host)
        workers = {"type": "threadpool", "max_workers": settings.workers}
        self.scheduler = BackgroundScheduler(
            timezone="UTC",
            jobstores={"default": settings.store},
            executors={"default": workers},
            jobstore_retry_interval=0.3,
            start_retry=60,
        )

    def live(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: self.stop.set())
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the tests
        self.scheduler.add_listener(self._note_lost, EVENT_JOB_LOST)
        self.scheduler.start()
        identity = self.scheduler._engine.identity
        self.ledger.write("born", node=identity.node.id, host=identity.node.host)
        busy = self.settings.mischief > 0
        while busy and not self.stop.wait(self._pause()) and not self._is_quiet():
            self._act()
        self.ledger.write("quiet")
        self.stop.wait()
        self.scheduler.shutdown()
        self.ledger.write("ended")

    def _note_lost(self, event: Any) -> None:
        self.ledger.write("lost", run=event.run_id, job=event.job_id)

    def _is_quiet(self) -> bool:
        """Return whether nodes are to do no more than run what is there."""
        return self.ledger.path.with_name(QUIET).exists()

    def _pause(self) -> float:
        return self.random.uniform(0, 2 / self.settings.mischief)

    def _act(self) -> None:
        """Do one thing; what a store says that is not there just now is no fault of the node."""
        actions = [self._add, self._add, self._remove, self._modify, self._run_now]
        action = self.random.choice([*actions, self._change])
        try:
            action()
        except JobLookupError:
            pass
        except Exception as exc:
            self.ledger.write("refused", action=action.__name__, reason=repr(exc))

    def _add(self) -> None:
        self.number += 1
        job_id = f"once-{self.settings.seed}-{self.number}"
        delay = timedelta(seconds=self.random.choice([0, 0.05, 0.3, 1]))
        due = self.scheduler._now() + delay
        self.ledger.write("adding", job=job_id)
        self.scheduler.add_job(work.WORK, "date", run_date=due, id=job_id)
        self.ledger.write("added", job=job_id)
        self.mine.append(job_id)

    def _remove(self) -> None:
        """Remove a job that may be about to run."""
        if not self.mine:
            return
        job_id = self.mine.pop()
        self.ledger.write("removing", job=job_id)
        self.scheduler.remove_job(job_id)
        self.ledger.write("removed", job=job_id)

    def _modify(self) -> None:
        """Change something that is not to touch the schedule."""
        name = f"renamed {self.random.random()}"
        self.scheduler.modify_job(self.random.choice(["steady-0", "cron-0"]), name=name)

    def _change(self) -> None:
        job_id = self.random.choice(names(CHANGED, self.settings.scale))
        what = self.random.choice(["pause", "resume", "reschedule"])
        if what == "reschedule":
            every = self.random.choice([0.2, 0.5])
            self.scheduler.reschedule_job(job_id, trigger="interval", seconds=every)
        else:
            getattr(self.scheduler, f"{what}_job")(job_id)

    def _run_now(self) -> None:
        run = self.scheduler.run_job(MANUAL)
        self.ledger.write("ordered", run=run.id)


def pretend_to_be_on(host: str) -> None:
    """Let others not look for the process of this node, so that only its lease tells whether it lives."""
    import apscheduler.nodes

    apscheduler.nodes._host = lambda: host


def run_node(settings: Settings) -> None:
    log = Path(settings.ledger).with_name(f"node-{settings.seed}.log")
    logging.basicConfig(level=logging.WARNING, filename=log)
    logging.getLogger("apscheduler.executors").setLevel(logging.CRITICAL)
    Node(settings).live()
