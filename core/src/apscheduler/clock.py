"""The one place where time is read; a controllable clock takes its place in tests."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

NO_OFFSET = timedelta(0)


class Clock:
    """The system's clock. Waiting is measured by monotonic time, not by this."""

    def now(self) -> datetime:
        """Return the current time, in UTC."""
        return datetime.now(UTC)

    def offset(self) -> timedelta:
        """Return what has to be added to the system clock to get the time of this one."""
        return NO_OFFSET

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have ``callback`` called whenever this clock is set, and return a function that ends that.

        The system clock does not say when it is set: schedulers look for themselves, every few seconds.
        """
        return lambda: None


class CallableClock(Clock):
    """A clock that reads the time from a function."""

    def __init__(self, read: Callable[[], datetime]):
        self._read = read

    def now(self) -> datetime:
        # Whatever the zone: within one that changes its clocks, Python compares times wrongly once a year.
        return self._read().astimezone(UTC)
