"""The fields of a cron trigger, in order of significance, and the range of each; the dialects of crontab lines."""

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

Dialect: TypeAlias = Literal["apscheduler", "vixie"]

FIELD_NAMES: Final = (
    "year",
    "month",
    "day",
    "week",
    "day_of_week",
    "hour",
    "minute",
    "second",
)

MIN_VALUES: Final[Mapping[str, int]] = {
    "year": 1970,
    "month": 1,
    "day": 1,
    "week": 1,
    "day_of_week": 0,
    "hour": 0,
    "minute": 0,
    "second": 0,
}

MAX_VALUES: Final[Mapping[str, int]] = {
    "year": 9999,
    "month": 12,
    "day": 31,
    "week": 53,
    "day_of_week": 6,
    "hour": 23,
    "minute": 59,
    "second": 59,
}

# For fields that are less significant than the last one given.
DEFAULT_VALUES: Final[Mapping[str, int | str]] = {
    "year": "*",
    "month": 1,
    "day": 1,
    "week": "*",
    "day_of_week": "*",
    "hour": 0,
    "minute": 0,
    "second": 0,
}

WEEKDAYS: Final = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

MONTHS: Final = [
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
]
