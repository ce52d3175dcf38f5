"""The search for fields that are not our own: it asks them for every value, one field after the other."""

from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Any

from apscheduler.triggers.cron.fields import BaseField
from apscheduler.triggers.cron.limits import FIELD_NAMES
from apscheduler.triggers.cron.schedule import DAY_SECONDS, LAST_DAY

UNITS = ("year", "month", "day", "hour", "minute", "second")
LOWEST = {"month": 1, "day": 1, "hour": 0, "minute": 0, "second": 0}


class SteppingSchedule:
    """Finds matching wall-clock seconds through ``get_next_value()`` of the fields.

    Fields are given aware datetimes in the trigger's zone, but the search itself is on the wall clock.
    """

    def __init__(
        self,
        fields: Sequence[BaseField],
        timezone: tzinfo,
        day_or_weekday: bool = False,
    ) -> None:
        self._fields = fields
        self._epoch = datetime(1970, 1, 1, tzinfo=timezone)
        self._day_or_weekday = day_or_weekday

    def next(self, day: int, second: int) -> tuple[int, int] | None:
        """Return the day and second of the first match at or after this second."""
        if day * DAY_SECONDS + second >= (LAST_DAY + 1) * DAY_SECONDS:
            return None
        wall: datetime | None = self._epoch + timedelta(day, second)
        while wall is not None:
            following = self._step(wall)
            if following == wall:
                distance = wall - self._epoch
                return distance.days, distance.seconds
            wall = following
        return None

    def _step(self, wall: datetime) -> datetime | None:
        """Return the time itself if it matches, else a later one before which nothing can match."""
        for field in self._fields:
            following = field.get_next_value(wall)
            value = field.get_value(wall)
            if following == value or self._is_excused(field, wall):
                continue
            if field.REAL:
                return _advance(wall, field.name, following)
            return _advance(wall, "day", None)  # weeks and weekdays: try the next day
        return wall

    def _is_excused(self, field: BaseField, wall: datetime) -> bool:
        """Return whether this field need not match, because the other one of day and weekday does."""
        if not self._day_or_weekday or field.name not in ("day", "day_of_week"):
            return False
        if field.name == "day":
            return True  # decided together with the weekday, which comes later
        day = self._fields[FIELD_NAMES.index("day")]
        return day.get_next_value(wall) == day.get_value(wall)


def _advance(wall: datetime, unit: str, value: int | None) -> datetime | None:
    """Return the first time at which the unit has this value; without one, the next larger unit moves on."""
    if value is None or value <= getattr(wall, unit):
        if unit == "year":
            return None
        unit = UNITS[UNITS.index(unit) - 1]
        value = getattr(wall, unit) + 1
    changed: dict[str, Any] = {unit: value}
    for name in UNITS[UNITS.index(unit) + 1 :]:
        changed[name] = LOWEST[name]
    try:
        return wall.replace(**changed)
    except ValueError:  # the unit has run over, as in hour 24 or February 30
        return _advance(wall, unit, None)
