"""Jobs: what to run, with which arguments, by which trigger, under which rules."""

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from apscheduler.triggers.base import BaseTrigger, TriggerError
from apscheduler.util import (
    check_callable_args,
    convert_to_datetime,
    datetime_repr,
    get_callable_name,
    no_signature,
    obj_to_ref,
    ref_to_obj,
    resolves_back,
)

if TYPE_CHECKING:
    from apscheduler.schedulers.base import BaseScheduler
    from apscheduler.schedulers.signatures import reschedule_signature
else:
    reschedule_signature = no_signature

# Options that APScheduler 3 does not know. They are part of the stored state only when they are not the default, so
# that stored jobs stay readable there.
NEW_OPTIONS: dict[str, Any] = {"on_lost": "mark", "max_attempts": 3, "history": None}


class Job:
    """A job that was added to a scheduler. Programs get jobs from the scheduler and do not make them.

    :ivar str id: identifier, unique in the job store
    :ivar str name: what logs and listings call it
    :ivar func: the callable
    :ivar func_ref: textual reference to the callable, None when there can be none
    :ivar args: positional arguments
    :ivar kwargs: keyword arguments
    :ivar trigger: decides when the job runs
    :ivar str executor: alias of the executor that runs it
    :ivar misfire_grace_time: seconds a run may be late and still run, None for any lateness
    :ivar coalesce: whether several late fire times become one run, the last
    :ivar max_instances: how many runs may be going on at once, over all schedulers of the store
    :ivar next_run_time: when it runs next, None while it is paused
    :ivar on_lost: what to do about a run whose scheduler died: ``"mark"`` it as lost, or ``"retry"`` it
    :ivar max_attempts: how often one run is started at most, with ``on_lost="retry"``
    :ivar history: how many finished runs to keep; 0 for none, None for what the store keeps by default
    """

    __slots__ = (
        "__weakref__",
        "_declaration",
        "_jobstore_alias",
        "_origin",
        "_scheduler",
        "_token",
        "args",
        "coalesce",
        "executor",
        "func",
        "func_ref",
        "history",
        "id",
        "kwargs",
        "max_attempts",
        "max_instances",
        "misfire_grace_time",
        "name",
        "next_run_time",
        "on_lost",
        "trigger",
    )

    id: str
    name: str
    func: Callable[..., Any]
    func_ref: str | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    trigger: BaseTrigger
    executor: str
    misfire_grace_time: int | None
    coalesce: bool
    max_instances: int
    next_run_time: datetime | None
    on_lost: str
    max_attempts: int
    history: int | None
    # A digest of the declaration it was added with, and the configuration that declares it.
    _declaration: str | None
    _origin: str | None
    # What the store's record was when the job was read from it.
    _token: Any

    def __init__(
        self, scheduler: "BaseScheduler | None", id: str | None = None, **kwargs: Any
    ):
        self._scheduler = scheduler
        self._jobstore_alias: str | None = None
        self._declaration = self._origin = self._token = None
        self.on_lost = "mark"
        self.max_attempts = 3
        self.history = None
        self.id = _check_id(id or os.urandom(16).hex())
        self.name = ""  # it is called after its function, unless another name is given
        self._apply(kwargs)

    def modify(self, **changes: Any) -> "Job":
        """Change attributes of this job, and return it.

        :raises JobLookupError: if it is gone
        """
        self._bound.modify_job(self.id, self._jobstore_alias, **changes)
        return self

    @reschedule_signature
    def reschedule(self, trigger: Any, **trigger_args: Any) -> "Job":
        """Give this job another trigger and the first run time of that, and return it.

        :raises JobLookupError: if it is gone
        """
        self._bound.reschedule_job(
            self.id, self._jobstore_alias, trigger, **trigger_args
        )
        return self

    def pause(self) -> "Job":
        """Stop running this job until it is resumed, and return it.

        :raises JobLookupError: if it is gone
        """
        self._bound.pause_job(self.id, self._jobstore_alias)
        return self

    def resume(self) -> "Job":
        """Schedule this job from now on, and return it; it is removed if its schedule is over.

        :raises JobLookupError: if it is gone
        """
        self._bound.resume_job(self.id, self._jobstore_alias)
        return self

    def remove(self) -> None:
        """Remove this job from its store. Runs that are going on are not affected.

        :raises JobLookupError: if it is gone
        """
        self._bound.remove_job(self.id, self._jobstore_alias)

    @property
    def pending(self) -> bool:
        """Whether the job waits for its scheduler to start to be written to its store."""
        return self._jobstore_alias is None

    @property
    def _bound(self) -> "BaseScheduler":
        if self._scheduler is None:
            raise RuntimeError(f"Job {self.id!r} does not belong to a scheduler")
        return self._scheduler

    def _get_run_times(self, now: datetime) -> list[datetime]:
        """Return the run times from the next one up to ``now``.

        :raises TriggerError: if the trigger does not advance
        """
        run_times: list[datetime] = []
        # As instants: with one zone on both sides Python compares wall clocks, which run backwards once a year.
        limit = now.timestamp()
        next_run_time = self.next_run_time
        while next_run_time and next_run_time.timestamp() <= limit:
            if run_times and next_run_time.timestamp() <= run_times[-1].timestamp():
                raise TriggerError(
                    f"The trigger of job {self.id!r} ({self.trigger}) does not advance: after {run_times[-1]} it "
                    f"returned {next_run_time}; a trigger must return a later time, or None"
                )
            run_times.append(next_run_time)
            next_run_time = self.trigger.get_next_fire_time(next_run_time, now)
        return run_times

    def _modify(self, **changes: Any) -> None:
        """Check the changes and make them: all of them, or none and an exception."""
        self._apply(changes)

    def _apply(self, changes: dict[str, Any]) -> None:
        """Do so with a dictionary that is used up by it."""
        approved: dict[str, Any] = {}
        if "id" in changes:
            _check_id(changes["id"])
            raise ValueError("The job ID may not be changed")
        if "func" in changes or "args" in changes or "kwargs" in changes:
            self._check_call(changes, approved)
        for name, value in changes.items():
            check = CHECKS.get(name)
            if check is None:
                raise AttributeError(
                    f"The following are not modifiable attributes of Job: {', '.join(_unknown(changes))}"
                )
            approved[name] = check(value)
        next_run_time = approved.get("next_run_time")
        if next_run_time is not None:
            approved["next_run_time"] = convert_to_datetime(
                next_run_time, self._timezone, "next_run_time"
            )
        for name, value in approved.items():
            setattr(self, name, value)

    @property
    def _timezone(self) -> tzinfo:
        return self._scheduler.timezone if self._scheduler is not None else UTC

    def _check_call(self, changes: dict[str, Any], approved: dict[str, Any]) -> None:
        """Check function and arguments together, and name the job after its function if it has no name yet."""
        is_same_func = "func" not in changes
        func = self.func if is_same_func else changes.pop("func")
        args = changes.pop("args") if "args" in changes else self.args
        kwargs = changes.pop("kwargs") if "kwargs" in changes else self.kwargs
        func_ref: str | None
        if is_same_func:
            # A reference that was given as text need not be the one that could be made.
            func_ref = self.func_ref
        elif isinstance(func, str):
            func_ref = func
            func = ref_to_obj(func)
        elif callable(func):
            func_ref = _reference(func)
        else:
            raise TypeError(
                f"func must be a callable or a textual reference to one, got {func!r}"
            )
        if type(args) is not tuple:  # nearly always it is
            args = _check_args(args)
        if type(kwargs) is not dict and not isinstance(kwargs, Mapping):
            raise TypeError(f"kwargs must be a dict-like object, got {kwargs!r}")
        check_callable_args(func, args, kwargs)
        if not self.name and changes.get("name") is None:
            changes["name"] = get_callable_name(func)
        approved["func"], approved["func_ref"] = func, func_ref
        approved["args"], approved["kwargs"] = args, kwargs

    def __getstate__(self) -> dict[str, Any]:
        if not self.func_ref:
            raise ValueError(
                f"This Job cannot be serialized since the reference to its callable ({self.func!r}) could not be "
                "determined. Consider giving a textual reference (module:function name) instead."
            )
        args = self.args
        # A method bound to an instance is stored as the plain function, called with the instance.
        if (
            isinstance(self.func, MethodType)
            and not isinstance(self.func.__self__, type)
            and obj_to_ref(self.func) == self.func_ref
        ):
            args = (self.func.__self__, *args)
        state = {
            "version": 1,
            "id": self.id,
            "func": self.func_ref,
            "trigger": self.trigger,
            "executor": self.executor,
            "args": args,
            "kwargs": self.kwargs,
            "name": self.name,
            "misfire_grace_time": self.misfire_grace_time,
            "coalesce": self.coalesce,
            "max_instances": self.max_instances,
            "next_run_time": self.next_run_time,
        }
        for name, default in NEW_OPTIONS.items():
            if getattr(self, name) != default:
                state[name] = getattr(self, name)
        if self._declaration is not None:
            state["declaration"] = self._declaration
        if self._origin is not None:
            state["origin"] = self._origin
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state.get("version", 1) > 1:
            raise ValueError(
                f"Job has version {state['version']}, but only version 1 can be handled"
            )
        self.id = state["id"]
        self.func_ref = state["func"]
        # Who only changes a job, and never runs it, may put something else in place of its function.
        func = state["func"]
        self.func = func if callable(func) else ref_to_obj(func)
        self.trigger = state["trigger"]
        self.executor = state["executor"]
        self.args = state["args"]
        self.kwargs = state["kwargs"]
        self.name = state["name"]
        self.misfire_grace_time = state["misfire_grace_time"]
        self.coalesce = state["coalesce"]
        self.max_instances = state["max_instances"]
        self.next_run_time = state["next_run_time"]
        # Not in a loop over NEW_OPTIONS: listings do this for every job.
        self.on_lost = state.get("on_lost", "mark")
        self.max_attempts = state.get("max_attempts", 3)
        self.history = state.get("history")
        self._declaration = state.get("declaration")
        self._origin = state.get("origin")
        # Links are made by whoever restores the job.
        self._scheduler = None
        self._jobstore_alias = None
        self._token = None

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Job):
            return self.id == other.id
        return NotImplemented

    # Equal by identifier, which says nothing about a job's other attributes: no member of sets, as in APScheduler 3.
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Job (id={self.id} name={self.name})>"

    def __str__(self) -> str:
        if not hasattr(self, "next_run_time"):
            status = "pending"
        elif self.next_run_time:
            status = f"next run at: {datetime_repr(self.next_run_time)}"
        else:
            status = "paused"
        return f"{self.name} (trigger: {self.trigger}, {status})"


def _reference(func: Callable[..., Any]) -> str | None:
    """Return the reference that leads back to the callable, or None if there is none."""
    if _is_global(func):
        return sys.intern(f"{func.__module__}:{func.__qualname__}")
    try:
        ref = obj_to_ref(func)
    except ValueError:
        return None
    if resolves_back(func, ref) or _is_being_defined(func, ref):
        return sys.intern(ref)  # one text for all jobs of the function
    return None


def _is_global(func: Callable[..., Any]) -> bool:
    """Return whether this is a plain function that its module has by its name, as most are."""
    if type(func) is not FunctionType:
        return False
    module, names = sys.modules.get(func.__module__), func.__globals__
    return (
        getattr(module, "__dict__", None) is names
        and names.get(func.__qualname__) is func
    )


def _is_being_defined(func: Callable[..., Any], ref: str) -> bool:
    """Return whether the name of a function will lead to it in a moment: decorators come before the name is bound.

    The name may still lead to an earlier function: one further up, or that of the time before, when a module is
    loaded again.
    """
    module = (
        sys.modules.get(func.__module__) if isinstance(func, FunctionType) else None
    )
    if module is None:
        return False
    try:
        found = ref_to_obj(ref)
    except LookupError:
        return True
    from inspect import unwrap  # slow to load

    found = unwrap(found)
    if (
        not isinstance(found, FunctionType) or found is func
    ):  # the name leads to a wrapper of it
        return False
    old, new = found.__code__, func.__code__
    return (
        (found.__module__, found.__qualname__) == (func.__module__, func.__qualname__)
    ) and (
        getattr(module.__spec__, "_initializing", False)
        or old.co_filename != new.co_filename
        or old.co_firstlineno <= new.co_firstlineno
    )


def _unknown(changes: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in changes if name not in CHECKS)


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and value > 0


def _check_id(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"id must be a nonempty string, got {value!r}")
    return value


def _check_args(value: object) -> Sequence[Any]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"args must be a non-string iterable, got {value!r}")
    # An iterator can be read only once.
    return value if isinstance(value, Sequence) else tuple(value)


def _check_name(value: object) -> str:
    if not value or not isinstance(value, str):
        raise TypeError(f"name must be a nonempty string, got {value!r}")
    return value


def _check_grace_time(value: object) -> object:
    if value is not None and not _is_positive(value):
        raise TypeError(
            f"misfire_grace_time must be either None or a positive integer, got {value!r}"
        )
    return value


def _check_max_instances(value: object) -> object:
    if not _is_positive(value):
        raise TypeError(f"max_instances must be a positive integer, got {value!r}")
    return value


def _check_trigger(value: object) -> BaseTrigger:
    if not isinstance(value, BaseTrigger):
        raise TypeError(
            f"Expected a trigger instance, got {type(value).__name__} instead"
        )
    return value


def _check_executor(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"executor must be a string, got {value!r}")
    return value


def _check_on_lost(value: object) -> object:
    if value not in ("mark", "retry"):
        raise ValueError(f"on_lost must be 'mark' or 'retry', got {value!r}")
    return value


def _check_max_attempts(value: object) -> object:
    if not _is_positive(value):
        raise TypeError(f"max_attempts must be a positive integer, got {value!r}")
    return value


def _check_history(value: object) -> object:
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, int) or value < 0
    ):
        raise TypeError(
            f"history must be None or a number of runs to keep (0 for none), got {value!r}"
        )
    return value


# How each attribute is checked, and what comes out; the other attributes cannot be changed.
CHECKS: dict[str, Callable[[Any], Any]] = {
    "name": _check_name,
    "misfire_grace_time": _check_grace_time,
    "coalesce": bool,
    "max_instances": _check_max_instances,
    "trigger": _check_trigger,
    "executor": _check_executor,
    "next_run_time": lambda value: value,
    "on_lost": _check_on_lost,
    "max_attempts": _check_max_attempts,
    "history": _check_history,
    # These two are checked together with the function, and the identifier when the job is made.
}
