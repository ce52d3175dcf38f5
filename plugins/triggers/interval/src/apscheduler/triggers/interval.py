"""A trigger that fires after equal spans of elapsed time."""

import logging
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

from tzlocal import get_localzone

from apscheduler.records import copier
from apscheduler.triggers.base import COPIERS, BaseTrigger
from apscheduler.util import (
    NO_TIME,
    astimezone,
    convert_to_datetime,
    datetime_repr,
    datetime_utc_add,
)

STATE_VERSION = 2

logger = logging.getLogger(__name__)


class IntervalTrigger(BaseTrigger):
    """Fires at ``start_date`` and after every interval from there on.

    The interval is elapsed time: with ``days=1`` the time of day moves when the clocks change. All arithmetic is done
    in whole microseconds.

    :param weeks: weeks to wait; like the others a number, fractions allowed; the sum must not be negative, and a sum
        of zero means one second
    :param start_date: first possible time (default: one interval from now)
    :param end_date: last possible time, inclusive
    :param timezone: zone of the results and of dates that have none (default: the zone of ``start_date``, of
        ``end_date``, or the local zone)
    :param jitter: delay each time by a random 0 to ``jitter`` seconds; the times it is added to stay where they are
    :raises ValueError: if the interval is negative
    :raises TypeError: if a part of the interval is not a number
    """

    __slots__ = (
        "_has_start",
        "_start_instant",
        "end_date",
        "interval",
        "interval_length",
        "jitter",
        "start_date",
        "timezone",
    )

    timezone: tzinfo
    start_date: datetime
    end_date: datetime | None
    interval: timedelta
    interval_length: float
    jitter: float | None
    _start_instant: datetime

    def __init__(
        self,
        weeks: float = 0,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        start_date: str | date | None = None,
        end_date: str | date | None = None,
        timezone: str | tzinfo | None = None,
        jitter: float | None = None,
    ) -> None:
        self.interval = _make_interval(
            weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds
        )
        # Not isinstance(): tests replace the name datetime in this module.
        zone = (
            astimezone(timezone)
            or astimezone(getattr(start_date, "tzinfo", None))
            or astimezone(getattr(end_date, "tzinfo", None))
            or get_localzone()
        )
        self.timezone = zone
        self._has_start = start_date is not None
        if start_date is None:
            self.start_date = datetime_utc_add(datetime.now(zone), self.interval)
        else:
            self.start_date = convert_to_datetime(start_date, zone, "start_date")
        self.end_date = convert_to_datetime(end_date, zone, "end_date")
        self.jitter = jitter
        self._prepare()
        if self.end_date and self.end_date < self._start_instant:
            logger.warning(
                "%r will never fire: its end_date is before its start_date", self
            )

    def _prepare(self) -> None:
        """Derive what the calculations need from the attributes."""
        self.interval_length = self.interval.total_seconds()
        try:
            self._start_instant = self.start_date.astimezone(UTC)
        except OverflowError:  # in the last hours of the year 9999
            self._start_instant = datetime.max.replace(tzinfo=UTC)

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        """Return the time one interval after the previous one, or the first time from ``now`` on."""
        try:
            if previous_fire_time is None:
                return self._finish(self._get_first(now), now)
            if self.jitter:
                return self._finish(self._get_next_on_grid(previous_fire_time), now)
            following = datetime_utc_add(previous_fire_time, self.interval)
            # As instants: of two times in one zone, Python compares the wall clocks.
            if self.end_date is not None and following.astimezone(UTC) > self.end_date:
                return None
            return following.astimezone(self.timezone)
        except OverflowError:  # beyond the year 9999
            return None

    def _get_first(self, now: datetime) -> datetime:
        start = self._start_instant
        if start > now:
            return start
        # Floor division of the negative distance rounds up: a time equal to now counts.
        return start - (start - now.astimezone(UTC)) // self.interval * self.interval

    def _get_next_on_grid(self, previous: datetime) -> datetime:
        """Return the first grid time after a delayed one; counting on from that one would let the grid drift."""
        return self._start_instant + (self._get_index(previous) + 1) * self.interval

    def _get_index(self, time: datetime) -> int:
        """Return the number of the last grid time not later than this one, -1 before the first."""
        distance = time.astimezone(UTC) - self._start_instant
        return max(distance // self.interval, -1)

    def _finish(self, following: datetime, now: datetime) -> datetime | None:
        """Return the grid time, given in UTC, delayed and in our zone; None after the end."""
        end = self.end_date
        if end is not None and following > end:
            return None
        result = following.astimezone(self.timezone)
        if not self.jitter:
            return result
        delayed = self._apply_jitter(result, self.jitter, now)
        if end is not None and delayed and delayed.astimezone(UTC) > end:
            return end.astimezone(self.timezone)
        return delayed

    def get_last_fire_time(self, first: datetime, now: datetime) -> datetime:
        """Return the last fire time not later than ``now``; with jitter, without its delay."""
        end = self._cut(now)
        start = self._start_instant if self.jitter else first.astimezone(UTC)
        steps = (end - start) // self.interval
        last = start + steps * self.interval if steps > 0 else start
        return last.astimezone(self.timezone) if last > first.astimezone(UTC) else first

    def count_fire_times(self, first: datetime, last: datetime) -> int:
        """Return the number of fire times; with jitter, of the times it is added to."""
        end = self._cut(last)
        if self.jitter:
            count = self._get_index(end) - self._get_index(first) + 1
        else:
            count = (end - first.astimezone(UTC)) // self.interval + 1
        return max(count, 1)

    def _cut(self, time: datetime) -> datetime:
        """Return the earlier of this time and the end, in UTC."""
        time = time.astimezone(UTC)
        if self.end_date is not None and self.end_date < time:
            return self.end_date.astimezone(UTC)
        return time

    def explain(self) -> str:
        parts = [
            f"every {self.interval}",
            f"counted from {datetime_repr(self.start_date)}",
        ]
        if self.end_date is not None:
            parts.append(f"until {datetime_repr(self.end_date)}")
        if self.jitter:
            parts.append(f"delayed by up to {self.jitter:g} seconds")
        return ", ".join(parts)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "version": STATE_VERSION,
            "timezone": astimezone(self.timezone),
            "start_date": self.start_date,
            "end_date": self.end_date,
            "interval": self.interval,
            "jitter": self.jitter,
        }

    def __setstate__(self, state: dict[str, Any] | tuple[Any, dict[str, Any]]) -> None:
        if isinstance(state, tuple):  # how the oldest releases pickled it
            state = state[1]
        version = state.get("version", 1)
        if version > STATE_VERSION:
            raise ValueError(
                f"Cannot restore an interval trigger of version {version!r}: this release reads versions up to "
                f"{STATE_VERSION}; update apscheduler-trigger-interval"
            )
        if state["interval"] <= NO_TIME:
            raise ValueError(
                f"Cannot restore an interval trigger with the interval {state['interval']!r}: it must be positive"
            )
        self.timezone = astimezone(state["timezone"])
        self.start_date = state["start_date"]
        self.end_date = state["end_date"]
        self.interval = state["interval"]
        self.jitter = state.get("jitter")
        self._has_start = True
        self._prepare()

    def __str__(self) -> str:
        return f"interval[{self.interval}]"

    def __repr__(self) -> str:
        options = [
            f"interval={self.interval!r}",
            f"start_date={datetime_repr(self.start_date)!r}",
        ]
        if self.end_date:
            options.append(f"end_date={datetime_repr(self.end_date)!r}")
        if self.jitter:
            options.append(f"jitter={self.jitter}")
        options.append(f"timezone={str(self.timezone)!r}")
        return f"<IntervalTrigger ({', '.join(options)})>"


COPIERS[IntervalTrigger] = copier(IntervalTrigger)


def _make_interval(**parts: float) -> timedelta:
    for name, value in parts.items():
        if not isinstance(value, (int, float)):
            raise TypeError(f"{name} must be a number, not {value!r}")
    try:
        interval = timedelta(**parts)
    except (OverflowError, ValueError) as exc:
        raise ValueError(f"{parts!r} is not a possible interval: {exc}") from exc
    if interval < NO_TIME:
        raise ValueError(
            f"The interval must not be negative, but is {interval.total_seconds()} seconds: {parts!r}"
        )
    return interval or timedelta(seconds=1)
