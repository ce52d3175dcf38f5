"""What the fields of a trigger say, as plain numbers that the search can work with."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple, TypeAlias

from apscheduler.triggers.cron.expressions import (
    AllExpression,
    LastDayOfMonthExpression,
    MonthRangeExpression,
    RangeExpression,
    WeekdayPositionExpression,
    WeekdayRangeExpression,
)
from apscheduler.triggers.cron.fields import (
    BaseField,
    DayOfMonthField,
    DayOfWeekField,
    MonthField,
    WeekField,
)
from apscheduler.triggers.cron.limits import FIELD_NAMES, MAX_VALUES, MIN_VALUES

# Ascending numbers. A range where possible: "every year" is 8,030 values.
Values: TypeAlias = range | tuple[int, ...]

OWN_FIELDS = {
    "year": BaseField,
    "month": MonthField,
    "day": DayOfMonthField,
    "week": WeekField,
    "day_of_week": DayOfWeekField,
    "hour": BaseField,
    "minute": BaseField,
    "second": BaseField,
}
NUMERIC_EXPRESSIONS = (
    AllExpression,
    RangeExpression,
    MonthRangeExpression,
    WeekdayRangeExpression,
)
DAY_EXPRESSIONS = (WeekdayPositionExpression, LastDayOfMonthExpression)
OWN_FIELD_TYPES = list(OWN_FIELDS.items())
OWN_EXPRESSIONS = {
    name: {*NUMERIC_EXPRESSIONS, *(DAY_EXPRESSIONS if name == "day" else ())}
    for name in OWN_FIELDS
}


class Rules(NamedTuple):
    """The values each field takes. Triggers with equal rules share one schedule."""

    years: Values
    months: Values
    days: Values
    weeks: Values
    weekdays: Values
    hours: Values
    minutes: Values
    seconds: Values
    weekday_positions: tuple[tuple[int, int], ...] = ()
    """Pairs of place in the month (from 0; 5 is the last) and weekday."""
    last_day: bool = False
    """Whether the last day of the month is one of the days."""
    day_or_weekday: bool = False
    """Whether it is enough that either the day or the weekday matches."""


def rules_of(fields: Sequence[BaseField], day_or_weekday: bool = False) -> Rules | None:
    """Return what these fields say, or None if one is of a foreign class and only it can tell."""
    if not _are_our_own(fields):
        return None
    values = [values_of(field) for field in fields]
    years, months, days, weeks, weekdays, hours, minutes, seconds = values
    day_expressions = fields[FIELD_NAMES.index("day")].expressions
    return Rules(
        years,
        months,
        days,
        weeks,
        weekdays,
        hours,
        minutes,
        seconds,
        tuple(
            (expr.option_num, expr.weekday)
            for expr in day_expressions
            if isinstance(expr, WeekdayPositionExpression)
        ),
        any(isinstance(expr, LastDayOfMonthExpression) for expr in day_expressions),
        day_or_weekday,
    )


def is_every_value(field: BaseField) -> bool:
    """Return whether the field is a plain ``*``."""
    return [str(expr) for expr in field.expressions] == ["*"]


def _are_our_own(fields: Sequence[BaseField]) -> bool:
    # The exact classes: a subclass may answer differently.
    return [(field.name, type(field)) for field in fields] == OWN_FIELD_TYPES and all(
        OWN_EXPRESSIONS[field.name].issuperset(map(type, field.expressions))
        for field in fields
    )


def values_of(field: BaseField) -> Values:
    """Return the numbers that a field of our own stands for."""
    minimum, maximum = MIN_VALUES[field.name], MAX_VALUES[field.name]
    ranges = [
        expr.values(minimum, maximum)
        for expr in field.expressions
        if isinstance(expr, NUMERIC_EXPRESSIONS)
        and not isinstance(expr, DAY_EXPRESSIONS)
    ]
    if len(ranges) == 1:
        return ranges[0]
    return tuple(sorted(set(chain.from_iterable(ranges))))
