"""The ledger of a job: its open runs, and those that have ended lately. Older ones are in archives beside it.

It is one node, so that its version tells whether a claim was made, or ended, since it was read. It outlives its job
for a while, and every removal of the job writes it: a job that was removed and added again has the versions of the
old one, but not its ledger.
"""

import base64
import json
import random
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from apscheduler.job import Job
from apscheduler.jobstores.contract import Claim
from apscheduler.jobstores.history import (
    decode_run,
    encode_outcome,
    encode_run,
    encode_started,
    end_or_retry,
    is_owner,
)
from apscheduler.runs import Completion, Run, RunState

Document = dict[str, Any]

# So many runs that have ended are kept in the ledger itself, and then go to an archive together.
ARCHIVE_SIZE = 40
RUNNING, READY = RunState.RUNNING.value, RunState.READY.value
# What is kept with an open run and not with one that has ended.
EXTRA = ("copy", "max_attempts")


@dataclass(slots=True)
class Archive:
    """What a ledger knows of an archive.

    :ivar number: what it is named by
    :ivar first: the earliest scheduled time in it
    :ivar last: the latest
    :ivar oldest: the earliest end
    """

    number: int
    count: int
    first: float
    last: float
    oldest: float

    @classmethod
    def of(cls, number: int, ended: list[Document]) -> "Archive":
        """Describe an archive that holds these runs."""
        times = [each["scheduled_time"] for each in ended]
        oldest = min(each["finished_at"] for each in ended)
        return cls(number, len(ended), min(times), max(times), oldest)


@dataclass(slots=True)
class Ledger:
    """What is recorded of the runs of one job.

    :ivar open: running and ready runs
    :ivar ended: runs that have ended and are in no archive, the latest last
    :ivar archives: the oldest first
    :ivar history: how many finished runs the job wants to be kept, None for what is usual
    """

    open: list[Document] = field(default_factory=list)
    ended: list[Document] = field(default_factory=list)
    archives: list[Archive] = field(default_factory=list)
    history: int | None = None

    @classmethod
    def parse(cls, data: bytes) -> "Ledger":
        """Return the ledger that was written so; an empty one for no data."""
        if not data:
            return cls()
        document = json.loads(data)
        archives = [Archive(*each) for each in document["archives"]]
        return cls(
            document["open"], document["ended"], archives, document.get("history")
        )

    def dump(self) -> bytes:
        """Return what to write of the ledger."""
        if self.is_empty:
            return b""
        archives = [
            (each.number, each.count, each.first, each.last, each.oldest)
            for each in self.archives
        ]
        document: Document = {
            "open": self.open,
            "ended": self.ended,
            "archives": archives,
        }
        if self.history is not None:
            document["history"] = self.history
        return json.dumps(document, separators=(",", ":")).encode()

    def copy(self) -> "Ledger":
        """Return one that can be changed; its runs are replaced, not changed."""
        return Ledger([*self.open], [*self.ended], [*self.archives], self.history)

    @property
    def is_empty(self) -> bool:
        return not (self.open or self.ended or self.archives)

    @property
    def open_claims(self) -> int:
        """How many claims have runs that are going on."""
        return len({each["claim_id"] for each in self.open if each["state"] == RUNNING})

    @property
    def ready(self) -> list[Document]:
        return [each for each in self.open if each["state"] == READY]

    def owners(self) -> set[str]:
        """Return the nodes that own running runs."""
        return {each["node"] for each in self.open if each["state"] == RUNNING}

    def copies(self) -> Iterator[tuple[str, bytes]]:
        """Return the open runs that a copy of the job is kept with, and the copies."""
        for each in self.open:
            if "copy" in each:
                yield each["id"], base64.b64decode(each["copy"])

    # Changes.

    def replace_copy(self, run_id: str, old: bytes, new: bytes) -> bool:
        """Put another copy in the place of that of a run, if it is still the old one; return whether it was."""
        if (run_id, old) not in self.copies():
            return False
        self.open = [
            each | {"copy": encode_copy(new)} if each["id"] == run_id else each
            for each in self.open
        ]
        return True

    def start(self, claim: Claim, node: str, idle: Iterable[Run], data: bytes) -> None:
        """Record what a claim of a due job starts, and the fire times that do not run.

        :param data: the copy to start a lost run again from
        """
        job = claim.job
        extra: Document = {}
        if job.on_lost == "retry":
            extra = {"max_attempts": job.max_attempts, "copy": encode_copy(data)}
        if claim.run_times:
            self.open += [each | extra for each in encode_started(claim, node)]
        if job.history is not None:
            self.history = job.history
        self.end(encode_run(run) for run in idle)

    def start_ready(self, runs: Iterable[Run]) -> None:
        """Record that ready runs are running."""
        started = {run.id: run for run in runs}
        for index, each in enumerate(self.open):
            if each["id"] in started:
                kept = {name: each[name] for name in EXTRA if name in each}
                if "max_attempts" not in kept:
                    kept = {}  # it is not started again: its copy has done its work
                self.open[index] = encode_run(started[each["id"]]) | kept

    def add_ready(self, job: Job, run: Run, data: bytes) -> None:
        """Record a run that waits.

        :param data: the copy of the job to start it from
        """
        self.open.append(encode_run(run) | _kept_of(job, data))
        if job.history is not None:
            self.history = job.history

    def hand_back(self, claim: Claim, data: bytes) -> bool:
        """Make the runs of a claim ready, if they are still its own; return whether any are."""
        times = claim.run_times
        available_at = times[0].timestamp()
        changed = False
        for index, each in enumerate(self.open):
            if (each["state"], each["attempt"], each.get("claim_id")) == (
                *(RUNNING, times.attempt),
                times.claim_id,
            ) and each["id"] in times.run_ids:
                ready = each | {"state": READY, "available_at": available_at}
                del ready["node"]
                self.open[index] = ready | _kept_of(claim.job, data)
                changed = True
        return changed

    def complete(self, completion: Completion) -> bool:
        """Record how a run ended, if who says so is its owner; return whether it is."""
        for index, each in enumerate(self.open):
            if each["id"] == completion.run_id:
                if each["state"] != RUNNING or not is_owner(each, completion):
                    return False
                del self.open[index]
                if completion.keep:
                    self.end([each | encode_outcome(completion)])
                return True
        return False

    def take(self, dead: Iterable[str], now: datetime, alias: str | None) -> list[Run]:
        """Make the running runs of dead nodes ready or lost, and return them."""
        taken = []
        kept: list[Document] = []
        for each in self.open:
            if each["state"] != RUNNING or each["node"] not in dead:
                kept.append(each)
                continue
            run = decode_run(each, alias)
            extra = {name: each[name] for name in EXTRA if name in each}
            if end_or_retry(run, each.get("max_attempts"), now):
                kept.append(encode_run(run) | extra)
            else:
                self.end([encode_run(run)])
            taken.append(run)
        self.open = kept
        return taken

    def end(self, documents: Iterable[Document]) -> None:
        """Keep runs that have ended."""
        for each in documents:
            self.ended.append({name: each[name] for name in each if name not in EXTRA})

    def pack(self) -> tuple[Archive, bytes] | None:
        """Take out what is to become an archive, if there is enough; return its description and contents."""
        if len(self.ended) < ARCHIVE_SIZE:
            return None
        number = random.getrandbits(48)  # one may be left from a ledger that is gone
        archive = Archive.of(number, self.ended)
        data = dump_archive(self.ended)
        self.archives.append(archive)
        self.ended = []
        return archive, data


def dump_archive(ended: list[Document]) -> bytes:
    """Return what to write of runs that have ended."""
    return zlib.compress(json.dumps(ended, separators=(",", ":")).encode())


def parse_archive(data: bytes) -> list[Document]:
    """Return the runs of an archive."""
    found: list[Document] = json.loads(zlib.decompress(data))
    return found


def encode_copy(data: bytes) -> str:
    """Return bytes as text for JSON."""
    return base64.b64encode(data).decode()


def ready_runs(ledger: Ledger, alias: str | None) -> Iterator[tuple[Run, bytes]]:
    """Return the ready runs of a ledger, each with the copy of its job."""
    for each in ledger.ready:
        yield decode_run(each, alias), base64.b64decode(each["copy"])


def _kept_of(job: Job, data: bytes) -> Document:
    kept: Document = {"copy": encode_copy(data)}
    if job.on_lost == "retry":
        kept["max_attempts"] = job.max_attempts
    return kept
