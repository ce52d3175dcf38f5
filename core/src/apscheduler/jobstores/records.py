"""What can be said of a stored job without importing its function or the classes of its arguments."""

import io
import pickle
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from typing import Any, Self
from zoneinfo import ZoneInfo

from apscheduler.jobstores.contract import JobRecord
from apscheduler.serializers import PickleSerializer, Serializer

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
# What protocols before 3 call other names, and make bytes and objects with.
OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
OLD_HELPERS = {("_codecs", "encode"), ("copyreg", "_reconstructor")}


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


class _LenientUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = OLD_MODULES.get(module, module)
        if (module, name) in OLD_HELPERS:
            return super().find_class(module, name)
        if module in ("datetime", "zoneinfo") and name in TIMES:
            return TIMES[name]
        if module == "builtins":
            if name == "getattr":
                return _get_constructor
            if name in BUILTINS:
                return BUILTINS[name]
        # Not what these modules have imported themselves, which "name" may reach with its dots.
        if module.startswith(("apscheduler.triggers.", "pytz")) and "." not in name:
            found = super().find_class(module, name)
            if getattr(found, "__module__", "").startswith(module.partition(".")[0]):
                return found
        qualified = {"__module__": module, "__qualname__": name}
        return type(name.rpartition(".")[2], (Placeholder,), qualified)


def _get_constructor(owner: object, name: str) -> Any:
    """Stand in for ``getattr``, by which zones are unpickled."""
    if owner is ZoneInfo and name == "_unpickle":
        return ZoneInfo._unpickle  # type: ignore[attr-defined]  # private, and part of every pickled zone
    return Placeholder


def read_record(
    job_id: str,
    next_run_time: datetime | None,
    data: bytes,
    serializer: Serializer,
    error: Exception | None,
    unwrap: Callable[[dict[str, Any]], dict[str, Any]] = lambda state: state,
) -> JobRecord:
    """Return what the stored bytes say of a job.

    :param error: why the job could not be restored, if that was tried
    :param unwrap: finds the state of the job in what was stored
    """
    record = JobRecord(job_id, next_run_time, error=_describe(error))
    try:
        if type(serializer) is PickleSerializer:
            state = _LenientUnpickler(io.BytesIO(data)).load()
        else:
            state = serializer.loads(data)
        state = unwrap(state)
        record.name, record.func = state["name"], state["func"]
        record.origin = state.get("origin")
        trigger = state["trigger"]
        if isinstance(trigger, Placeholder):
            record.trigger = type(trigger).__qualname__
        else:
            record.trigger = str(trigger)
    except Exception as exc:  # damaged bytes may raise anything
        record.error = record.error or _describe(exc)
    return record


def _describe(error: Exception | None) -> str | None:
    return None if error is None else f"{type(error).__name__}: {error}"
