"""The forms a cron field can take between its commas.

Fields and expressions are pickled with their triggers: the class names and instance attributes here are a storage
format. Everything that can be worked out from them is worked out when it is needed, and never kept in them.
"""

import re
from calendar import monthrange
from datetime import date as Date
from typing import TYPE_CHECKING, ClassVar

from apscheduler.triggers.cron.limits import MAX_VALUES, MIN_VALUES, MONTHS, WEEKDAYS
from apscheduler.util import asint

if TYPE_CHECKING:
    from apscheduler.triggers.cron.fields import BaseField

__all__ = (
    "MONTHS",
    "WEEKDAYS",
    "AllExpression",
    "LastDayOfMonthExpression",
    "MonthRangeExpression",
    "RangeExpression",
    "WeekdayPositionExpression",
    "WeekdayRangeExpression",
)

POSITIONS = ("1st", "2nd", "3rd", "4th", "5th", "last")
LAST_POSITION = POSITIONS.index("last")


def set_attributes(self: object, state: dict[str, object]) -> None:
    """Give an object that is unpickled its attributes."""
    state.pop("__class__", None)
    # One by one: an object whose dictionary was asked for takes twice the memory.
    for name, value in state.items():
        setattr(self, name, value)


def _index_of(name: str, names: list[str], kind: str) -> int:
    try:
        return names.index(name.lower())
    except ValueError:
        raise ValueError(
            f'Invalid {kind} name "{name}": expected one of {", ".join(names)}'
        ) from None


class AllExpression:
    """Every value of the field, or every ``step``-th one counted from its minimum: ``*`` and ``*/step``."""

    value_re: ClassVar[re.Pattern[str]] = re.compile(r"\*(?:/(?P<step>\d+))?$")

    def __init__(self, step: int | str | None = None) -> None:
        self.step = asint(step)
        if self.step == 0:
            raise ValueError("Increment must be higher than 0")

    def validate_range(self, field_name: str) -> None:
        """Check that the expression fits the field.

        :raises ValueError: if it does not
        """
        self._validate_step(MIN_VALUES[field_name], MAX_VALUES[field_name])

    def _validate_step(self, first: int, last: int) -> None:
        if self.step and self.step > last - first:
            raise ValueError(
                f"the step value ({self.step}) is higher than the total range of the expression ({last - first})"
            )

    def values(self, minimum: int, maximum: int) -> range:
        """Return the values between the limits of the field, both included."""
        return range(minimum, maximum + 1, self.step or 1)

    def get_next_value(self, date: Date, field: "BaseField") -> int | None:
        """Return the first value that is not below that of the date, or None if the field has to start over."""
        values = self.values(field.get_min(date), field.get_max(date))
        distance = field.get_value(date) - values.start
        index = max(0, -(-distance // values.step))
        return values[index] if index < len(values) else None

    # Without it, pickled data could change the class itself.
    __setstate__ = set_attributes

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    __hash__ = None  # type: ignore[assignment]  # mutable, as in 3.x

    def __str__(self) -> str:
        return f"*/{self.step}" if self.step else "*"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.step})"


class RangeExpression(AllExpression):
    """A number or a range of numbers: ``a``, ``a-b``, ``a-b/step``, and ``a/step`` up to the field's maximum."""

    value_re = re.compile(r"(?P<first>\d+)(?:-(?P<last>\d+))?(?:/(?P<step>\d+))?$")

    def __init__(
        self,
        first: int | str,
        last: int | str | None = None,
        step: int | str | None = None,
    ) -> None:
        super().__init__(step)
        self.first = int(first)
        self.last = asint(last)
        if self.last is None and self.step is None:
            self.last = self.first
        if self.last is not None and self.first > self.last:
            raise ValueError(
                "The minimum value in a range must not be higher than the maximum"
                f" ({self.first} is higher than {self.last}); ranges do not wrap around, write two of them"
            )

    def validate_range(self, field_name: str) -> None:
        """Check that the expression fits the field.

        :raises ValueError: if it does not
        """
        minimum, maximum = MIN_VALUES[field_name], MAX_VALUES[field_name]
        if self.first < minimum:
            raise ValueError(
                f"the first value ({self.first}) is lower than the minimum value ({minimum})"
            )
        last = maximum if self.last is None else self.last
        if last > maximum:
            raise ValueError(
                f"the last value ({last}) is higher than the maximum value ({maximum})"
            )
        self._validate_step(self.first, last)

    def values(self, minimum: int, maximum: int) -> range:
        """Return the values between the limits of the field, both included."""
        last = maximum if self.last is None else min(self.last, maximum)
        return range(self.first, last + 1, self.step or 1)

    def __str__(self) -> str:
        text = str(self.first)
        if self.last is not None and self.last != self.first:
            text += f"-{self.last}"
        return f"{text}/{self.step}" if self.step else text

    def __repr__(self) -> str:
        arguments: list[object] = [self.first]
        if self.step or (self.last is not None and self.last != self.first):
            arguments.append(self.last)
        if self.step:
            arguments.append(self.step)
        return f"{type(self).__name__}({', '.join(map(str, arguments))})"


class _NamedRangeExpression(RangeExpression):
    """A name or a range of names, kept as numbers."""

    names: ClassVar[list[str]]
    kind: ClassVar[str]

    # No end anchor: 3.x ignores what follows the names, so the field warns about it instead of refusing it.
    value_re = re.compile(r"(?P<first>[a-z]+)(?:-(?P<last>[a-z]+))?", re.IGNORECASE)

    def __init__(self, first: str, last: str | None = None) -> None:
        offset = self._first_number()
        super().__init__(
            _index_of(first, self.names, self.kind) + offset,
            _index_of(last, self.names, self.kind) + offset if last else None,
        )

    @classmethod
    def _first_number(cls) -> int:
        return 0

    def _used_names(self) -> list[str]:
        offset = self._first_number()
        last = self.first if self.last is None else self.last
        return [self.names[value - offset] for value in sorted({self.first, last})]

    def __str__(self) -> str:
        return "-".join(self._used_names())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._used_names()))})"


class MonthRangeExpression(_NamedRangeExpression):
    """Months by name: ``jan``, ``jan-mar``."""

    names = MONTHS
    kind = "month"

    @classmethod
    def _first_number(cls) -> int:
        return 1


class WeekdayRangeExpression(_NamedRangeExpression):
    """Weekdays by name: ``mon``, ``mon-fri``."""

    names = WEEKDAYS
    kind = "weekday"


class WeekdayPositionExpression(AllExpression):
    """A weekday by its place in the month: ``2nd tue``, ``last fri``."""

    value_re = re.compile(
        rf"(?P<option_name>{'|'.join(POSITIONS)}) +(?P<weekday_name>\w+)",
        re.IGNORECASE,
    )

    def __init__(self, option_name: str, weekday_name: str) -> None:
        super().__init__(None)
        if option_name.lower() not in POSITIONS:
            raise ValueError(
                f'Invalid weekday position "{option_name}": expected one of {", ".join(POSITIONS)}'
            )
        self.option_num = POSITIONS.index(option_name.lower())
        self.weekday = _index_of(weekday_name, WEEKDAYS, "weekday")

    def validate_range(self, field_name: str) -> None:
        """Do nothing: every position fits the day field."""

    def day_of_month(self, first_weekday: int, length: int) -> int | None:
        """Return the day in a month that starts on this weekday and has this many days; None if there is none."""
        first = 1 + (self.weekday - first_weekday) % 7
        if self.option_num == LAST_POSITION:
            return first + (length - first) // 7 * 7
        day = first + 7 * self.option_num
        return day if day <= length else None

    def get_next_value(self, date: Date, field: "BaseField") -> int | None:
        """Return the day of this position, or None if it is over or does not exist in the month of the date."""
        day = self.day_of_month(*monthrange(date.year, date.month))
        return day if day is not None and day >= date.day else None

    def __str__(self) -> str:
        return f"{POSITIONS[self.option_num]} {WEEKDAYS[self.weekday]}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({POSITIONS[self.option_num]!r}, {WEEKDAYS[self.weekday]!r})"


class LastDayOfMonthExpression(AllExpression):
    """The last day of the month: ``last``."""

    value_re = re.compile("last", re.IGNORECASE)

    def __init__(self) -> None:
        super().__init__(None)

    def validate_range(self, field_name: str) -> None:
        """Do nothing: every month has a last day."""

    def get_next_value(self, date: Date, field: "BaseField") -> int | None:
        """Return the last day of the month of the date."""
        return monthrange(date.year, date.month)[1]

    def __str__(self) -> str:
        return "last"

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
