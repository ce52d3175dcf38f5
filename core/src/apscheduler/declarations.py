"""Jobs that a configuration declares, kept in step with the stores at every start.

A declared job is added when it is new, changed when its declaration has changed, left alone when it has not, and
removed when its declaration is gone. Beside the job its store keeps the *origin*: the name of the configuration and
its stamp. Jobs without an origin, or with that of another configuration, are never touched.

The name is ``name`` in the section ``[apscheduler]``, else the name of the file without its suffix, else
``default``. Different configurations that share a store need different names.

The stamp tells which of two configurations of the same name is newer: ``version`` in the section ``[apscheduler]``
(numbers count as numbers: 1.10 comes after 1.9), else the time the file was modified last. Any version is newer than
any time, and any time newer than nothing, which is what a configuration without a file has. While a new
configuration is rolled out, a scheduler that starts with an older one finds the stamp of the newer one in the store,
leaves every declared job as it is, and says so. The time of the file is enough where files are copied when they are
deployed; give a version where times may lie, as for files in images or fresh checkouts. Of equal stamps the last to
start wins.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

from apscheduler.declared_job import SECTION, DeclaredJob
from apscheduler.events import EVENT_JOB_MODIFIED, JobEvent
from apscheduler.job import Job
from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
from apscheduler.jobstores.contract import StoredJob
from apscheduler.problems import ProblemList, Source

if TYPE_CHECKING:
    from apscheduler.schedulers.base import BaseScheduler

# A change is computed anew when somebody else changed the job in between; so often in a row is no coincidence.
MAX_TRIES = 100

logger = logging.getLogger("apscheduler.scheduler")


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


class Declarations:
    """The jobs that one configuration declares.

    :param jobs: name → section
    :param name: name of the configuration
    :param version: version of the configuration
    :param source: the file it was read from
    :raises ConfigurationError: if a section is not valid by itself
    """

    def __init__(
        self,
        jobs: Mapping[str, Any],
        name: str | None = None,
        version: object = None,
        source: Source | None = None,
    ):
        self.origin = _make_origin(name, version, source)
        self.outcome = Outcome()
        problems = ProblemList(source, jobs)
        self._problems = problems
        if not isinstance(jobs, Mapping):
            problems.add("apscheduler", "jobs", "expected a section for each job", jobs)
            jobs = {}
        self.declared = [DeclaredJob(key, jobs[key], problems) for key in jobs]
        self._check_ids()
        self._jobs: list[tuple[DeclaredJob, Job]] = []
        problems.raise_fatal()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Declarations | None":
        """Return the declarations of a nested configuration; None if it is none that declares jobs.

        A file without declared jobs may have had some before, which are to be removed.
        """
        keys = ("jobs", "name", "version", "source")
        jobs, name, version, source = (config.get(key) for key in keys)
        if jobs is None and source is None and name is None:
            return None
        return cls({} if jobs is None else jobs, name, version, source)

    def _check_ids(self) -> None:
        seen: dict[tuple[str, str], DeclaredJob] = {}
        for declared in self.declared:
            first = seen.setdefault((declared.jobstore, declared.id), declared)
            if first is not declared:
                text = f"[{first.section}] declares a job with this id already"
                self._problems.add(declared.section, "id", text, declared.id)

    def prepare(self, scheduler: "BaseScheduler") -> None:
        """Import functions and make the jobs, before anything is started.

        :raises ConfigurationError: naming what is wrong
        """
        del self._problems.problems[:]
        made = [(declared, declared.make(scheduler)) for declared in self.declared]
        self._problems.raise_fatal()
        self._jobs = [(declared, job) for declared, job in made if job is not None]
        for _, job in self._jobs:
            job._origin = str(self.origin)

    def synchronise(self, scheduler: "BaseScheduler") -> None:
        """Add, change and remove jobs so that the stores hold what is declared.

        Any number of schedulers may do this at the same time, with the result of one of them.

        :raises ConfigurationError: if a declared job has the id of a job that was not declared here
        """
        self.outcome = Outcome()
        origins = self._read_origins(scheduler)
        self._check_conflicts(scheduler, origins)
        found = {
            place: origin
            for place, origin in origins.items()
            if origin is not None and origin.name == self.origin.name
        }
        newest = max(found.values(), key=lambda origin: origin.age, default=None)
        if newest is not None and newest.age > self.origin.age:
            self._stand_back(scheduler, found, newest)
            return
        wanted = {(declared.jobstore, declared.id) for declared, _ in self._jobs}
        for alias, job_id in found:
            if (alias, job_id) not in wanted:
                self._remove(scheduler, alias, job_id)
        for declared, job in self._jobs:
            self._settle(scheduler, declared, job)
        outcome = self.outcome
        logger.info(
            "Jobs declared by %r: %d added, %d changed, %d kept, %d removed",
            self.origin.name,
            len(outcome.added),
            len(outcome.changed),
            len(outcome.kept),
            len(outcome.removed),
        )

    def _read_origins(
        self, scheduler: "BaseScheduler"
    ) -> dict[tuple[str, str], Origin | None]:
        """Return (alias, job id) → origin of all stored jobs, also of those whose function is gone."""
        return {
            (alias, record.id): Origin.parse(record.origin)
            for alias in list(scheduler._jobstores)
            for record in scheduler._native_store(alias).get_job_records()
        }

    def _check_conflicts(
        self,
        scheduler: "BaseScheduler",
        origins: Mapping[tuple[str, str], Origin | None],
    ) -> None:
        """Find jobs of others with the id of a declared one, before anything is written."""
        problems = ProblemList(self._problems.source, {})
        for declared, _ in self._jobs:
            place = declared.jobstore, declared.id
            if place not in origins or declared.replace_existing:
                continue
            origin = origins[place]
            if origin is None or origin.name != self.origin.name:
                owner = (
                    "was added by a program"
                    if origin is None
                    else f"is declared by the configuration {origin.name!r}"
                )
                problems.add(
                    declared.section,
                    None,
                    f"the job store {declared.jobstore!r} has a job {declared.id!r} that {owner}: choose another id, "
                    "or take it over with 'replace_existing = true'",
                )
        problems.raise_fatal()

    def _stand_back(
        self,
        scheduler: "BaseScheduler",
        found: Mapping[tuple[str, str], Origin],
        newest: Origin,
    ) -> None:
        """Leave everything to the newer configuration, and say so if that makes a difference."""
        declared = {(entry.jobstore, entry.id): job for entry, job in self._jobs}
        ids = sorted({job_id for _, job_id in (*found, *declared)})
        if declared.keys() == found.keys() and all(
            _is_same(scheduler, place, job) for place, job in declared.items()
        ):
            self.outcome.kept = ids
            return
        self.outcome.left = ids
        logger.warning(
            "The configuration %r (%s) is older than the one that was applied last (%s): the declared jobs stay as "
            "they are. If it is not older, give it a higher 'version' in [apscheduler]",
            self.origin.name,
            self.origin.stamp or "without version",
            newest.stamp,
        )

    def _remove(self, scheduler: "BaseScheduler", alias: str, job_id: str) -> None:
        """Remove a job whose declaration is gone, unless somebody else has made it theirs meanwhile."""
        store = scheduler._native_store(alias)
        for _ in range(MAX_TRIES):
            try:
                stored = store.read_job(job_id)
            except Exception:  # noqa: BLE001  # its function is gone as well, as is to be expected
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
        scheduler._announce_removal(job_id, alias)
        logger.info("Removed job %s: %r declares it no longer", job_id, self.origin.name)

    def _owns(self, job: Job) -> bool:
        """Whether a stored job was declared by this configuration, and not by a newer version of it."""
        origin = Origin.parse(job._origin)
        return (
            origin is not None
            and origin.name == self.origin.name
            and origin.age <= self.origin.age
        )

    def _settle(
        self, scheduler: "BaseScheduler", declared: DeclaredJob, job: Job
    ) -> None:
        """Bring one job in step."""
        store = scheduler._native_store(declared.jobstore)
        for _ in range(MAX_TRIES):
            try:
                stored = store.read_job(job.id)
            except Exception:  # noqa: BLE001  # it refers to what an earlier version had
                if self._replace(scheduler, declared, job):
                    return
                continue
            if stored is None:
                if self._add(scheduler, declared, job):
                    return
                continue
            if not self._owns(stored.job) and not declared.replace_existing:
                self.outcome.left.append(job.id)  # somebody was faster
                return
            if self._update(scheduler, stored, declared, job):
                return
        raise _too_many_tries(job.id)

    def _add(
        self, scheduler: "BaseScheduler", declared: DeclaredJob, job: Job
    ) -> bool:
        if not declared.timed and _is_over(scheduler, job):
            logger.warning(
                "The declared job %r is not added: its trigger (%s) has no run time from now on",
                job.id,
                job.trigger,
            )
            self.outcome.over.append(job.id)
            return True
        try:
            scheduler._real_add_job(job, declared.jobstore, False)
        except ConflictingIdError:  # another scheduler was faster
            return False
        self.outcome.added.append(job.id)
        return True

    def _update(
        self,
        scheduler: "BaseScheduler",
        stored: StoredJob,
        declared: DeclaredJob,
        job: Job,
    ) -> bool:
        """Change a job to what is declared now; return False if somebody else has changed it meanwhile."""
        store = scheduler._native_store(declared.jobstore)
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
                changes["next_run_time"] = _next_run_time(scheduler, declared, job)
        before = stored.job._origin, stored.job._declaration
        stored.job._origin, stored.job._declaration = job._origin, job._declaration
        if not store.change_job(stored, changes):
            # The memory store hands out the job itself.
            stored.job._origin, stored.job._declaration = before
            return False
        if is_kept:
            self.outcome.kept.append(job.id)
        else:
            self._announce_change(scheduler, declared, job)
        return True

    def _replace(
        self, scheduler: "BaseScheduler", declared: DeclaredJob, job: Job
    ) -> bool:
        """Replace a job that cannot be restored; return False if it is gone."""
        defaults = {
            name: value
            for name, value in scheduler._job_defaults.items()
            if not hasattr(job, name)
        }
        job._modify(next_run_time=_next_run_time(scheduler, declared, job), **defaults)
        try:
            scheduler._native_store(declared.jobstore).update_job(job)
        except JobLookupError:
            return False
        self._announce_change(scheduler, declared, job)
        return True

    def _announce_change(
        self, scheduler: "BaseScheduler", declared: DeclaredJob, job: Job
    ) -> None:
        self.outcome.changed.append(job.id)
        logger.info("Changed job %s to what %r declares", job.id, self.origin.name)
        event = JobEvent(EVENT_JOB_MODIFIED, job.id, declared.jobstore)
        scheduler._dispatch_event(event)


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


def _make_origin(name: str | None, version: object, source: Source | None) -> Origin:
    if name is None:
        name = "default" if source is None else PurePath(source.path).stem
    if version is not None and str(version):
        return Origin(str(name), f"version {version}")
    return Origin(str(name), "" if source is None else f"modified {source.modified}")


def _is_same(scheduler: "BaseScheduler", place: tuple[str, str], job: Job) -> bool:
    """Return whether what is stored was declared just like this job."""
    alias, job_id = place
    try:
        stored = scheduler._native_store(alias).read_job(job_id)
    except Exception:  # noqa: BLE001  # it refers to something that is not here
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
    now = scheduler._now()
    first = scheduler._first_fire_time(job.trigger)
    if first is None:
        return True
    return first < now and job.trigger.get_next_fire_time(first, now) is None


def _too_many_tries(job_id: str) -> RuntimeError:
    return RuntimeError(
        f"Declared job {job_id!r} could not be written: it was changed by somebody else {MAX_TRIES} times in a row"
    )
