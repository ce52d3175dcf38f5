"""What a start does about declared jobs; the rules are in :mod:`apscheduler.declarations`."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any, NamedTuple

from apscheduler.declared_job import DeclaredJob
from apscheduler.events import EVENT_JOB_MODIFIED, EVENT_JOB_REMOVED
from apscheduler.job import Job
from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
from apscheduler.jobstores.contract import StoredJob
from apscheduler.problems import ProblemList
from apscheduler.util import utc_timestamp_to_datetime

if TYPE_CHECKING:
    from apscheduler.schedulers.base import BaseScheduler

# A change is computed anew when somebody else changed the job in between; so often in a row is no coincidence.
MAX_TRIES = 100

logger = logging.getLogger("apscheduler.scheduler")

# What is written of a changed declaration besides function and schedule.
ATTRIBUTES = (
    "args",
    "kwargs",
    "name",
    "executor",
    "misfire_grace_time",
    "coalesce",
    "max_instances",
    "on_lost",
    "max_attempts",
    "history",
)


class Origin(NamedTuple):
    """Which configuration a job was declared by, as it is kept beside the job."""

    name: str
    stamp: str

    @classmethod
    def parse(cls, text: str | None) -> "Origin | None":
        """Return the origin of a stored job, None if it was not declared."""
        if text is None:
            return None
        name, _, stamp = text.rpartition("@")
        return cls(name, stamp)

    def __str__(self) -> str:
        return f"{self.name}@{self.stamp}"

    @property
    def age(self) -> tuple[Any, ...]:
        """A key that sorts older configurations first."""
        kind, _, value = self.stamp.partition(" ")
        if kind == "version":
            parts = re.split(r"([0-9]+)", value)
            return 2, [(1, int(p), "") if p.isdecimal() else (0, 0, p) for p in parts]
        return (1, float(value)) if kind == "modified" else (0,)

    def describe_stamp(self, zone: tzinfo) -> str:
        """Return the stamp for people."""
        kind, _, value = self.stamp.partition(" ")
        if kind == "modified":
            return (
                f"modified {utc_timestamp_to_datetime(float(value)).astimezone(zone)}"
            )
        return self.stamp or "without version"


@dataclass
class Outcome:
    """What a start has done about the declared jobs, as lists of job ids.

    :ivar over: not added, because their only run time has passed
    :ivar left: not added, changed or removed, because a newer configuration has been applied
    """

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    over: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


class Synchronisation:
    """One start of a scheduler, as far as declared jobs are concerned.

    :param origin: the configuration that declares them
    :param jobs: what it declares, and the jobs made of that
    """

    def __init__(
        self,
        scheduler: "BaseScheduler",
        origin: Origin,
        jobs: Sequence[tuple[DeclaredJob, Job]],
    ):
        self.outcome = Outcome()
        self.origin = origin
        self._scheduler = scheduler
        self._jobs = jobs
        # (alias, job id) → origin of all stored jobs, also of those whose function is gone.
        self._origins = {
            (alias, record.id): Origin.parse(record.origin)
            for alias in list(scheduler._jobstores)
            for record in scheduler._native_store(alias).get_job_records()
        }

    def check_conflicts(self, problems: ProblemList) -> None:
        """Find jobs of others with the id of a declared one, before anything is written.

        :raises ConfigurationError: if there are any
        """
        for declared, _ in self._jobs:
            place = declared.jobstore, declared.id
            if place not in self._origins or declared.replace_existing:
                continue
            origin = self._origins[place]
            if origin is not None and origin.name == self.origin.name:
                continue
            if origin is None:
                owner = "was added by a program"
            else:
                owner = f"is declared by the configuration {origin.name!r}"
            problems.add(
                declared.section,
                None,
                f"the job store {declared.jobstore!r} has a job {declared.id!r} that {owner}: choose another id, "
                "or take it over with 'replace_existing = true'",
            )
        problems.raise_fatal()

    def carry_out(self) -> None:
        """Add, change and remove jobs, unless a newer configuration has been applied."""
        found = {
            place: origin
            for place, origin in self._origins.items()
            if origin is not None and origin.name == self.origin.name
        }
        newest = max(found.values(), key=lambda origin: origin.age, default=None)
        if newest is not None and newest.age > self.origin.age:
            self._stand_back(found, newest)
            return
        wanted = {(declared.jobstore, declared.id) for declared, _ in self._jobs}
        for alias, job_id in found:
            if (alias, job_id) not in wanted:
                self._remove(alias, job_id)
        for declared, job in self._jobs:
            self._settle(declared, job)
        outcome = self.outcome
        logger.info(
            "Jobs declared by %r: %d added, %d changed, %d kept, %d removed",
            self.origin.name,
            len(outcome.added),
            len(outcome.changed),
            len(outcome.kept),
            len(outcome.removed),
        )

    def _stand_back(
        self,
        found: Mapping[tuple[str, str], Origin],
        newest: Origin,
    ) -> None:
        """Leave everything to the newer configuration, and say so if that makes a difference."""
        declared = {(entry.jobstore, entry.id): job for entry, job in self._jobs}
        ids = sorted({job_id for _, job_id in (*found, *declared)})
        if declared.keys() == found.keys() and all(
            _is_same(self._scheduler, place, job) for place, job in declared.items()
        ):
            self.outcome.kept = ids
            return
        self.outcome.left = ids
        zone = self._scheduler.timezone
        logger.warning(
            "The configuration %r (%s) is older than the one that was applied last (%s): the declared jobs stay as "
            "they are. If it is not older, give it a higher 'version' in [apscheduler]",
            self.origin.name,
            self.origin.describe_stamp(zone),
            newest.describe_stamp(zone),
        )

    def _remove(self, alias: str, job_id: str) -> None:
        """Remove a job whose declaration is gone, unless somebody else has made it theirs meanwhile."""
        store = self._scheduler._native_store(alias)
        for _ in range(MAX_TRIES):
            try:
                stored = store.read_job(job_id)
            except Exception:  # its function is gone as well, as is to be expected
                try:
                    store.remove_job(job_id)
                except JobLookupError:
                    return
                break
            if stored is None or not self._owns(stored.job):
                return
            if store.discard_job(stored):
                break
        else:
            raise _too_many_tries(job_id)
        self.outcome.removed.append(job_id)
        self._scheduler._tell_of_job(EVENT_JOB_REMOVED, job_id, alias)
        logger.info(
            "Removed job %s: %r declares it no longer", job_id, self.origin.name
        )

    def _owns(self, job: Job) -> bool:
        """Whether a stored job was declared by this configuration, and not by a newer version of it."""
        origin = Origin.parse(job._origin)
        return (
            origin is not None
            and origin.name == self.origin.name
            and origin.age <= self.origin.age
        )

    def _may_change(self, job: Job, declared: DeclaredJob) -> bool:
        origin = Origin.parse(job._origin)
        if origin is not None and origin.name == self.origin.name:
            return origin.age <= self.origin.age
        return declared.replace_existing

    def _settle(self, declared: DeclaredJob, job: Job) -> None:
        """Bring one job in step."""
        store = self._scheduler._native_store(declared.jobstore)
        for _ in range(MAX_TRIES):
            try:
                stored = store.read_job(job.id)
            except Exception:  # it refers to what an earlier version had
                if self._replace(declared, job):
                    return
                continue
            if stored is None:
                if self._add(declared, job):
                    return
                continue
            if not self._may_change(stored.job, declared):
                self.outcome.left.append(job.id)  # somebody was faster
                return
            if self._update(stored, declared, job):
                return
        raise _too_many_tries(job.id)

    def _add(self, declared: DeclaredJob, job: Job) -> bool:
        if not declared.timed and _is_over(self._scheduler, job):
            logger.warning(
                "The declared job %r is not added: its trigger (%s) has no run time from now on",
                job.id,
                job.trigger,
            )
            self.outcome.over.append(job.id)
            return True
        try:
            self._scheduler._real_add_job(job, declared.jobstore, False)
        except ConflictingIdError:  # another scheduler was faster
            return False
        self.outcome.added.append(job.id)
        return True

    def _update(
        self,
        stored: StoredJob,
        declared: DeclaredJob,
        job: Job,
    ) -> bool:
        """Change a job to what is declared now; return False if somebody else has changed it meanwhile."""
        store = self._scheduler._native_store(declared.jobstore)
        is_kept = stored.job._declaration == job._declaration
        if is_kept and stored.job._origin == job._origin:
            self.outcome.kept.append(job.id)
            return True
        changes: dict[str, Any] = {}
        if not is_kept:
            changes = {name: getattr(job, name) for name in ATTRIBUTES}
            changes["func"] = job.func_ref
            # With the same schedule it keeps its next run time, and stays paused if it is.
            if _schedule_of(stored.job) != _schedule_of(job):
                changes["trigger"] = job.trigger
                changes["next_run_time"] = _next_run_time(
                    self._scheduler, declared, job
                )
        before = stored.job._origin, stored.job._declaration
        stored.job._origin, stored.job._declaration = job._origin, job._declaration
        if not store.change_job(stored, changes):
            # The memory store hands out the job itself.
            stored.job._origin, stored.job._declaration = before
            return False
        if is_kept:
            self.outcome.kept.append(job.id)
        else:
            self._announce_change(declared, job)
        return True

    def _replace(self, declared: DeclaredJob, job: Job) -> bool:
        """Replace a job that cannot be restored; return False if it is gone."""
        defaults = {
            name: value
            for name, value in self._scheduler._job_defaults.items()
            if not hasattr(job, name)
        }
        job._modify(
            next_run_time=_next_run_time(self._scheduler, declared, job), **defaults
        )
        try:
            self._scheduler._native_store(declared.jobstore).update_job(job)
        except JobLookupError:
            return False
        self._announce_change(declared, job)
        return True

    def _announce_change(self, declared: DeclaredJob, job: Job) -> None:
        self.outcome.changed.append(job.id)
        logger.info("Changed job %s to what %r declares", job.id, self.origin.name)
        self._scheduler._tell_of_job(EVENT_JOB_MODIFIED, job.id, declared.jobstore)


def _is_same(scheduler: "BaseScheduler", place: tuple[str, str], job: Job) -> bool:
    """Return whether what is stored was declared just like this job."""
    alias, job_id = place
    try:
        stored = scheduler._native_store(alias).read_job(job_id)
    except Exception:  # it refers to something that is not here
        return False
    return stored is not None and stored.job._declaration == job._declaration


def _schedule_of(job: Job) -> str | None:
    """Return the part of a job's declaration that says when it runs."""
    return None if job._declaration is None else job._declaration.partition(".")[0]


def _next_run_time(
    scheduler: "BaseScheduler", declared: DeclaredJob, job: Job
) -> datetime | None:
    if declared.timed:
        return job.next_run_time
    return scheduler._first_fire_time(job.trigger)


def _is_over(scheduler: "BaseScheduler", job: Job) -> bool:
    """Return whether the trigger has no run time from now on."""
    first = scheduler._first_fire_time(job.trigger)
    return first is None or scheduler._is_over(job.trigger, first)


def _too_many_tries(job_id: str) -> RuntimeError:
    return RuntimeError(
        f"Declared job {job_id!r} could not be written: it was changed by somebody else {MAX_TRIES} times in a row"
    )
