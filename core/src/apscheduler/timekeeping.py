"""One time for all schedulers on a store: the system's clock, set right by that of the store's server."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakSet

from apscheduler.clock import NO_OFFSET, CallableClock, monotonic

if TYPE_CHECKING:
    from apscheduler.jobstores.contract import NativeJobStore

# Clocks that agree so well are left as they are: a correction would not be more exact.
TOLERANCE_SECONDS = 0.1
# How often they are compared.
COMPARE_SECONDS = 60.0
# A difference that is worth a warning.
REMARKABLE = timedelta(seconds=1)


class _Comparison(NamedTuple):
    """What was found when the clocks were compared last.

    :ivar at: when that was, by ``monotonic()``
    :ivar time: the time on the server's clock then, in seconds since 1970
    :ivar ahead: how far the system's clock was ahead of ``monotonic()``
    :ivar correction: what is added to the system's clock
    """

    at: float
    time: float
    ahead: float
    correction: timedelta


class ServerClock(CallableClock):
    """The system's clock, until it is told to follow that of a server.

    :param read: returns the system's time
    """

    def __init__(self, read: Callable[[], datetime]):
        super().__init__(read)
        self._server: NativeJobStore | None = None
        self._comparison: _Comparison | None = None
        self._reported = NO_OFFSET
        # Stores whose servers do not tell the time: they are not asked in every pass.
        self._silent: WeakSet[NativeJobStore] = WeakSet()

    def now(self) -> datetime:
        last, system = self._comparison, super().now()
        return system if last is None else self._correct(system, last)

    def offset(self) -> timedelta:
        last = self._comparison
        if last is None:
            return NO_OFFSET
        # From one look at the system's clock: time that passes between two would be part of it.
        system = super().now()
        return self._correct(system, last) - system

    def _correct(self, system: datetime, last: _Comparison) -> datetime:
        """Return the time, given that of the system."""
        if self._is_as_before(system, last):
            return system + last.correction
        # The system's clock was set. What the server's shows now is known nevertheless.
        return datetime.fromtimestamp(last.time + monotonic() - last.at, UTC)

    def follow(
        self, store: "NativeJobStore", alias: str, logger: logging.Logger
    ) -> bool:
        """Compare with the clock of a store's server, if it is time for that; the first store that has one counts.

        :return: whether they were compared
        :raises Exception: what the store raises if its server cannot be asked
        """
        last = self._comparison
        if store in self._silent or self._server not in (None, store):
            return False
        if (
            last is not None
            and monotonic() - last.at < COMPARE_SECONDS
            and self._is_as_before(super().now(), last)
        ):
            return False
        system, before = super().now(), monotonic()
        server_time = store.read_clock()
        if server_time is None:
            self._silent.add(store)
            return False
        self._server = store
        # The server has looked at its clock at some time in between.
        half = timedelta(seconds=(monotonic() - before) / 2)
        difference = server_time - (system + half)
        correction = NO_OFFSET if last is None else last.correction
        tolerance = max(timedelta(seconds=TOLERANCE_SECONDS), half)
        if abs(difference - correction) > tolerance:
            correction = NO_OFFSET if abs(difference) <= tolerance else difference
        self._comparison = _Comparison(
            before,
            (system + correction).timestamp(),
            system.timestamp() - before,
            correction,
        )
        self._report(correction, alias, logger)
        return True

    def stop_following(self, store: "NativeJobStore") -> None:
        """Follow this store no more, if it is the one that is followed."""
        self._silent.discard(store)
        if self._server is store:
            self._server, self._comparison, self._reported = None, None, NO_OFFSET

    @staticmethod
    def _is_as_before(system: datetime, last: _Comparison) -> bool:
        ahead = system.timestamp() - monotonic()
        return abs(ahead - last.ahead) <= TOLERANCE_SECONDS

    def _report(
        self, correction: timedelta, alias: str, logger: logging.Logger
    ) -> None:
        if abs(correction - self._reported) < REMARKABLE:
            return
        self._reported = correction
        seconds = correction.total_seconds()
        if abs(correction) < REMARKABLE:
            logger.info(
                "The clock of this machine agrees with that of the server of job store %r again",
                alias,
            )
        else:
            logger.warning(
                "The clock of this machine is %.1f seconds %s that of the server of job store %r, "
                "by which jobs are run: set it right",
                abs(seconds),
                "behind" if seconds > 0 else "ahead of",
                alias,
            )
