"""What type checkers know about methods that take the arguments of a trigger. Nothing here exists at run time.

Types cannot say "any name but these". So after the overloads that are right there is one for calls that are wrong, whose
answer is a coroutine that nobody awaits: that is what type checkers report, with the reason in its type.
"""

# Overloads for wrong calls overlap with those for right ones, and come after them: that is what they are for.
# mypy: disable-error-code="overload-overlap"

from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import date, datetime, tzinfo
from typing import (
    Any,
    Literal,
    Protocol,
    TypedDict,
    TypeVar,
    TypeVarTuple,
    Unpack,
    overload,
)

from apscheduler.job import Job
from apscheduler.triggers.base import BaseTrigger
from apscheduler.util import UndefinedType

F = TypeVar("F", bound=Callable[..., Any])
Ts = TypeVarTuple("Ts")

Alias = Literal["interval", "cron", "date", "calendarinterval"]
Func = Callable[..., object] | str


class TriggerHasNoSuchArgument:
    """What a type checker shows for a trigger that does not take the arguments given."""


class FunctionOrTriggerDoesNotTakeTheseArguments:
    """What a type checker shows where the function or the trigger does not take the arguments given."""


WrongArguments = Coroutine[Any, Any, FunctionOrTriggerDoesNotTakeTheseArguments]
WrongTriggerArguments = Coroutine[Any, Any, TriggerHasNoSuchArgument]


class IntervalArguments(TypedDict, total=False):
    """Keyword arguments of the trigger ``interval``."""

    weeks: float
    days: float
    hours: float
    minutes: float
    seconds: float
    start_date: str | date | None
    end_date: str | date | None
    timezone: str | tzinfo | None
    jitter: float | None


class CronArguments(TypedDict, total=False):
    """Keyword arguments of the trigger ``cron``."""

    year: int | str | None
    month: int | str | None
    day: int | str | None
    week: int | str | None
    day_of_week: int | str | None
    hour: int | str | None
    minute: int | str | None
    second: int | str | None
    start_date: str | date | None
    end_date: str | date | None
    timezone: str | tzinfo | None
    jitter: float | None
    on_gap: Literal["shift", "skip"] | None
    on_fold: Literal["both", "first", "second"]
    day_or_weekday: bool


class DateArguments(TypedDict, total=False):
    """Keyword arguments of the trigger ``date``."""

    run_date: str | date | None
    timezone: str | tzinfo | None


class CalendarIntervalArguments(TypedDict, total=False):
    """Keyword arguments of the trigger ``calendarinterval``."""

    years: int
    months: int
    weeks: int
    days: int
    hour: int
    minute: int
    second: int
    start_date: str | date | None
    end_date: str | date | None
    timezone: str | tzinfo | None
    jitter: float | None


class DecoratorOptions(TypedDict, total=False):
    """What ``scheduled_job`` takes besides function, trigger and arguments."""

    id: str | None
    name: str | None
    misfire_grace_time: int | UndefinedType | None
    coalesce: bool | UndefinedType
    max_instances: int | UndefinedType
    next_run_time: datetime | str | UndefinedType | None
    jobstore: str
    executor: str


class JobOptions(DecoratorOptions, total=False):
    """What ``add_job`` takes besides function, trigger and arguments."""

    replace_existing: bool
    on_lost: str | UndefinedType
    max_attempts: int | UndefinedType
    history: int | UndefinedType | None


class IntervalJob(JobOptions, IntervalArguments, total=False):
    """Keyword arguments of a job with this trigger."""


class IntervalDecorator(DecoratorOptions, IntervalArguments, total=False):
    """Keyword arguments of the decorator for this trigger."""


class CronJob(JobOptions, CronArguments, total=False):
    """Keyword arguments of a job with this trigger."""


class CronDecorator(DecoratorOptions, CronArguments, total=False):
    """Keyword arguments of the decorator for this trigger."""


class DateJob(JobOptions, DateArguments, total=False):
    """Keyword arguments of a job with this trigger."""


class DateDecorator(DecoratorOptions, DateArguments, total=False):
    """Keyword arguments of the decorator for this trigger."""


class CalendarIntervalJob(JobOptions, CalendarIntervalArguments, total=False):
    """Keyword arguments of a job with this trigger."""


class CalendarIntervalDecorator(
    DecoratorOptions, CalendarIntervalArguments, total=False
):
    """Keyword arguments of the decorator for this trigger."""


class AddJob(Protocol):
    """The method ``add_job``: with arguments in a tuple, without any, and with others, which are not checked."""

    @overload
    def __call__(
        self,
        func: Callable[[*Ts], object] | str,
        trigger: Literal["interval"],
        args: tuple[*Ts],
        kwargs: None = None,
        **options: Unpack[IntervalJob],
    ) -> Job: ...

    @overload
    def __call__(
        self,
        func: Callable[[*Ts], object] | str,
        trigger: Literal["cron"],
        args: tuple[*Ts],
        kwargs: None = None,
        **options: Unpack[CronJob],
    ) -> Job: ...

    @overload
    def __call__(
        self,
        func: Callable[[*Ts], object] | str,
        trigger: Literal["date"],
        args: tuple[*Ts],
        kwargs: None = None,
        **options: Unpack[DateJob],
    ) -> Job: ...

    @overload
    def __call__(
        self,
        func: Callable[[*Ts], object] | str,
        trigger: Literal["calendarinterval"],
        args: tuple[*Ts],
        kwargs: None = None,
        **options: Unpack[CalendarIntervalJob],
    ) -> Job: ...

    @overload
    def __call__(
        self,
        func: Callable[[*Ts], object] | str,
        trigger: BaseTrigger | None,
        args: tuple[*Ts],
        kwargs: None = None,
        **options: Unpack[JobOptions],
    ) -> Job: ...

    @overload
    def __call__(
        self,
        func: Callable[[*Ts], object] | str,
        trigger: BaseTrigger | None = None,
        *,
        args: tuple[*Ts],
        kwargs: None = None,
        **options: Unpack[JobOptions],
    ) -> Job: ...

    @overload
    def __call__(
        self,
        func: Callable[[], object] | str,
        trigger: Literal["interval"],
        args: None = None,
        kwargs: None = None,
        **options: Unpack[IntervalJob],
    ) -> Job: ...

    @overload
    def __call__(
        self,
        func: Callable[[], object] | str,
        trigger: Literal["cron"],
        args: None = None,
        kwargs: None = None,
        **options: Unpack[CronJob],
    ) -> Job: ...

    @overload
    def __call__(
        self,
        func: Callable[[], object] | str,
        trigger: Literal["date"],
        args: None = None,
        kwargs: None = None,
        **options: Unpack[DateJob],
    ) -> Job: ...

    @overload
    def __call__(
        self,
        func: Callable[[], object] | str,
        trigger: Literal["calendarinterval"],
        args: None = None,
        kwargs: None = None,
        **options: Unpack[CalendarIntervalJob],
    ) -> Job: ...

    @overload
    def __call__(
        self,
        func: Callable[[], object] | str,
        trigger: BaseTrigger | None = None,
        args: None = None,
        kwargs: None = None,
        **options: Unpack[JobOptions],
    ) -> Job: ...

    @overload
    def __call__(
        self,
        func: Func,
        trigger: Alias | BaseTrigger | None = None,
        args: tuple[object, ...] | None = None,
        kwargs: None = None,
        **wrong: Any,
    ) -> WrongArguments: ...

    @overload
    def __call__(
        self,
        func: Func,
        trigger: Literal["interval"],
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[IntervalJob],
    ) -> Job: ...

    @overload
    def __call__(
        self,
        func: Func,
        trigger: Literal["cron"],
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[CronJob],
    ) -> Job: ...

    @overload
    def __call__(
        self,
        func: Func,
        trigger: Literal["date"],
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[DateJob],
    ) -> Job: ...

    @overload
    def __call__(
        self,
        func: Func,
        trigger: Literal["calendarinterval"],
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[CalendarIntervalJob],
    ) -> Job: ...

    @overload
    def __call__(
        self,
        func: Func,
        trigger: Alias,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **wrong: Any,
    ) -> WrongTriggerArguments: ...

    @overload
    def __call__(
        self,
        func: Func,
        trigger: BaseTrigger | str | None = None,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        id: str | None = None,
        name: str | None = None,
        misfire_grace_time: int | UndefinedType | None = ...,
        coalesce: bool | UndefinedType = ...,
        max_instances: int | UndefinedType = ...,
        next_run_time: datetime | str | UndefinedType | None = ...,
        jobstore: str = "default",
        executor: str = "default",
        replace_existing: bool = False,
        *,
        on_lost: str | UndefinedType = ...,
        max_attempts: int | UndefinedType = ...,
        history: int | UndefinedType | None = ...,
        **trigger_args: Any,
    ) -> Job: ...


class ScheduledJob(Protocol):
    """The method ``scheduled_job``, whose decorator returns the function as it is."""

    @overload
    def __call__(
        self,
        trigger: Literal["interval"],
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[IntervalDecorator],
    ) -> Callable[[F], F]: ...

    @overload
    def __call__(
        self,
        trigger: Literal["cron"],
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[CronDecorator],
    ) -> Callable[[F], F]: ...

    @overload
    def __call__(
        self,
        trigger: Literal["date"],
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[DateDecorator],
    ) -> Callable[[F], F]: ...

    @overload
    def __call__(
        self,
        trigger: Literal["calendarinterval"],
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[CalendarIntervalDecorator],
    ) -> Callable[[F], F]: ...

    @overload
    def __call__(
        self,
        trigger: Alias,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **wrong: Any,
    ) -> WrongTriggerArguments: ...

    @overload
    def __call__(
        self,
        trigger: BaseTrigger | str,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        id: str | None = None,
        name: str | None = None,
        misfire_grace_time: int | UndefinedType | None = ...,
        coalesce: bool | UndefinedType = ...,
        max_instances: int | UndefinedType = ...,
        next_run_time: datetime | str | UndefinedType | None = ...,
        jobstore: str = "default",
        executor: str = "default",
        **trigger_args: Any,
    ) -> Callable[[F], F]: ...


class RescheduleJob(Protocol):
    """The method ``reschedule_job``."""

    @overload
    def __call__(
        self,
        job_id: str,
        jobstore: str | None = None,
        *,
        trigger: Literal["interval"],
        **trigger_args: Unpack[IntervalArguments],
    ) -> Job: ...

    @overload
    def __call__(
        self,
        job_id: str,
        jobstore: str | None = None,
        *,
        trigger: Literal["cron"],
        **trigger_args: Unpack[CronArguments],
    ) -> Job: ...

    @overload
    def __call__(
        self,
        job_id: str,
        jobstore: str | None = None,
        *,
        trigger: Literal["date"],
        **trigger_args: Unpack[DateArguments],
    ) -> Job: ...

    @overload
    def __call__(
        self,
        job_id: str,
        jobstore: str | None = None,
        *,
        trigger: Literal["calendarinterval"],
        **trigger_args: Unpack[CalendarIntervalArguments],
    ) -> Job: ...

    @overload
    def __call__(
        self,
        job_id: str,
        jobstore: str | None = None,
        *,
        trigger: Alias,
        **wrong: Any,
    ) -> WrongTriggerArguments: ...

    @overload
    def __call__(
        self,
        job_id: str,
        jobstore: str | None = None,
        trigger: BaseTrigger | str | None = None,
        **trigger_args: Any,
    ) -> Job: ...


class Reschedule(Protocol):
    """The method ``reschedule`` of a job."""

    @overload
    def __call__(
        self,
        trigger: Literal["interval"],
        **trigger_args: Unpack[IntervalArguments],
    ) -> Job: ...

    @overload
    def __call__(
        self,
        trigger: Literal["cron"],
        **trigger_args: Unpack[CronArguments],
    ) -> Job: ...

    @overload
    def __call__(
        self,
        trigger: Literal["date"],
        **trigger_args: Unpack[DateArguments],
    ) -> Job: ...

    @overload
    def __call__(
        self,
        trigger: Literal["calendarinterval"],
        **trigger_args: Unpack[CalendarIntervalArguments],
    ) -> Job: ...

    @overload
    def __call__(
        self,
        trigger: Alias,
        **wrong: Any,
    ) -> WrongTriggerArguments: ...

    @overload
    def __call__(
        self,
        trigger: BaseTrigger | str | None,
        **trigger_args: Any,
    ) -> Job: ...


# Decorators that give a method one of these signatures. Where they are used, run time has "no_signature" for them.


def add_job_signature(method: Callable[..., Job]) -> AddJob:
    raise NotImplementedError


def scheduled_job_signature(method: Callable[..., Callable[[F], F]]) -> ScheduledJob:
    raise NotImplementedError


def reschedule_job_signature(method: Callable[..., Job]) -> RescheduleJob:
    raise NotImplementedError


def reschedule_signature(method: Callable[..., Job]) -> Reschedule:
    raise NotImplementedError
