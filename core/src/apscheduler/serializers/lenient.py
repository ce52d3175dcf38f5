"""Unpickling for listings: what is not known is not imported, and something else stands for it."""

import io
import pickle
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from typing import Any, Self
from zoneinfo import ZoneInfo

from apscheduler.serializers.allowing import NotAllowedError
from apscheduler.serializers.unpickling import (
    HELPERS,
    find_known,
    get_constructor,
    is_trigger,
    modern,
    resolving,
)
from apscheduler.triggers.base import BaseTrigger

# Classes that cannot be changed, so that nothing in the data can.
TIMES: dict[str, Any] = {
    "date": date,
    "datetime": datetime,
    "time": time,
    "timedelta": timedelta,
    "timezone": timezone,
    "ZoneInfo": ZoneInfo,
}
BUILTINS: dict[str, type] = {
    cls.__name__: cls
    for cls in (bytearray, bytes, complex, dict, frozenset, int, list, object, set, str)
}


class Placeholder:
    """Stands for an object of a class that was not imported."""

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object):
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, item: object) -> None:
        """Take what unpickling puts into lists."""

    def extend(self, items: object) -> None:
        """Take what unpickling puts into lists."""

    def add(self, item: object) -> None:
        """Take what unpickling puts into sets."""

    def __call__(self, *args: object, **kwargs: object) -> "Placeholder":
        return Placeholder()

    def __repr__(self) -> str:
        cls = type(self)
        return f"<{cls.__module__}:{cls.__qualname__}>"


class UnknownTrigger(BaseTrigger):
    """Stands for a trigger, inside of a combination, whose class was not imported."""

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> None:
        """Return None: nobody knows."""

    def __setstate__(self, state: object) -> None:
        pass

    def __str__(self) -> str:
        return type(self).__qualname__


class LenientUnpickler(pickle.Unpickler):
    """Makes triggers, times and containers of data, and a :class:`Placeholder` of everything else."""

    def __init__(self, data: bytes):
        super().__init__(io.BytesIO(data))

    def load(self) -> Any:
        with resolving(_resolve_trigger):
            return super().load()

    def find_class(self, module: str, name: str) -> Any:
        module, name = modern(module, name)
        found = STAND_INS.get((module, name))
        if found is not None:
            return found
        if module in ("datetime", "zoneinfo") and name in TIMES:
            return TIMES[name]
        if module == "builtins" and name in BUILTINS:
            return BUILTINS[name]
        return _find_trigger(module, name) or _placeholder(module, name, Placeholder)


def _find_trigger(module: str, name: str) -> Any:
    """Return a class of a trigger that is installed, unless what is unpickled could change it."""
    if not is_trigger(module, name):
        return None
    try:
        found = find_known(module, name)
    except (ImportError, AttributeError, NotAllowedError):
        return None
    return found if hasattr(found, "__setstate__") else None


def _resolve_trigger(reference: str) -> Any:
    """Return the class of a trigger inside a combination."""
    module, _, name = reference.partition(":")
    found = _find_trigger(module, name)
    return found or _placeholder(module, name, UnknownTrigger)


def _placeholder(module: str, name: str, base: type) -> type:
    qualified = {"__module__": module, "__qualname__": name}
    return type(name.rpartition(".")[2], (base,), qualified)


def _get_attribute(owner: object, name: str) -> Any:
    return get_constructor(owner, name) if owner is ZoneInfo else Placeholder


# Zones of pytz are shared objects, which must not be changed, and it need not be installed.


def _get_pytz_zone(name: str, *details: object) -> tzinfo:
    return ZoneInfo(name)


def _get_utc() -> tzinfo:
    return UTC


def _get_offset(minutes: int) -> tzinfo:
    return timezone(timedelta(minutes=minutes))


STAND_INS: dict[tuple[str, str], Any] = {
    **HELPERS,
    ("builtins", "getattr"): _get_attribute,
    ("pytz", "_p"): _get_pytz_zone,
    ("pytz", "_UTC"): _get_utc,
    ("pytz", "FixedOffset"): _get_offset,
}
