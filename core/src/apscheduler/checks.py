"""What is wrong in a configuration: found without starting anything, and without touching a store."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from apscheduler.callables import iscoroutinefunction_partial
from apscheduler.conversion import ArgumentReader
from apscheduler.declarations import Declarations
from apscheduler.hooked import load_installed
from apscheduler.job import CHECKS, Job
from apscheduler.jobstores.base import BaseJobStore
from apscheduler.plugins import (
    KINDS,
    Kind,
    installed_components,
    load_component,
    resolve_reference,
)
from apscheduler.problems import (
    NOTHING,
    ProblemList,
    Source,
    describe,
)
from apscheduler.schedulers.base import BaseExecutor, BaseScheduler
from apscheduler.schedulers.components import _create_serializer
from apscheduler.serializers import Serializer
from apscheduler.settings import (
    JOB_DEFAULT_TYPES,
    KNOWN_KEYS,
    PREFIX,
    describe_unknown,
    retry_seconds,
)
from apscheduler.triggers.base import TriggerError
from apscheduler.util import asbool, astimezone, maybe_ref

logger = logging.getLogger("apscheduler.scheduler")

BASE_CLASSES: Mapping[Kind, type] = {
    "executor": BaseExecutor,
    "jobstore": BaseJobStore,
    "scheduler": BaseScheduler,
    "serializer": Serializer,
}

# What the names of schedulers, executors and stores may be in a file.
SCALARS: dict[str, Callable[[Any], Any]] = {
    "timezone": astimezone,
    "jobstore_retry_interval": float,
    "start_retry": retry_seconds,
    "daemon": asbool,
    "logger": maybe_ref,
    "clock": maybe_ref,
}
EXPECTED = {
    "jobstore_retry_interval": "expected a number of seconds",
    "timezone": "expected the name of a time zone, such as 'Europe/Berlin'",
}


@dataclass
class Examination:
    """What was found.

    :ivar config: nested, without prefix, with texts converted where the constructor of a component wants no text
    :ivar scheduler_class: what to run the configuration with; None if it cannot be told
    :ivar executor_classes: by the aliases of the executors
    :ivar serializers: the sections of those that can perhaps be made, by the aliases of their stores
    :ivar jobs: the declared jobs that are valid, by the name of their section, with their first run times
    """

    config: dict[str, Any]
    problems: ProblemList
    scheduler_class: type[BaseScheduler] | None = None
    executor_classes: dict[str, type[BaseExecutor]] = field(default_factory=dict)
    serializers: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    jobs: dict[str, tuple[Job, list[datetime]]] = field(default_factory=dict)


class Examiner:
    """Looks through one configuration.

    :param config: nested, without prefix; it is changed
    :param default_type: which scheduler it is for if it does not say
    """

    def __init__(self, config: dict[str, Any], default_type: str):
        source = config.get("source")
        self.source = source if isinstance(source, Source) else None
        self.config = config
        self.problems = ProblemList(self.source, config)
        self._default_type = default_type
        self._found = Examination(config, self.problems)

    def examine(self) -> Examination:
        """Return what is wrong, but for declared jobs."""
        load_installed()  # a plugin may say what a name means
        self._check_sections()
        found = self._found
        cls = found.scheduler_class = self._find_scheduler()
        own = (vars(base).get("config_keys", ()) for base in (cls or object).__mro__)
        known = KNOWN_KEYS.union(*own) - {"source"}
        for key in self.config if cls is not None else ():
            if key != "source":
                for message in describe_unknown([key], known, "configuration key"):
                    self._report(None, key, message, fatal=False)
        for key, convert in SCALARS.items():
            if key in self.config and key in known:
                self._check_scalar(key, convert)
        self._check_job_defaults()
        for kind in ("executor", "jobstore"):
            self._check_components(kind)
        return found

    def _check_sections(self) -> None:
        """Find sections that lack the prefix, of which it is not known that they are meant for us."""
        if self.source is None:
            return
        for name in self.source.unprefixed:
            logger.warning(
                "%s, [%s]: is ignored, since it does not begin with %r: write [%s] if it is meant for the scheduler",
                *(self.source.path, name, PREFIX, PREFIX + name),
            )
        if self.config.keys() <= {"source"}:
            text = "there is no such section, and none below it: nothing is configured"
            self._report(None, None, text, fatal=False)

    def _report(
        self,
        section: str | None,
        key: str | None,
        text: object,
        value: Any = NOTHING,
        fatal: bool = True,
    ) -> None:
        place = PREFIX + section if section else PREFIX.rstrip(".")
        self.problems.add(place, key, text, value, fatal)

    def _check_scalar(self, key: str, convert: Callable[[Any], Any]) -> None:
        value = self.config[key]
        try:
            convert(value)
        except Exception as exc:  # references import other people's modules
            self._report(None, key, EXPECTED.get(key, exc), value)

    def _find_scheduler(self) -> type[BaseScheduler] | None:
        settings = self.config.pop("scheduler", None)
        if settings is None:
            settings = {"type": self._default_type}
        elif isinstance(settings, str):
            settings = {"type": settings}
        elif not isinstance(settings, Mapping):
            self._report(None, "scheduler", "expected a section with 'type'", settings)
            return None
        for message in describe_unknown(settings, ("class", "type"), "option"):
            self._report("scheduler", None, message, fatal=False)
        if not settings.keys() & {"type", "class"}:
            settings = {"type": self._default_type, **settings}
        cls: type[BaseScheduler] | None = self._load("scheduler", "scheduler", settings)
        return cls

    def _check_job_defaults(self) -> None:
        defaults = self.config.get("job_defaults", {})
        if not isinstance(defaults, Mapping):
            self._report(None, "job_defaults", "expected a section", defaults)
            return
        for key, value in defaults.items():
            convert = JOB_DEFAULT_TYPES.get(key)
            if convert is None:
                for message in describe_unknown(
                    [key], JOB_DEFAULT_TYPES, "job default"
                ):
                    self._report("job_defaults", key, message, fatal=False)
                continue
            try:
                CHECKS[key](convert(value))
            except (TypeError, ValueError) as exc:
                self._report("job_defaults", key, exc, value)

    def _check_components(self, kind: Kind) -> None:
        branch = f"{kind}s"
        components = self.config.get(branch, {})
        if not isinstance(components, Mapping):
            self._report(None, branch, "expected a section for each", components)
            return
        for alias, settings in components.items():
            section = f"{branch}.{alias}"
            if isinstance(settings, BASE_CLASSES[kind]):
                self._note_class(kind, str(alias), type(settings))
                continue
            if not isinstance(settings, Mapping):
                what = f"expected a section with 'type' or 'class', or {_a(kind)}"
                self._report(branch, str(alias), what, settings)
                continue
            cls = self._load(kind, section, settings)
            if cls is not None:
                self._note_class(kind, str(alias), cls)
                self._check_arguments(kind, section, cls, settings)
            self._check_serializer(str(alias), section, settings.get("serializer"))

    def _note_class(self, kind: Kind, alias: str, cls: type) -> None:
        if kind == "executor":
            self._found.executor_classes[alias] = cls

    def _check_serializer(self, alias: str, section: str, settings: Any) -> None:
        if not isinstance(settings, Mapping):
            return
        section, before = f"{section}.serializer", len(self.problems.problems)
        cls = self._load("serializer", section, settings)
        if cls is not None:
            self._check_arguments("serializer", section, cls, settings)
        if cls is not None and len(self.problems.problems) == before:
            self._found.serializers[alias] = settings

    def _load(self, kind: Kind, section: str, settings: Mapping[str, Any]) -> Any:
        """Return the class that a section names, or None and a problem."""
        key = "type" if settings.get("type") else "class"
        named = settings.get(key)
        if not named:
            known = ", ".join(installed_components(kind))
            self._report(section, "type", f"is missing; installed: {known}")
            return None
        try:
            cls = (
                load_component(kind, named)
                if key == "type"
                else resolve_reference(named)
            )
        except Exception as exc:  # importing a plugin may raise anything
            self._report(section, key, exc, named)
            return None
        if not issubclass(cls, BASE_CLASSES[kind]):
            self._report(section, key, f"expected {_a(kind)}, but it is {cls!r}", named)
            return None
        return cls

    def _check_arguments(
        self, kind: Kind, section: str, cls: type, settings: Any
    ) -> None:
        """Find arguments that the constructor does not take, and convert the others."""
        reader = ArgumentReader(cls)
        given = {k: v for k, v in settings.items() if k not in ("type", "class")}
        for key, value in given.items():
            unknown = reader.explain_unknown(key, f"the {KINDS[kind]} {cls.__name__}")
            if unknown is not None:
                self._report(section, key, unknown)
                continue
            try:
                settings[key] = reader.convert(key, value)
            except ValueError as exc:
                shown = NOTHING if kind == "serializer" else value  # perhaps a key
                self._report(section, key, exc, shown)
        for key in reader.find_missing(given):
            self._report(section, key, f"is missing: {cls.__name__} needs it")


def _a(kind: Kind) -> str:
    words = KINDS[kind]
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


class _Unstarted(BaseScheduler):
    """Makes jobs and nothing else."""

    def wakeup(self) -> None:
        """Do nothing: there is no loop."""

    def shutdown(self, wait: bool | float = True) -> None:
        """Do nothing: it is never started."""


def examine_jobs(found: Examination, preview: int = 3) -> None:
    """Check the declared jobs: that functions can be imported, triggers made, and arguments fit.

    :param found: the examination of the rest; gets the jobs and further problems
    :param preview: how many run times to work out for each job
    """
    config, problems = found.config, found.problems
    keys = ("timezone", "job_defaults")
    try:
        scheduler = _Unstarted(
            {PREFIX + key: config[key] for key in keys if key in config}
        )
    except Exception:  # reported already; the jobs are looked at with defaults
        scheduler = _Unstarted()
    # Their aliases are enough here.
    scheduler._executors = dict.fromkeys(config.get("executors") or (), NOTHING)
    scheduler._jobstores = dict.fromkeys(config.get("jobstores") or (), NOTHING)
    serializers = _make_serializers(found)
    declarations = Declarations.from_config(config)
    if declarations is None:
        return
    problems.problems += declarations.problems.problems
    for declared in declarations.declared:
        declared.problems = problems
        job = declared.make(scheduler)
        if job is None:
            continue
        try:
            times = _first_run_times(scheduler, job, preview)
        except Exception as exc:  # other people's triggers
            problems.add(declared.section, "trigger", describe(exc))
            continue
        if not times and not declared.timed:
            text = f"never fires: {job.trigger} has no run time from now on"
            problems.add(declared.section, None, text, fatal=False)
        obstacle = _find_storing_problem(job, serializers.get(declared.jobstore))
        if obstacle is not None:
            problems.add(declared.section, None, obstacle)
            continue
        if _is_never_awaited(job, _find_executor(found, job.executor)):
            text = (
                f"the executor {job.executor!r} runs no coroutines: each run will fail"
            )
            problems.add(declared.section, "func", text, fatal=False)
        found.jobs[declared.name] = job, times


def _make_serializers(found: Examination) -> dict[str, Serializer]:
    """Return the serializers of the stores, as far as they can be made."""
    made: dict[str, Serializer] = {}
    for alias, settings in found.serializers.items():
        try:
            made[alias] = _create_serializer(settings)
        except Exception as exc:  # a key that is too short, a file that is not there
            section = f"{PREFIX}jobstores.{alias}.serializer"
            found.problems.add(section, None, describe(exc))
    return made


def _find_storing_problem(job: Job, serializer: Serializer | None) -> str | None:
    """Return why the store of a job would refuse it, such as a function that is not on its list."""
    if serializer is None:
        return None
    is_timed = hasattr(job, "next_run_time")
    if not is_timed:
        job.next_run_time = None
    try:
        serializer.loads(serializer.dumps(job.__getstate__()))
    except Exception as exc:
        return describe(exc)
    finally:
        if not is_timed:
            del job.next_run_time
    return None


def _find_executor(found: Examination, alias: str) -> type[BaseExecutor] | None:
    cls = found.executor_classes.get(alias)
    if cls is not None or alias != "default" or found.scheduler_class is None:
        return cls
    try:
        default = found.scheduler_class.default_executor
        loaded: type[BaseExecutor] = load_component("executor", default)
    except Exception:  # not installed: the scheduler says so when it is started
        return None
    return loaded


def _is_never_awaited(job: Job, executor: type[BaseExecutor] | None) -> bool:
    """Return whether the function is async, and the executor is known to call functions only."""
    is_awaiting = getattr(executor, "runs_coroutines", None)
    return is_awaiting is False and iscoroutinefunction_partial(job.func)


def _first_run_times(scheduler: BaseScheduler, job: Job, count: int) -> list[datetime]:
    """Return when the job would run first; nothing if its schedule is over, or it is declared as paused."""
    now, trigger = scheduler._now(), job.trigger
    if hasattr(job, "next_run_time"):
        first = job.next_run_time
    else:
        first = scheduler._first_fire_time(trigger)
        if first and scheduler._is_over(trigger, first):
            return []
    times: list[datetime] = []
    while first is not None and len(times) < count:
        if times and first.timestamp() <= times[-1].timestamp():
            raise TriggerError(
                f"{trigger} does not advance: after {times[-1]} comes {first}"
            )
        times.append(first)
        first = trigger.get_next_fire_time(first, max(first, now))
    return times
