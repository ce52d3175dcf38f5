"""What can be done with jobs: add, change, list, remove, run now, look at their history."""

import sys
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TextIO, TypeVar

from apscheduler.digest import digest_declaration
from apscheduler.events import (
    EVENT_ALL_JOBS_REMOVED,
    EVENT_JOB_ADDED,
    EVENT_JOB_MODIFIED,
    EVENT_JOB_REMOVED,
    JobEvent,
    SchedulerEvent,
)
from apscheduler.job import Job
from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
from apscheduler.jobstores.contract import NativeJobStore, StoredJob
from apscheduler.nodes import Identity
from apscheduler.planning import first_fire_time
from apscheduler.runs import Run, RunFilter, RunState
from apscheduler.schedulers.components import (
    STATE_RUNNING,
    STATE_STOPPED,
    ComponentRegistry,
)
from apscheduler.triggers.base import BaseTrigger
from apscheduler.util import UndefinedType, timezone_repr, undefined

F = TypeVar("F", bound=Callable[..., Any])

# A change is computed anew when somebody else changed the job in between; so often in a row is no coincidence.
MAX_TRIES = 100


class JobMethods(ComponentRegistry):
    """The job methods of :class:`BaseScheduler`."""

    _job_defaults: dict[str, Any]

    def __init__(self) -> None:
        # (job, alias of its store, whether it replaces one with its id)
        self._pending_jobs: list[tuple[Job, str, bool]] = []
        # Pending jobs that were added without a trigger, and what they got instead: they run when the scheduler starts.
        self._immediate_jobs: list[tuple[Job, BaseTrigger]] = []

    # Adding

    def add_job(
        self,
        func: Callable[..., Any] | str,
        trigger: BaseTrigger | str | None = None,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        id: str | None = None,
        name: str | None = None,
        misfire_grace_time: int | UndefinedType | None = undefined,
        coalesce: bool | UndefinedType = undefined,
        max_instances: int | UndefinedType = undefined,
        next_run_time: datetime | str | UndefinedType | None = undefined,
        jobstore: str = "default",
        executor: str = "default",
        replace_existing: bool = False,
        *,
        on_lost: str | UndefinedType = undefined,
        max_attempts: int | UndefinedType = undefined,
        history: int | UndefinedType | None = undefined,
        **trigger_args: Any,
    ) -> Job:
        """Add a job; before the scheduler is started, it is kept until then. Return it.

        :param func: a callable, or a reference to one (``module:name``)
        :param trigger: a trigger, or the name of one whose arguments are ``trigger_args``; None: run once, now
        :param args: positional arguments
        :param kwargs: keyword arguments
        :param id: identifier, unique in the store; None: a random one
        :param name: what logs and listings call the job; None: the name of the function
        :param misfire_grace_time: seconds a run may be late and still run, None for any lateness
        :param coalesce: whether several late fire times become one run, the last
        :param max_instances: how many runs may be going on at once
        :param next_run_time: first run time in place of the trigger's; None: add the job paused
        :param jobstore: alias of the store to keep it in
        :param executor: alias of the executor to run it
        :param replace_existing: replace a job with this id. If that one was added by the same declaration, and no
            ``next_run_time`` is given, it keeps its next run time and stays paused if it is
        :param on_lost: what to do about a run whose scheduler died: ``"mark"`` it as lost, or ``"retry"`` it
        :param max_attempts: how often one run is started at most, with ``on_lost="retry"``
        :param history: how many finished runs to keep; 0 for none, None for what the store keeps by default
        :raises ConflictingIdError: if there is a job with this id, and it is not to be replaced
        :raises LookupError: if a reference or the trigger's name leads nowhere
        :raises KeyError: if there is no such store
        :raises ValueError: if the arguments do not fit the function
        """
        self._warn_of_traps(args, coalesce)
        declared_args = dict(trigger_args)
        if isinstance(trigger, str):  # the scheduler's own zone is part of it, too
            declared_args.setdefault("timezone", timezone_repr(self.timezone))
        declared = (func, trigger, declared_args, args, kwargs, name)
        options = {
            "misfire_grace_time": misfire_grace_time,
            "coalesce": coalesce,
            "max_instances": max_instances,
            "next_run_time": next_run_time,
            "on_lost": on_lost,
            "max_attempts": max_attempts,
            "history": history,
        }
        given = {key: value for key, value in options.items() if value is not undefined}
        job = Job(
            self,  # type: ignore[arg-type]  # every instance is a BaseScheduler
            id,
            trigger=self._create_trigger(trigger, trigger_args),
            executor=executor,
            func=func,
            args=tuple(args) if args is not None else (),
            kwargs=dict(kwargs) if kwargs is not None else {},
            name=name,
            **given,
        )
        if id:
            rules = {**self._job_defaults, **given}
            job._declaration = digest_declaration(job, *declared, rules, executor)
        # start() takes what is pending and changes the state.
        with self._jobstores_lock:
            is_pending = self.state == STATE_STOPPED
            if is_pending:
                self._pending_jobs.append((job, jobstore, replace_existing))
                if trigger is None:
                    self._immediate_jobs.append((job, job.trigger))
        if is_pending:
            self._logger.info(
                "Adding job tentatively -- it will be properly scheduled when the scheduler starts"
            )
        else:
            self._real_add_job(job, jobstore, replace_existing)
        return job

    def scheduled_job(
        self,
        trigger: BaseTrigger | str,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        id: str | None = None,
        name: str | None = None,
        misfire_grace_time: int | UndefinedType | None = undefined,
        coalesce: bool | UndefinedType = undefined,
        max_instances: int | UndefinedType = undefined,
        next_run_time: datetime | str | UndefinedType | None = undefined,
        jobstore: str = "default",
        executor: str = "default",
        **trigger_args: Any,
    ) -> Callable[[F], F]:
        """Return a decorator that adds the function as a job, replacing one with the same id."""

        def decorate(func: F) -> F:
            self.add_job(
                func,
                trigger,
                args,
                kwargs,
                id,
                name,
                misfire_grace_time,
                coalesce,
                max_instances,
                next_run_time,
                jobstore,
                executor,
                True,
                **trigger_args,
            )
            return func

        return decorate

    def _warn_of_traps(self, args: object, coalesce: object) -> None:
        if isinstance(args, str):
            self._logger.warning(
                "args=%r becomes one argument per character; write args=[%r]",
                args,
                args,
            )
        if isinstance(coalesce, str):
            self._logger.warning(
                "coalesce=%r is a text, which counts as true unless empty", coalesce
            )

    def _add_pending_jobs(self, undo: list[Callable[[], object]]) -> None:
        """Write pending jobs to their stores; each step that is done appends how to undo it."""
        pending = list(self._pending_jobs)
        immediate = list(self._immediate_jobs)
        for job, alias, _ in pending:
            if alias not in self._jobstores:
                raise KeyError(
                    f"Job {job.id!r} ({job.name}) names the job store {alias!r}, which does not exist"
                )
        undo.append(lambda: self._restore_pending(pending, immediate))
        for job, alias, replace_existing in pending:
            # Unless it was given another trigger meanwhile.
            if any(job is j and job.trigger is trigger for j, trigger in immediate):
                job._modify(
                    trigger=self._create_trigger("date", {"run_date": self._now()})
                )
            store = self._native_store(alias)
            before = None
            if replace_existing:
                try:
                    before = store.lookup_job(job.id)
                except (
                    Exception
                ):  # it cannot be restored, so it cannot be put back either
                    self._logger.debug("Job %r is replaced", job.id, exc_info=True)
            unset = [name for name in self._unset_names(job) if not hasattr(job, name)]
            self._real_add_job(job, alias, replace_existing)
            undo.append(
                lambda store=store, job=job, before=before, unset=unset: _undo_add(  # type: ignore[misc]
                    store, job, before, unset
                )
            )
        with self._jobstores_lock:  # other threads may have added more
            del self._pending_jobs[: len(pending)]
            self._immediate_jobs.clear()

    def _restore_pending(
        self,
        pending: list[tuple[Job, str, bool]],
        immediate: list[tuple[Job, BaseTrigger]],
    ) -> None:
        with self._jobstores_lock:
            done = [entry for entry in pending if entry not in self._pending_jobs]
            self._pending_jobs[:0] = done
            self._immediate_jobs[:] = immediate

    def _add_late_jobs(self, late: list[tuple[Job, str, bool]]) -> None:
        """Write the jobs to their stores that other threads have added while the scheduler started."""
        for job, alias, replace_existing in late:
            try:
                self._real_add_job(job, alias, replace_existing)
            except Exception:
                self._logger.exception('Error adding job "%s"', job.name)

    def _unset_names(self, job: Job) -> list[str]:
        return [*self._job_defaults, "next_run_time"]

    def _real_add_job(
        self, job: Job, jobstore_alias: str, replace_existing: bool
    ) -> None:
        """Complete the job by the defaults and write it to its store.

        :raises KeyError: if there is no such store
        :raises ConflictingIdError: if there is a job with its id, and it is not to be replaced
        """
        store = self._native_store(jobstore_alias)
        missing: dict[str, Any] = {
            key: value
            for key, value in self._job_defaults.items()
            if not hasattr(job, key)
        }
        timed = hasattr(job, "next_run_time")
        if not timed:
            missing["next_run_time"] = self._first_fire_time(job.trigger)
            if missing["next_run_time"] is None:
                self._logger.warning(
                    'Job "%s" (%s) will never run: its trigger has no fire time from now on; it is kept as paused',
                    job.name,
                    job.trigger,
                )
        job._modify(**missing)
        if job.executor not in self._executors:
            self._logger.warning(
                'Job "%s" names the executor %r, which does not exist; it runs when there is one',
                job.name,
                job.executor,
            )
        # Before it is in the store: it may run as soon as it is there.
        job._jobstore_alias = jobstore_alias
        try:
            if replace_existing:
                self._add_or_replace(store, job, timed)
            else:
                store.add_job(job)
        except BaseException:
            job._jobstore_alias = None
            raise
        self._dispatch_event(JobEvent(EVENT_JOB_ADDED, job.id, jobstore_alias))
        self._logger.info('Added job "%s" to job store "%s"', job.name, jobstore_alias)
        if self.state == STATE_RUNNING:
            self.wakeup()

    def _add_or_replace(self, store: NativeJobStore, job: Job, timed: bool) -> None:
        """Add the job, or replace the one with its id, whatever others do with that meanwhile."""
        for _ in range(MAX_TRIES):
            try:
                store.add_job(job)
                return
            except ConflictingIdError:
                pass
            try:
                self._replace_job(store, job, timed)
                return
            except JobLookupError:  # its schedule has ended, or somebody removed it
                pass
        raise RuntimeError(
            f"Job {job.id!r} could not be replaced: somebody else added and removed it {MAX_TRIES} times in a row"
        )

    def _replace_job(self, store: NativeJobStore, job: Job, timed: bool) -> None:
        """Replace the stored job, unless it was added by the same declaration and may keep what it has."""
        if job._declaration is not None and not timed:
            for _ in range(MAX_TRIES):
                try:
                    stored = store.read_job(job.id)
                except Exception:
                    break  # it cannot be restored: all the better that it is replaced
                if stored is None or (
                    stored.job._declaration != job._declaration
                    or stored.job._origin != job._origin
                ):
                    break
                job._modify(trigger=stored.job.trigger)
                job.next_run_time = stored.job.next_run_time
                if store.keep_schedule(stored, job):
                    return
        store.update_job(job)

    def _first_fire_time(self, trigger: BaseTrigger) -> datetime | None:
        return first_fire_time(trigger, self._now())

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
        self._dispatch_event(JobEvent(EVENT_JOB_MODIFIED, job_id, alias))
        if alias is not None:
            driver = self._engine.drivers.get(alias)
            if driver is not None:  # else the store was removed meanwhile
                driver.release_holds(job_id)
        if self.state == STATE_RUNNING:
            self.wakeup()
        return job

    def _change_stored(self, job: Job, alias: str, changes: dict[str, Any]) -> Job:
        """Change a job in its store, from its latest record."""
        store = self._native_store(alias)
        for _ in range(MAX_TRIES):
            if store.change_job(StoredJob(job, getattr(job, "_token", None)), changes):
                return job
            job, _ = self._lookup_job(job.id, alias)
        raise RuntimeError(
            f"Job {job.id!r} could not be changed: it was changed by somebody else {MAX_TRIES} times in a row"
        )

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
        job, alias = self._lookup_job(job_id, jobstore)
        next_run_time = self._first_fire_time(job.trigger)
        if alias is None:  # it is pending
            alias = jobstore
        if next_run_time is None:
            self.remove_job(job.id, alias)
            return None
        return self.modify_job(job_id, alias, next_run_time=next_run_time)

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
        with (
            self._jobstores_lock
        ):  # a listener may add a store while we look through them
            return [alias for alias in self._jobstores if jobstore in (None, alias)]

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
        self._announce_removal(job_id, alias)
        self._logger.info("Removed job %s", job_id)

    def _remove_stored(self, job_id: str, jobstore: str | None) -> str:
        if self.state == STATE_STOPPED:
            for index, (job, alias, _) in enumerate(self._pending_jobs):
                if job.id == job_id and jobstore in (None, alias):
                    del self._pending_jobs[index]
                    return alias
            raise JobLookupError(job_id)
        for alias in self._matching_stores(jobstore):
            try:
                self._native_store(alias).remove_job(job_id)
            except JobLookupError:
                continue
            return alias
        raise JobLookupError(job_id)

    def _announce_removal(self, job_id: str, alias: str | None) -> None:
        if self._is_heard(EVENT_JOB_REMOVED):
            self._dispatch_event(JobEvent(EVENT_JOB_REMOVED, job_id, alias))

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

    # Running now, and history

    def run_job(self, job_id: str, jobstore: str | None = None) -> Run:
        """Run a job as soon as possible, besides its schedule, which does not change.

        :return: the record of the run that is waiting to be started
        :raises JobLookupError: if there is no such job
        :raises RuntimeError: if the scheduler is not running
        """
        if self.state == STATE_STOPPED:
            raise RuntimeError(
                f"Job {job_id!r} cannot be run: the scheduler has not been started"
            )
        job, alias = self._lookup_job(job_id, jobstore)
        assert alias is not None
        now = self._now()
        # Not an identifier of the engine: a forked process would make the same ones.
        run = Run(Identity().new_id(), job.id, alias, RunState.READY, now)
        run.available_at = now
        self._native_store(alias).add_ready_run(job, run)
        if self.state == STATE_RUNNING:
            self.wakeup()
        return run

    def get_runs(
        self,
        job_id: str | None = None,
        states: Iterable[RunState | str] | RunState | str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        jobstore: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[Run]:
        """Return runs, waiting, going on and finished, latest scheduled time first.

        :param job_id: only those of this job
        :param states: only those in one of these states
        :param since: only those scheduled at this time or later
        :param until: only those scheduled before this time
        :param jobstore: alias of a store; None: all
        :param limit: at most so many
        :param offset: without so many of the latest
        :raises ValueError: if there is no such state
        """
        if isinstance(states, str):
            states = (states,)
        wanted = None if states is None else frozenset(map(RunState, states))
        which = RunFilter(job_id, wanted, since, until)
        runs: list[Run] = []
        for alias in self._matching_stores(jobstore):
            driver = self._engine.add(alias, self._lookup_jobstore(alias))
            driver.completions.flush()
            store = driver.store
            # Of several stores the latest runs of each are needed to know the latest of all.
            runs.extend(store.get_runs(which, limit + offset))
        runs.sort(key=lambda run: run.scheduled_time.timestamp(), reverse=True)
        return runs[offset : offset + limit]

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
        """Add jobs that :meth:`export_jobs` has written: all of them, or none. The file must be trusted.

        :param infile: a text file, or a path
        :raises KeyError: if there is no such store
        :raises ValueError: if the file is none that ``export_jobs`` has written
        :raises ConflictingIdError: if there is a job with the id of one of them
        """
        from apscheduler import transfer  # few programs need it

        store = self._native_store(jobstore)
        jobs = transfer.read_jobs(infile)
        for job in jobs:
            job._scheduler = self  # type: ignore[assignment]  # every instance is a BaseScheduler
            job._jobstore_alias = jobstore
        store.add_jobs(jobs)
        for job in jobs:
            self._dispatch_event(JobEvent(EVENT_JOB_ADDED, job.id, jobstore))
        if self.state == STATE_RUNNING:
            self.wakeup()

    @abstractmethod
    def start(self, paused: bool = False) -> None:
        """Start to process jobs."""


def _undo_add(
    store: NativeJobStore, job: Job, before: Job | None, unset: list[str]
) -> None:
    """Put the store and the pending job back to what they were before the job was added."""
    if before is not None:
        store.update_job(before)
    else:
        store.remove_job(job.id)
    job._jobstore_alias = None
    for name in unset:
        delattr(job, name)
