"""What happens in worker processes, and what they tell the process that started them."""

import logging
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from multiprocessing.context import BaseContext
from traceback import format_exception_only
from typing import TYPE_CHECKING, Any

from apscheduler.events import EVENT_JOB_ERROR, JobExecutionEvent
from apscheduler.executors.base import run_job
from apscheduler.hooked import load_installed

if TYPE_CHECKING:
    from apscheduler.job import Job

_numbers = count(1)

# An event without result and exception, these two pickled, and what to say when they cannot be unpickled.
Parcel = tuple[JobExecutionEvent, bytes, str]


class WorkerError(RuntimeError):
    """Something that happened in a worker process and could not be handed over as it was; carries the text of it."""


@dataclass
class Batch:
    """One submission to the workers: what to report it with, and what it takes to submit it again."""

    job: "Job"
    run_times: Sequence[datetime]
    call: bytes
    number: int = field(default_factory=lambda: next(_numbers))
    pool: Any = None
    starts: Any = None
    is_second_try: bool = False


class StartLog:
    """Which batches the workers of one pool have started.

    A worker writes the number of a batch to a pipe and then looks at a flag; it calls the function only if the flag
    is not set. This side sets the flag and then reads the pipe. However the two meet, no worker calls the function
    of a batch whose number was not in the pipe then. The number alone does not tell whether the function was really
    called, nor whether it has ended.
    """

    def __init__(self, context: BaseContext):
        self._reader, writer = context.Pipe(duplex=False)
        self._is_given_up = context.RawValue("b", 0)
        self.worker_end = (writer, self._is_given_up)
        self._started: set[int] = set()
        self._lock = threading.Lock()  # protects the two ends of the reading

    def forget(self, number: int) -> None:
        """Take note that this batch has ended; also keeps the pipe from filling up."""
        with self._lock:
            self._read()
            self._started.discard(number)

    def give_up(self, number: int) -> bool:
        """Keep the workers from starting anything more, and return whether they had started this batch."""
        self._is_given_up.value = 1
        with self._lock:
            self._read()
            return number in self._started

    def _read(self) -> None:
        while self._reader.poll():
            self._started.add(int.from_bytes(self._reader.recv_bytes()))


class _Worker:
    """This process, when it is a worker."""

    writer: Any = None
    is_given_up: Any = None
    is_orphan = False
    busy = threading.Lock()

    def enter(self, number: int) -> None:
        """Announce that a batch is started.

        :raises WorkerError: if it must not be, because it may be started elsewhere
        """
        if self.writer is None:  # not one of our pools: nobody asks
            return
        # Less than a pipe takes in one piece, so that several workers can share it.
        self.writer.send_bytes(number.to_bytes(8))
        if self.is_given_up.value or self.is_orphan:
            raise WorkerError("This worker process was given up by its pool")

    def watch_parent(self) -> None:
        """End this process when its parent has died, after the batch that is running now."""
        parent = multiprocessing.parent_process()
        if parent is None:
            return
        parent.join()
        self.is_orphan = True
        with self.busy:
            os._exit(1)


_worker = _Worker()


def start_worker(
    writer: Any,
    is_given_up: Any,
    initializer: Callable[..., None] | None,
    initargs: Sequence[Any],
) -> None:
    """Set up a worker process; ``initializer`` is the one that the user gave, if any."""
    _worker.writer = writer
    _worker.is_given_up = is_given_up
    load_installed()  # those that wrap the call of a job do it here
    threading.Thread(
        target=_worker.watch_parent, name="apscheduler-parent", daemon=True
    ).start()
    if initializer is not None:
        initializer(*initargs)


def run_in_worker(number: int, call: bytes) -> list[Parcel]:
    """Run a batch and return its events, in a form that is safe to send.

    :raises WorkerError: if the job could not be restored here
    """
    with _worker.busy:
        try:
            job, jobstore_alias, run_times, logger_name = pickle.loads(call)
        except BaseException as exc:  # imports the user's modules: may raise anything
            raise WorkerError(
                f"The job could not be restored in the worker process: {_describe(exc)}"
            ) from None
        _worker.enter(number)
        events = run_job(job, jobstore_alias, run_times, logger_name)
        return [_pack(event) for event in events]


def _pack(event: JobExecutionEvent) -> Parcel:
    """Pickle what came out of the job by itself.

    A pool that meets something that cannot be unpickled breaks, so it only gets to see bytes.
    """
    description = ""
    if event.exception is not None:
        description = _describe(event.exception)
    try:
        content = pickle.dumps((event.retval, event.exception))
    except Exception as exc:  # runs the user's code: may raise anything
        content = b""
        if event.exception is None:
            description = f"a {type(event.retval).__qualname__}: {_describe(exc)}"
    event.retval = event.exception = None
    return event, content, description


def unpack(parcels: list[Parcel]) -> list[JobExecutionEvent]:
    """Return the events with result and exception back in place, or with an error that says why they are not."""
    events = []
    for event, content, description in parcels:
        try:
            event.retval, event.exception = pickle.loads(content)
        except Exception as exc:  # runs the user's code: may raise anything
            _substitute(event, content, description, exc)
        events.append(event)
    return events


def _substitute(
    event: JobExecutionEvent, content: bytes, description: str, exc: BaseException
) -> None:
    if event.code == EVENT_JOB_ERROR:
        event.exception = WorkerError(description)
        return
    why = _describe(exc) if content else description
    event.code = EVENT_JOB_ERROR
    event.traceback = ""
    event.exception = WorkerError(
        "The job ended, but its result could not be sent back from the worker process; return something that can be "
        f"pickled, or nothing ({why})"
    )
    logging.getLogger("apscheduler.executors").error(
        "Job %s: %s", event.job_id, event.exception
    )


def _describe(exc: BaseException) -> str:
    return "".join(format_exception_only(exc)).strip()
