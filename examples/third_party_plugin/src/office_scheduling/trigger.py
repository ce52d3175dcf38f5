"""A trigger for weekends."""

from datetime import datetime, timedelta, tzinfo

from apscheduler.triggers.base import BaseTrigger
from apscheduler.util import astimezone


class WeekendTrigger(BaseTrigger):
    """Fires at midnight of every Saturday and Sunday."""

    def __init__(
        self, timezone: tzinfo | str = "UTC"
    ) -> None:  # schedulers give theirs
        self.timezone = astimezone(timezone)

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime:
        after = (previous_fire_time or now).astimezone(self.timezone)
        day = after.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        while day.weekday() < 5 or day <= after:
            day += timedelta(days=1)
        return day

    def __str__(self) -> str:
        return "weekend"
