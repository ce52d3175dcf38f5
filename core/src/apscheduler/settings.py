"""From configuration dicts, flat or nested, to nested ones; and what may be in them."""

import logging
import math
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

from apscheduler.util import asbool, asint

PREFIX = "apscheduler."

# What every scheduler knows; event-loop schedulers add their own.
KNOWN_KEYS = frozenset(
    {
        "clock",
        "executors",
        "job_defaults",
        "jobs",
        "jobstore_retry_interval",
        "jobstores",
        "logger",
        "name",
        "scheduler",
        "source",
        "start_retry",
        "timezone",
        "version",
    }
)

DEFAULT_JOB_DEFAULTS: dict[str, Any] = {
    "misfire_grace_time": None,
    "coalesce": True,
    "max_instances": 1,
}


def as_text(value: Any) -> Any:
    """Return the value as it is."""
    return value


# How values are converted that may come as text from a file.
JOB_DEFAULT_TYPES: dict[str, Any] = {
    "misfire_grace_time": lambda value: asint(_none_if_word(value)),
    "coalesce": asbool,
    "max_instances": lambda value: asint(_none_if_word(value)),
    "on_lost": as_text,
    "max_attempts": asint,
    "history": lambda value: asint(_none_if_word(value)),
}


def nest(gconfig: Mapping[str, Any], prefix: str | None) -> dict[str, Any]:
    """Return the entries whose key has the prefix, without it, nested where their keys have dots.

    Values are copied as far as they are containers of settings, so that the caller's configuration is never changed.

    :raises TypeError: if a key is not a string, or one entry needs a branch where another puts a value
    """
    nested: dict[str, Any] = {}
    for key, value in gconfig.items():
        if not isinstance(key, str):
            raise TypeError(f"Configuration keys must be strings, got {key!r}")
        if prefix and not key.startswith(prefix):
            continue
        *branches, leaf = key[len(prefix or "") :].split(".")
        node = nested
        for depth, branch in enumerate(branches):
            node = node.setdefault(branch, {})
            if not isinstance(node, MutableMapping):
                place = (prefix or "") + ".".join(branches[: depth + 1])
                raise TypeError(
                    f"{place!r} has the value {node!r}, so that {key!r} cannot be below it"
                )
        _put(node, leaf, value, key)
    return nested


def _put(node: MutableMapping[str, Any], leaf: str, value: Any, key: str) -> None:
    """Enter a value; one that is a mapping joins what is there by flat keys."""
    value = copied(value)
    if leaf in node and isinstance(node[leaf], dict):
        if not isinstance(value, dict):
            raise TypeError(
                f"{key!r} has the value {value!r}, but other keys are below it"
            )
        for name, item in value.items():
            _put(node[leaf], name, item, f"{key}.{name}")
    else:
        node[leaf] = value


def copied(value: Any) -> Any:
    """Return a copy of nested dicts; what they hold is shared."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return value


def section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a section of a configuration, empty if it is not there.

    :raises AttributeError: if it is no mapping (the type that APScheduler 3 raised)
    """
    value = config.get(name, {})
    if not isinstance(value, Mapping):
        raise AttributeError(
            f"{name!r} must map names to their configurations, but is a {type(value).__name__}: {value!r}"
        )
    return value


def job_defaults(config: Mapping[str, Any], logger: logging.Logger) -> dict[str, Any]:
    """Return the defaults for job options, converted.

    :raises ValueError: if a value cannot be converted; the message names the option
    """
    defaults = dict(DEFAULT_JOB_DEFAULTS)
    for name, value in config.items():
        convert = JOB_DEFAULT_TYPES.get(name)
        if convert is None:
            continue
        try:
            defaults[name] = convert(value)
        except (TypeError, ValueError) as exc:
            raise type(exc)(
                f"Invalid value for the job default {name!r}: {value!r} ({exc})"
            ) from exc
    warn_unknown(config, JOB_DEFAULT_TYPES, "job default", logger)
    return defaults


def retry_seconds(value: Any) -> float:
    """Return for how many seconds the start of a job store is tried: a number, or true for no limit, also as text.

    :raises ValueError: if it is neither, or negative
    """
    try:
        seconds = _seconds(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not seconds >= 0:
        raise ValueError(
            f"'start_retry' must be a number of seconds, or true to try without limit, but is {value!r}"
        )
    return seconds


def _seconds(value: Any) -> float:
    if isinstance(value, bool):
        return math.inf if value else 0.0
    try:
        return float(value)
    except ValueError:
        return _seconds(asbool(value))


def warn_unknown(
    config: Mapping[str, Any], known: Iterable[str], what: str, logger: logging.Logger
) -> None:
    """Log a warning for each key that is not known, with the nearest that is."""
    for message in describe_unknown(config, known, what):
        logger.warning("%s", message)


def describe_unknown(
    config: Iterable[str], known: Iterable[str], what: str
) -> list[str]:
    """Return a sentence for each key that is not known, with the nearest that is."""
    names = sorted(known)
    messages = []
    for key in config:
        if key not in names:
            from difflib import get_close_matches  # slow to load

            near = get_close_matches(str(key), names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {names}"
            messages.append(f"Unknown {what} {key!r} is ignored; {hint}")
    return messages


def describe_unprefixed(
    gconfig: Mapping[str, Any], prefix: str | None, known: Iterable[str]
) -> list[str]:
    """Return a sentence for each key that lacks the prefix but would make sense with it."""
    if not prefix:
        return []
    names = set(known)
    messages = []
    for key, value in gconfig.items():
        ignored = f"The configuration key {key!r} is ignored, as it is by APScheduler 3, since it does not begin with {prefix!r}"
        name, _, rest = key.partition(".")
        if key == prefix.rstrip(".") and isinstance(value, Mapping):
            inner = next((each for each in value if each in names), None)
            if inner is not None:
                messages.append(
                    f"{ignored}: write {prefix + inner!r} and so on, or give what is below it with prefix=None"
                )
        elif name in names and not key.startswith(prefix):
            keyword = "" if rest else f", or give the keyword argument {key}=..."
            messages.append(f"{ignored}: write {prefix + key!r}{keyword}")
    return messages


def _none_if_word(value: Any) -> Any:
    """Files have no other way to say None than by a word."""
    if isinstance(value, str) and value.strip().lower() in ("none", ""):
        return None
    return value
