"""A trigger that fires when the wall clock matches a pattern, like cron."""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, tzinfo
from typing import Any, ClassVar, Self, get_args

from tzlocal import get_localzone

from apscheduler.records import copier
from apscheduler.triggers.base import COPIERS, BaseTrigger
from apscheduler.triggers.cron import limits
from apscheduler.triggers.cron.fields import (
    BaseField,
    DayOfMonthField,
    DayOfWeekField,
    MonthField,
    WeekField,
)
from apscheduler.triggers.cron.occurrences import (
    CountableOccurrences,
    Occurrences,
    OnFold,
    OnGap,
)
from apscheduler.triggers.cron.rules import is_every_value, rules_of
from apscheduler.triggers.cron.schedule import schedule_for
from apscheduler.triggers.cron.stepping import SteppingSchedule
from apscheduler.triggers.cron.zones import zone_of
from apscheduler.util import astimezone, convert_to_datetime, datetime_repr

__all__ = ("CronTrigger",)

logger = logging.getLogger(__name__)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

STATE_VERSION = 2
GAP_CHOICES = (None, *get_args(OnGap))
FOLD_CHOICES = get_args(OnFold)
DIALECTS = get_args(limits.Dialect)

# 3.x would take day AND weekday where either was meant, so these states carry a version that it refuses.
DAY_OR_WEEKDAY_VERSION = 3


class CronTrigger(BaseTrigger):
    """Fires whenever the wall clock matches all of its fields.

    Fields that are not given and come before the last given one match everything, those after it have their lowest
    value: ``hour=5`` means 05:00:00 every day. The grammar is in the README of this distribution.

    :param year: 4-digit year
    :param month: month (1-12 or name)
    :param day: day of the month (1-31, ``2nd tue``, ``last``)
    :param week: ISO week (1-53)
    :param day_of_week: weekday (0-6 or name); 0 is Monday
    :param hour: hour (0-23)
    :param minute: minute (0-59)
    :param second: second (0-59)
    :param start_date: the earliest time to fire
    :param end_date: the latest time to fire, included
    :param timezone: the zone whose clock is meant (default: that of ``start_date`` or ``end_date``, else the local one)
    :param jitter: delay each fire by a random time of at most this many seconds. If this is not far below the time
        between two fires, some of them are left out
    :param on_gap: what happens to times that the clock leaves out: ``shift`` fires the first one at the time it would
        have been with the clock unchanged, ``skip`` none. Default: ``skip`` if the hour is a plain ``*``, else ``shift``
    :param on_fold: which of two equal times counts when the clock is set back: ``both``, ``first`` or ``second``
    :param day_or_weekday: fire when either ``day`` or ``day_of_week`` matches, instead of when both do
    :raises ValueError: if an expression, zone or option is not valid
    """

    __slots__ = (
        "_occurrences",
        "day_or_weekday",
        "end_date",
        "fields",
        "jitter",
        "on_fold",
        "on_gap",
        "start_date",
        "timezone",
    )

    FIELD_NAMES: ClassVar[tuple[str, ...]] = limits.FIELD_NAMES
    FIELDS_MAP: ClassVar[Mapping[str, type[BaseField]]] = {
        "year": BaseField,
        "month": MonthField,
        "day": DayOfMonthField,
        "week": WeekField,
        "day_of_week": DayOfWeekField,
        "hour": BaseField,
        "minute": BaseField,
        "second": BaseField,
    }

    timezone: tzinfo
    start_date: datetime | None
    end_date: datetime | None
    fields: list[BaseField]
    jitter: float | None
    on_gap: OnGap | None
    on_fold: OnFold
    day_or_weekday: bool

    def __init__(
        self,
        year: int | str | None = None,
        month: int | str | None = None,
        day: int | str | None = None,
        week: int | str | None = None,
        day_of_week: int | str | None = None,
        hour: int | str | None = None,
        minute: int | str | None = None,
        second: int | str | None = None,
        start_date: date | str | None = None,
        end_date: date | str | None = None,
        timezone: tzinfo | str | None = None,
        jitter: float | None = None,
        *,
        on_gap: OnGap | None = None,
        on_fold: OnFold = "both",
        day_or_weekday: bool = False,
    ) -> None:
        _check_choice("on_gap", on_gap, GAP_CHOICES)
        _check_choice("on_fold", on_fold, FOLD_CHOICES)
        self.timezone = _choose_zone(timezone, start_date, end_date)
        self.start_date = convert_to_datetime(start_date, self.timezone, "start_date")
        self.end_date = convert_to_datetime(end_date, self.timezone, "end_date")
        self.jitter = jitter
        self.on_gap = on_gap
        self.on_fold = on_fold
        self.day_or_weekday = day_or_weekday
        values = (year, month, day, week, day_of_week, hour, minute, second)
        self.fields = self._compile_fields(values)
        dates = values[: limits.FIELD_NAMES.index("hour")]
        # One field of the date alone always has a day that it means.
        self._warn_of_surprises(len(dates) - dates.count(None) > 1)

    def _compile_fields(self, values: Sequence[int | str | None]) -> list[BaseField]:
        given = [index for index, value in enumerate(values) if value is not None]
        last_given = max(given, default=len(values))
        fields = []
        for index, (name, value) in enumerate(
            zip(self.FIELD_NAMES, values, strict=True)
        ):
            text: int | str
            if value is not None:
                text = value
            elif index < last_given:
                text = "*"
            else:
                text = limits.DEFAULT_VALUES[name]
            fields.append(self.FIELDS_MAP[name](name, text, value is None))
        return fields

    def _warn_of_surprises(self, may_conflict: bool) -> None:
        if all(field.is_default for field in self.fields):
            logger.warning(
                "A cron trigger without any field fires every second; give second='*' if that is meant"
            )
        conflict = self._find_conflict() if may_conflict else None
        if conflict:
            logger.warning("%s will never fire: no date has %s at once", self, conflict)

    def _find_conflict(self) -> str | None:
        """Return which fields exclude each other, as far as that can be told."""
        from apscheduler.triggers.cron.impossible import explain_why_never

        rules = rules_of(self.fields, self.day_or_weekday)
        return rules and explain_why_never(self.fields, rules)

    @classmethod
    def from_crontab(
        cls,
        expr: str,
        timezone: tzinfo | str | None = None,
        *,
        dialect: limits.Dialect = "apscheduler",
        start_date: date | str | None = None,
        end_date: date | str | None = None,
        jitter: float | None = None,
        on_gap: OnGap | None = None,
        on_fold: OnFold = "both",
    ) -> Self:
        """Return the trigger for a line of five columns: minute, hour, day, month and day of week.

        :param timezone: the zone whose clock is meant (default: as for the constructor)
        :param dialect: ``apscheduler``: the columns are those of the constructor, so 0 is Monday and day and weekday
            must both match. ``vixie``: the standard meaning, by the manual page crontab(5): 0 and 7 are Sunday, either
            the day or the weekday has to match when neither column starts with ``*``, and there are macros such as
            ``@daily``
        :raises ValueError: if the line or the dialect is not valid
        """
        from apscheduler.triggers.cron.crontab import (
            parse_plain_line,
            parse_vixie_line,
            warn_of_weekday_numbers,
        )

        _check_choice("dialect", dialect, DIALECTS)
        parse_line = parse_vixie_line if dialect == "vixie" else parse_plain_line
        line = parse_line(expr)
        options: dict[str, Any] = {
            **line.fields,
            "start_date": start_date,
            "end_date": end_date,
            "jitter": jitter,
            "on_gap": on_gap,
            "on_fold": None if on_fold == "both" else on_fold,
            "day_or_weekday": line.day_or_weekday or None,
        }
        # Subclasses need not know of options that are not used.
        given = {name: value for name, value in options.items() if value is not None}
        trigger = cls(timezone=timezone, **given)
        if dialect == "apscheduler":
            weekday = trigger.fields[cls.FIELD_NAMES.index("day_of_week")]
            warn_of_weekday_numbers(expr, weekday)
        return trigger

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        """Return the fire time that follows, or None if there is none.

        ``now`` counts on the first call, and when it is earlier than the previous fire time: the clock was set back.
        Naive arguments are taken as local times of this machine.
        """
        try:
            occurrences = self._occurrences
        except AttributeError:
            occurrences = self._get_occurrences()
        next_fire_time = None
        if self.start_date is None:
            next_fire_time = occurrences.next_at_once(previous_fire_time, now)
        if next_fire_time is None:
            next_fire_time = self._search(occurrences, previous_fire_time, now)
            if next_fire_time is None:
                return None
        if self.end_date is not None and _is_earlier(self.end_date, next_fire_time):
            return None
        return self._delay(next_fire_time, now) if self.jitter else next_fire_time

    def _search(
        self,
        occurrences: Occurrences,
        previous_fire_time: datetime | None,
        now: datetime,
    ) -> datetime | None:
        start, later = now, False
        if previous_fire_time is not None and not _is_earlier(now, previous_fire_time):
            start, later = previous_fire_time, True
        if self.start_date is not None and _is_earlier(start, self.start_date):
            start, later = self.start_date, False
        if start.tzinfo is None:
            start = start.astimezone()
        return occurrences.next(start, later)

    def get_last_fire_time(self, first: datetime, now: datetime) -> datetime:
        """Return the last fire time that is not later than ``now``, or ``first`` if there is no later one.

        Jitter is not added: the time is over already, and a delay must not put it into the future.
        """
        occurrences = self._get_occurrences()
        if not isinstance(occurrences, CountableOccurrences):
            return super().get_last_fire_time(first, now)
        limit = now
        if self.end_date is not None and _is_earlier(self.end_date, now):
            limit = self.end_date
        last = occurrences.last(limit)
        return first if last is None or not _is_earlier(first, last) else last

    def count_fire_times(self, first: datetime, last: datetime) -> int | None:
        """Return how many fire times there are from ``first`` to ``last``, both of them fire times and included."""
        occurrences = self._get_occurrences()
        if not isinstance(occurrences, CountableOccurrences):
            return super().count_fire_times(first, last)
        return 1 + occurrences.count(first, last)

    def _get_occurrences(self) -> Occurrences:
        """Return the search for this trigger, made when it is first needed and never pickled."""
        try:
            return self._occurrences
        except AttributeError:
            pass
        hour = self.fields[self.FIELD_NAMES.index("hour")]
        on_gap = self.on_gap or ("skip" if is_every_value(hour) else "shift")
        zone = zone_of(self.timezone)
        rules = rules_of(self.fields, self.day_or_weekday)
        self._occurrences: Occurrences
        if rules is None:
            stepping = SteppingSchedule(self.fields, self.timezone, self.day_or_weekday)
            self._occurrences = Occurrences(stepping, zone, on_gap, self.on_fold)
        else:
            schedule = schedule_for(rules)
            self._occurrences = CountableOccurrences(
                schedule, zone, on_gap, self.on_fold
            )
        return self._occurrences

    def _delay(self, time: datetime, now: datetime) -> datetime | None:
        """Return the time with jitter, but not beyond the end; added in UTC, as elapsed time."""
        try:
            delayed = self._apply_jitter(time.astimezone(UTC), self.jitter, now)
            if delayed is None:
                return None
            delayed = delayed.astimezone(self.timezone)
        except OverflowError:
            return time  # at the end of year 9999
        if self.end_date is not None and _is_earlier(self.end_date, delayed):
            return self.end_date.astimezone(self.timezone)
        return delayed

    def explain(self) -> str:
        from apscheduler.triggers.cron import words

        rules = rules_of(self.fields, self.day_or_weekday)
        if rules is None:  # fields of somebody else
            return str(self)
        parts = [words.explain(rules)]
        if self.start_date is not None:
            parts.append(f"from {datetime_repr(self.start_date)}")
        if self.end_date is not None:
            parts.append(f"until {datetime_repr(self.end_date)}")
        if self.jitter:
            parts.append(f"delayed by up to {self.jitter:g} seconds")
        return ", ".join(parts)

    def explain_why_never(self, now: datetime) -> str | None:
        conflict = self._find_conflict()
        if conflict:
            return f"no date has {conflict} at once"
        reason = super().explain_why_never(now)
        rules = rules_of(self.fields, self.day_or_weekday)
        if reason is None and rules and max(rules.years) < now.year:
            return f"its last year, {max(rules.years)}, is past"
        return reason

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = {
            "version": STATE_VERSION,
            "timezone": self.timezone,
            "start_date": self.start_date,
            "end_date": self.end_date,
            "fields": self.fields,
            "jitter": self.jitter,
        }
        if self.on_gap is not None:
            state["on_gap"] = self.on_gap
        if self.on_fold != "both":
            state["on_fold"] = self.on_fold
        if self.day_or_weekday:
            state["version"] = DAY_OR_WEEKDAY_VERSION
            state["day_or_weekday"] = True
        return state

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple):  # written by an old release
            state = state[1]
        highest = (
            DAY_OR_WEEKDAY_VERSION if state.get("day_or_weekday") else STATE_VERSION
        )
        if state.get("version", 1) > highest:
            raise ValueError(
                f"Got serialized data for version {state['version']} of {type(self).__name__}, but only versions "
                f"up to {highest} can be handled: it was written by a newer release"
            )
        self.timezone = astimezone(state["timezone"])
        self.start_date = state["start_date"]
        self.end_date = state["end_date"]
        self.fields = state["fields"]
        self.jitter = state.get("jitter")
        self.on_gap = state.get("on_gap")
        self.on_fold = state.get("on_fold", "both")
        self.day_or_weekday = state.get("day_or_weekday", False)
        if hasattr(self, "_occurrences"):
            del self._occurrences

    def to_plain(self) -> dict[str, Any]:
        """Return the state with each field as its name, its text, and whether that is the default."""
        fields = [[each.name, str(each), each.is_default] for each in self.fields]
        for field, written in zip(self.fields, fields, strict=True):
            if self._make_field(*written) != field:
                raise ValueError(
                    f"The field {field!r} cannot be made again of its text"
                )
        return {**self.__getstate__(), "fields": fields}

    @classmethod
    def from_plain(cls, state: dict[str, Any]) -> Self:
        fields = [cls._make_field(*each) for each in state["fields"]]
        trigger = cls.__new__(cls)
        trigger.__setstate__({**state, "fields": fields})
        return trigger

    @classmethod
    def _make_field(cls, name: Any, text: Any, is_default: Any) -> BaseField:
        return cls.FIELDS_MAP[name](name, text, is_default)

    def __str__(self) -> str:
        return f"cron[{', '.join(self._describe_fields())}]"

    def __repr__(self) -> str:
        options = self._describe_fields() or [""]
        for name in ("start_date", "end_date"):
            time = getattr(self, name)
            if time is not None:
                options.append(f"{name}={datetime_repr(time)!r}")
        if self.jitter:
            options.append(f"jitter={self.jitter}")
        if self.on_gap is not None:
            options.append(f"on_gap={self.on_gap!r}")
        if self.on_fold != "both":
            options.append(f"on_fold={self.on_fold!r}")
        options.append(f"timezone={str(self.timezone)!r}")
        return f"<{type(self).__name__} ({', '.join(options)})>"

    def _describe_fields(self) -> list[str]:
        texts = [
            f"{field.name}={str(field)!r}"
            for field in self.fields
            if not field.is_default
        ]
        if self.day_or_weekday:
            texts.append("day_or_weekday=True")
        return texts


_copy_slots = copier(CronTrigger, without={"_occurrences"})


def _copy(trigger: CronTrigger) -> CronTrigger:
    made = _copy_slots(trigger)
    # The fields themselves are as good as constants: who wants another one makes it.
    made.fields = list(trigger.fields)
    return made


COPIERS[CronTrigger] = _copy


def _choose_zone(
    timezone: tzinfo | str | None,
    start_date: date | str | None,
    end_date: date | str | None,
) -> tzinfo:
    if timezone:
        return astimezone(timezone)
    for limit in (start_date, end_date):
        if isinstance(limit, datetime) and limit.tzinfo is not None:
            return astimezone(limit.tzinfo)
    return get_localzone()


def _is_earlier(one: datetime, other: datetime) -> bool:
    """Return whether an instant is earlier than another; a plain comparison would look at wall clocks."""
    try:
        return one - EPOCH < other - EPOCH
    except TypeError:  # naive times
        return one.astimezone(UTC) < other.astimezone(UTC)


def _check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}"
        )
