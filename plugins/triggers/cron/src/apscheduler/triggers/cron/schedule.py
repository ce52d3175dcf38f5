"""Which wall-clock seconds match: a search on plain numbers that knows the calendar, but no time zones.

Days are counted from 1970-01-01 and seconds from midnight. A year is a bit mask of its days: bit 0 is January 1st.
"""

from bisect import bisect_left, bisect_right
from calendar import isleap
from collections.abc import Iterable
from datetime import date, timedelta
from functools import lru_cache
from typing import Final

from apscheduler.triggers.cron.expressions import LAST_POSITION
from apscheduler.triggers.cron.limits import MAX_VALUES, MIN_VALUES
from apscheduler.triggers.cron.rules import Rules, Values

DAY_SECONDS: Final = 86_400
EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
LAST_DAY: Final = date.max.toordinal() - EPOCH_ORDINAL
# The Gregorian calendar repeats after this many years, weekdays included.
CALENDAR_PERIOD: Final = 400
MONTH_LENGTHS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
EVERY_SEVENTH_DAY: Final = sum(1 << day for day in range(0, 31, 7))
EVERY_WEEK: Final = frozenset(range(MIN_VALUES["week"], MAX_VALUES["week"] + 1))

# How many answers to each question are remembered.
REMEMBERED: Final = 10_000


class TimesOfDay:
    """The matching seconds of a matching day, as minutes of the day and seconds of the minute."""

    __slots__ = (
        "_remaining",
        "first",
        "first_as_delta",
        "last",
        "minutes",
        "seconds",
        "total",
    )

    def __init__(
        self, hours: Iterable[int], minutes: Iterable[int], seconds: Iterable[int]
    ) -> None:
        minutes = tuple(minutes)
        self.minutes = tuple(hour * 60 + minute for hour in hours for minute in minutes)
        self.seconds = tuple(seconds)
        self.first = self.minutes[0] * 60 + self.seconds[0]
        self.first_as_delta = timedelta(seconds=self.first)
        self.last = self.minutes[-1] * 60 + self.seconds[-1]
        self.total = len(self.minutes) * len(self.seconds)
        self._remaining: dict[int, timedelta | None] = {}

    def next_as_delta(self, second: int) -> timedelta | None:
        """Return what :meth:`next` does, as the time since midnight; answers are remembered."""
        try:
            return self._remaining[second]
        except KeyError:
            pass
        found = self.next(second)
        if len(self._remaining) >= REMEMBERED:
            self._remaining.clear()
        delta = None if found is None else timedelta(seconds=found)
        self._remaining[second] = delta
        return delta

    def next(self, second: int) -> int | None:
        """Return the first matching second of the day that is not below this one."""
        if second > self.last:
            return None
        minute, rest = divmod(second, 60)
        index = bisect_left(self.minutes, minute)
        if self.minutes[index] == minute:
            if rest <= self.seconds[-1]:
                return minute * 60 + self.seconds[bisect_left(self.seconds, rest)]
            index += 1
        return self.minutes[index] * 60 + self.seconds[0]

    def previous(self, second: int) -> int | None:
        """Return the last matching second of the day that is not above this one."""
        if second < self.first:
            return None
        minute, rest = divmod(second, 60)
        index = bisect_right(self.minutes, minute) - 1
        if self.minutes[index] == minute:
            if rest >= self.seconds[0]:
                return minute * 60 + self.seconds[bisect_right(self.seconds, rest) - 1]
            index -= 1
        return self.minutes[index] * 60 + self.seconds[-1]

    def count_before(self, second: int) -> int:
        """Return how many matching seconds of the day are below this one."""
        minute, rest = divmod(second, 60)
        index = bisect_left(self.minutes, minute)
        count = index * len(self.seconds)
        if index < len(self.minutes) and self.minutes[index] == minute:
            count += bisect_left(self.seconds, rest)
        return count


class Schedule:
    """The matching wall-clock seconds of one set of rules."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._day_bits = sum(1 << day - 1 for day in rules.days)
        self._weekday_bits = [
            sum(EVERY_SEVENTH_DAY << (day - first) % 7 for day in rules.weekdays)
            for first in range(7)
        ]
        self.times = TimesOfDay(rules.hours, rules.minutes, rules.seconds)
        weeks = frozenset(rules.weeks)
        self._weeks = None if weeks >= EVERY_WEEK else weeks
        # The rest are caches that can be rebuilt at any time, so threads may share them.
        self._masks: dict[int, int] = {}
        self._masks_by_kind: dict[tuple[int, bool, bool], int] = {}
        self._days_before_year: dict[int, int] = {}
        self._nothing_after = MAX_VALUES["year"]

    def next(self, day: int, second: int) -> tuple[int, int] | None:
        """Return the first match at or after this second (which may be that of the next midnight)."""
        is_matching, following = self.look_from(day)
        if is_matching:
            time = self.times.next(second)
            if time is not None:
                return day, time
        return None if following is None else (following, self.times.first)

    def previous(self, day: int, second: int) -> tuple[int, int] | None:
        """Return the last match at or before this second."""
        if self.look_from(day)[0]:
            time = self.times.previous(second)
            if time is not None:
                return day, time
        preceding = self._previous_day(day - 1)
        return None if preceding is None else (preceding, self.times.last)

    def count(self, first: int, end: int) -> int:
        """Return the number of matches from one wall-clock second (since 1970) up to, but without, another."""
        return self._count_before(end) - self._count_before(first)

    def look_from(self, day: int) -> tuple[bool, int | None]:
        """Return whether this day matches, and the first later day that does."""
        year, index = _split(day)
        rest = self._mask(year) >> index if year in self._rules.years else 0
        later = rest >> 1
        if later:  # what is isolated is the lowest bit
            following: int | None = day + (later & -later).bit_length()
        else:
            following = self._first_day_after(year)
        return rest & 1 == 1, following

    def never_matches(self) -> bool:
        """Return whether there is no match in any year."""
        return not any(self._mask(year) for year in _distinct(self._rules.years))

    def _first_day_after(self, year: int) -> int | None:
        if year >= self._nothing_after:
            return None
        years = self._rules.years
        for later in _distinct(years[bisect_right(years, year) :]):
            mask = self._mask(later)
            if mask:
                return _first_day_of(later) + _lowest_bit(mask)
        self._nothing_after = year
        return None

    def _previous_day(self, day: int) -> int | None:
        years = self._rules.years
        year, index = _split(day)
        if year in years:
            mask = self._mask(year) & (2 << index) - 1
            if mask:
                return _first_day_of(year) + mask.bit_length() - 1
        for earlier in reversed(years[: bisect_left(years, year)]):
            mask = self._mask(earlier)
            if mask:
                return _first_day_of(earlier) + mask.bit_length() - 1
        return None

    def _count_before(self, wall: int) -> int:
        day, second = divmod(wall, DAY_SECONDS)
        year, index = _split(day)
        days = self._count_days_before(year)
        if year in self._rules.years:
            mask = self._mask(year)
            days += (mask & ((1 << index) - 1)).bit_count()
            if mask >> index & 1:
                return days * self.times.total + self.times.count_before(second)
        return days * self.times.total

    def _count_days_before(self, year: int) -> int:
        if year in self._days_before_year:
            return self._days_before_year[year]
        years = self._rules.years
        days = sum(
            self._mask(earlier).bit_count()
            for earlier in years[: bisect_left(years, year)]
        )
        self._days_before_year[year] = days
        return days

    def _mask(self, year: int) -> int:
        """Return the matching days of a year, whether or not it is one of ours."""
        try:
            return self._masks[year]
        except KeyError:
            pass
        # These three decide the whole calendar of a year. The one before matters for the week of January 1st.
        kind = (date(year, 1, 1).weekday(), isleap(year), isleap(year - 1))
        if kind not in self._masks_by_kind:
            self._masks_by_kind[kind] = self._build_mask(year)
        self._masks[year] = self._masks_by_kind[kind]
        return self._masks[year]

    def _build_mask(self, year: int) -> int:
        weekday, start, mask = date(year, 1, 1).weekday(), 0, 0
        for month in range(1, 13):
            length = MONTH_LENGTHS[month - 1] + (month == 2 and isleap(year))
            if month in self._rules.months:
                mask |= self._month_mask((weekday + start) % 7, length) << start
            start += length
        if self._weeks is None or not mask:
            return mask
        january_1st = date(year, 1, 1).toordinal()
        for index in range(start):
            week = date.fromordinal(january_1st + index).isocalendar().week
            if week not in self._weeks:
                mask &= ~(1 << index)
        return mask

    def _month_mask(self, first_weekday: int, length: int) -> int:
        """Return the matching days of a month that starts on this weekday; bit 0 is the 1st."""
        rules = self._rules
        days, weekdays = self._day_bits, self._weekday_bits[first_weekday]
        if rules.last_day:
            days |= 1 << length - 1
        for position, weekday in rules.weekday_positions:
            first = (weekday - first_weekday) % 7
            if position == LAST_POSITION:
                days |= 1 << first + (length - 1 - first) // 7 * 7
            else:
                days |= 1 << first + 7 * position
        matching = days | weekdays if rules.day_or_weekday else days & weekdays
        return matching & (1 << length) - 1


@lru_cache(maxsize=1_000)
def schedule_for(rules: Rules) -> Schedule:
    """Return the schedule of these rules, shared by the triggers that have the same."""
    return Schedule(rules)


def _distinct(years: Values) -> Values:
    """Return the years without those after the calendar has repeated itself."""
    if isinstance(years, range) and years.step == 1:
        return years[:CALENDAR_PERIOD]
    return years


@lru_cache(maxsize=1_000)
def _first_day_of(year: int) -> int:
    return date(year, 1, 1).toordinal() - EPOCH_ORDINAL


def _split(day: int) -> tuple[int, int]:
    """Return the year of a day and the number of days before it in that year."""
    if day > LAST_DAY:
        return date.max.year + 1, 0
    year = date.fromordinal(day + EPOCH_ORDINAL).year
    return year, day - _first_day_of(year)


def _lowest_bit(mask: int) -> int:
    return (mask & -mask).bit_length() - 1
