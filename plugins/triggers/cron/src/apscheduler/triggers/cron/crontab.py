"""The two dialects of crontab lines, each translated into the fields of a cron trigger."""

import logging
import re
from typing import NamedTuple

from apscheduler.triggers.cron.expressions import AllExpression, RangeExpression
from apscheduler.triggers.cron.fields import BaseField
from apscheduler.triggers.cron.limits import (
    MAX_VALUES,
    MIN_VALUES,
    MONTHS,
    WEEKDAYS,
    Dialect,
)
from apscheduler.triggers.cron.rules import values_of

logger = logging.getLogger("apscheduler.triggers.cron")

COLUMNS = ("minute", "hour", "day", "month", "day_of_week")

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

# In crontab(5) the week starts with Sunday, which is both 0 and 7.
CRONTAB_WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]

ITEM = re.compile(
    r"(?:(?P<all>\*)|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>[0-9]+))?"
)


class CrontabLine(NamedTuple):
    """The fields that a line means, in the grammar of the cron trigger."""

    fields: dict[str, str]
    day_or_weekday: bool = False


def parse_plain_line(expr: str) -> CrontabLine:
    """Return the columns as they are.

    :raises ValueError: if there are not five of them
    """
    return CrontabLine(dict(zip(COLUMNS, _split(expr, "apscheduler"), strict=True)))


def warn_of_weekday_numbers(expr: str, field: BaseField) -> None:
    """Log which weekdays are meant if the field of a plain line gives numbers: crontab(5) counts them otherwise."""
    if any(
        type(part) is RangeExpression or (type(part) is AllExpression and part.step)
        for part in field.expressions
    ):
        logger.warning(
            "In the crontab line %r weekday %r means %s, because numbers count from Monday (0) here. Write names "
            "instead, or use dialect='vixie' for the standard meaning, where 0 is Sunday",
            expr,
            str(field),
            ",".join(WEEKDAYS[value] for value in values_of(field)),
        )


def parse_vixie_line(expr: str) -> CrontabLine:
    """Return what a line or a macro means by crontab(5).

    :raises ValueError: if it is not a valid line
    """
    text = expr.strip()
    if text.lower() == "@reboot":
        raise ValueError(
            "'@reboot' is not a time: add a job without a trigger when the program starts instead"
        )
    if text.startswith("@") and text.lower() not in MACROS:
        raise ValueError(
            f"Unknown crontab macro {text!r}: expected one of {', '.join(MACROS)}"
        )
    columns = dict(
        zip(COLUMNS, _split(MACROS.get(text.lower(), text), "vixie"), strict=True)
    )
    fields = {name: _translate(name, column) for name, column in columns.items()}
    # crontab(5): a column that starts with an asterisk does not restrict the days.
    both_restricted = not (
        columns["day"].startswith("*") or columns["day_of_week"].startswith("*")
    )
    return CrontabLine(fields, day_or_weekday=both_restricted)


def _split(expr: str, dialect: Dialect) -> list[str]:
    columns = expr.split()
    if len(columns) != len(COLUMNS):
        message = (
            f"Wrong number of fields; got {len(columns)}, expected {len(COLUMNS)}"
            f" (minute, hour, day, month and day of week) in {expr!r}"
        )
        if dialect == "apscheduler" and expr.strip().startswith("@"):
            message += "; macros need dialect='vixie'"
        raise ValueError(message)
    return columns


def _translate(name: str, column: str) -> str:
    if name == "day_of_week":
        return _translate_weekdays(column)
    return ",".join(_translate_item(name, item) for item in column.split(","))


def _translate_item(name: str, item: str) -> str:
    first, last, step = _parse_item(name, item)
    if item.startswith("*") and step == 1:
        return "*"
    if first + step > last:
        return str(first)  # as the step leads out of the range
    text = "*" if item.startswith("*") else f"{first}-{last}"
    return text if step == 1 else f"{text}/{step}"


def _translate_weekdays(column: str) -> str:
    """Return the weekdays by name: the numbers have another meaning in a cron trigger."""
    if column == "*":
        return "*"
    days: set[int] = set()
    for item in column.split(","):
        first, last, step = _parse_item("day_of_week", item)
        days.update((number - 1) % 7 for number in range(first, last + 1, step))
    parts = []
    while days:
        first = last = min(days)
        while last + 1 in days:
            last += 1
        days.difference_update(range(first, last + 1))
        # Two days in a row read better as a list.
        separator = "-" if last - first > 1 else ","
        parts.append(separator.join(WEEKDAYS[day] for day in sorted({first, last})))
    return ",".join(parts)


def _parse_item(name: str, item: str) -> tuple[int, int, int]:
    """Return the first value, the last value and the step of one item between commas.

    :raises ValueError: if it is not valid, naming the item
    """
    match = ITEM.fullmatch(item)
    if match is None:
        raise ValueError(
            f"Unrecognized expression {item!r} for {name} in a crontab line:"
            " expected *, a value or a range, and a step after * or a range"
        )
    minimum = MIN_VALUES[name]
    maximum = 7 if name == "day_of_week" else MAX_VALUES[name]
    if match["all"]:
        first, last = minimum, 6 if name == "day_of_week" else maximum
    else:
        first = _number(name, match["first"])
        last = first if match["last"] is None else _number(name, match["last"])
        if name == "day_of_week" and match["last"] and last == 0 < first:
            last = 7  # a range such as fri-sun ends with the Sunday
        if match["step"] and match["last"] is None:
            raise ValueError(
                f"The step in {item!r} for {name} needs a range: write {first}-{maximum}/{match['step']}"
            )
    if not minimum <= first <= last <= maximum:
        raise ValueError(
            f"{item!r} for {name} must be an ascending range within {minimum}-{maximum}"
        )
    step = int(match["step"] or 1)
    if step == 0:
        raise ValueError(f"The step in {item!r} for {name} must be higher than 0")
    return first, last, step


def _number(name: str, text: str) -> int:
    if text.isdecimal():
        return int(text)
    names = {"month": MONTHS, "day_of_week": CRONTAB_WEEKDAYS}.get(name, [])
    if text.lower() not in names:
        expected = f"a number or one of {', '.join(names)}" if names else "a number"
        raise ValueError(
            f"Unrecognized value {text!r} for {name} in a crontab line: expected {expected}"
        )
    return names.index(text.lower()) + MIN_VALUES[name]
