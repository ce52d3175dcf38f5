"""A trigger for lunch breaks."""

from datetime import datetime, timedelta, tzinfo

from apscheduler.triggers.base import BaseTrigger
from apscheduler.util import astimezone


class NoonTrigger(BaseTrigger):
    """Fires every day at noon.

    :param timezone: whose noon; schedulers give theirs
    """

    def __init__(self, timezone: tzinfo | str = "UTC") -> None:
        self.timezone = astimezone(timezone)

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime:
        after = (previous_fire_time or now).astimezone(self.timezone)
        noon = after.replace(hour=12, minute=0, second=0, microsecond=0, fold=0)
        if noon < after or noon == previous_fire_time:
            noon += timedelta(days=1)
        return noon

    def __str__(self) -> str:
        return "noon"
