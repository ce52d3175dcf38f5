"""One job that a configuration declares: from a section, often of texts, to a job."""

import re
from collections.abc import Callable, Mapping
from datetime import tzinfo
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from apscheduler.conversion import ArgumentReader, read_json
from apscheduler.digest import digest_declaration
from apscheduler.environment import plain
from apscheduler.job import Job
from apscheduler.problems import NOTHING, ProblemList
from apscheduler.settings import JOB_DEFAULT_TYPES
from apscheduler.triggers.base import BaseTrigger
from apscheduler.util import UTC, asbool, astimezone, ref_to_obj, timezone_repr

if TYPE_CHECKING:
    from apscheduler.schedulers.base import BaseScheduler

SECTION = "apscheduler.jobs"

# What a crontab line may be combined with, and the arguments of from_crontab().
CRONTAB_OPTIONS = ("crontab", "dialect")


def _read_next_run_time(value: Any) -> Any:
    return None if isinstance(value, str) and value.strip().lower() == "none" else value


def _read_container(kind: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        return read_json(value, kind) if isinstance(value, str) else value

    return read


def _as_it_is(value: Any) -> Any:
    return value


# Option → how it is read. Whatever else stands in a section is an argument of the trigger.
OPTIONS: dict[str, Callable[[Any], Any]] = {
    **JOB_DEFAULT_TYPES,
    "args": _read_container(list),
    "crontab": _as_it_is,
    "dialect": _as_it_is,
    "executor": _as_it_is,
    "func": _as_it_is,
    "id": _as_it_is,
    "jobstore": _as_it_is,
    "kwargs": _read_container(dict),
    "name": _as_it_is,
    "next_run_time": _read_next_run_time,
    "replace_existing": asbool,
    "trigger": _as_it_is,
}

EXPECTED = {
    "history": "expected a whole number of runs, or 'none'",
    "max_attempts": "expected a whole number",
    "max_instances": "expected a whole number",
    "misfire_grace_time": "expected a whole number of seconds, or 'none'",
}

MISSING_TRIGGER = (
    "is missing: name one, with its arguments as further keys, such as trigger = interval and minutes = 5; or give a "
    "crontab line, such as crontab = 0 7 * * *"
)

# Options that become attributes of the job as they are; those not given come from the job defaults.
RULES = (*JOB_DEFAULT_TYPES, "next_run_time")


class DeclaredJob:
    """A section ``apscheduler.jobs.NAME``.

    ``func`` is a reference. ``trigger`` is the name of a trigger whose arguments are further keys; ``crontab``, with
    ``dialect`` ``vixie`` (the default: what crontab lines mean everywhere) or ``apscheduler``, stands in place of it.
    ``args`` and ``kwargs`` may be given as JSON. The options of ``add_job`` mean what they mean there, and win over
    arguments of the trigger with the same name. The id of the job is the name of the section, unless ``id`` is given.

    :ivar jobstore: alias of the store it belongs in
    :ivar replace_existing: whether it takes the place of a job with its id that was not declared here
    :ivar timed: whether a first run time is declared
    """

    def __init__(self, name: str, settings: Any, problems: ProblemList):
        self.name = name
        self.section = f"{SECTION}.{name}"
        self.problems = problems
        self._options: dict[str, Any] = {}
        self._trigger_args: dict[str, Any] = {}
        self._given: Mapping[str, Any] = {}
        before = len(problems.problems)
        if not isinstance(settings, Mapping):
            self._report(None, "expected a section with options", settings)
        else:
            self._given = settings
            self._read()
        self._is_readable = len(problems.problems) == before
        self.id = str(self._options.get("id", name))
        self.jobstore = str(self._options.get("jobstore", "default"))
        self.executor = str(self._options.get("executor", "default"))
        self.replace_existing = bool(self._options.get("replace_existing"))
        self.timed = "next_run_time" in self._options

    def _report(self, key: str | None, text: object, value: Any = NOTHING) -> None:
        self.problems.add(self.section, key, text, value)

    def _report_exception(self, exc: Exception, default_key: str | None) -> None:
        """Report under the key that the exception speaks of, by name or by value."""
        message = str(exc)
        words = set(re.findall(r"\w+", message))
        keys = [key for key in self._given if key != "trigger"]
        named = [key for key in keys if key in words] or [
            key for key in keys if repr(str(self._given[key])) in message
        ]
        key = named[0] if len(named) == 1 else default_key
        value = self._given.get(key, NOTHING) if key else NOTHING
        self._report(key, exc, value)

    # Reading: what needs neither plugins nor functions

    def _read(self) -> None:
        for key, value in self._given.items():
            read = OPTIONS.get(key)
            if read is None:
                self._trigger_args[key] = plain(value)
                continue
            try:
                self._options[key] = read(plain(value))
            except (TypeError, ValueError) as exc:
                self._report(key, EXPECTED.get(key, exc), value)
        for key in ("func", "id", "jobstore", "executor", "trigger", "crontab"):
            value = self._options.get(key, "x")
            if not isinstance(value, str) or not value.strip():
                self._report(key, "expected a text", self._given[key])
        for key, kind in (("args", list), ("kwargs", dict)):
            value = self._options.get(key, kind())
            if not isinstance(value, (kind, tuple) if kind is list else kind):
                what = "a list" if kind is list else "a table"
                self._report(key, f"expected {what}", value)
        self._check_schedule()

    def _check_schedule(self) -> None:
        if "func" not in self._given:
            self._report(
                "func", "is missing: give a reference such as package.module:name"
            )
        has_trigger, has_crontab = "trigger" in self._given, "crontab" in self._given
        if has_trigger and has_crontab:
            self._report(
                "crontab", "cannot be combined with 'trigger'; remove one of them"
            )
        elif not has_trigger and not has_crontab:
            self._report("trigger", MISSING_TRIGGER + self._suggest_schedule())
        if "dialect" in self._given and not has_crontab:
            self._report("dialect", "belongs to 'crontab', which is not given")
        if self._options.get("trigger") == "date" and "run_date" not in self._given:
            self._report(
                "run_date",
                "is missing: a declared date cannot be the time of every start",
            )

    def _suggest_schedule(self) -> str:
        """Return what a key may have been meant to be."""
        from difflib import get_close_matches  # slow to load, and hopefully not needed

        for key in self._trigger_args:
            near = get_close_matches(key, ("crontab", "trigger"), n=1)
            if near:
                return f"; did you mean {near[0]!r} by {key!r}?"
        return ""

    # Making: imports the function and the trigger

    def make(self, scheduler: "BaseScheduler") -> Job | None:
        """Return the job, complete but for its next run time; None if there are problems, which are then noted."""
        before = len(self.problems.problems)
        self._check_aliases(scheduler)
        function = self._find_function()
        trigger = self._make_trigger(scheduler)
        if function is None or trigger is None or not self._is_readable:
            return None
        if len(self.problems.problems) > before:
            return None
        rules = {
            **scheduler._job_defaults,
            **{key: self._options[key] for key in RULES if key in self._options},
        }
        try:
            job = Job(
                scheduler,
                self.id,
                trigger=trigger,
                executor=self.executor,
                func=self._options["func"],
                args=tuple(self._options.get("args", ())),
                kwargs=dict(self._options.get("kwargs", {})),
                name=self._options.get("name"),
                **rules,
            )
        except Exception as exc:  # signatures of callables may raise anything
            default = "kwargs" if "kwargs" in self._given else "args"
            self._report_exception(exc, default if default in self._given else "func")
            return None
        job._declaration = self._digest(job, rules, scheduler.timezone)
        return job

    def _check_aliases(self, scheduler: "BaseScheduler") -> None:
        for key, alias, known in (
            ("jobstore", self.jobstore, scheduler._jobstores),
            ("executor", self.executor, scheduler._executors),
        ):
            names = sorted({*known, "default"})
            if alias not in names:
                what = "job store" if key == "jobstore" else "executor"
                text = f"there is no such {what}; configured: {', '.join(names)}"
                self._report(key, text, alias)

    def _find_function(self) -> Any:
        reference = self._options.get("func")
        if not isinstance(reference, str):
            return None
        try:
            function = ref_to_obj(reference)
        except (LookupError, ValueError) as exc:
            self._report("func", exc, self._given["func"])
            return None
        except Exception as exc:  # whatever happens while the module is imported
            text = f"importing it failed: {type(exc).__name__}: {exc}"
            self._report("func", text, self._given["func"])
            return None
        if not callable(function):
            self._report("func", "leads to something that cannot be called", function)
            return None
        return function

    def _make_trigger(self, scheduler: "BaseScheduler") -> BaseTrigger | None:
        is_crontab = "crontab" in self._options
        alias = "cron" if is_crontab else self._options.get("trigger")
        if not isinstance(alias, str):
            return None
        key = "crontab" if is_crontab else "trigger"
        try:
            cls = scheduler._plugin_class("trigger", alias)
        except Exception as exc:  # importing a plugin may raise anything
            self._report(key, exc, alias)
            return None
        make: Callable[..., BaseTrigger] = cls
        arguments = dict(self._trigger_args)
        if is_crontab:
            make = cls.from_crontab  # type: ignore[attr-defined]  # whatever is called cron has it
            arguments["expr"] = self._options["crontab"]
            arguments["dialect"] = self._options.get("dialect", "vixie")
        if not self._convert(ArgumentReader(make), arguments, f"the trigger {alias!r}"):
            return None
        self._trigger_args = {k: arguments[k] for k in self._trigger_args}
        arguments.setdefault("timezone", scheduler.timezone)
        try:
            return make(**arguments)
        except Exception as exc:  # constructors of other people's triggers
            self._report_exception(exc, key)
            return None

    def _convert(
        self, reader: ArgumentReader, arguments: dict[str, Any], what: str
    ) -> bool:
        """Convert texts in place; return False if something was wrong."""
        fine = True
        for key, value in arguments.items():
            unknown = reader.explain_unknown(key, what, OPTIONS)
            if unknown is not None:
                self._report(key, unknown)
                fine = False
                continue
            try:
                arguments[key] = reader.convert(key, value)
            except ValueError as exc:
                self._report(key, exc, self._given.get(key, value))
                fine = False
        return fine

    def _digest(self, job: Job, rules: dict[str, Any], zone: tzinfo) -> str | None:
        """Return what tells whether the declaration has changed: a part for the schedule, and one for the rest."""
        trigger = str(self._options.get("trigger", "cron"))
        arguments = {
            "timezone": timezone_repr(astimezone(zone) or UTC),
            **self._trigger_args,
            **{key: self._options.get(key) for key in CRONTAB_OPTIONS},
            "next_run_time": self._options.get("next_run_time", "by trigger"),
        }
        schedule = repr((trigger, sorted(arguments.items())))
        rest = digest_declaration(
            job,
            job.func_ref,
            trigger,
            {},
            job.args,
            sorted(job.kwargs.items()),
            job.name,
            {key: value for key, value in rules.items() if key != "next_run_time"},
            self.executor,
        )
        return f"{sha256(schedule.encode()).hexdigest()[:32]}.{rest}"
