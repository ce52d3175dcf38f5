"""The lease of a node: proof to other schedulers that the owner of open runs is alive."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from apscheduler.clock import monotonic
from apscheduler.nodes import LEASE_SECONDS, RENEW_SECONDS, Node
from apscheduler.threads import Threads
from apscheduler.util import is_program_ending

if TYPE_CHECKING:
    from apscheduler.jobstores.contract import NativeJobStore

LEASE = timedelta(seconds=LEASE_SECONDS)
# A lease that lasts longer than this was recorded so lately that the next claim need not do it again.
AMPLE_SECONDS = LEASE_SECONDS - RENEW_SECONDS

# The term of what may not be started.
NEVER = -1


class Expiry(NamedTuple):
    """Until when a lease lasts: for the store, and on this machine's clock, which nobody sets."""

    at: datetime
    held_until: float

    def is_far(self, now: datetime) -> bool:
        """Return whether the lease lasts so long, whichever clock one looks at, that it need not be renewed."""
        return (
            self.held_until - monotonic() > AMPLE_SECONDS
            and (self.at - now).total_seconds() > AMPLE_SECONDS
        )


ENDED = Expiry(datetime.min.replace(tzinfo=UTC), float("-inf"))


class LeaseKeeper:
    """Renews the lease of one node in one store while it owns runs."""

    def __init__(
        self,
        store: "NativeJobStore",
        node: Node,
        now: Callable[[], datetime],
        owns_runs: Callable[[], bool],
        logger: logging.Logger,
        threads: Threads,
    ):
        self._store = store
        self._node = node
        self._now = now
        self._owns_runs = owns_runs
        self._logger = logger
        self._held = ENDED
        self._has_told = False
        # Goes up whenever the lease had been over: the runs of an earlier term may have been taken over meanwhile.
        self.term = 0
        self._threads = threads
        self._thread: Any = None
        self._stop = threads.create_event()
        self._lock = threads.create_lock()

    def next_expiry(self) -> Expiry:
        """Return until when a lease granted now would last."""
        return Expiry(self._now() + LEASE, monotonic() + LEASE_SECONDS)

    def next_claim(self) -> tuple[Expiry, bool]:
        """Return until when a claim that is made now can rely on the lease, and whether it has to record that."""
        held = self._held
        if held.is_far(self._now()):
            return held, False
        return self.next_expiry(), True

    def granted(self, expiry: Expiry) -> int:
        """Take note that a claim has recorded the lease, or relied on it, and keep it up from here on.

        :return: the term in which what was claimed may be started
        """
        with self._lock:
            if monotonic() >= expiry.held_until:  # the answer came too late
                return NEVER
            self._extend(expiry)
            if self._thread is None:
                self._stop.clear()
                try:
                    thread = self._threads.start(self._keep, "APScheduler lease")
                except RuntimeError as exc:
                    # The system has no more threads to give; or the program ends, and hands back what it has claimed.
                    self._logger.log(
                        logging.DEBUG if is_program_ending() else logging.ERROR,
                        "The lease in job store %r cannot be kept up, and is tried again with the next claim: %s",
                        self._store._alias,
                        exc,
                    )
                else:
                    self._thread = thread
            return self.term

    def _extend(self, expiry: Expiry) -> None:
        """Take note until when the lease is good; an answer that came after its end begins a new term."""
        if self._thread is not None:
            self._tell_if_over()
        if self._is_over():
            self.term += 1
        if expiry.held_until > self._held.held_until:
            self._held = expiry
        self._has_told &= self._is_over()

    def _is_over(self) -> bool:
        return monotonic() >= self._held.held_until

    def is_good(self, term: int) -> bool:
        """Return whether nobody can have taken this node for dead since the claim that was granted in this term."""
        return term == self.term and not self._is_over()

    def release(self) -> None:
        """End the lease; the node owns nothing any more."""
        self._stop.set()
        thread = self._thread
        if thread is not None:
            thread.join(RENEW_SECONDS)
        try:
            self._store.drop_lease(self._node)
        except Exception as exc:  # it runs out by itself
            self._logger.debug("The lease could not be dropped: %s", exc)

    def _tell_if_over(self) -> None:
        """Say once that the lease has ended while runs were going on: their outcomes may differ from what was logged."""
        if self._has_told or not self._is_over():
            return
        self._has_told = True
        self._logger.warning(
            "This scheduler was frozen, or cut off from job store %r, for longer than its lease of %.0f seconds: runs "
            "that were going on may have been taken over, and count as lost or run again, however they end here",
            self._store._alias,
            LEASE_SECONDS,
        )

    def _keep(self) -> None:
        while not self._stop.wait(RENEW_SECONDS):
            with self._lock:
                self._tell_if_over()
                if not self._owns_runs():
                    self._thread = None
                    return
            expiry = self.next_expiry()
            try:
                self._threads.call(self._store.renew_lease, self._node, expiry.at)
                with self._lock:
                    self._extend(expiry)
            except Exception as exc:
                self._logger.warning(
                    "Error renewing the lease in job store %r: %s",
                    self._store._alias,
                    exc,
                )
        with self._lock:
            self._thread = None
