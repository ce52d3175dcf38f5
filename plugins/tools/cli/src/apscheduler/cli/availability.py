"""Could a job run here? The same answer for every command, and what to do if it could not."""

from collections.abc import Iterator
from dataclasses import dataclass

from apscheduler.jobstores.contract import JobRecord
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.serializers.lenient import Placeholder, UnknownTrigger
from apscheduler.triggers.base import BaseTrigger
from apscheduler.util import ref_to_obj

REMOVE = "or remove the job by 'apscheduler jobs remove'"


@dataclass(frozen=True)
class Obstacle:
    """Why a job could not run here.

    :ivar remedy: what to do, a sentence
    """

    reason: str
    remedy: str


def find_obstacle(scheduler: BaseScheduler, record: JobRecord) -> Obstacle | None:
    """Return why a job could not run here, None if it could; its function and classes are imported for that.

    :param scheduler: knows which executors there are
    """
    if record.error is not None:
        return Obstacle(record.error, _advise(record.error))
    if record.func is None:
        return Obstacle("its state cannot be read", _advise(""))
    for reference in (str(record.func), *_classes_in(record.details)):
        try:
            ref_to_obj(reference)
        except (Exception, SystemExit) as exc:  # modules may do anything when loaded
            return Obstacle(
                f"{type(exc).__name__}: {exc}",
                f"Install its code, or run this where the scheduler runs; {REMOVE}",
            )
    return find_missing_executor(scheduler, record.details.get("executor"), record.id)


def find_missing_executor(
    scheduler: BaseScheduler, alias: str | None, job_id: str
) -> Obstacle | None:
    """Return that a job wants an executor that is not there, if that is so."""
    if alias is None or alias in scheduler._executors:
        return None
    return Obstacle(
        f"no executor {alias!r} is configured",
        f"Configure [apscheduler.executors.{alias}], or give the job another one: 'apscheduler rewrite {job_id} "
        "--executor default'",
    )


def _advise(error: str) -> str:
    """Return what to do about a state that cannot be read."""
    kind = error.partition(":")[0]
    if kind == "SignatureError":
        return (
            "Use the serializer and the key that it was written with, which may be one of the 'old_keys'; or, if you "
            "trust what is in the store, sign it anew by 'apscheduler resign'"
        )
    if kind == "NotAllowedError":
        return f"If it is to run, let 'allowed_callables' allow that; {REMOVE}"
    return f"Use the serializer that it was written with, and install its code; {REMOVE} if it is damaged"


def _classes_in(value: object) -> Iterator[str]:
    """Return references to the classes of a trigger and of arguments that were not imported for a listing."""
    if isinstance(value, (Placeholder, UnknownTrigger)):
        cls = type(value)
        yield f"{cls.__module__}:{cls.__qualname__}"
    elif isinstance(value, dict):
        for pair in value.items():
            yield from _classes_in(pair)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from _classes_in(item)
    elif isinstance(value, BaseTrigger):  # a combination of others, perhaps
        yield from _classes_in(getattr(value, "triggers", ()))
