"""Conversions shared by schedulers, triggers and stores; those of callables are in :mod:`apscheduler.callables`."""

import re
import threading
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from enum import Enum
from typing import Final, TypeVar, overload
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from apscheduler.callables import (
    check_callable_args,
    get_callable_name,
    iscoroutinefunction_partial,
    maybe_ref,
    obj_to_ref,
    ref_to_obj,
    resolves_back,
)

__all__ = (
    "UTC",
    "UndefinedType",
    "ZoneInfo",
    "asbool",
    "asint",
    "astimezone",
    "check_callable_args",
    "convert_to_datetime",
    "datetime_ceil",
    "datetime_to_utc_timestamp",
    "get_callable_name",
    "iscoroutinefunction_partial",
    "localize",
    "maybe_ref",
    "normalize",
    "obj_to_ref",
    "ref_to_obj",
    "resolves_back",
    "undefined",
    "utc_timestamp_to_datetime",
)

_M = TypeVar("_M")

NO_TIME = timedelta()
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

TRUE_WORDS = frozenset(("true", "yes", "on", "y", "t", "1"))
FALSE_WORDS = frozenset(("false", "no", "off", "n", "f", "0"))

DATE_PATTERN = re.compile(
    r"(?P<year>[0-9]{4})-(?P<month>[0-9]{1,2})-(?P<day>[0-9]{1,2})"
    r"(?:[ T](?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{1,2}):(?P<second>[0-9]{1,2})"
    r"(?:\.(?P<fraction>[0-9]{1,6}))?"
    r"(?P<offset>Z|[+-][0-9]{2}:[0-5][0-9])?)?"
)


class UndefinedType(Enum):
    """The type of ``undefined``; an enumeration, so that type checkers understand ``is undefined``."""

    UNDEFINED = "undefined"

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "<undefined>"

    __str__ = __repr__


undefined: Final = UndefinedType.UNDEFINED
"""The default of arguments for which None has a meaning of its own. Compare with ``is``."""


def no_signature(method: _M) -> _M:
    """Return the method: at run time, a signature that type checkers see makes no difference."""
    return method


@overload
def asint(text: str | float) -> int: ...
@overload
def asint(text: str | float | None) -> int | None: ...
def asint(text: str | float | None) -> int | None:
    """Return the value as an integer; None stays None.

    :raises ValueError: if the text is not a number
    """
    return None if text is None else int(text)


def asbool(obj: object) -> bool:
    """Return the truth of a boolean word such as ``yes`` or ``off``, or of any other object.

    :raises ValueError: if a string is not a boolean word
    """
    if not isinstance(obj, str):
        return bool(obj)
    word = obj.strip().lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise ValueError(
        f"{obj!r} is neither true nor false: use one of "
        f"{', '.join(sorted(TRUE_WORDS))} or {', '.join(sorted(FALSE_WORDS))}"
    )


@overload
def astimezone(obj: str | tzinfo) -> tzinfo: ...
@overload
def astimezone(obj: str | tzinfo | None) -> tzinfo | None: ...
def astimezone(obj: str | tzinfo | None) -> tzinfo | None:
    """Return the time zone of this name, or the zone itself; None stays None.

    Zones of pytz become a :class:`ZoneInfo` of the same name, or a fixed offset if they have no name.

    :raises zoneinfo.ZoneInfoNotFoundError: if there is no zone of this name
    :raises ValueError: if the zone cannot be stored because it only says "local"
    :raises TypeError: if the object is no zone
    """
    if obj is None or obj is UTC or type(obj) is ZoneInfo:
        return obj
    if isinstance(obj, str):
        return UTC if obj == "UTC" else _find_zone(obj)
    if not isinstance(obj, tzinfo):
        raise TypeError(
            f"A time zone must be a name such as 'Europe/Berlin' or a tzinfo object, not {obj!r}"
        )
    if type(obj).__module__.partition(".")[0] == "pytz":
        name = getattr(obj, "zone", None)
        return (
            _find_zone(name) if name else timezone(obj.utcoffset(None) or timedelta())
        )
    if _name_of_zone(obj) == "local":
        raise ValueError(
            f"{obj!r} does not say which zone it is and cannot be stored: use a name such as 'Europe/Berlin' instead"
        )
    return obj


def _find_zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    # Other errors come of what is a directory of the zone database, such as "Europe".
    except (ZoneInfoNotFoundError, OSError) as exc:
        raise ZoneInfoNotFoundError(
            f"There is no time zone {name!r}: expected a name such as 'Europe/Berlin'; where the system has no zones, "
            "install the package tzdata"
        ) from exc


def _name_of_zone(zone: tzinfo) -> str | None:
    try:
        return zone.tzname(None)
    except (AttributeError, TypeError, NotImplementedError):
        return None  # a foreign class that names only given times


@overload
def convert_to_datetime(
    input: str | date, tz: str | tzinfo | None, arg_name: str
) -> datetime: ...
@overload
def convert_to_datetime(
    input: str | date | None, tz: str | tzinfo | None, arg_name: str
) -> datetime | None: ...
def convert_to_datetime(
    input: str | date | None, tz: str | tzinfo | None, arg_name: str
) -> datetime | None:
    """Return the aware datetime meant by a datetime, date or date string; None stays None.

    Aware input keeps its own zone.

    :param tz: the zone of naive input, or its name
    :param arg_name: the name of the argument, for messages
    :raises ValueError: if a string is not a date, or if naive input has no zone
    :raises TypeError: if the input is something else
    """
    if input is None:
        return None
    if isinstance(input, datetime):
        value = input
    elif isinstance(input, date):
        value = datetime(input.year, input.month, input.day)
    elif isinstance(input, str):
        value = _parse_date(input, arg_name)
    else:
        raise TypeError(
            f"{arg_name} must be a datetime, a date or a date string, not {input!r}"
        )
    if value.tzinfo is not None:
        return value
    if tz is None:
        raise ValueError(
            f"{arg_name} {input!r} has no time zone: give the zone as well, or use a time that has one"
        )
    return localize(value, astimezone(tz) if isinstance(tz, str) else tz)


def _parse_date(text: str, arg_name: str) -> datetime:
    match = DATE_PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{arg_name} must look like '2026-06-01' or '2026-06-01 12:00:00', with an optional fraction and offset, "
            f"but is {text!r}"
        )
    names = ("year", "month", "day", "hour", "minute", "second")
    numbers = {name: int(match[name]) for name in names if match[name] is not None}
    microsecond = int((match["fraction"] or "").ljust(6, "0"))
    try:
        zone = _parse_offset(match["offset"]) if match["offset"] else None
        return datetime(**numbers, microsecond=microsecond, tzinfo=zone)
    except ValueError as exc:
        raise ValueError(f"{arg_name} {text!r} is not a possible time: {exc}") from exc


def _parse_offset(text: str) -> timezone:
    if text == "Z":
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[4:6]))
    return timezone(-offset if text[0] == "-" else offset)


def asdate(obj: date | str) -> date:
    """Return the date of an ISO string such as ``2026-01-31``; anything else unchanged.

    :raises ValueError: if a string is not an ISO date
    """
    return date.fromisoformat(obj) if isinstance(obj, str) else obj


@overload
def datetime_to_utc_timestamp(timeval: datetime) -> float: ...
@overload
def datetime_to_utc_timestamp(timeval: datetime | None) -> float | None: ...
def datetime_to_utc_timestamp(timeval: datetime | None) -> float | None:
    """Return the seconds since 1970 (naive values count as UTC); None stays None."""
    if timeval is None:
        return None
    if timeval.tzinfo is None:
        timeval = timeval.replace(tzinfo=UTC)
    return timeval.timestamp()


@overload
def utc_timestamp_to_datetime(timestamp: float) -> datetime: ...
@overload
def utc_timestamp_to_datetime(timestamp: float | None) -> datetime | None: ...
def utc_timestamp_to_datetime(timestamp: float | None) -> datetime | None:
    """Return the time that is this many seconds after 1970, in UTC; None stays None."""
    # Not fromtimestamp(), which on some systems refuses times before 1970.
    return None if timestamp is None else EPOCH + timedelta(seconds=timestamp)


def timedelta_seconds(delta: timedelta) -> float:
    """Return the length in seconds."""
    return delta.total_seconds()


def datetime_utc_add(dateval: datetime, tdelta: timedelta) -> datetime:
    """Return the time after this much time has elapsed, in the same zone (naive values are added plainly)."""
    zone = dateval.tzinfo
    # Asking the zone itself takes a quarter of the time of astimezone() there and back.
    offset = None if zone is None else zone.utcoffset(dateval)
    if zone is None or offset is None:
        return dateval + tdelta
    return zone.fromutc(dateval - offset + tdelta)


def is_later(time: datetime, other: datetime) -> bool:
    """Return whether one instant comes after another; both have zones.

    To be asked instead of ``time > other``: within one zone Python compares wall clocks, which run backwards once a
    year.
    """
    zone = time.tzinfo
    if zone is None or zone is UTC or zone is not other.tzinfo:
        return time > other
    offset, other_offset = zone.utcoffset(time), zone.utcoffset(other)
    return time - (offset or NO_TIME) > other - (other_offset or NO_TIME)


def datetime_ceil(dateval: datetime) -> datetime:
    """Return the time rounded up to a whole second."""
    if not dateval.microsecond:
        return dateval
    return datetime_utc_add(
        dateval, timedelta(seconds=1, microseconds=-dateval.microsecond)
    )


def datetime_repr(dateval: datetime | None) -> str:
    """Return the time as text with the name of its zone, or ``None``."""
    return "None" if dateval is None else dateval.strftime("%Y-%m-%d %H:%M:%S %Z")


def is_program_ending() -> bool:
    """Return whether the main thread has come to its end: from then on Python's pools refuse work."""
    # There is no public way to know. Without it, what falls due then fails instead of staying in its store.
    return bool(getattr(threading, "_SHUTTING_DOWN", False))


def is_interrupt(exc: BaseException) -> bool:
    """Return whether an exception is to end what it has interrupted, whoever that is.

    Those of signal handlers are, and those by which generators and greenlets are ended. Any other, such as the
    ``CancelledError`` of asyncio, is a failure of who has let it out.
    """
    if isinstance(exc, Exception):
        return False
    if isinstance(exc, (KeyboardInterrupt, SystemExit)):
        return threading.main_thread().ident == threading.get_ident()
    return type(exc).__name__ in ("GeneratorExit", "GreenletExit")


def timezone_repr(tz: tzinfo) -> str:
    """Return the name of a zone, or what ``repr`` says of zones without one."""
    return tz.key if isinstance(tz, ZoneInfo) and tz.key else repr(tz)


def normalize(dt: datetime) -> datetime:
    """Return the same instant as the clocks of its zone really show it: never a time inside a gap."""
    try:
        return dt.astimezone(UTC).astimezone(dt.tzinfo)
    except OverflowError:  # at the first or last day there is; no clock changes there
        return dt


def localize(dt: datetime, tzinfo: tzinfo) -> datetime:
    """Return the naive time as a time of this zone; moved forward if the clocks skip it."""
    pytz_localize = getattr(tzinfo, "localize", None)
    if pytz_localize is not None:
        localized: datetime = pytz_localize(dt)
        return localized
    return normalize(dt.replace(tzinfo=tzinfo))
