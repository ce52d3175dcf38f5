"""The executors, stores and triggers of a scheduler: made from names, added, looked up, removed."""

import time
from abc import abstractmethod
from collections.abc import Mapping, MutableMapping
from datetime import datetime, timedelta, tzinfo
from typing import Any, ClassVar, Literal

from apscheduler.clock import Clock
from apscheduler.drivers import StoreDriver
from apscheduler.events import (
    EVENT_EXECUTOR_ADDED,
    EVENT_EXECUTOR_REMOVED,
    EVENT_JOBSTORE_ADDED,
    EVENT_JOBSTORE_REMOVED,
    SchedulerEvent,
)
from apscheduler.executors.base import BaseExecutor
from apscheduler.hooked import get_hooks
from apscheduler.jobstores.base import BaseJobStore
from apscheduler.jobstores.contract import NativeJobStore
from apscheduler.plugins import (
    ComponentMap,
    Loadable,
    PluginNotFoundError,
    load_component,
)
from apscheduler.schedulers.listeners import EventSource
from apscheduler.threads import Threads
from apscheduler.triggers.base import BaseTrigger
from apscheduler.util import maybe_ref

STATE_STOPPED = 0
STATE_RUNNING = 1
STATE_PAUSED = 2

# Triggers that count from the time they are made unless they are given this argument.
RELATIVE_TIMES = {"date": "run_date", "interval": "start_date"}

# A job store that cannot be reached when it is started is tried again after this pause, which doubles each time.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 10.0

Kind = Literal["trigger", "executor", "jobstore"]

BASE_CLASSES: dict[str, type] = {
    "trigger": BaseTrigger,
    "executor": BaseExecutor,
    "jobstore": BaseJobStore,
}


class ComponentRegistry(EventSource):
    """What a scheduler knows of its components. The part of :class:`BaseScheduler` below jobs and life cycle."""

    # Name → what loads the class, and name → class: shared by all schedulers, replaceable on each.
    _trigger_plugins: MutableMapping[str, Loadable] = ComponentMap("trigger")
    _trigger_classes: ClassVar[dict[str, type]] = {}
    _executor_plugins: MutableMapping[str, Loadable] = ComponentMap("executor")
    _executor_classes: ClassVar[dict[str, type]] = {}
    _jobstore_plugins: MutableMapping[str, Loadable] = ComponentMap("jobstore")
    _jobstore_classes: ClassVar[dict[str, type]] = {}

    # What start() adds where nothing is configured, by name.
    default_executor = "threadpool"
    default_jobstore = "memory"

    state: int
    timezone: tzinfo
    jobstore_retry_interval: float
    start_retry: float
    _clock: Clock
    _executors: dict[str, BaseExecutor]
    _jobstores: dict[str, BaseJobStore]
    # Aliases of stores that are being added to a running scheduler.
    _starting_jobstores: set[str]
    _executors_lock: Any
    _jobstores_lock: Any
    # Whether this process was forked while the scheduler was running, which goes on in the parent only.
    _is_client = False
    # Whether passes may use threads of their own; not where threads are green.
    _uses_threads = True
    # So many times in a pass a store is asked for what is due before others get their turn.
    _steps_per_pass = 20
    # Where the threads come from that must go on whatever the loop is at.
    _threads = Threads()

    @abstractmethod
    def wakeup(self) -> None:
        """Have the loop make a pass as soon as it can; callable from any thread, and without effect when stopped."""

    @abstractmethod
    def _create_event(self) -> Any:
        """Return what works like a ``threading.Event`` in the threads of this scheduler."""

    @abstractmethod
    def _now(self) -> datetime:
        """Return the current time in the scheduler's zone."""

    def add_executor(
        self,
        executor: BaseExecutor | str,
        alias: str = "default",
        **executor_opts: Any,
    ) -> None:
        """Add an executor.

        :param executor: an executor, or the name of a kind of executor
        :param alias: what jobs call it
        :param executor_opts: constructor arguments, where a name was given
        :raises ValueError: if there is an executor with this alias already
        :raises LookupError: if no executor of that name is installed
        """
        added: BaseExecutor = self._resolve("executor", executor, executor_opts)
        with self._executors_lock:
            if alias in self._executors:
                raise ValueError(
                    f"This scheduler already has an executor by the alias of {alias!r}"
                )
            # Before it is registered: one that does not start is not there.
            if self.state != STATE_STOPPED:
                added.start(self, alias)  # type: ignore[arg-type]
            self._executors[alias] = added
        self._dispatch_event(SchedulerEvent(EVENT_EXECUTOR_ADDED, alias))
        if self.state != STATE_STOPPED:
            self._engine.release_holds()
            self.wakeup()

    def remove_executor(self, alias: str, shutdown: bool = True) -> None:
        """Remove an executor; jobs that name it stay, and run when there is one with that alias again.

        :raises KeyError: if there is none with this alias
        """
        with self._executors_lock:
            executor = self._lookup_executor(alias)
            del self._executors[alias]
        if shutdown:
            executor.shutdown()
        self._dispatch_event(SchedulerEvent(EVENT_EXECUTOR_REMOVED, alias))

    def add_jobstore(
        self,
        jobstore: BaseJobStore | str,
        alias: str = "default",
        **jobstore_opts: Any,
    ) -> None:
        """Add a job store.

        :param jobstore: a job store, or the name of a kind of job store
        :param alias: what jobs call it
        :param jobstore_opts: constructor arguments, where a name was given
        :raises ValueError: if there is a job store with this alias already
        :raises LookupError: if no job store of that name is installed
        """
        added: BaseJobStore = self._resolve("jobstore", jobstore, jobstore_opts)
        with self._jobstores_lock:
            if alias in self._jobstores or alias in self._starting_jobstores:
                raise ValueError(
                    f"This scheduler already has a job store by the alias of {alias!r}"
                )
            is_running = self.state != STATE_STOPPED
            if is_running:
                self._starting_jobstores.add(alias)
            else:
                self._jobstores[alias] = added
        if is_running:
            self._add_started(added, alias)
        self._dispatch_event(SchedulerEvent(EVENT_JOBSTORE_ADDED, alias))
        if self.state != STATE_STOPPED:
            self.wakeup()

    def _add_started(self, jobstore: BaseJobStore, alias: str) -> None:
        """Start a store and register it. The registry is not locked while its server is waited for."""
        driver = self._engine.create_driver(alias, jobstore)
        try:
            self._start_driver(driver)
        except BaseException:
            self._starting_jobstores.discard(alias)
            raise
        with self._jobstores_lock:
            self._starting_jobstores.discard(alias)
            self._jobstores[alias] = jobstore
            self._engine.drivers[alias] = driver
            was_shut_down = self.state == STATE_STOPPED
        if was_shut_down:
            driver.close()

    def _start_driver(self, driver: StoreDriver) -> None:
        """Start a store; while its server does not answer, for as long as ``start_retry`` allows."""
        deadline = time.monotonic() + self.start_retry
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                driver.start()
            except Exception as exc:
                left = deadline - time.monotonic()
                if left <= 0 or not driver.store.is_unreachable(exc):
                    raise
                pause = min(pause, left)
                self._logger.warning(
                    "Job store %r cannot be reached, and is tried again in %.1f seconds: %s",
                    driver.alias,
                    pause,
                    exc,
                )
            else:
                return
            self._create_event().wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def remove_jobstore(self, alias: str, shutdown: bool = True) -> None:
        """Remove a job store; the jobs in it are not touched.

        :raises KeyError: if there is none with this alias
        """
        with self._jobstores_lock:
            jobstore = self._lookup_jobstore(alias)
            driver = self._engine.add(alias, jobstore)
            del self._jobstores[alias]
            self._engine.remove(alias)
        driver.unsubscribe()
        if shutdown:
            driver.close()
        else:
            driver.settle_without_claims()
        self._dispatch_event(SchedulerEvent(EVENT_JOBSTORE_REMOVED, alias))

    def _lookup_executor(self, alias: str) -> BaseExecutor:
        try:
            return self._executors[alias]
        except KeyError:
            raise KeyError(f"No such executor: {alias!r}") from None

    def _lookup_jobstore(self, alias: str) -> BaseJobStore:
        try:
            return self._jobstores[alias]
        except KeyError:
            raise KeyError(f"No such job store: {alias!r}") from None

    def _native_store(self, alias: str) -> NativeJobStore:
        """Return the store as the engine sees it.

        :raises KeyError: if there is none with this alias
        :raises RuntimeError: in a forked process, if it is in the memory of its parent
        """
        store = self._engine.add(alias, self._lookup_jobstore(alias)).store
        if self._is_client and not store.performs_io:
            raise RuntimeError(
                f"Job store {alias!r} is in the memory of the process that this one was forked from, where nothing "
                "would be noticed of what is done here: use a store that processes can share"
            )
        return store

    def _create_default_executor(self) -> BaseExecutor:
        executor: BaseExecutor = self._create_plugin_instance(
            "executor", self.default_executor, {}
        )
        return executor

    def _create_default_jobstore(self) -> BaseJobStore:
        jobstore: BaseJobStore = self._create_plugin_instance(
            "jobstore", self.default_jobstore, {}
        )
        return jobstore

    def _create_trigger(
        self, trigger: BaseTrigger | str | None, trigger_args: dict[str, Any]
    ) -> BaseTrigger:
        """Return the trigger itself, or one made from its name and arguments; without any, one that fires now."""
        if isinstance(trigger, BaseTrigger):
            if set(trigger_args) - {"timezone"}:
                self._logger.warning(
                    "The trigger arguments %s are ignored, because a trigger instance was given",
                    sorted(trigger_args),
                )
            return trigger
        if trigger is None:
            trigger = "date"
        elif not isinstance(trigger, str):
            raise TypeError(
                f"Expected a trigger instance or string, got {type(trigger).__name__} instead"
            )
        trigger_args.setdefault("timezone", self.timezone)
        try:
            created: BaseTrigger = self._create_plugin_instance(
                "trigger", trigger, trigger_args
            )
        except TypeError as exc:
            cls = self._plugin_class("trigger", trigger)
            problem = _explain_arguments(cls, trigger, trigger_args)
            if problem is None:
                raise
            raise TypeError(problem) from exc
        argument = RELATIVE_TIMES.get(trigger)
        if argument and trigger_args.get(argument) is None and self._clock.offset():
            # The trigger counted from the system's time; this scheduler lives by another.
            interval = getattr(created, "interval", timedelta(0))
            trigger_args[argument] = self._now() + interval
            created = self._create_plugin_instance("trigger", trigger, trigger_args)
        return created

    def _create_plugin_instance(
        self, type_: Kind, alias: str, constructor_kwargs: Mapping[str, Any]
    ) -> Any:
        """Return a component made by its name.

        :raises LookupError: if no component of that name is installed
        :raises TypeError: if what is installed under that name is none of that kind
        """
        cls = self._plugin_class(type_, alias)
        return cls(**constructor_kwargs)

    def _plugin_class(self, type_: Kind, alias: str) -> type:
        classes: dict[str, type] = getattr(self, f"_{type_}_classes")
        if alias in classes:
            return classes[alias]
        cls: Any = get_hooks().find_component(type_, alias)
        if cls is None:
            plugins: MutableMapping[str, Loadable] = getattr(self, f"_{type_}_plugins")
            if alias not in plugins:
                raise PluginNotFoundError(type_, alias, plugins)
            cls = plugins[alias].load()
        base = BASE_CLASSES[type_]
        if not (isinstance(cls, type) and issubclass(cls, base)):
            raise TypeError(
                f"The {type_} {alias!r} must be a subclass of {base.__name__}, but is {cls!r}"
            )
        classes[alias] = cls
        return cls

    def _resolve(self, type_: Kind, value: Any, options: dict[str, Any]) -> Any:
        if isinstance(value, str):
            return self._create_plugin_instance(type_, value, options)
        if isinstance(value, BASE_CLASSES[type_]):
            return value
        raise TypeError(
            f"Expected {type_} instance or a string, got {type(value).__name__} instead"
        )

    def _create_configured(self, type_: Kind, alias: str, value: Any) -> Any:
        """Return a component as it is configured: an instance, or a mapping with ``type`` or ``class``.

        :raises TypeError: if it is anything else, or constructor arguments are wrong
        :raises ValueError: if neither ``type`` nor ``class`` is there
        :raises LookupError: if the name or reference leads nowhere
        """
        section = f"{type_}s.{alias}"
        if isinstance(value, BASE_CLASSES[type_]):
            return value
        if not isinstance(value, MutableMapping):
            raise TypeError(
                f"Expected {type_} instance or dict for {section}, got {type(value).__name__} instead"
            )
        options = dict(value)
        if "serializer" in options:
            options["serializer"] = _create_serializer(options["serializer"])
        plugin = options.pop("type", None)
        cls = options.pop("class", None)
        try:
            if plugin:
                component = self._create_plugin_instance(type_, plugin, options)
            elif cls:
                component = maybe_ref(cls)(**options)
            else:
                raise ValueError("must have either 'type' or 'class' defined")
        except (TypeError, ValueError) as exc:
            if type(exc) not in (TypeError, ValueError):
                raise
            raise type(exc)(f"Cannot create {section}: {exc}") from exc
        if not isinstance(component, BASE_CLASSES[type_]):
            raise TypeError(
                f"Expected {type_} instance for {section}, got {type(component).__name__} instead"
            )
        return component


def _explain_arguments(
    cls: type, alias: str, arguments: Mapping[str, Any]
) -> str | None:
    """Return what is wrong with the names of the arguments for a trigger, None if nothing is."""
    from apscheduler.conversion import ArgumentReader  # slow to load
    from apscheduler.declared_job import OPTIONS

    reader, what = ArgumentReader(cls), f"the trigger {alias!r}"
    for name in arguments:
        problem = reader.explain_unknown(name, what, OPTIONS)
        if problem is not None:
            needed = "; triggers that are used by name must take it"
            return problem + (needed if name == "timezone" else "")
    for name in reader.find_missing(arguments):
        return f"{what} needs the argument {name!r}"
    return None


def _create_serializer(value: Any) -> Any:
    """Return a serializer that is configured by name, or by a mapping with ``type`` or ``class``."""
    if isinstance(value, str) and ":" not in value:
        value = {"type": value}
    if not isinstance(value, Mapping):
        return maybe_ref(value)
    options = dict(value)
    plugin, cls = options.pop("type", None), options.pop("class", None)
    if not plugin and not cls:
        # Without the values, one of which may be a key.
        raise ValueError(
            f"serializer must have either 'type' or 'class', but has {', '.join(map(repr, value)) or 'nothing'}"
        )
    made = load_component("serializer", plugin) if plugin else maybe_ref(cls)
    return made(**options)
