"""The eight fields of a cron trigger: what they read from a date, and which expressions they take."""

import logging
import re
from calendar import monthrange
from datetime import date as Date
from typing import Any, ClassVar, Protocol

from apscheduler.triggers.cron.expressions import (
    AllExpression,
    LastDayOfMonthExpression,
    MonthRangeExpression,
    RangeExpression,
    WeekdayPositionExpression,
    WeekdayRangeExpression,
    set_attributes,
)
from apscheduler.triggers.cron.limits import DEFAULT_VALUES, MAX_VALUES, MIN_VALUES

__all__ = (
    "DEFAULT_VALUES",
    "MAX_VALUES",
    "MIN_VALUES",
    "SEPARATOR",
    "BaseField",
    "DayOfMonthField",
    "DayOfWeekField",
    "MonthField",
    "WeekField",
)

SEPARATOR = re.compile(" *, *")

logger = logging.getLogger("apscheduler.triggers.cron")


class Expression(Protocol):
    """What a field asks of its expressions; classes from elsewhere need not derive from ours."""

    def validate_range(self, field_name: str) -> None:
        """Raise :exc:`ValueError` if the expression does not fit the field."""

    def get_next_value(self, date: Date, field: "BaseField") -> int | None:
        """Return the first value that is not below that of the date, or None."""


class BaseField:
    """A field that reads the attribute of its name: year, hour, minute and second are of this class.

    :param exprs: expressions separated by commas
    :param is_default: whether the value was filled in because none was given
    :raises ValueError: if an expression is not understood, or does not fit the field
    """

    REAL: ClassVar[bool] = True
    COMPILERS: ClassVar[list[type[Any]]] = [AllExpression, RangeExpression]

    def __init__(self, name: str, exprs: object, is_default: bool = False) -> None:
        self.name = name
        self.is_default = is_default
        self.compile_expressions(exprs)

    def get_min(self, date: Date) -> int:
        """Return the lowest value there can be around this date."""
        return MIN_VALUES[self.name]

    def get_max(self, date: Date) -> int:
        """Return the highest value there can be around this date."""
        return MAX_VALUES[self.name]

    def get_value(self, date: Date) -> int:
        """Return the value the date has."""
        value: int = getattr(date, self.name)
        return value

    def get_next_value(self, date: Date) -> int | None:
        """Return the first matching value that is not below that of the date, or None if there is none."""
        candidates = (expr.get_next_value(date, self) for expr in self.expressions)
        return min((value for value in candidates if value is not None), default=None)

    def compile_expressions(self, exprs: object) -> None:
        """Replace the expressions of this field by those in the text.

        :raises ValueError: if one is not understood, or does not fit the field
        """
        self.expressions: list[Expression] = []
        text = str(exprs).strip()
        for expr in SEPARATOR.split(text) if "," in text else (text,):
            self.compile_expression(expr)

    def compile_expression(self, expr: str) -> None:
        """Add one expression, of the first class in ``COMPILERS`` whose pattern fits.

        :raises ValueError: if it is not understood, or does not fit the field
        """
        for compiler in self.COMPILERS:
            match = compiler.value_re.match(expr)
            if match is not None:
                break
        else:
            raise ValueError(
                f'Unrecognized expression "{expr}" for field "{self.name}"'
            )

        compiled: Expression = compiler(**match.groupdict())
        try:
            compiled.validate_range(self.name)
        except ValueError as exc:
            raise ValueError(f"Error validating expression {expr!r}: {exc}") from exc

        if match.end() < len(expr):
            logger.warning(
                "Ignoring %r in %s=%r: nothing can follow %r here",
                expr[match.end() :],
                self.name,
                expr,
                match.group(),
            )
        self.expressions.append(compiled)

    # Without it, pickled data could change the class itself.
    __setstate__ = set_attributes

    def __eq__(self, other: object) -> bool:
        return (
            type(other) is type(self)
            and other.name == self.name
            and other.expressions == self.expressions
        )

    __hash__ = None  # type: ignore[assignment]  # mutable, as in 3.x

    def __str__(self) -> str:
        return ",".join(str(expr) for expr in self.expressions)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {str(self)!r})"


class MonthField(BaseField):
    """The month, by number or name."""

    COMPILERS: ClassVar[list[type[Any]]] = [*BaseField.COMPILERS, MonthRangeExpression]


class DayOfMonthField(BaseField):
    """The day of the month, by number or by place."""

    COMPILERS: ClassVar[list[type[Any]]] = [
        *BaseField.COMPILERS,
        WeekdayPositionExpression,
        LastDayOfMonthExpression,
    ]

    def get_max(self, date: Date) -> int:
        """Return the length of the month of the date."""
        return monthrange(date.year, date.month)[1]


class WeekField(BaseField):
    """The ISO week number."""

    REAL = False

    def get_value(self, date: Date) -> int:
        """Return the ISO week the date belongs to."""
        return date.isocalendar().week


class DayOfWeekField(BaseField):
    """The day of the week; 0 is Monday."""

    REAL = False
    COMPILERS: ClassVar[list[type[Any]]] = [
        *BaseField.COMPILERS,
        WeekdayRangeExpression,
    ]

    def get_value(self, date: Date) -> int:
        """Return the day of the week of the date, from 0 for Monday."""
        return date.weekday()
