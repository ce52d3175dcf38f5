"""A cron schedule in words, from the numbers that its fields stand for: the same for every dialect."""

from collections.abc import Sequence
from itertools import pairwise

from apscheduler.triggers.cron.expressions import POSITIONS
from apscheduler.triggers.cron.limits import MAX_VALUES, MIN_VALUES
from apscheduler.triggers.cron.rules import Rules, Values

WEEKDAYS = (
    *("Monday", "Tuesday", "Wednesday", "Thursday"),
    *("Friday", "Saturday", "Sunday"),
)
MONTHS = (
    *("", "January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
# So many times of a day are listed one by one.
MAX_TIMES = 6


def explain(rules: Rules) -> str:
    """Return what these rules say, such as ``at 09:00, on Monday to Friday``."""
    parts = [_times(rules), _days(rules)]
    for name, values, words in (
        ("week", rules.weeks, "in ISO week"),
        ("month", rules.months, "in"),
        ("year", rules.years, "in"),
    ):
        if not _is_every(name, values):
            plural = "s" if name == "week" and len(values) > 1 else ""
            parts.append(f"{words}{plural} {_values(name, values)}")
    return ", ".join(part for part in parts if part)


def _times(rules: Rules) -> str:
    hours, minutes, seconds = rules.hours, rules.minutes, rules.seconds
    if len(hours) * len(minutes) * len(seconds) <= MAX_TIMES:
        times = [
            f"{h:02}:{m:02}" + (f":{s:02}" if s else "")
            for h in hours
            for m in minutes
            for s in seconds
        ]
        return f"at {join(times)}"
    parts = [] if tuple(seconds) == (0,) else [_unit("second", seconds)]
    if _is_every("minute", minutes):
        if not parts:
            parts.append("every minute")
        elif not parts[0].startswith("every"):
            parts.append("of every minute")
    elif parts:
        parts.append(f"of minute{'s' if len(minutes) > 1 else ''} {_numbers(minutes)}")
    elif tuple(minutes) != (0,):
        parts.append(_unit("minute", minutes))
    if not parts:
        return _unit("hour", hours)
    if not _is_every("hour", hours):
        parts.append(_hours_of(hours))
    elif not any("every" in part for part in parts):
        parts.append("of every hour")
    text = " ".join(parts)
    return text if text.startswith("every") else f"at {text}"


def _unit(name: str, values: Values) -> str:
    if _is_every(name, values):
        return f"every {name}"
    size = MAX_VALUES[name] + 1
    step = values[1] - values[0] if len(values) > 1 else size
    if tuple(values) == tuple(range(0, size, step)) and size % step == 0 and step > 1:
        return f"every {step} {name}s"
    if name == "hour":
        return _hours_of(values).replace("of ", "on ", 1)
    return f"{name}{'s' if len(values) > 1 else ''} {_numbers(values)}"


def _hours_of(hours: Values) -> str:
    return f"of hour{'s' if len(hours) > 1 else ''} {_numbers(hours)}"


def _days(rules: Rules) -> str:
    weekdays = (
        ""
        if _is_every("day_of_week", rules.weekdays)
        else _values("day_of_week", rules.weekdays)
    )
    days = _days_of_month(rules)
    if not days:
        return f"on {weekdays}" if weekdays else ""
    if not weekdays:
        return f"on {days}"
    if rules.day_or_weekday:
        return f"on {days} or on {weekdays}"
    return f"on {days} if that is a {_values('day_of_week', rules.weekdays, 'or')}"


def _days_of_month(rules: Rules) -> str:
    if _is_every("day", rules.days):
        return ""
    parts = []
    if rules.days:
        plural = "s" if len(rules.days) > 1 else ""
        parts.append(f"day{plural} {_numbers(rules.days)} of the month")
    parts += [
        f"the {POSITIONS[place]} {WEEKDAYS[weekday]} of the month"
        for place, weekday in rules.weekday_positions
    ]
    if rules.last_day:
        parts.append("the last day of the month")
    return join(parts)


def _is_every(name: str, values: Values) -> bool:
    return len(values) == MAX_VALUES[name] - MIN_VALUES[name] + 1


def _values(name: str, values: Values, last: str = "and") -> str:
    names = {"month": MONTHS, "day_of_week": WEEKDAYS}.get(name)
    return _numbers(values, names, last)


def _numbers(
    values: Values, names: Sequence[str] | None = None, last: str = "and"
) -> str:
    def show(value: int) -> str:
        return str(value) if names is None else names[value]

    parts: list[str] = []
    for first, end in _runs(values):
        if end - first > 1:
            parts.append(f"{show(first)} to {show(end)}")
        else:
            parts += [show(value) for value in sorted({first, end})]
    return join(parts, last)


def _runs(values: Values) -> list[tuple[int, int]]:
    """Return the first and last value of each run of values that follow one another."""
    starts = [values[0]] + [b for a, b in pairwise(values) if b != a + 1]
    ends = [a for a, b in pairwise(values) if b != a + 1] + [values[-1]]
    return list(zip(starts, ends, strict=True))


def join(parts: Sequence[str], last: str = "and") -> str:
    """Return ``a, b and c``."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} {last} {parts[-1]}"
