"""The one place where time is read; a controllable clock takes its place in tests."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

NO_OFFSET = timedelta(0)

# Time that passes while the machine is suspended counts, where the system tells.
_BOOT_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def monotonic() -> float:
    """Return the seconds since some time in the past, which do not change when the clock is set."""
    if _BOOT_CLOCK is None:
        return time.monotonic()
    return time.clock_gettime(_BOOT_CLOCK)


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
