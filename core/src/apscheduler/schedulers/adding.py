"""Adding jobs: at once, or when the scheduler starts; and what becomes of a job that is there already."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from apscheduler.digest import digest_declaration
from apscheduler.events import (
    EVENT_JOB_ADDED,
    JobEvent,
)
from apscheduler.job import Job
from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
from apscheduler.jobstores.contract import NativeJobStore
from apscheduler.planning import first_fire_time, is_over
from apscheduler.schedulers.components import (
    STATE_RUNNING,
    STATE_STOPPED,
    ComponentRegistry,
)
from apscheduler.triggers.base import BaseTrigger
from apscheduler.util import UndefinedType, no_signature, timezone_repr, undefined

if TYPE_CHECKING:
    from apscheduler.schedulers.signatures import (
        add_job_signature,
        scheduled_job_signature,
    )
else:
    add_job_signature = scheduled_job_signature = no_signature

F = TypeVar("F", bound=Callable[..., Any])

# A change is computed anew when somebody else changed the job in between; so often in a row is no coincidence.
MAX_TRIES = 100


class AddMethods(ComponentRegistry):
    """The methods of :class:`BaseScheduler` that add jobs."""

    _job_defaults: dict[str, Any]

    def __init__(self) -> None:
        # (job, alias of its store, whether it replaces one with its id)
        self._pending_jobs: list[tuple[Job, str, bool]] = []
        # Pending jobs that were added without a trigger, and what they got instead: they run when the scheduler starts.
        self._immediate_jobs: list[tuple[Job, BaseTrigger]] = []

    @add_job_signature
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
        if isinstance(args, str) or isinstance(coalesce, str):
            self._warn_of_traps(args, coalesce)
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
        rules = {**self._job_defaults, **given}
        attributes = {
            "trigger": self._create_trigger(trigger, dict(trigger_args)),
            "executor": executor,
            "func": func,
            "args": () if args is None else _read("args", tuple, args),
            "kwargs": {} if kwargs is None else _read("kwargs", dict, kwargs),
            "name": name,
            # A pending job gets the defaults when the scheduler starts: they may be others then.
            **(given if self.state == STATE_STOPPED else rules),
        }
        job = Job(self, id, **attributes)  # type: ignore[arg-type]  # every instance is a BaseScheduler
        if id:
            if isinstance(trigger, str):  # the scheduler's own zone is part of it, too
                trigger_args.setdefault("timezone", timezone_repr(self.timezone))
            declared = (func, trigger, trigger_args, args, kwargs, name)
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

    @scheduled_job_signature
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
            undo.append(self._remember(job))
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
            self._real_add_job(job, alias, replace_existing)
            undo.append(partial(_undo_add, store, job, before))
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

    def _remember(self, job: Job) -> Callable[[], object]:
        """Return what takes away from a pending job whatever a start gives it, be it added in the end or not."""
        trigger = job.trigger
        names = [*self._job_defaults, "next_run_time"]
        unset = [name for name in names if not hasattr(job, name)]

        def reset() -> None:
            job.trigger = trigger
            for name in unset:
                if hasattr(job, name):
                    delattr(job, name)

        return reset

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
        self._tell_of_job(EVENT_JOB_ADDED, job.id, jobstore_alias)
        self._logger.info('Added job "%s" to job store "%s"', job.name, jobstore_alias)
        if self.state == STATE_RUNNING:
            self.wakeup()

    def _tell_of_job(self, code: int, job_id: str, alias: str | None) -> None:
        """Tell of a job that was added, modified or removed, if anybody wants to hear that."""
        if self._is_heard(code):
            self._dispatch_event(JobEvent(code, job_id, alias))

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
            trigger = job.trigger
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
                # Somebody has used that run time or changed it: the job must not be written with it.
                job._modify(
                    trigger=trigger, next_run_time=self._first_fire_time(trigger)
                )
        store.update_job(job)

    def _first_fire_time(self, trigger: BaseTrigger) -> datetime | None:
        return first_fire_time(trigger, self._now())

    def _is_over(self, trigger: BaseTrigger, first: datetime) -> bool:
        """Return whether what a trigger gives first is past, and no other fire time follows."""
        return is_over(trigger, first, self._now())


def _undo_add(store: NativeJobStore, job: Job, before: Job | None) -> None:
    """Put the store back to what it was before the job was added."""
    if before is not None:
        store.update_job(before)
    else:
        store.remove_job(job.id)
    job._jobstore_alias = None


def _read(name: str, kind: Callable[[Any], Any], value: Any) -> Any:
    try:
        return kind(value)
    except (TypeError, ValueError) as exc:
        expected = "a list or tuple" if kind is tuple else "a dict"
        raise type(exc)(f"{name} must be {expected}, not {value!r}") from exc
