"""Triggers on the command line: ``--cron``, ``--interval``, ``--date`` or ``--trigger NAME KEY=VALUE…``."""

import functools
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, tzinfo
from typing import Any, TypeVar

import click

from apscheduler.cli.errors import explained
from apscheduler.cli.shared import Duration, Moment, in_zone
from apscheduler.conversion import ArgumentReader
from apscheduler.plugins import load_component
from apscheduler.triggers.base import BaseTrigger
from apscheduler.util import astimezone

F = TypeVar("F", bound=Callable[..., Any])

DIALECTS = ("apscheduler", "vixie")

QUOTES = (
    "Put the columns of a cron text into quotes: otherwise they are words of their own, and the shell takes * for the "
    "names of files"
)

dialect_option = click.option(
    "--dialect",
    type=click.Choice(DIALECTS),
    # No default, so that it is known whether it was given: it would be ignored without cron text.
    show_default=DIALECTS[0],
    help="What cron text means. apscheduler: 0 is Monday, day and weekday must both match. vixie: as crontab(5) has "
    "it, 0 and 7 are Sunday, and @daily and the like are known.",
)


# What the options set themselves; a second value could only be ignored, or taken in place of theirs.
SET_BY = {
    "--cron": frozenset({"expr", "dialect"}),
    "--interval": frozenset({"weeks", "days", "hours", "minutes", "seconds"}),
    "--date": frozenset({"run_date"}),
    "--trigger": frozenset[str](),
}


class Interval(Duration):
    """A duration that is not zero, of which the trigger would make one second."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number of seconds."""
        seconds = super().convert(value, param, ctx)
        if not timedelta(seconds=seconds):
            self.fail(f"{value!r} is no interval: it must be more than 0", param, ctx)
        return seconds


class Schedule:
    """What was said of a trigger on the command line.

    :param arguments: further arguments of the trigger, as texts
    """

    def __init__(
        self,
        cron: str | None,
        dialect: str | None,
        interval: float | None,
        date: datetime | None,
        trigger: str | None,
        arguments: Mapping[str, str],
    ):
        given = {
            "--cron": cron,
            "--interval": interval,
            "--date": date,
            "--trigger": trigger,
        }
        self._used = [name for name, value in given.items() if value is not None]
        self._cron, self._dialect = cron, dialect
        self._interval, self._date, self._trigger = interval, date, trigger
        self._arguments = dict(arguments)

    def make(self, zone: tzinfo) -> BaseTrigger:
        """Return the trigger.

        :param zone: for times that have none
        :raises click.ClickException: if it cannot be made
        """
        if len(self._used) != 1:
            raise click.UsageError(
                "Give one of --cron, --interval, --date and --trigger"
                + (f", not {' and '.join(self._used)}" if self._used else "")
            )
        (option,) = self._used
        if self._dialect is not None and self._cron is None:
            raise click.UsageError(f"--dialect goes with --cron, not with {option}")
        for name in self._arguments:
            if name in SET_BY[option]:
                raise click.UsageError(
                    f"{name}={self._arguments[name]} contradicts {_whose(name, option)}: leave out one"
                )
        with explained("The schedule cannot be used", usage=True):
            return self._make(zone)

    def _make(self, zone: tzinfo) -> BaseTrigger:
        if self._cron is not None:
            dialect = self._dialect or DIALECTS[0]
            return make_cron(self._cron, zone, dialect, self._arguments)
        if self._interval is not None:
            return make_trigger(
                "interval", {"seconds": self._interval, **self._arguments}, zone
            )
        if self._date is not None:
            run_date = in_zone(self._date, zone)
            return make_trigger("date", {"run_date": run_date, **self._arguments}, zone)
        assert self._trigger is not None
        return make_trigger(self._trigger, self._arguments, zone)


def _whose(argument: str, option: str) -> str:
    """Return the option that says what an argument would say again."""
    return "--dialect" if argument == "dialect" else option


def make_cron(
    text: str, zone: tzinfo, dialect: str, arguments: Mapping[str, Any]
) -> BaseTrigger:
    """Return the trigger of a line of cron, in one of both dialects.

    :raises ValueError: if it is not a valid line
    """
    cls: Any = load_component("trigger", "cron")
    options = _converted(cls.from_crontab, arguments, "a line of cron")
    options.setdefault("timezone", zone)
    try:
        trigger: BaseTrigger = cls.from_crontab(text, dialect=dialect, **options)
    except ValueError as exc:
        raise ValueError(speak_of_options(str(exc))) from exc
    return trigger


def speak_of_options(text: str) -> str:
    """Return a message with options of commands in place of the arguments that programs would give."""
    return text.replace("dialect='vixie'", "--dialect vixie")


def make_trigger(name: str, arguments: Mapping[str, Any], zone: tzinfo) -> BaseTrigger:
    """Return the trigger of an installed kind.

    :raises LookupError: if there is no such kind
    :raises ValueError: if an argument is unknown or wrong
    """
    cls = load_component("trigger", name)
    options = _converted(cls, arguments, f"the trigger {name!r}")
    reader = ArgumentReader(cls)
    if reader.explain_unknown("timezone", "") is None:
        options.setdefault("timezone", zone)
    missing = reader.find_missing(options)
    if missing:
        raise ValueError(f"the trigger {name!r} needs {', '.join(missing)}")
    if "timezone" in options:
        options["timezone"] = astimezone(options["timezone"])
    trigger: BaseTrigger = cls(**options)
    return trigger


def _converted(
    target: Callable[..., Any], arguments: Mapping[str, Any], what: str
) -> dict[str, Any]:
    reader = ArgumentReader(target)
    options = {}
    for key, value in arguments.items():
        unknown = reader.explain_unknown(key, what)
        if unknown is not None:
            raise ValueError(unknown)
        try:
            options[key] = reader.convert(key, value)
        except ValueError as exc:
            raise ValueError(f"{key}={value!r}: {exc}") from exc
    return options


def parse_pairs(words: tuple[str, ...]) -> dict[str, str]:
    """Return the arguments of a trigger that were given as ``KEY=VALUE``.

    :raises click.UsageError: if a word is none
    """
    pairs = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.isidentifier():
            raise click.UsageError(
                f"{word!r} is not an argument of a trigger, which looks like hour=5 or day_of_week=mon-fri"
            )
        pairs[key] = value
    return pairs


def schedule_options(command: F) -> F:
    """Give a command the options that make a trigger, and ``KEY=VALUE…``; it gets them as ``schedule``."""

    @functools.wraps(command)
    def with_schedule(
        *args: Any,
        cron: str | None,
        dialect: str | None,
        interval: float | None,
        date: datetime | None,
        trigger: str | None,
        trigger_arguments: tuple[str, ...],
        **kwargs: Any,
    ) -> Any:
        try:
            pairs = parse_pairs(trigger_arguments)
        except click.UsageError as exc:
            if cron is not None:
                raise click.UsageError(f"{exc.message}. {QUOTES}") from exc
            raise
        schedule = Schedule(cron, dialect, interval, date, trigger, pairs)
        return command(*args, schedule=schedule, **kwargs)

    for option in reversed(OPTIONS):
        with_schedule = option(with_schedule)
    return with_schedule  # type: ignore[return-value]  # click needs no signature


OPTIONS = (
    click.option("--cron", metavar="TEXT", help="Five columns: '0 9 * * mon-fri'."),
    dialect_option,
    click.option(
        "--interval",
        type=Interval(),
        metavar="DURATION",
        help="Every so often: 90, 10s, 5m, 1h30m, 2d.",
    ),
    click.option(
        "--date",
        type=Moment(),
        metavar="TIME",
        help="Once: '2030-01-31 18:00', now, +2h.",
    ),
    click.option(
        "--trigger",
        metavar="NAME",
        help="Any installed trigger, with its arguments as KEY=VALUE: --trigger calendarinterval months=1 hour=4.",
    ),
    click.argument("trigger_arguments", metavar="[KEY=VALUE]...", nargs=-1),
)
