"""When a schedule of wall-clock times happens in a time zone, also where the clock is changed.

Most days are plain: the clock runs through all 24 hours, so the first matching wall time is the first matching instant.
Around changes of the clock time is cut into pieces of constant offset, and each is searched on its own.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

from apscheduler.triggers.cron.schedule import DAY_SECONDS, REMEMBERED, Schedule
from apscheduler.triggers.cron.zones import LAST_INSTANT, Zone, to_instant

OnGap: TypeAlias = Literal["shift", "skip"]
OnFold: TypeAlias = Literal["both", "first", "second"]

# Nothing fires before 1970. Zones are up to a day off UTC.
FIRST_DAY: Final = -2

# Changes of the clock do not reach farther than this.
REACH: Final = 2 * DAY_SECONDS

# How far a piecewise search looks at a time: from two days before a local date to two days after it.
WINDOW: Final = 4 * DAY_SECONDS


class ForwardSchedule(Protocol):
    """What a search forwards needs to know."""

    def next(self, day: int, second: int) -> tuple[int, int] | None:
        """Return the day and second of the first match at or after this second."""


class Piece(NamedTuple):
    """Instants from ``start`` up to, but without, ``end`` during which the clock has one offset."""

    start: int
    end: int
    offset: int


class Occurrences:
    """The instants at which a schedule happens in a zone.

    :param on_gap: whether the first match inside a gap happens at the instant given by the offset before the change,
        or not at all
    :param on_fold: which pass of an hour that the clock runs through twice counts
    """

    __slots__ = ("_on_fold", "_schedule", "_shifts", "_zone")

    def __init__(
        self,
        schedule: ForwardSchedule,
        zone: Zone,
        on_gap: OnGap,
        on_fold: OnFold = "both",
    ) -> None:
        self._schedule = schedule
        self._zone = zone
        self._shifts = on_gap == "shift"
        self._on_fold = on_fold

    def next(self, start: datetime, later: bool = False) -> datetime | None:
        """Return the first occurrence at or after ``start``.

        :param later: leave out the second that ``start`` is in, even if it has just begun
        """
        try:
            wall = self._zone.wall_time(start)
        except OverflowError:
            return self._next_without_local_time(start)
        day, second = wall.days, wall.seconds
        if later or wall.microseconds:
            second += 1
        if day < FIRST_DAY:
            day, second = FIRST_DAY, 0

        earliest = day - 2
        if self._zone.midnight(day) is not None:
            found = self._schedule.next(day, second)
            if found is None:
                return None
            midnight = self._zone.midnight(found[0])
            if midnight is not None:
                return midnight + timedelta(0, found[1])
            earliest = found[0] - 2
        instant = to_instant(start) + (1 if later or start.microsecond else 0)
        return self._next_among_changes(max(instant, earliest * DAY_SECONDS))

    def next_at_once(self, previous: datetime | None, now: datetime) -> datetime | None:
        """Return the occurrence after ``previous``, or from ``now`` on, if it is known without a search."""
        return None

    def _next_without_local_time(self, start: datetime) -> datetime | None:
        if start.year > 1970:
            return None
        return self._next_among_changes(FIRST_DAY * DAY_SECONDS)

    def _next_among_changes(self, instant: int) -> datetime | None:
        while instant <= LAST_INSTANT + DAY_SECONDS:
            found = self._first_in(instant, instant + WINDOW)
            if found is not None:
                return found
            instant += WINDOW
            day, second = divmod(instant + self._zone.offset_at(instant), DAY_SECONDS)
            if self._zone.midnight(day) is None:
                continue
            wall = self._schedule.next(day, second)
            if wall is None:
                return None
            midnight = self._zone.midnight(wall[0])
            if midnight is not None:
                return midnight + timedelta(0, wall[1])
            instant = max(instant, (wall[0] - 2) * DAY_SECONDS)
        return None

    def _first_in(self, start: int, end: int) -> datetime | None:
        best: int | None = None
        for piece in self._pieces(start, end):
            if best is not None and best <= piece.start:
                break
            wall = piece.start + piece.offset
            found = self._schedule.next(*divmod(wall, DAY_SECONDS))
            if found is None:
                continue
            instant = found[0] * DAY_SECONDS + found[1] - piece.offset
            if instant < piece.end and (best is None or instant < best):
                best = instant
        if best is None:
            return None
        local = self._zone.local_time(best)
        if to_instant(local) != best:
            # A zone that does not know of fold cannot express the second pass.
            return self._first_in(best + 1, end)
        return local

    def _pieces(self, start: int, end: int) -> Iterator[Piece]:
        """Yield what there is to search from one instant up to, but without, another, ordered by start."""
        for piece in self._unlimited_pieces(start, end):
            clipped = Piece(max(piece.start, start), min(piece.end, end), piece.offset)
            if clipped.start < clipped.end:
                yield clipped

    def _unlimited_pieces(self, start: int, end: int) -> Iterator[Piece]:
        offset = self._zone.offset_at(start - REACH)
        piece_start = start - REACH
        for change in self._zone.changes(start - REACH, end + REACH):
            repeated = max(0, change.before - change.after)
            left_out = repeated if self._on_fold == "second" else 0
            yield Piece(piece_start, change.instant - left_out, offset)
            if self._shifts and change.after > change.before:
                yield from self._shifted(change.instant, change.before, change.after)
            offset = change.after
            piece_start = change.instant
            if self._on_fold == "first":
                piece_start += repeated
        yield Piece(piece_start, end, offset)

    def _shifted(self, instant: int, before: int, after: int) -> Iterator[Piece]:
        """Yield the second at which the first match inside a gap happens."""
        found = self._schedule.next(*divmod(instant + before, DAY_SECONDS))
        if found is None:
            return
        wall = found[0] * DAY_SECONDS + found[1]
        if wall >= instant + after:
            return  # it is behind the gap
        shifted = wall - before
        shown = divmod(shifted + after, DAY_SECONDS)
        if self._schedule.next(*shown) != shown:  # else it happens anyway
            yield Piece(shifted, shifted + 1, before)


class CountableOccurrences(Occurrences):
    """Occurrences that can also be searched backwards and counted."""

    __slots__ = ("_agenda", "_epoch", "_next_as_delta", "_tz", "_whole_schedule")

    def __init__(
        self, schedule: Schedule, zone: Zone, on_gap: OnGap, on_fold: OnFold = "both"
    ) -> None:
        super().__init__(schedule, zone, on_gap, on_fold)
        self._whole_schedule = schedule
        self._next_as_delta = schedule.times.next_as_delta
        self._tz = zone.tz
        self._epoch = datetime(1970, 1, 1, tzinfo=zone.tz)
        # Plain days with their midnight, if they match, and the first occurrence on a later day, if that is plain.
        # A cache that can be rebuilt at any time, so threads may share it.
        self._agenda: dict[int, tuple[datetime | None, datetime | None]] = {}

    def next_at_once(self, previous: datetime | None, now: datetime) -> datetime | None:
        """Return the occurrence after ``previous``, or from ``now`` on, if it is known without a search.

        This is the usual way to the next fire time, so it is kept short. None says nothing about the schedule.
        """
        start = now if previous is None else previous
        try:
            if start.tzinfo is not self._tz:
                start = start.astimezone(self._tz)
            wall = start - self._epoch
            midnight, following = self._agenda.get(wall.days) or self._plan(wall.days)
            if previous is None:
                second = wall.seconds + (1 if wall.microseconds else 0)
            # On a plain day wall clocks compare like instants.
            elif now < previous:
                return None
            else:
                second = wall.seconds + 1
        except (OverflowError, TypeError):  # the year 10000, or naive times
            return None
        if midnight is not None:
            delta = self._next_as_delta(second)
            if delta is not None:
                return midnight + delta
        return following

    def _plan(self, day: int) -> tuple[datetime | None, datetime | None]:
        midnight = self._zone.midnight(day) if day >= FIRST_DAY else None
        following = None
        if midnight is not None:
            is_matching, next_day = self._whole_schedule.look_from(day)
            if next_day is not None:
                next_midnight = self._zone.midnight(next_day)
                if next_midnight is not None:
                    times = self._whole_schedule.times
                    following = next_midnight + times.first_as_delta
            if not is_matching:
                midnight = None
        if len(self._agenda) >= REMEMBERED:
            self._agenda.clear()
        self._agenda[day] = midnight, following
        return midnight, following

    def last(self, limit: datetime) -> datetime | None:
        """Return the last occurrence at or before ``limit``."""
        instant = min(to_instant(limit), LAST_INSTANT + DAY_SECONDS)
        while instant >= FIRST_DAY * DAY_SECONDS:
            day, second = divmod(instant + self._zone.offset_at(instant), DAY_SECONDS)
            if self._zone.midnight(day) is not None:
                found = self._whole_schedule.previous(day, second)
                if found is None:
                    return None
                midnight = self._zone.midnight(found[0])
                if midnight is not None:
                    return midnight + timedelta(0, found[1])
                instant = min(instant, (found[0] + 3) * DAY_SECONDS)
            best = self._last_in(instant - WINDOW, instant + 1)
            if best is not None:
                return self._zone.local_time(best)
            instant -= WINDOW + 1
        return None

    def count(self, after: datetime, until: datetime) -> int:
        """Return how many occurrences are later than ``after`` and not later than ``until``."""
        return sum(
            self._whole_schedule.count(
                piece.start + piece.offset, piece.end + piece.offset
            )
            for piece in self._pieces(to_instant(after) + 1, to_instant(until) + 1)
        )

    def _last_in(self, start: int, end: int) -> int | None:
        best: int | None = None
        for piece in self._pieces(start, end):
            wall = piece.end - 1 + piece.offset
            found = self._whole_schedule.previous(*divmod(wall, DAY_SECONDS))
            if found is None:
                continue
            instant = found[0] * DAY_SECONDS + found[1] - piece.offset
            if instant >= piece.start and (best is None or instant > best):
                best = instant
        return best
