"""Outcomes of runs on their way to a store: written in batches, soon, and never lost while the process lives."""

import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from apscheduler.runs import Completion

if TYPE_CHECKING:
    from apscheduler.jobstores.contract import NativeJobStore

# How long outcomes are collected before they are written, and after how many they are written at once.
DELAY_SECONDS = 0.03
BATCH_SIZE = 500
# A store that failed is tried again after this time.
RETRY_SECONDS = 1.0
# For so long a program that ends tries it again, as while a server restarts, and so many runs it names in the end.
EXIT_SECONDS = 5.0
NAMED_RUNS = 10
# The writing thread goes when it has had nothing to do for so long.
LINGER_SECONDS = 2.0
# Who shuts down waits for it no longer than this.
END_SECONDS = 1.0


class CompletionBuffer:
    """Collects outcomes; a thread writes those that no claim has taken with it."""

    def __init__(
        self,
        store: "NativeJobStore",
        logger: logging.Logger,
        create_lock: Callable[[], Any] = threading.RLock,
    ):
        self._store = store
        self._create_lock = create_lock
        self._logger = logger
        self._pending: deque[Completion] = deque()
        self._changed = threading.Condition()
        # Held while outcomes are on their way: a claim that did not see them would count their runs as going on.
        self.writing = create_lock()
        self._urgent = False
        # When the first of those that wait came: a claim may have taken those before it.
        self._waiting_since = 0.0
        self._thread: threading.Thread | None = None
        self._lingers = True
        _buffers.add(self)

    def add(self, completion: Completion, urgent: bool = False) -> None:
        """Take an outcome.

        :param urgent: write it at once, because the job fires again soon
        """
        if not self._store.performs_io:
            # The next claim takes it; whoever looks at runs flushes before.
            self._pending.append(completion)
            return
        with self._changed:
            if not self._pending:
                self._waiting_since = time.monotonic()
            self._pending.append(completion)
            self._urgent |= urgent or len(self._pending) >= BATCH_SIZE
            if self._thread is None:
                self._lingers = True
                thread = threading.Thread(
                    target=self._write, name="APScheduler completions", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError as exc:
                    # There are no more threads, or the program ends: the next claim or the exit takes what is here.
                    self._logger.debug("No thread to record outcomes: %s", exc)
                else:
                    self._thread = thread
            elif self._urgent or len(self._pending) == 1:
                self._changed.notify_all()

    @property
    def has_pending(self) -> bool:
        """Whether there are outcomes that nobody has begun to write."""
        return bool(self._pending)

    def has_pending_of(self, job_id: str) -> bool:
        """Return whether there are such outcomes of runs of a job."""
        return any(each.job_id == job_id for each in self._pending.copy())

    def take(self) -> list[Completion]:
        """Return what is waiting, to be written by the caller, who holds ``writing``."""
        self._urgent = False
        taken = []
        pending = self._pending  # others append to it meanwhile
        while pending:
            taken.append(pending.popleft())
        return taken

    def give_back(self, completions: list[Completion]) -> None:
        """Take back what could not be written. Writing an outcome twice does no harm."""
        self._waiting_since = time.monotonic()
        self._pending.extendleft(reversed(completions))

    def flush(self) -> None:
        """Write what is waiting, now; on return nothing is under way.

        :raises Exception: whatever the store raises; the outcomes are kept
        """
        with self.writing:
            taken = self.take()
            if not taken:
                return
            try:
                self._store.complete(taken)
            except BaseException:
                self.give_back(taken)
                raise

    def end_thread(self) -> None:
        """Have the writing thread go as soon as it has nothing to do, and wait for that a moment."""
        with self._changed:
            self._lingers = False
            self._changed.notify_all()
            # Not join(), for which gevent invents a thread that stays.
            self._changed.wait_for(lambda: self._thread is None, END_SECONDS)

    def flush_at_exit(self, deadline: float) -> None:
        """Write what is waiting; until the deadline, in monotonic time, a store that fails is tried again."""
        while True:
            try:
                return self.flush()
            except Exception as exc:
                if time.monotonic() + RETRY_SECONDS > deadline:
                    ids = [each.run_id for each in self._pending]
                    self._logger.warning(
                        "The outcomes of %s runs could not be recorded in job store %r, and will be called lost: "
                        "%s%s: %s",
                        len(ids),
                        self._store._alias,
                        ", ".join(ids[:NAMED_RUNS]),
                        ", …" if len(ids) > NAMED_RUNS else "",
                        exc,
                    )
                    return
            time.sleep(RETRY_SECONDS)

    def leave_to_parent(self) -> None:
        """In a forked process: forget the outcomes, and the locks that threads hold which are not here."""
        self._pending = deque()
        self._changed = threading.Condition()
        self.writing = self._create_lock()
        self._urgent = False
        self._thread = None

    def _write(self) -> None:
        delay = DELAY_SECONDS

        def is_urgent() -> bool:
            return self._urgent and delay == DELAY_SECONDS

        while True:
            with self._changed:
                if not self._pending and self._lingers:
                    self._changed.wait(LINGER_SECONDS)
                if not self._pending:
                    self._thread = None
                    self._changed.notify_all()
                    return
                left = self._waiting_since + delay - time.monotonic()
                if left > 0 and not is_urgent():
                    self._changed.wait_for(is_urgent, left)
                    continue  # a claim may have taken them
            try:
                self.flush()
                delay = DELAY_SECONDS
            except Exception as exc:
                if delay != RETRY_SECONDS:
                    self._logger.warning(
                        "Error recording outcomes in job store %r, trying again: %s",
                        self._store._alias,
                        exc,
                    )
                delay = RETRY_SECONDS


_buffers: "weakref.WeakSet[CompletionBuffer]" = weakref.WeakSet()


def flush_all() -> None:
    """Write what is left when the interpreter exits, so that no run looks as if it had been lost."""
    deadline = time.monotonic() + EXIT_SECONDS
    for buffer in list(_buffers):
        buffer.flush_at_exit(deadline)


def _after_fork() -> None:
    for buffer in list(_buffers):
        buffer.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
