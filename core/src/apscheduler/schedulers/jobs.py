"""What can be done with jobs: change, list, remove, move."""

import sys
from abc import abstractmethod
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TextIO

from apscheduler.events import (
    EVENT_ALL_JOBS_REMOVED,
    EVENT_JOB_ADDED,
    EVENT_JOB_MODIFIED,
    EVENT_JOB_REMOVED,
    SchedulerEvent,
)
from apscheduler.job import Job
from apscheduler.jobstores.base import JobLookupError
from apscheduler.jobstores.contract import StoredJob
from apscheduler.schedulers.adding import MAX_TRIES, AddMethods
from apscheduler.schedulers.components import (
    STATE_RUNNING,
    STATE_STOPPED,
)
from apscheduler.triggers.base import BaseTrigger
from apscheduler.util import no_signature

if TYPE_CHECKING:
    from apscheduler.schedulers.signatures import reschedule_job_signature
else:
    reschedule_job_signature = no_signature

# The record that a change by this thread was computed from, if it may be made to no other. Beside the arguments of
# the methods, which subclasses may override as they are.
computed_from: ContextVar[StoredJob | None] = ContextVar(
    "apscheduler_computed_from", default=None
)


class _RecordChangedError(Exception):
    """The record is not the one that a change was computed from."""


class JobMethods(AddMethods):
    """The job methods of :class:`BaseScheduler`."""

    # Changing

    def modify_job(
        self, job_id: str, jobstore: str | None = None, **changes: Any
    ) -> Job:
        """Change attributes of a job and return it; a new trigger does not change the next run time.

        :param jobstore: alias of its store; None: look in all
        :raises JobLookupError: if there is no such job
        """
        job, alias = self._lookup_job(job_id, jobstore)
        if alias is None:
            job._modify(**changes)
        else:
            job = self._change_stored(job, alias, changes)
        self._tell_of_job(EVENT_JOB_MODIFIED, job_id, alias)
        if alias is not None:
            driver = self._engine.drivers.get(alias)
            if driver is not None:  # else the store was removed meanwhile
                driver.selection.release_holds(job_id)
        if self.state == STATE_RUNNING:
            self.wakeup()
        return job

    def _change_stored(self, job: Job, alias: str, changes: dict[str, Any]) -> Job:
        """Change a job in its store, from its latest record."""
        store = self._native_store(alias)
        read = _take_computed_from(job.id)
        for _ in range(MAX_TRIES):
            stored = StoredJob(job, getattr(job, "_token", None))
            if read is not None and stored.token != read.token:
                raise _RecordChangedError
            if store.change_job(stored, changes):
                return job
            job, _ = self._lookup_job(job.id, alias)
        raise _too_busy(job.id)

    @reschedule_job_signature
    def reschedule_job(
        self,
        job_id: str,
        jobstore: str | None = None,
        trigger: BaseTrigger | str | None = None,
        **trigger_args: Any,
    ) -> Job:
        """Give a job another trigger and the first run time of that, and return it; a paused job becomes active.

        :raises JobLookupError: if there is no such job
        """
        new_trigger = self._create_trigger(trigger, trigger_args)
        next_run_time = self._first_fire_time(new_trigger)
        if next_run_time is None:
            self._logger.warning(
                "Job %r will never run: its new trigger (%s) has no fire time from now on",
                job_id,
                new_trigger,
            )
        return self.modify_job(
            job_id, jobstore, trigger=new_trigger, next_run_time=next_run_time
        )

    def pause_job(self, job_id: str, jobstore: str | None = None) -> Job:
        """Have a job not run until it is resumed, and return it.

        :raises JobLookupError: if there is no such job
        """
        return self.modify_job(job_id, jobstore, next_run_time=None)

    def resume_job(self, job_id: str, jobstore: str | None = None) -> Job | None:
        """Schedule a job from now on and return it; one whose schedule is over is removed, and None returned.

        :raises JobLookupError: if there is no such job
        """
        for _ in range(MAX_TRIES):
            job, alias = self._lookup_job(job_id, jobstore)
            next_run_time = self._first_fire_time(job.trigger)
            if alias is None:  # it is pending
                alias = jobstore
            # Only on the record that the time was computed from: somebody may reschedule the job meanwhile.
            computed_from.set(StoredJob(job, getattr(job, "_token", None)))
            try:
                if next_run_time is None:
                    self.remove_job(job.id, alias)
                    return None
                return self.modify_job(job_id, alias, next_run_time=next_run_time)
            except _RecordChangedError:
                continue
            finally:
                computed_from.set(None)
        raise _too_busy(job_id)

    # Looking

    def get_jobs(
        self, jobstore: str | None = None, pending: bool | None = None
    ) -> list[Job]:
        """Return the jobs of one store or all; before the start, the pending ones.

        :param jobstore: alias of a store
        :param pending: without meaning
        """
        if pending is not None:
            import warnings

            warnings.warn(
                'The "pending" option is deprecated -- get_jobs() always returns scheduled jobs if the scheduler '
                "has been started and pending jobs otherwise",
                DeprecationWarning,
                stacklevel=2,
            )
        if self.state == STATE_STOPPED:
            return [
                job
                for job, alias, _ in self._pending_jobs
                if jobstore is None or alias == jobstore
            ]
        jobs: list[Job] = []
        for alias in self._matching_stores(jobstore):
            jobs.extend(self._native_store(alias).get_all_jobs())
        return jobs

    def get_job(self, job_id: str, jobstore: str | None = None) -> Job | None:
        """Return the job with this identifier, or None if there is none.

        :param jobstore: alias of its store; None: look in all
        """
        try:
            return self._lookup_job(job_id, jobstore)[0]
        except JobLookupError:
            return None

    def _lookup_job(
        self, job_id: str, jobstore_alias: str | None
    ) -> tuple[Job, str | None]:
        """Return a job and the alias of its store, None for a pending job.

        :raises JobLookupError: if there is no such job
        """
        if self.state == STATE_STOPPED:
            found = [entry for entry in self._pending_jobs if entry[0].id == job_id]
            # As in APScheduler 3, the store need not be the right one as long as it is not written to.
            found.sort(key=lambda entry: entry[1] != jobstore_alias)
            if found:
                return found[0][0], None
        else:
            for alias in self._matching_stores(jobstore_alias):
                stored = self._native_store(alias).read_job(job_id)
                if stored is not None:
                    if type(stored.job) is Job:
                        stored.job._token = stored.token
                    return stored.job, alias
        raise JobLookupError(job_id)

    def _matching_stores(self, jobstore: str | None) -> list[str]:
        # Copied in one step: a listener may add a store while we look through them.
        aliases = list(self._jobstores)
        return aliases if jobstore is None else [a for a in aliases if a == jobstore]

    def print_jobs(
        self, jobstore: str | None = None, out: TextIO | None = None
    ) -> None:
        """Print the jobs of one store or all.

        :param out: where to; default: standard output
        """
        out = out or sys.stdout
        if self.state == STATE_STOPPED:
            print("Pending jobs:", file=out)
            if not self._pending_jobs:
                print("    No pending jobs", file=out)
            for job, alias, _ in self._pending_jobs:
                if jobstore in (None, alias):
                    print(f"    {job}", file=out)
            return
        for alias in sorted(self._matching_stores(jobstore)):
            print(f"Jobstore {alias}:", file=out)
            jobs = self._native_store(alias).get_all_jobs()
            for job in jobs:
                print(f"    {job}", file=out)
            if not jobs:
                print("    No scheduled jobs", file=out)

    # Removing

    def remove_job(self, job_id: str, jobstore: str | None = None) -> None:
        """Remove a job; runs that are going on are not affected.

        :param jobstore: alias of its store; None: look in all
        :raises JobLookupError: if there is no such job
        """
        alias = self._remove_stored(job_id, jobstore)
        self._tell_of_job(EVENT_JOB_REMOVED, job_id, alias)
        self._logger.info("Removed job %s", job_id)

    def _remove_stored(self, job_id: str, jobstore: str | None) -> str:
        if self.state == STATE_STOPPED:
            for index, (job, alias, _) in enumerate(self._pending_jobs):
                if job.id == job_id and jobstore in (None, alias):
                    del self._pending_jobs[index]
                    return alias
            raise JobLookupError(job_id)
        read = _take_computed_from(job_id)
        for alias in self._matching_stores(jobstore):
            if read is not None:
                if not self._native_store(alias).discard_job(read):
                    raise _RecordChangedError
                return alias
            try:
                self._native_store(alias).remove_job(job_id)
            except JobLookupError:
                continue
            return alias
        raise JobLookupError(job_id)

    def remove_all_jobs(self, jobstore: str | None = None) -> None:
        """Remove all jobs of one store or all.

        :param jobstore: alias of a store
        """
        if self.state == STATE_STOPPED:
            self._pending_jobs[:] = [
                entry
                for entry in self._pending_jobs
                if jobstore is not None and entry[1] != jobstore
            ]
        else:
            for alias in self._matching_stores(jobstore):
                self._native_store(alias).remove_all_jobs()
        self._dispatch_event(SchedulerEvent(EVENT_ALL_JOBS_REMOVED, jobstore))

    # Moving

    def export_jobs(self, outfile: Any, jobstore: str | None = None) -> None:
        """Write the jobs of one store or all as JSON.

        :param outfile: a text file, or a path
        :raises RuntimeError: if the scheduler has not been started
        :raises ValueError: if the callable of a job cannot be referred to by name
        """
        if self.state == STATE_STOPPED:
            raise RuntimeError(
                "the scheduler must have been started for job export to work"
            )
        from apscheduler import transfer  # few programs need it

        transfer.write_jobs(self.get_jobs(jobstore), outfile)

    def import_jobs(self, infile: Any, jobstore: str = "default") -> None:
        """Add jobs that :meth:`export_jobs` has written: all of them, or none.

        The file must be trusted, unless the store has an allow-list: that holds for the file as well.

        :param infile: a text file, or a path
        :raises KeyError: if there is no such store
        :raises ValueError: if the file is none that ``export_jobs`` has written
        :raises ConflictingIdError: if there is a job with the id of one of them
        """
        from apscheduler import transfer  # few programs need it

        store = self._native_store(jobstore)
        serializer = getattr(store, "serializer", None)
        jobs = transfer.read_jobs(infile, getattr(serializer, "allowed", None))
        for job in jobs:
            job._scheduler = self  # type: ignore[assignment]  # every instance is a BaseScheduler
            job._jobstore_alias = jobstore
        store.add_jobs(jobs)
        for job in jobs:
            self._tell_of_job(EVENT_JOB_ADDED, job.id, jobstore)
        if self.state == STATE_RUNNING:
            self.wakeup()

    @abstractmethod
    def start(self, paused: bool = False) -> None:
        """Start to process jobs."""


def _take_computed_from(job_id: str) -> StoredJob | None:
    """Return the record that the change to be made was computed from; listeners to it make changes of their own."""
    read = computed_from.get()
    if read is None or read.job.id != job_id:
        return None
    computed_from.set(None)
    return read


def _too_busy(job_id: str) -> RuntimeError:
    return RuntimeError(
        f"Job {job_id!r} could not be changed: it was changed by somebody else {MAX_TRIES} times in a row"
    )
