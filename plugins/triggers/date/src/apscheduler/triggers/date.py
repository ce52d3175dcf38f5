"""A trigger that fires once, at a given time."""

from datetime import date as Date
from datetime import datetime, tzinfo
from typing import Any

from tzlocal import get_localzone

from apscheduler.records import copier
from apscheduler.triggers.base import COPIERS, BaseTrigger
from apscheduler.util import astimezone, convert_to_datetime, datetime_repr

STATE_VERSION = 1


class DateTrigger(BaseTrigger):
    """Fires once, also when the time has passed already.

    :param run_date: when to fire: a datetime, a date (midnight) or a date string; default: now
    :param timezone: zone of a ``run_date`` that has none (default: the local zone)
    """

    __slots__ = ("run_date",)

    run_date: datetime

    def __init__(
        self,
        run_date: str | Date | None = None,
        timezone: str | tzinfo | None = None,
    ) -> None:
        zone = astimezone(timezone) or get_localzone()
        if run_date is None:
            self.run_date = datetime.now(zone)
        else:
            self.run_date = convert_to_datetime(run_date, zone, "run_date")

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        """Return the date for the first time, then None; ``now`` does not matter."""
        return self.run_date if previous_fire_time is None else None

    def get_last_fire_time(self, first: datetime, now: datetime) -> datetime:
        """Return ``first``: there is no other."""
        return first

    def count_fire_times(self, first: datetime, last: datetime) -> int:
        """Return 1."""
        return 1

    def explain(self) -> str:
        return f"once, at {datetime_repr(self.run_date)}"

    def explain_why_never(self, now: datetime) -> str | None:
        if self.run_date.timestamp() < now.timestamp():
            return f"its time, {datetime_repr(self.run_date)}, is past"
        return None

    def __getstate__(self) -> dict[str, Any]:
        return {"version": STATE_VERSION, "run_date": self.run_date}

    def __setstate__(self, state: dict[str, Any] | tuple[Any, dict[str, Any]]) -> None:
        if isinstance(state, tuple):  # how the oldest releases pickled it
            state = state[1]
        version = state.get("version", 1)
        if version > STATE_VERSION:
            raise ValueError(
                f"Cannot restore a date trigger of version {version!r}: this release reads versions up to "
                f"{STATE_VERSION}; update apscheduler-trigger-date"
            )
        self.run_date = state["run_date"]

    def __str__(self) -> str:
        return f"date[{datetime_repr(self.run_date)}]"

    def __repr__(self) -> str:
        return f"<DateTrigger (run_date={datetime_repr(self.run_date)!r})>"


COPIERS[DateTrigger] = copier(DateTrigger)
