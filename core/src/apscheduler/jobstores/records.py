"""What can be said of a stored job without importing its function or the classes of its arguments."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from apscheduler.job import NEW_OPTIONS
from apscheduler.jobstores.contract import DETAILS, JobRecord
from apscheduler.jobstores.restore import check_identity
from apscheduler.serializers import Serializer, SignatureError
from apscheduler.triggers.base import BaseTrigger


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
        try:
            document = serializer.describe(data)
        except SignatureError as exc:
            record.error = _describe(exc)
            if exc.claimed is None:
                return record
            document = exc.claimed
        _fill(record, unwrap(document))
    except Exception as exc:  # damaged bytes may raise anything
        record.error = record.error or _describe(exc)
    return record


def _fill(record: JobRecord, state: dict[str, Any]) -> None:
    record.name, record.func = state["name"], state["func"]
    record.origin = state.get("origin")
    record.details = {name: state.get(name, NEW_OPTIONS.get(name)) for name in DETAILS}
    trigger = state["trigger"]
    if isinstance(trigger, BaseTrigger):
        record.trigger = str(trigger)
    else:
        record.trigger = type(trigger).__qualname__
    check_identity(record.id, state["id"])


def _describe(error: Exception | None) -> str | None:
    return None if error is None else f"{type(error).__name__}: {error}"
