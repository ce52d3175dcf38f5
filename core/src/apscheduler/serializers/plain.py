"""From values to what JSON can hold, and back."""

import base64
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from apscheduler.callables import obj_to_ref
from apscheduler.plugins import installed_components, load_component
from apscheduler.serializers.allowing import AllowList, NotAllowedError
from apscheduler.triggers.base import BaseTrigger
from apscheduler.util import astimezone

TAG = "$"
CONTAINERS: dict[str, Callable[[list[Any]], Any]] = {
    "$tuple": tuple,
    "$set": set,
    "$frozenset": frozenset,
}
# What is written as the text that it is made from again.
TEXTS: dict[str, tuple[type, Callable[[str], Any]]] = {
    "$date": (date, date.fromisoformat),
    "$time": (time, time.fromisoformat),
    "$decimal": (Decimal, Decimal),
    "$uuid": (UUID, UUID),
}
TEXT_TAGS = {cls: tag for tag, (cls, _) in TEXTS.items()}


class NotPlainError(ValueError):
    """Raised when a job has something in it that JSON has no form for."""


class Encoder:
    """Makes lists, dicts, texts and numbers of values.

    :param allowed: triggers that are no installed plugins must be on this list
    """

    def __init__(self, allowed: AllowList | None = None):
        self._allowed = allowed

    def encode(self, value: Any, place: str) -> Any:
        """Return the value as JSON can hold it.

        :param place: where in the job it is, for errors
        :raises NotPlainError: if that is not possible
        """
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"$float": str(value)}
        if kind is list:
            return self._encode_items(value, place)
        if kind is dict:
            return self._encode_dict(value, place)
        for tag, container in CONTAINERS.items():
            if kind is container:
                items = value if kind is tuple else sorted(value, key=repr)
                return {tag: self._encode_items(items, place)}
        if kind in (bytes, bytearray):
            tag = "$bytes" if kind is bytes else "$bytearray"
            return {tag: base64.b64encode(value).decode()}
        if kind in TEXT_TAGS:
            if kind is time and value.tzinfo is not None:
                raise NotPlainError(f"{place or 'it'} is a time of day with a zone")
            text = str(value) if kind in (Decimal, UUID) else value.isoformat()
            return {TEXT_TAGS[kind]: text}
        if kind is datetime:
            return self._encode_datetime(value, place)
        if kind is timedelta:
            return {"$timedelta": [value.days, value.seconds, value.microseconds]}
        if isinstance(value, tzinfo):
            return _encode_zone(value, place)
        if isinstance(value, BaseTrigger):
            return {"$trigger": self._encode_trigger(value, place)}
        raise NotPlainError(
            f"{place or 'it'} is a {kind.__module__}.{kind.__qualname__}, which JSON cannot hold: give texts, numbers, "
            "bytes, times, UUIDs, and lists, tuples, sets and dicts of those, or use another serializer"
        )

    def _encode_items(self, items: Any, place: str) -> list[Any]:
        return [self.encode(item, f"{place}[{i}]") for i, item in enumerate(items)]

    def _encode_dict(self, value: dict[Any, Any], place: str) -> Any:
        if all(type(key) is str and not key.startswith(TAG) for key in value):
            return {
                key: self.encode(item, _below(place, key))
                for key, item in value.items()
            }
        pairs = [list(pair) for pair in value.items()]
        return {"$dict": self._encode_items(pairs, place)}

    def _encode_datetime(self, value: datetime, place: str) -> Any:
        if value.tzinfo is None:
            return {"$datetime": value.isoformat(), "fold": value.fold}
        if _is_of_pytz(value.tzinfo):  # its zones carry what others have in the fold
            value = value.astimezone(astimezone(value.tzinfo))
        assert value.tzinfo is not None
        zone = _encode_zone(value.tzinfo, place)
        naive = value.replace(tzinfo=None)
        return {"$datetime": naive.isoformat(), "fold": value.fold, "zone": zone}

    def _encode_trigger(self, trigger: BaseTrigger, place: str) -> Any:
        reference = obj_to_ref(type(trigger))
        state = self.encode(trigger.to_plain(), f"{place or 'trigger'}'s state")
        for name, component in installed_components("trigger").items():
            if component.value == reference:
                return {"type": name, "state": state}
        if self._allowed is None or not self._allowed.permits(*reference.split(":", 1)):
            raise NotPlainError(
                f"{place or 'it'} is a {reference}, which is no installed plugin: give it an entry point, or add it to "
                "allowed_callables"
            )
        return {"class": reference, "state": state}


def _below(place: str, key: str) -> str:
    if (
        not place
    ):  # of a record that has the state of the job in it, the name says nothing
        return "" if key == "job_state" else key
    return f"{place}[{key!r}]"


def _encode_zone(value: tzinfo, place: str) -> Any:
    if isinstance(value, timezone):
        offset = value.utcoffset(None)
        return {"$offset": [offset.days, offset.seconds, offset.microseconds]}
    try:
        zone = astimezone(value)
    except (TypeError, ValueError):
        zone = value
    if isinstance(zone, timezone):
        return _encode_zone(zone, place)
    key = getattr(zone, "key", None)
    if not isinstance(zone, ZoneInfo) or key is None:
        raise NotPlainError(
            f"{place or 'it'} has the zone {value!r}, which has no name"
        )
    return {"$zone": key}


def _is_of_pytz(zone: tzinfo) -> bool:
    return type(zone).__module__.partition(".")[0] == "pytz"


class Decoder:
    """Makes values again of what :class:`Encoder` has made of them; refers to nothing but triggers.

    :param allowed: triggers on this list need not be installed plugins
    """

    def __init__(self, allowed: AllowList | None = None):
        self._allowed = allowed

    def decode(self, content: Any) -> Any:
        """Return the value.

        :raises ValueError: if it is none that an encoder makes
        """
        if isinstance(content, list):
            return [self.decode(item) for item in content]
        if not isinstance(content, dict):
            return content
        tag = next(iter(content), "")
        if not tag.startswith(TAG):
            return {key: self.decode(item) for key, item in content.items()}
        return self._decode_tagged(tag, content[tag], content)

    def _decode_tagged(self, tag: str, content: Any, whole: Mapping[str, Any]) -> Any:
        if tag in CONTAINERS:
            return CONTAINERS[tag](self.decode(content))
        if tag in TEXTS:
            return TEXTS[tag][1](content)
        if tag == "$dict":
            return {self.decode(key): self.decode(item) for key, item in content}
        if tag == "$float":
            return float(content)
        if tag in ("$bytes", "$bytearray"):
            made = base64.b64decode(content, validate=True)
            return made if tag == "$bytes" else bytearray(made)
        if tag == "$timedelta":
            return timedelta(*content)
        if tag == "$offset":
            return timezone(timedelta(*content))
        if tag == "$zone":
            return ZoneInfo(content)
        if tag == "$datetime":
            zone = self.decode(whole.get("zone"))
            naive = datetime.fromisoformat(content)
            return naive.replace(tzinfo=zone, fold=whole["fold"])
        if tag == "$trigger":
            return self._decode_trigger(content)
        raise ValueError(
            f"{tag!r} is no kind of value; it was written by a newer release"
        )

    def _decode_trigger(self, content: Mapping[str, Any]) -> BaseTrigger:
        if "type" in content:
            cls = load_component("trigger", content["type"])
        elif self._allowed is not None:
            cls = self._allowed.resolve(content["class"])
        else:
            raise NotAllowedError(
                f"The trigger {content['class']!r} is no installed plugin, and there are no allowed_callables"
            )
        if not issubclass(cls, BaseTrigger):
            raise ValueError(f"{cls!r} is no trigger")
        trigger: BaseTrigger = cls.from_plain(self.decode(content["state"]))
        return trigger
