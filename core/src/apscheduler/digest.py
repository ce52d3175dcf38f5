"""Digests of how jobs were declared, to recognise a declaration that has not changed."""

from typing import Any

from apscheduler.job import Job
from apscheduler.triggers.base import BaseTrigger

# What the text form of an object contains that says nothing about its value, and differs in every process.
ADDRESS = " at 0x"


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
    declared = (
        trigger.declaration() if isinstance(trigger, BaseTrigger) else trigger,
        sorted(trigger_args.items()),
    )
    rules = sorted((key, value) for key, value in options.items())
    text = _text((job.func_ref, declared, args, kwargs, name, rules, executor))
    if ADDRESS in text:
        return None
    from hashlib import (
        sha256,  # slow to load, and only needed for jobs with an identifier
    )

    return sha256(text.encode()).hexdigest()[:32]


def _text(value: Any) -> str:
    """Return the value as text, with what has no order of its own in the order of its texts."""
    if isinstance(value, dict):
        items = sorted(f"{_text(key)}: {_text(item)}" for key, item in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(_text, value)))}}}"
    if type(value) in (list, tuple):
        return f"{type(value).__name__}({', '.join(map(_text, value))})"
    return repr(value)
