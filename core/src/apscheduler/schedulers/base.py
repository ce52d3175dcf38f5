"""The public face of every scheduler: configuration, life cycle, listeners."""

import atexit
import os
import sys
from abc import abstractmethod
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from logging import Logger, getLogger
from threading import RLock, get_ident
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn
from weakref import WeakSet

from tzlocal import get_localzone

from apscheduler.clock import Clock
from apscheduler.completions import flush_all
from apscheduler.engine import Engine
from apscheduler.events import (
    EVENT_ALL,
    EVENT_ALL_JOBS_REMOVED,
    EVENT_EXECUTOR_ADDED,
    EVENT_EXECUTOR_REMOVED,
    EVENT_JOB_ADDED,
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_LOST,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    EVENT_JOB_MODIFIED,
    EVENT_JOB_REMOVED,
    EVENT_JOB_SUBMITTED,
    EVENT_JOBSTORE_ADDED,
    EVENT_JOBSTORE_REMOVED,
    EVENT_SCHEDULER_PAUSED,
    EVENT_SCHEDULER_RESUMED,
    EVENT_SCHEDULER_SHUTDOWN,
    EVENT_SCHEDULER_START,
    EVENT_SCHEDULER_STARTED,
    JobEvent,
    JobExecutionEvent,
    JobSubmissionEvent,
    SchedulerEvent,
)
from apscheduler.executors.base import BaseExecutor, MaxInstancesReachedError
from apscheduler.hooked import get_hooks, load_installed
from apscheduler.job import Job
from apscheduler.jobstores.base import (
    BaseJobStore,
    ConflictingIdError,
    JobLookupError,
)
from apscheduler.schedulers import (
    SchedulerAlreadyRunningError,
    SchedulerNotRunningError,
)
from apscheduler.schedulers.components import (
    STATE_PAUSED,
    STATE_RUNNING,
    STATE_STOPPED,
)
from apscheduler.schedulers.listeners import EventSource
from apscheduler.schedulers.passes import PassMethods
from apscheduler.settings import (
    KNOWN_KEYS,
    PREFIX,
    copied,
    describe_unprefixed,
    job_defaults,
    nest,
    retry_seconds,
    section,
    warn_unknown,
)
from apscheduler.threads import Event
from apscheduler.timekeeping import ServerClock
from apscheduler.util import astimezone, maybe_ref

if TYPE_CHECKING:
    from apscheduler.declarations import Declarations

# Programs written for APScheduler 3 import these names from here, too.
__all__ = (
    "EVENT_ALL",
    "EVENT_ALL_JOBS_REMOVED",
    "EVENT_EXECUTOR_ADDED",
    "EVENT_EXECUTOR_REMOVED",
    "EVENT_JOBSTORE_ADDED",
    "EVENT_JOBSTORE_REMOVED",
    "EVENT_JOB_ADDED",
    "EVENT_JOB_ERROR",
    "EVENT_JOB_EXECUTED",
    "EVENT_JOB_LOST",
    "EVENT_JOB_MAX_INSTANCES",
    "EVENT_JOB_MISSED",
    "EVENT_JOB_MODIFIED",
    "EVENT_JOB_REMOVED",
    "EVENT_JOB_SUBMITTED",
    "EVENT_SCHEDULER_PAUSED",
    "EVENT_SCHEDULER_RESUMED",
    "EVENT_SCHEDULER_SHUTDOWN",
    "EVENT_SCHEDULER_START",
    "EVENT_SCHEDULER_STARTED",
    "STATE_PAUSED",
    "STATE_RUNNING",
    "STATE_STOPPED",
    "BaseExecutor",
    "BaseJobStore",
    "BaseScheduler",
    "ConflictingIdError",
    "Job",
    "JobEvent",
    "JobExecutionEvent",
    "JobLookupError",
    "JobSubmissionEvent",
    "MaxInstancesReachedError",
    "SchedulerAlreadyRunningError",
    "SchedulerEvent",
    "SchedulerNotRunningError",
)


class BaseScheduler(PassMethods):
    """Base of all schedulers: keeps stores, executors and jobs together and makes passes when its loop says so.

    :param gconfig: configuration whose keys begin with ``apscheduler.``, flat or nested
    :param options: configuration by keyword, without prefix; replaces entries of ``gconfig``

    :ivar int state: ``STATE_STOPPED``, ``STATE_RUNNING`` or ``STATE_PAUSED``
    :ivar timezone: zone for naive times, and for triggers that are made by name
    :ivar float jobstore_retry_interval: seconds after which a job store that failed is tried again
    :ivar float start_retry: for how many seconds a job store whose server does not answer is tried when it is started
    """

    # Configuration keys of a subclass beyond those that every scheduler knows.
    config_keys: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, gconfig: Mapping[str, Any] | None = None, **options: Any):
        super().__init__()
        self._executors: dict[str, BaseExecutor] = {}
        self._executors_lock = self._create_lock()
        self._jobstores: dict[str, BaseJobStore] = {}
        self._jobstores_lock = self._create_lock()
        self._starting_jobstores: set[str] = set()
        self._listeners: list[tuple[Callable[[Any], object], int]] = []
        self._listeners_lock = self._create_lock()
        self._logger = getLogger("apscheduler.scheduler")
        self._clock = self._default_clock = ServerClock(lambda: datetime.now(UTC))
        self._declarations: Declarations | None = None
        # Events that listeners have not been told of completely.
        self._being_told: list[SchedulerEvent] = []
        # Whether a start or a shutdown is under way; like changes of the state protected by this lock.
        self._state_lock = self._create_lock()
        self._is_starting = self._is_shutting_down = False
        self._unsubscribe_clock: Callable[[], None] = _nothing
        self.state = STATE_STOPPED
        self._engine = Engine(self)
        _schedulers.add(self)
        self.configure(gconfig or {}, **options)

    def __getstate__(self) -> NoReturn:
        raise TypeError(
            "Schedulers cannot be serialized. Ensure that you are not passing a scheduler instance as an argument "
            "to a job, or scheduling an instance method where the instance contains a scheduler as an attribute."
        )

    # Configuration

    def configure(
        self,
        gconfig: Mapping[str, Any] | None = None,
        prefix: str | None = PREFIX,
        **options: Any,
    ) -> None:
        """Configure this scheduler anew; what is not given returns to its default.

        :param gconfig: configuration, flat (``"apscheduler.jobstores.default.type"``) or nested
        :param prefix: only keys of ``gconfig`` that begin with this count; None or ``""``: all
        :param options: configuration by keyword; replaces entries of ``gconfig``
        :raises SchedulerAlreadyRunningError: if the scheduler is running
        :raises AttributeError: if it is no dictionary
        :raises Exception: if something is wrong in the configuration
        """
        if self.state != STATE_STOPPED:
            raise SchedulerAlreadyRunningError
        gconfig = gconfig or {}
        if not isinstance(gconfig, Mapping):
            raise AttributeError(  # the type that APScheduler 3 raised
                f"The configuration must be a dictionary, but is {gconfig!r}; a file is read by create_scheduler() of "
                "apscheduler.config"
            )
        config = nest(gconfig, prefix)
        config.update({key: copied(value) for key, value in options.items()})
        load_installed()
        hooks = get_hooks()
        if hooks.has("apscheduler_configure"):
            hooks.notify("apscheduler_configure", scheduler=self, config=config)
        known = self._known_keys()
        warn_unknown(config, known, "configuration key", self._logger)
        for message in describe_unprefixed(gconfig, prefix, known):
            self._logger.warning("%s", message)
        self._configure(config)

    def _known_keys(self) -> frozenset[str]:
        own = (vars(cls).get("config_keys", ()) for cls in type(self).__mro__)
        return KNOWN_KEYS.union(*own)

    def _configure(self, config: dict[str, Any]) -> None:
        """Apply a nested configuration without prefix. Subclasses take their own keys and call this one."""
        logger = maybe_ref(config.get("logger")) or getLogger("apscheduler.scheduler")
        self._logger: Logger = logger
        timezone = config.get("timezone")
        self.timezone = (astimezone(timezone) if timezone else None) or get_localzone()
        self.jobstore_retry_interval = float(config.get("jobstore_retry_interval", 10))
        self.start_retry = retry_seconds(config.get("start_retry", 0))
        self._clock = maybe_ref(config.get("clock")) or self._default_clock
        if not isinstance(self._clock, Clock):
            raise TypeError(f"'clock' must be a Clock, got {self._clock!r}")
        self._job_defaults = job_defaults(section(config, "job_defaults"), self._logger)
        self._executors.clear()
        for alias, value in section(config, "executors").items():
            executor = self._create_configured("executor", alias, value)
            self.add_executor(executor, alias)
        self._jobstores.clear()
        self._engine.remove_all()
        for alias, value in section(config, "jobstores").items():
            jobstore = self._create_configured("jobstore", alias, value)
            self.add_jobstore(jobstore, alias)
        self._declarations = _declarations_of(config)

    def _create_lock(self) -> Any:
        """Return a reentrant lock that fits the threads of this scheduler."""
        return RLock()

    def _create_event(self) -> Any:
        """Return what works like a ``threading.Event`` in the threads of this scheduler."""
        return Event()

    def _get_ident(self) -> int:
        """Return a number that no other thread has that is alive, be it a green one."""
        return get_ident()

    # Life cycle

    @property
    def running(self) -> bool:
        """Whether the scheduler was started and not shut down; True also while it is paused."""
        return self.state != STATE_STOPPED

    def start(self, paused: bool = False) -> None:
        """Start executors and stores, write pending jobs to their stores, and begin to process jobs.

        If anything fails, what was started is stopped again and the scheduler stays as it was.

        :param paused: process nothing before :meth:`resume` is called
        :raises SchedulerAlreadyRunningError: if the scheduler is running, or still being shut down
        :raises RuntimeError: under uWSGI with threads switched off, and in a process that was forked while it ran
        """
        with self._state_lock:
            if self._is_client:
                raise RuntimeError(
                    "This scheduler was started before this process was forked, and runs in the parent. Here it can "
                    "be used to add and change jobs; to run jobs here, too, make another scheduler"
                )
            if self.state != STATE_STOPPED:
                raise SchedulerAlreadyRunningError
            if self._is_starting or self._is_shutting_down:
                raise SchedulerAlreadyRunningError
            self._is_starting = True
        try:
            self._start_components()
            with (
                self._jobstores_lock
            ):  # from here on, jobs that are added are no longer pending
                self.state = STATE_PAUSED if paused else STATE_RUNNING
                late = list(self._pending_jobs)
                self._pending_jobs.clear()
                self._immediate_jobs.clear()
        finally:
            self._is_starting = False
        self._add_late_jobs(late)
        self._unsubscribe_clock = self._clock.subscribe(self.wakeup)
        self._logger.info("Scheduler started")
        self._dispatch_event(SchedulerEvent(EVENT_SCHEDULER_STARTED))
        if not paused:
            self.wakeup()

    def _start_components(self) -> None:
        """Start executors and stores and add pending jobs: all of it, or nothing."""
        self._check_uwsgi()
        self._prepare_loop()
        get_hooks().notify("apscheduler_scheduler_starting", scheduler=self)
        if self._declarations is not None:
            self._declarations.prepare(self)
        self._engine.start()
        dispatch = getattr(self._dispatch_event, "__func__", None)
        self._hears_all = dispatch is not EventSource._dispatch_event
        undo: list[Callable[[], object]] = []
        try:
            with self._executors_lock:
                self._start_executors(undo)
            self._start_jobstores(undo)
            self._add_pending_jobs(undo)
            if self._declarations is not None:
                self._declarations.synchronise(self)
        except BaseException:
            for step in reversed(undo):
                try:
                    step()
                except Exception:
                    self._logger.exception("Error undoing a start that failed")
            raise

    def _prepare_loop(self) -> None:  # not every loop needs it
        """Get ready to be woken: the scheduler is about to start, and nothing goes on in it any more."""

    def _start_executors(self, undo: list[Callable[[], object]]) -> None:
        if "default" not in self._executors:
            self._executors["default"] = self._create_default_executor()
            undo.append(lambda: self._executors.pop("default"))
            self._dispatch_event(SchedulerEvent(EVENT_EXECUTOR_ADDED, "default"))
        for alias, executor in self._executors.items():
            executor.start(self, alias)
            undo.append(lambda executor=executor: executor.shutdown(False))  # type: ignore[misc]

    def _start_jobstores(self, undo: list[Callable[[], object]]) -> None:
        with self._jobstores_lock:
            is_without = "default" not in self._jobstores
            if is_without:
                self._jobstores["default"] = self._create_default_jobstore()
                undo.append(lambda: self._jobstores.pop("default"))
        if is_without:
            self._dispatch_event(SchedulerEvent(EVENT_JOBSTORE_ADDED, "default"))
        for alias, jobstore in list(self._jobstores.items()):
            driver = self._engine.add(alias, jobstore)
            self._start_driver(driver)
            undo.append(driver.close)

    @abstractmethod
    def shutdown(self, wait: bool | float = True) -> None:
        """Shut down executors and stores. Running jobs are not interrupted.

        :param wait: return only when all runs that were started have ended; a number: wait so many seconds at most
        :raises SchedulerNotRunningError: if the scheduler is not running
        """
        self._begin_shutdown()
        self._finish_shutdown(wait)

    def _begin_shutdown(self) -> None:
        """Stop: from here on nothing is claimed.

        :raises SchedulerNotRunningError: if the scheduler is not running
        """
        with self._state_lock:
            if self.state == STATE_STOPPED:
                raise SchedulerNotRunningError
            self.state = STATE_STOPPED
            self._is_shutting_down = True
            self._is_client = False
        self._engine.stopping = True
        self._unsubscribe_clock()

    def _finish_shutdown(self, wait: bool | float) -> None:
        """Shut down executors and stores. No lock is held: the jobs that are waited for may use the scheduler."""
        if not isinstance(wait, (int, float)):
            wait = bool(wait)  # as in APScheduler 3, whatever counts as true
        try:
            self._engine.stop()
            if not isinstance(wait, bool):
                wait = self._engine.wait_idle(wait)
            self._shutdown_executors(wait)
            for alias, jobstore in list(self._jobstores.items()):
                try:
                    self._engine.add(alias, jobstore).close()
                except Exception:
                    self._logger.exception("Error shutting down job store %r", alias)
        finally:
            self._is_shutting_down = False
        self._logger.info("Scheduler has been shut down")
        self._dispatch_event(SchedulerEvent(EVENT_SCHEDULER_SHUTDOWN))

    def _shutdown_executors(self, wait: bool) -> None:
        for alias, executor in list(self._executors.items()):
            self._shutdown_executor(alias, executor, wait)

    def _shutdown_executor(
        self, alias: str, executor: BaseExecutor, wait: bool
    ) -> None:
        try:
            executor.shutdown(wait)
        except Exception:
            self._logger.exception("Error shutting down executor %r", alias)

    def pause(self) -> None:
        """Start no more jobs before :meth:`resume` is called. Running jobs go on.

        :raises SchedulerNotRunningError: if the scheduler is not running
        """
        if self._change_state(STATE_RUNNING, STATE_PAUSED):
            self._logger.info("Paused scheduler job processing")
            self._dispatch_event(SchedulerEvent(EVENT_SCHEDULER_PAUSED))

    def resume(self) -> None:
        """Go on after :meth:`pause`; what came due meanwhile is handled by the rules for late runs.

        :raises SchedulerNotRunningError: if the scheduler is not running
        """
        if self._change_state(STATE_PAUSED, STATE_RUNNING):
            self._logger.info("Resumed scheduler job processing")
            self._dispatch_event(SchedulerEvent(EVENT_SCHEDULER_RESUMED))
            self.wakeup()

    def _change_state(self, before: int, after: int) -> bool:
        """Change the state if it is ``before``; return whether it was."""
        with self._state_lock:  # or it might change what a shutdown has set
            if self.state == STATE_STOPPED:
                raise SchedulerNotRunningError
            if self.state != before:
                return False
            self.state = after
            return True

    def _check_uwsgi(self) -> None:
        """Refuse to start where threads would never run."""
        uwsgi = sys.modules.get("uwsgi")
        if uwsgi is not None and not getattr(uwsgi, "has_threads", True):
            raise RuntimeError(
                "The scheduler seems to be running under uWSGI, but threads have been disabled. You must run uWSGI "
                "with the --enable-threads option for the scheduler to work."
            )

    # Forked processes

    def _leave_to_parent(self) -> None:
        """In a forked process: be a client, since neither the loop is here nor the threads that hold locks."""
        self._executors_lock = self._create_lock()
        self._jobstores_lock = self._create_lock()
        self._listeners_lock = self._create_lock()
        self._state_lock = self._create_lock()
        self._being_told.clear()
        self._engine.leave_to_parent()
        self._is_client = self.running


_schedulers: "WeakSet[BaseScheduler]" = WeakSet()


def _after_fork() -> None:
    for scheduler in list(_schedulers):
        scheduler._leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@atexit.register
def _before_exit() -> None:
    """Leave nothing half done where nobody shuts a scheduler down: a pass may just have claimed something."""
    left = [each for each in _schedulers if each.running and not each._is_client]
    for scheduler in left:
        scheduler._engine.stop()
    flush_all()  # also of those that were shut down
    for scheduler in left:
        scheduler._engine.hand_back_with_program()


def _nothing() -> None:
    """Stand in for a function that ends a subscription."""


def _declarations_of(config: Mapping[str, Any]) -> "Declarations | None":
    if not config.keys() & {"jobs", "name", "source"}:
        return None
    from apscheduler.declarations import Declarations  # slow to load; few need it

    declarations = Declarations.from_config(config)
    if declarations is not None:
        declarations.problems.raise_fatal()
    return declarations
