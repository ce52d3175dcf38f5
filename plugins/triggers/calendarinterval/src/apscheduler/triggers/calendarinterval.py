"""A trigger that fires after equal spans of the calendar, always at the same time of day."""

import logging
from calendar import isleap
from collections.abc import Iterator
from datetime import MAXYEAR, UTC, date, datetime, time, timedelta, tzinfo
from typing import Any

from tzlocal import get_localzone

from apscheduler.records import copier
from apscheduler.triggers.base import COPIERS, BaseTrigger
from apscheduler.util import (
    NO_TIME,
    asdate,
    astimezone,
    datetime_utc_add,
    timezone_repr,
)

STATE_VERSION = 1

ONE_DAY = timedelta(days=1)

# Months are counted from 0.
MONTH_LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
FEBRUARY = 1

logger = logging.getLogger(__name__)


class CalendarIntervalTrigger(BaseTrigger):
    """Fires on ``start_date`` and on every date reached by adding the interval, at a fixed time of day.

    Years and months are added first and keep the day of the month, repeatedly until the date exists; then weeks and
    days. A date on which the clocks skip the time of day is left out; of a repeated time of day the first is used.

    :param years: years to add; like ``months``, ``weeks`` and ``days`` a whole number, not negative
    :param hour: hour of the day; together with ``minute`` and ``second`` the time of day
    :param start_date: first date (default: today), a date or an ISO string
    :param end_date: last possible date, inclusive
    :param timezone: zone of the results (default: the local zone)
    :param jitter: delay each time by a random 0 to ``jitter`` seconds; the times it is added to stay where they are
    :raises ValueError: if the interval is zero or negative, the time of day is impossible, or ``end_date`` is before
        ``start_date``
    """

    __slots__ = (
        "_has_start",
        "_month_step",
        "_skips",
        "_time",
        "_week_step",
        "days",
        "end_date",
        "jitter",
        "months",
        "start_date",
        "timezone",
        "weeks",
        "years",
    )

    def __init__(
        self,
        *,
        years: int = 0,
        months: int = 0,
        weeks: int = 0,
        days: int = 0,
        hour: int = 0,
        minute: int = 0,
        second: int = 0,
        start_date: str | date | None = None,
        end_date: str | date | None = None,
        timezone: str | tzinfo | None = None,
        jitter: float | None = None,
    ) -> None:
        self._set_zone(astimezone(timezone) or get_localzone())
        self._set_interval(years, months, weeks, days)
        self._set_time(hour, minute, second)
        self._has_start = start_date is not None
        start = _read_date(start_date, "start_date", self.timezone)
        self.start_date: date = start or datetime.now(self.timezone).date()
        self.end_date: date | None = _read_date(end_date, "end_date", self.timezone)
        self.jitter: float | None = jitter
        if self.end_date and self.end_date < self.start_date:
            raise ValueError(
                f"end_date {self.end_date} must not be before start_date {self.start_date}"
            )
        if self._get_first() is None:
            logger.warning(
                "%r will never fire: there is no such time of day before its end", self
            )

    def starts_in_the_past(self) -> bool:
        return True

    def _set_interval(self, years: int, months: int, weeks: int, days: int) -> None:
        parts = {"years": years, "months": months, "weeks": weeks, "days": days}
        for name, value in parts.items():
            if not isinstance(value, int):
                raise TypeError(f"{name} must be a whole number, not {value!r}")
            if value < 0:
                raise ValueError(f"{name} must not be negative, but is {value!r}")
        if not any(parts.values()):
            raise ValueError(
                "The interval must not be zero: give at least one of years, months, weeks and days"
            )
        self.years, self.months, self.weeks, self.days = years, months, weeks, days
        self._month_step = years * 12 + months
        self._week_step = timedelta(weeks=weeks, days=days)

    def _set_time(self, hour: int, minute: int, second: int) -> None:
        self._time = time(hour, minute, second)

    def _set_zone(self, zone: tzinfo) -> None:
        self.timezone = zone
        # A zone that knows its offset without being told the date never changes it.
        self._skips = zone.utcoffset(None) is None

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        """Return the time one interval after the previous one, or the first time of all; ``now`` does not matter."""
        if previous_fire_time is None:
            following = self._get_first()
        else:
            try:
                if self.jitter:
                    following = self._get_next_on_grid(previous_fire_time)
                else:
                    last = previous_fire_time.astimezone(self.timezone).date()
                    following = self._find(self._step(last))
            except OverflowError:  # beyond the year 9999
                return None
        if not self.jitter:
            return following
        return self._apply_jitter(following, self.jitter, now)

    def _get_first(self) -> datetime | None:
        try:
            return self._find(self.start_date)
        except OverflowError:
            return None

    def _step(self, day: date) -> date:
        """Return the date one interval later.

        :raises OverflowError: beyond the last date there is
        """
        if self._month_step:
            number, index = day.day, _get_month_index(day) + self._month_step
            # Until there is such a day.
            while (following := _make_date(index, number)) is None:
                index += self._month_step
            day = following
        return day + self._week_step if self._week_step else day

    def _find(self, day: date) -> datetime | None:
        """Return the first fire time on this date or after stepping on from it."""
        end = self.end_date
        while end is None or day <= end:
            candidate = self._get_time_on(day)
            if candidate is not None:
                return candidate
            day = self._step(day)
        return None

    def _get_time_on(self, day: date) -> datetime | None:
        """Return our time of this day, or None if the clocks skip it."""
        candidate = datetime.combine(day, self._time, self.timezone)
        # There and back, a skipped time becomes a later one.
        if self._skips and datetime_utc_add(candidate, NO_TIME) != candidate:
            return None
        return candidate

    def _get_next_on_grid(self, previous: datetime) -> datetime | None:
        """Return the first grid time after a delayed one; counting on from that one would let the grid drift."""
        last = self._get_last_on_grid(self.start_date, previous)
        return self._find(self.start_date if last is None else self._step(last))

    def get_last_fire_time(self, first: datetime, now: datetime) -> datetime:
        """Return the last fire time not later than ``now``; with jitter, without its delay."""
        start = first.astimezone(self.timezone).date()
        last = self._get_last_on_grid(self.start_date if self.jitter else start, now)
        if last is None or (last == start and not self.jitter):
            return first
        time_ = datetime.combine(last, self._time, self.timezone)
        return time_ if time_.astimezone(UTC) > first.astimezone(UTC) else first

    def _get_last_on_grid(self, start: date, now: datetime) -> date | None:
        """Return the last date, on the grid beginning at ``start``, whose time is not later than ``now``."""
        now = now.astimezone(UTC)  # to compare instants
        limit = now.astimezone(self.timezone).date()
        if limit < date.max:
            limit += ONE_DAY  # where the clocks go back over midnight, tomorrow may have begun before
        if self.end_date is not None:
            limit = min(limit, self.end_date)
        for day in self._get_dates_back(start, limit):
            candidate = self._get_time_on(day)
            if candidate is not None and candidate <= now:
                return day
        return None

    def _get_dates_back(self, start: date, limit: date) -> Iterator[date]:
        """Yield the dates of the grid from ``limit`` back to ``start``."""
        months = self.years * 12 + self.months
        days = self.weeks * 7 + self.days
        if (
            months and days
        ):  # each step depends on the one before; they are at least four weeks long
            dates = []
            while start <= limit:
                dates.append(start)
                try:
                    start = self._step(start)
                except OverflowError:
                    break
            yield from reversed(dates)
        elif days:
            for count in range((limit - start).days // days, -1, -1):
                yield start + timedelta(days=count * days)
        else:
            first = _get_month_index(start)
            for count in range((_get_month_index(limit) - first) // months, -1, -1):
                day = _make_date(first + count * months, start.day)
                if day is not None and day <= limit:
                    yield day

    def explain(self) -> str:
        units = ("years", "months", "weeks", "days")
        given = [(getattr(self, unit), unit) for unit in units if getattr(self, unit)]
        spans = [
            unit.removesuffix("s") if count == 1 else f"{count} {unit}"
            for count, unit in given
        ]
        if len(given) > 1:
            spans = [
                f"{count} {unit.removesuffix('s') if count == 1 else unit}"
                for count, unit in given
            ]
        parts = [
            f"every {' and '.join(spans)} at {self._time}",
            f"counted from {self.start_date}",
        ]
        if self.end_date is not None:
            parts.append(f"until {self.end_date}")
        if self.jitter:
            parts.append(f"delayed by up to {self.jitter:g} seconds")
        return ", ".join(parts)

    def explain_why_never(self, now: datetime) -> str | None:
        if self.end_date is not None and self.end_date < now.date():
            return f"its end, {self.end_date}, is past"
        return None

    def __getstate__(self) -> dict[str, Any]:
        return {
            "version": STATE_VERSION,
            "interval": [self.years, self.months, self.weeks, self.days],
            "time": [self._time.hour, self._time.minute, self._time.second],
            "start_date": self.start_date,
            "end_date": self.end_date,
            "timezone": self.timezone,
            "jitter": self.jitter,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        version = state.get("version", 1)
        if version > STATE_VERSION:
            raise ValueError(
                f"Cannot restore a calendar interval trigger of version {version!r}: this release reads versions up "
                f"to {STATE_VERSION}; update apscheduler-trigger-calendarinterval"
            )
        self._set_interval(*state["interval"])
        self._set_time(*state["time"])
        self.start_date = state["start_date"]
        self.end_date = state["end_date"]
        self._set_zone(astimezone(state["timezone"]))
        self.jitter = state.get("jitter")
        self._has_start = True

    def __repr__(self) -> str:
        options = [
            f"{name}={value}"
            for name in ("years", "months", "weeks", "days")
            if (value := getattr(self, name)) > 0
        ]
        options.append(f"time={self._time.isoformat()!r}")
        options.append(f"start_date={self.start_date.isoformat()!r}")
        if self.end_date:
            options.append(f"end_date={self.end_date.isoformat()!r}")
        options.append(f"timezone={timezone_repr(self.timezone)!r}")
        return f"CalendarIntervalTrigger({', '.join(options)})"

    __str__ = __repr__


COPIERS[CalendarIntervalTrigger] = copier(CalendarIntervalTrigger)


def _get_month_index(day: date) -> int:
    return day.year * 12 + day.month - 1


def _make_date(month_index: int, day: int) -> date | None:
    """Return this day of a month counted from the year 0, or None if the month has none.

    :raises OverflowError: beyond the year 9999
    """
    year, month = month_index // 12, month_index % 12
    if year > MAXYEAR:
        raise OverflowError("beyond the last year there is")
    if day > MONTH_LENGTHS[month] and (
        day > 29 or month != FEBRUARY or not isleap(year)
    ):
        return None
    return date(year, month + 1, day)


def _read_date(value: str | date | None, name: str, zone: tzinfo) -> date | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        return (value.astimezone(zone) if value.tzinfo else value).date()
    if not isinstance(value, (str, date)):
        raise TypeError(f"{name} must be a date or an ISO date string, not {value!r}")
    try:
        return asdate(value)
    except ValueError as exc:
        raise ValueError(
            f"{name} must look like '2026-01-31', but is {value!r}"
        ) from exc
