"""From stored bytes to jobs: each state is unpickled once, and what cannot be restored is set aside."""

import copy
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from types import MethodType
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from apscheduler.callables import ref_to_obj
from apscheduler.job import Job
from apscheduler.records import copier, record
from apscheduler.triggers.base import COPIERS, BaseTrigger
from apscheduler.util import utc_timestamp_to_datetime

# How many states are remembered.
CACHE_SIZE = 10_000
# A job that could not be restored is tried again after this time, unless its state has changed.
RETRY_SECONDS = 30.0

ATOMS = frozenset(
    (
        *(type(None), bool, int, float, complex, str, bytes),
        *(date, datetime, timedelta, timezone, ZoneInfo, Decimal, UUID),
    )
)

copy_of = copier(Job)


@record
class _Known:
    """What is known of a job that was read.

    :ivar job: what it is copied from; nobody else has it
    :ivar is_copied: whether the arguments can be changed, so that every copy needs its own
    :ivar copy_trigger: makes another trigger; None if only reading the bytes again does
    """

    data: bytes
    job: Job
    is_copied: bool
    copy_trigger: Callable[[Any], BaseTrigger] | None


class _Failure(NamedTuple):
    data: bytes
    error: Exception
    retry_at: float


class Restorer:
    """Makes jobs from their stored state.

    :param load: makes a job of stored bytes
    :param loads: makes a state of stored bytes; None if jobs can only be made by ``load``
    :param link: tells a job which scheduler and store it belongs to
    :param is_exact: tells whether reading a state gives back what was written, so that it need not be read
    """

    def __init__(
        self,
        load: Callable[[bytes], Job],
        loads: Callable[[bytes], dict[str, Any]] | None,
        link: Callable[[Job], None],
        is_exact: Callable[[], bool],
    ):
        self.logger = logging.getLogger("apscheduler.jobstores")
        self._load = load
        self._loads = loads
        self._link = link
        self._is_exact = is_exact
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._failures: dict[str, _Failure] = {}

    def restore(self, job_id: str, data: bytes, timestamp: float | None) -> Job:
        """Return a job that shares nothing with others.

        :param timestamp: its next run time, which the copy inside the state gives way to
        :raises Exception: whatever unpickling and looking up the function raise
        """
        known = self._known.get(job_id)
        if known and known.data == data and known.copy_trigger:
            job = self._make_copy(known)
            job.trigger = known.copy_trigger(job.trigger)
        else:
            job = self._read(job_id, data)
            # What is due, and likely to be again, is not to give way to a look at everything.
            has_room = known is not None or len(self._known) < CACHE_SIZE
            copy_trigger = COPIERS.get(type(job.trigger))
            if has_room and copy_trigger and self._can_keep(job):
                self._keep(job, data, copy_trigger)
        set_next_run_time(job, timestamp)
        if self._failures:
            self._failures.pop(job_id, None)
        return job

    def restore_all(
        self, records: Iterable[tuple[str, bytes, float | None]]
    ) -> list[Job]:
        """Return the jobs of records given as identifier, bytes and run time.

        Without those that cannot be restored, which is logged once per state.
        """
        jobs: list[Job] = []
        for job_id, data, timestamp in records:
            try:
                jobs.append(self.restore(job_id, data, timestamp))
            except Exception as exc:
                self.set_aside(job_id, data, exc)
        return jobs

    def restore_due(self, job_id: str, data: bytes, timestamp: float) -> Job | None:
        """Return a due job, for planning and running it only: its trigger may be shared with other copies.

        None if it cannot be restored; it is tried again after a while.
        """
        failure = self._failures.get(job_id)
        if failure is not None and failure.data == data and _is_early(failure):
            return None
        try:
            job = self._from_cache(job_id, data)
            set_next_run_time(job, timestamp)
        except Exception as exc:
            self.set_aside(job_id, data, exc)
            return None
        if failure is not None:
            self._failures.pop(job_id, None)
        return job

    def restore_copy(self, job_id: str, run_id: str, data: bytes) -> Job | None:
        """Return the job of a ready run from the copy that was kept with the run, None if that cannot be restored."""
        failure = self._failures.get(run_id)
        if failure is not None and _is_early(failure):
            return None
        try:
            job = self._read(job_id, data)
        except Exception as exc:
            self.set_aside(job_id, data, exc, key=run_id)
            return None
        self._failures.pop(run_id, None)
        return job

    def learn(self, job: Job, data: bytes) -> None:
        """Remember what was just written of a job, so that it need not be unpickled while others wait for a claim."""
        if not self._can_keep(job):
            return
        try:
            copy_trigger = COPIERS.get(type(job.trigger))
            if copy_trigger and self._is_exact():
                self._keep(job, data, copy_trigger)
                return
            known = _know(data, self._read(job.id, data))
        except Exception:  # whoever claims the job says so
            return
        if not known.is_copied:
            self._remember(job.id, known)

    def retry_delay(self) -> float | None:
        """Return in how many seconds the first job that was set aside is to be tried again."""
        now = time.monotonic()
        times = [failure.retry_at for failure in list(self._failures.values())]
        # One whose time has come was tried again by now, or is not due any more.
        return min((time - now for time in times if time > now), default=None)

    def error_of(self, job_id: str, data: bytes) -> Exception | None:
        """Return why the job could not be restored when that was last tried."""
        failure = self._failures.get(job_id)
        return failure.error if failure and failure.data == data else None

    def forget(self, job_id: str | None = None) -> None:
        """Forget what is known of a job, or of all."""
        if job_id is None:
            self._known.clear()
            self._failures.clear()
        else:
            self._known.pop(job_id, None)
            self._failures.pop(job_id, None)

    def forget_failures(self) -> None:
        """Try again at once what could not be restored."""
        self._failures.clear()

    def _from_cache(self, job_id: str, data: bytes) -> Job:
        known = self._known.get(job_id)
        if known is None or known.data != data:
            job = self._read(job_id, data)
            if self._loads is None:
                return job
            known = _know(data, job)
            if known.is_copied and not _is_plain((job.args, job.kwargs)):
                # Objects of the user's classes: only unpickling makes another one.
                return job
            self._remember(job_id, known)
        return self._make_copy(known)

    def _read(self, job_id: str, data: bytes) -> Job:
        """Return the job of stored bytes."""
        if self._loads is None:
            job = self._load(data)
        else:
            job = self._make(self._loads(data))
        check_identity(job_id, job.id)
        return job

    def _make(self, state: dict[str, Any]) -> Job:
        job = Job.__new__(Job)
        job.__setstate__(state)
        self._link(job)
        return job

    def _make_copy(self, known: _Known) -> Job:
        """Return a copy of a known job: only the trigger is shared with others."""
        job = copy_of(known.job)
        # What it leads to may be another one by now. Where jobs are read without their code, a text stands for it.
        if isinstance(job.func_ref, str) and not isinstance(job.func, str):
            job.func = ref_to_obj(job.func_ref)
        if known.is_copied:
            job.args, job.kwargs = copy.deepcopy((job.args, job.kwargs))
        else:
            job.kwargs = dict(job.kwargs)
        self._link(job)
        return job

    def _can_keep(self, job: Job) -> bool:
        """Return whether there is nothing to a job that would have to be made again for each copy, besides its trigger."""
        # The object of a method becomes an argument, and nobody expects another one to be made now.
        return (
            self._loads is not None
            and not isinstance(job.func, MethodType)
            and _are_immutable(job.args, job.kwargs)
        )

    def _keep(
        self, job: Job, data: bytes, copy_trigger: Callable[[Any], BaseTrigger]
    ) -> None:
        """Remember a copy of a job that somebody else has, and may change."""
        copied = copy_of(job)
        copied.trigger = copy_trigger(job.trigger)
        copied.kwargs = dict(job.kwargs)
        self._remember(job.id, _Known(data, copied, False, copy_trigger))

    def _remember(self, job_id: str, known: _Known) -> None:
        self._known[job_id] = known
        if len(self._known) > CACHE_SIZE:
            try:
                self._known.popitem(last=False)
            except KeyError:  # another thread was faster
                pass

    def set_aside(
        self, job_id: str, data: bytes, exc: Exception, key: str | None = None
    ) -> None:
        """Leave the job alone for a while: it cannot be restored from these bytes, or not be written again."""
        key = key or job_id
        failure = self._failures.get(key)
        if failure is None or failure.data != data:
            self.logger.error(
                "Unable to restore job %r; it stays in the store and is left alone until it can be restored",
                job_id,
                exc_info=exc,
            )
        retry_at = time.monotonic() + RETRY_SECONDS
        # Without its traceback, which would keep the frames and what they refer to alive.
        error = exc.with_traceback(None)
        self._failures[key] = _Failure(data, error, retry_at)


def _is_early(failure: _Failure) -> bool:
    return time.monotonic() < failure.retry_at


def check_identity(job_id: str, found: object) -> None:
    """Raise an error if a record holds the state of another job: a signature does not tell where it was put.

    :raises ValueError: if it does
    """
    if found != job_id:
        raise ValueError(
            f"The record of job {job_id!r} holds the state of another one, {found!r}"
        )


def _know(data: bytes, job: Job) -> _Known:
    """Return what is to be known of a job that was just read."""
    is_copied = not _are_immutable(job.args, job.kwargs)
    return _Known(data, job, is_copied, COPIERS.get(type(job.trigger)))


def set_next_run_time(job: Job, timestamp: float | None) -> None:
    """Put the run time on the job, in the zone in which the job thinks."""
    if timestamp is None:
        job.next_run_time = None
        return
    stored = job.next_run_time
    if stored is not None and stored.timestamp() == timestamp:
        return
    zone: tzinfo | None = (
        stored.tzinfo if stored is not None else getattr(job.trigger, "timezone", None)
    )
    job.next_run_time = utc_timestamp_to_datetime(timestamp).astimezone(zone or UTC)


def _are_immutable(args: Any, kwargs: Any) -> bool:
    """Return whether several copies of a job may have the same arguments, and the one dict of them a flat copy."""
    return _is_immutable(args) and all(map(_is_immutable, kwargs.values()))


def _is_immutable(value: object) -> bool:
    if type(value) in ATOMS:
        return True
    return type(value) in (tuple, frozenset) and all(
        _is_immutable(item)
        for item in value  # type: ignore[attr-defined]  # both can be iterated over
    )


def _is_plain(value: object) -> bool:
    """Return whether a deep copy is as good as unpickling: nothing but containers and constants."""
    kind = type(value)
    if kind in ATOMS or kind is bytearray:
        return True
    if isinstance(value, dict):
        return kind is dict and all(map(_is_plain, (*value.keys(), *value.values())))
    if isinstance(value, (list, tuple, set, frozenset)):
        plain = kind in (list, tuple, set, frozenset)
        return plain and all(map(_is_plain, value))
    return False
