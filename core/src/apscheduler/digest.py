"""Digests of how jobs were declared, to recognise a declaration that has not changed."""

from datetime import datetime
from typing import Any

from apscheduler.job import Job
from apscheduler.triggers.base import BaseTrigger

# What the text form of an object contains that says nothing about its value, and differs in every process.
ADDRESS = " at 0x"

PLAIN_TYPES = frozenset((bool, datetime, float, int, str, type(None)))


def digest_declaration(
    job: Job,
    func: object,
    trigger: BaseTrigger | str | None,
    trigger_args: dict[str, Any],
    args: object,
    kwargs: object,
    name: str | None,
    options: dict[str, Any],
    executor: str,
) -> str | None:
    """Return a digest of the arguments that a job was added with, equal in every process for equal arguments.

    None if something has no text form that is the same everywhere, or there is no trigger: a job that runs at once
    is another one each time.
    """
    if job.func_ref is None or trigger is None or "next_run_time" in options:
        return None
    declared = trigger if isinstance(trigger, str) else trigger.declaration()
    text = (
        f"tuple({job.func_ref!r}, tuple({_text(declared)}, {_text_of_items(trigger_args)}), "
        f"{_text(args)}, {_text(kwargs)}, {name!r}, {_text_of_items(options)}, {executor!r})"
    )
    if ADDRESS in text:
        return None
    import hashlib  # slow to load, and only needed for jobs with an identifier

    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _text_of_items(values: dict[str, Any]) -> str:
    """Return the text of the sorted list of the items."""
    items = [f"tuple({name!r}, {_text(values[name])})" for name in sorted(values)]
    return f"list({', '.join(items)})"


def _text(value: Any) -> str:
    """Return the value as text, with what has no order of its own in the order of its texts."""
    kind = type(value)
    if kind in PLAIN_TYPES:  # most are, and soon dealt with
        return repr(value)
    if kind is list or kind is tuple:
        return f"{kind.__name__}({', '.join(map(_text, value))})"
    if isinstance(value, dict):
        items = sorted(f"{_text(key)}: {_text(item)}" for key, item in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, (set, frozenset)):
        return f"{{{', '.join(sorted(map(_text, value)))}}}"
    return repr(value)
