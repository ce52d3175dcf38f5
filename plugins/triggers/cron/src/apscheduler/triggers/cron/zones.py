"""What a time zone does to the clock: on which days it changes, and when.

All that a ``tzinfo`` can be asked is its offset at one time, so changes have to be looked for. Instants are seconds
since 1970-01-01 UTC, days are counted from then.
"""

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron.schedule import DAY_SECONDS, LAST_DAY, REMEMBERED

UTC_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# A zone that leaves its offset and returns to it between two looks goes unseen. In the time zone database changes since
# 1970 are more than six days apart, so blocks of four days can be checked together with the days around them; a zone
# from elsewhere may be stranger.
DATABASE_STEP: Final = DAY_SECONDS
OTHER_STEP: Final = DAY_SECONDS // 24
BLOCK_DAYS: Final = 4

# Later instants may have no local time: it would be in the year 10000.
LAST_INSTANT: Final = (LAST_DAY - 1) * DAY_SECONDS


class Change(NamedTuple):
    """An instant from which on the clock shows another offset."""

    instant: int
    before: int
    after: int


class Zone:
    """A time zone, with its days remembered."""

    def __init__(self, tz: tzinfo) -> None:
        self.tz = tz
        self._epoch = datetime(1970, 1, 1, tzinfo=tz)
        self._is_fixed = isinstance(tz, timezone)
        self._is_in_database = _is_in_database(tz)
        self._step = DATABASE_STEP if self._is_in_database else OTHER_STEP
        # The rest are caches that can be rebuilt at any time, so threads may share them.
        self._midnights: dict[int, datetime | None] = {}
        self._calm_blocks: dict[int, bool] = {}
        self._offsets: dict[int, tuple[tuple[int, int], ...]] = {}

    def wall_time(self, time: datetime) -> timedelta:
        """Return the time from 1970-01-01 00:00 as the clock of this zone shows it.

        :raises OverflowError: if the local time is not in the years 1 to 9999
        """
        local = time if time.tzinfo is self.tz else time.astimezone(self.tz)
        return local - self._epoch  # of the same zone, so wall clocks are subtracted

    def midnight(self, day: int) -> datetime | None:
        """Return the first time of a plain local day; None if the clock changes on it, or shortly before or after.

        On a plain day every wall time happens exactly once, 24 hours long. That is certain when the UTC day of the
        same date and its two neighbours have one and the same offset: no offset reaches farther than a day.
        """
        try:
            return self._midnights[day]
        except KeyError:
            pass
        midnight = self._epoch + timedelta(day) if self._is_plain(day) else None
        if len(self._midnights) >= REMEMBERED:
            self._midnights.clear()
        self._midnights[day] = midnight
        return midnight

    def offset_at(self, instant: int) -> int:
        """Return how many seconds the clock is ahead of UTC."""
        utc = self._epoch + timedelta(seconds=min(instant, LAST_INSTANT))
        offset = self.tz.fromutc(utc) - utc
        return offset.days * DAY_SECONDS + offset.seconds

    def local_time(self, instant: int) -> datetime:
        """Return the time the clock shows, with its ``fold``."""
        return self.tz.fromutc(self._epoch + timedelta(seconds=instant))

    def changes(self, start: int, end: int) -> list[Change]:
        """Return the changes of the clock from one instant up to, but without, another."""
        if self._is_fixed:
            return []
        first_day, last_day = start // DAY_SECONDS, (end - 1) // DAY_SECONDS
        before = self._offsets_of(first_day - 1)[-1][1]
        changes = []
        for day in range(first_day, last_day + 1):
            for instant, after in self._offsets_of(day):
                if after != before and start <= instant < end:
                    changes.append(Change(instant, before, after))
                before = after
        return changes

    def _is_plain(self, day: int) -> bool:
        if self._is_fixed or self._is_calm(day):
            return True
        days = [self._offsets_of(near) for near in (day - 1, day, day + 1)]
        return all(len(offsets) == 1 for offsets in days) and (
            days[0][0][1] == days[1][0][1] == days[2][0][1]
        )

    def _is_calm(self, day: int) -> bool:
        """Return whether the offset stays the same throughout the block of the day, as far as can be told at once."""
        if not self._is_in_database:
            return False
        block = day // BLOCK_DAYS
        is_calm = self._calm_blocks.get(block)
        if is_calm is None:
            first = block * BLOCK_DAYS
            before = self.offset_at((first - 1) * DAY_SECONDS)
            after = self.offset_at((first + BLOCK_DAYS + 1) * DAY_SECONDS)
            is_calm = before == after
            if len(self._calm_blocks) >= REMEMBERED:
                self._calm_blocks.clear()
            self._calm_blocks[block] = is_calm
        return is_calm

    def _offsets_of(self, day: int) -> tuple[tuple[int, int], ...]:
        """Return the offsets of a UTC day, each with the instant from which on it holds."""
        found = self._offsets.get(day)
        if found is not None:
            return found
        start, end = day * DAY_SECONDS, (day + 1) * DAY_SECONDS
        known, offset = start, self.offset_at(start)
        offsets = [(known, offset)]
        for probe in range(start + self._step, end + 1, self._step):
            following = self.offset_at(probe)
            while offset != following:
                known = self._find_change(known, probe, offset)
                offset = self.offset_at(known)
                offsets.append((known, offset))
            known = probe
        if offsets[-1][0] == end:
            offsets.pop()  # a change at the end belongs to the next day
        if len(self._offsets) >= REMEMBERED:
            self._offsets.clear()
        found = tuple(offsets)
        self._offsets[day] = found
        return found

    def _find_change(self, low: int, high: int, offset: int) -> int:
        """Return the instant of the change between ``low``, which has this offset, and ``high``, which has not."""
        while high - low > 1:
            middle = (low + high) // 2
            if self.offset_at(middle) == offset:
                low = middle
            else:
                high = middle
        return high


def _is_in_database(tz: tzinfo) -> bool:
    # A zone read from a file may claim any name, but only the one from the database is returned for it.
    return type(tz) is ZoneInfo and tz.key is not None and ZoneInfo(tz.key) is tz


@lru_cache(maxsize=100)
def _shared_zone(tz: tzinfo) -> Zone:
    return Zone(tz)


def zone_of(tz: tzinfo) -> Zone:
    """Return the zone, shared by all who use it where that is safe."""
    # Other classes may compare zones as equal that have different names, or cannot be hashed.
    return _shared_zone(tz) if tz is UTC or type(tz) is ZoneInfo else Zone(tz)


def to_instant(time: datetime) -> int:
    """Return the instant of an aware time, without its fraction of a second."""
    distance = time - UTC_EPOCH
    return distance.days * DAY_SECONDS + distance.seconds
