"""``apscheduler next``: what a schedule means, and when it fires."""

import copy
import re
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import click
from rich.text import Text
from tzlocal import get_localzone

from apscheduler.cli.errors import FAILURE, explained
from apscheduler.cli.output import Cell, Output, output_options
from apscheduler.cli.schedules import (
    DIALECTS,
    QUOTES,
    Interval,
    dialect_option,
    make_cron,
    make_trigger,
    parse_pairs,
)
from apscheduler.cli.shared import DURATION, Moment, in_zone
from apscheduler.cli.sources import scheduler_warnings
from apscheduler.planning import first_fire_time
from apscheduler.plugins import installed_components, load_component
from apscheduler.triggers.base import BaseTrigger
from apscheduler.util import astimezone, datetime_utc_add

# So many words on their own may be the columns of one line.
COLUMNS = 5

# Where a dialect is meant unless another one is named.
USED_BY = {
    "vixie": "which is what 'crontab =' in a configuration file means",
    "apscheduler": "which is what --cron and from_crontab() mean",
}

EVERY = re.compile(r"every\s+(?P<duration>\S+)", re.IGNORECASE)
FORMS = "cron text of five columns ('0 9 * * mon-fri'), a macro (@daily, with --dialect vixie), a duration (5m), a time ('2030-01-31 18:00'), or a trigger with its arguments ('cron hour=5 day=last')"


@click.command(
    "next",
    help=f"""Say in words what EXPRESSION means, and when it fires next for a job that is added now; or why it never does.

    An expression is {FORMS}. Several of them fire whenever one of them does; with --and, when all do at once.

    Where the other dialect makes something else of cron text, a note says what: 'crontab =' in a configuration file
    means vixie, --cron and from_crontab() mean apscheduler, unless they say otherwise.

    \b
    apscheduler next '0 9 * * mon-fri'
    apscheduler next '0 9 * * 1-5' --dialect vixie --timezone Europe/Berlin --count 3
    apscheduler next 'cron day=last hour=18' '0 9 * * mon' --from 2030-03-01
    apscheduler next '30 2 * * *' --timezone Europe/Berlin --from 2030-03-30 --on-gap skip
    apscheduler next 1h30m --json

    Exit codes: 0 it fires, 1 it never does, or not any more, 2 the command line is wrong.""",
)
@click.argument("expressions", metavar="EXPRESSION...", nargs=-1, required=True)
@click.option(
    "-n", "--count", type=click.IntRange(1, 1000), default=5, show_default=True
)
@click.option(
    "-z", "--timezone", metavar="ZONE", help="Such as Europe/Berlin; default: local."
)
@click.option("--from", "start", type=Moment(), help="Look from then on; default: now.")
@click.option("--and", "together", is_flag=True, help="Only when all of them fire.")
@click.option(
    "--on-gap",
    type=click.Choice(["shift", "skip"]),
    help="Cron: what becomes of times that the clock leaves out.",
)
@click.option(
    "--on-fold",
    type=click.Choice(["both", "first", "second"]),
    help="Cron: which of two equal times counts.",
)
@dialect_option
@output_options
def next_times(
    expressions: tuple[str, ...],
    count: int,
    timezone: str | None,
    start: datetime | None,
    together: bool,
    on_gap: str | None,
    on_fold: str | None,
    dialect: str | None,
    output: Output,
) -> None:
    """Preview a schedule."""
    with explained("--timezone cannot be used", usage=True):
        zone: tzinfo = astimezone(timezone) or get_localzone()
    if dialect is not None and not any(map(is_cron_text, expressions)):
        raise click.UsageError("--dialect goes with cron text, and there is none")
    dialect = dialect or DIALECTS[0]
    given = {"on_gap": on_gap, "on_fold": on_fold}
    options = {key: value for key, value in given.items() if value is not None}
    now = (in_zone(start, zone) or datetime.now(UTC)).astimezone(zone)
    notes: list[str] = []
    try:
        with scheduler_warnings(notes.append):
            triggers = [
                parse(text, zone, dialect, options, now) for text in expressions
            ]
    except click.UsageError as exc:
        if len(expressions) >= COLUMNS:
            raise click.UsageError(f"{exc.message}. {QUOTES}") from exc
        raise
    for name in options:
        if not any(hasattr(trigger, name) for trigger in triggers):
            option = "--" + name.replace("_", "-")
            raise click.UsageError(f"{option} goes with cron, and there is none")
    compared = [
        compare_dialects(text, zone, dialect, options, trigger)
        for text, trigger in zip(expressions, triggers, strict=True)
    ]
    notes = [each for each in notes if "--dialect" not in each]  # compared tells more
    notes += [text for text in compared if text is not None]
    trigger = triggers[0]
    if len(triggers) > 1:
        trigger = load_component("trigger", "and" if together else "or")(triggers)
    with explained(f"{trigger} fails"):
        times, late = _preview(trigger, now, count)
        reason = None if times else trigger.explain_why_never(now)
        left_out = find_left_out(trigger, times, now)
    remarks = [describe_clock(trigger, time, zone) for time in times]
    if output.is_json:
        output.document(
            {
                "trigger": str(trigger),
                "meaning": trigger.explain(),
                "notes": notes,
                "timezone": str(zone),
                "times": [
                    {"local": time, "utc": time.astimezone(UTC), "remark": remark}
                    for time, remark in zip(times, remarks, strict=True)
                ],
                "left_out": left_out,
                "never": None if times else (reason or "no fire time was found"),
                "runs_at_once": late is not None,
            }
        )
    else:
        output.say(trigger.explain(), "bold")
        for text in notes:
            output.say(text, "yellow")
        _print(output, times, remarks, zone)
        for text in left_out:
            output.say(f"left out: {text}", "yellow")
        if not times:
            never = "It never fires" if late is None else "It does not fire any more"
            output.say(f"{never}: {reason or 'no fire time was found'}.", "red")
        if late is not None:
            output.say(
                f"A job that is added with it runs at once, for {late:%Y-%m-%d %H:%M:%S %Z}, which is past.",
                "yellow",
            )
    if not times:
        raise SystemExit(FAILURE)


def parse(
    text: str, zone: tzinfo, dialect: str, options: dict[str, Any], now: datetime
) -> BaseTrigger:
    """Return the trigger that an expression means.

    :raises click.ClickException: if it means none
    """
    text = text.strip()
    with explained(f"{text!r} is no schedule", usage=True):
        try:
            words = shlex.split(text)
        except ValueError:
            words = text.split()
        name, *rest = words or [""]
        if name in ("and", "or"):
            raise ValueError(
                "give the expressions that are to be combined, each in quotes, and --and for all at once"
            )
        if name in installed_components("trigger") and all("=" in w for w in rest):
            pairs: dict[str, Any] = dict(parse_pairs(tuple(rest)))
            if name == "interval":
                return make_interval(pairs, zone, now)
            if name == "calendarinterval":
                pairs.setdefault("start_date", now.date())
            return make_trigger(name, {**pairs, **_fitting(name, options)}, zone)
        if text.startswith("@") or len(words) == COLUMNS:
            return make_cron(text, zone, dialect, options)
        every = EVERY.fullmatch(text)
        duration = every["duration"] if every else text
        if duration and DURATION.fullmatch(duration.lower()):
            seconds = Interval().convert(duration, None, None)
            return make_interval({"seconds": seconds}, zone, now)
        if re.match(r"\d{4}-\d\d-\d\d|now$|[+-]\d", text):
            date = in_zone(Moment().convert(text, None, None), zone)
            return make_trigger("date", {"run_date": date}, zone)
        raise ValueError(f"expected {FORMS}" + _hint(words))


def is_cron_text(text: str) -> bool:
    """Return whether an expression is one that dialects are about, rather than a trigger with its arguments."""
    return text.startswith("@") or ("=" not in text and len(text.split()) == COLUMNS)


def make_interval(pairs: dict[str, Any], zone: tzinfo, now: datetime) -> BaseTrigger:
    """Return the trigger that a job would get that is added now: unless it says when, it begins one interval later."""
    if "start_date" not in pairs:
        # Without its end: the trigger would warn if that is past by the clock, whatever --from says.
        parts = {key: value for key, value in pairs.items() if key != "end_date"}
        interval: timedelta = make_trigger("interval", parts, zone).interval  # type: ignore[attr-defined]  # of a plugin
        pairs = {**pairs, "start_date": datetime_utc_add(now, interval)}
    return make_trigger("interval", pairs, zone)


def compare_dialects(
    text: str, zone: tzinfo, dialect: str, options: dict[str, Any], trigger: BaseTrigger
) -> str | None:
    """Return what the other dialect would make of an expression, if that is something else."""
    if not is_cron_text(text) or text.startswith("@"):  # macros are of one dialect
        return None
    (other,) = {*DIALECTS} - {dialect}
    try:
        with scheduler_warnings(lambda text: None):
            meaning = make_cron(text, zone, other, options).explain()
    except ValueError as exc:
        meaning = f"not valid: {exc}"
    if meaning == trigger.explain():
        return None
    return f"note: {text!r} with --dialect {other}, {USED_BY[other]}, is {meaning}"


def _hint(words: Sequence[str]) -> str:
    if len(words) in (6, 7):
        return (
            f"; these are {len(words)} columns: seconds and years are fields of the trigger, as in 'cron second=0 "
            "minute=30 year=2030'"
        )
    return ""


def _fitting(name: str, options: dict[str, Any]) -> dict[str, Any]:
    return options if name == "cron" else {}


def _preview(
    trigger: BaseTrigger, now: datetime, count: int
) -> tuple[list[datetime], datetime | None]:
    """Return the first times from now on, as a job would get them that is added now, and the time before that which it
    would get first, if there is one: a date that is past still runs once.
    """
    time = first_fire_time(trigger, now)
    previous = late = None
    times: list[datetime] = []
    while time is not None and len(times) < count:
        if previous is not None and time.timestamp() <= previous.timestamp():
            raise ValueError(f"it does not advance: after {previous} comes {time}")
        previous = time
        if time.timestamp() >= now.timestamp():
            times.append(time)
            time = trigger.get_next_fire_time(time, time)
        else:
            late = late or time
            time = trigger.get_next_fire_time(time, now)
    return times, late


# What the clocks do


def describe_clock(trigger: BaseTrigger, time: datetime, zone: tzinfo) -> str | None:
    """Return what is worth a remark about the clock at a fire time."""
    local = time.astimezone(zone)
    before, after = (local.replace(fold=fold).utcoffset() for fold in (0, 1))
    if before is not None and after is not None and before > after:
        which = "second" if local.fold else "first"
        return f"this wall time comes twice, this is the {which} time"
    jump = _jump_before(local, zone)
    if jump > timedelta(0) and _is_shifted(trigger, local):
        return f"shifted: the clock leaves out {_hours(jump)} before"
    if jump:
        direction = "forward" if jump > timedelta(0) else "back"
        return f"the clock was set {direction} by {_hours(jump)} in the hours before"
    return None


def _jump_before(local: datetime, zone: tzinfo) -> timedelta:
    """Return by how much the clock was set within the last hours."""
    earlier = (local.astimezone(UTC) - timedelta(hours=3)).astimezone(zone)
    now, then = local.utcoffset(), earlier.utcoffset()
    return timedelta(0) if now is None or then is None else now - then


def _is_shifted(trigger: BaseTrigger, local: datetime) -> bool:
    """Return whether a cron trigger fires at a time that is none of its own."""
    fields = {field.name: field for field in getattr(trigger, "fields", ())}
    for name in ("hour", "minute", "second"):
        field = fields.get(name)
        if field is not None and field.get_next_value(local) != getattr(local, name):
            return True
    return False


def _hours(span: timedelta) -> str:
    minutes = abs(round(span.total_seconds() / 60))
    return f"{minutes // 60} h" if minutes % 60 == 0 else f"{minutes} min"


def find_left_out(
    trigger: BaseTrigger, times: Sequence[datetime], now: datetime
) -> list[str]:
    """Return the times, up to the last that is shown, that ``on_gap`` and ``on_fold`` leave out."""
    is_skipping = getattr(trigger, "on_gap", None) == "skip"
    if not times or not (is_skipping or getattr(trigger, "on_fold", "both") != "both"):
        return []
    complete: Any = copy.copy(trigger)
    complete.__setstate__(
        {**trigger.__getstate__(), "on_gap": "shift", "on_fold": "both"}  # type: ignore[dict-item]  # a dict, for cron
    )
    shown = {time.timestamp() for time in times}
    found, time = [], complete.get_next_fire_time(None, now)
    while time is not None and time.timestamp() <= times[-1].timestamp():
        if time.timestamp() not in shown:
            why = (
                "its wall time does not exist that day"
                if _is_shifted(trigger, time)
                else "its wall time comes twice"
            )
            found.append(f"{time:%Y-%m-%d %H:%M:%S %Z}, since {why}")
        time = complete.get_next_fire_time(time, time)
    return found


def _print(
    output: Output,
    times: Sequence[datetime],
    remarks: Sequence[str | None],
    zone: tzinfo,
) -> None:
    if not times:
        return
    rows: list[list[Cell]] = []
    for time, remark in zip(times, remarks, strict=True):
        local = time.astimezone(zone)
        fraction = f".{local.microsecond // 1000:03}" if local.microsecond else ""
        rows.append(
            [
                f"{local:%a %Y-%m-%d %H:%M:%S}{fraction} {local:%Z}",
                f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}{fraction}",
                Text(remark or "", "yellow"),
            ]
        )
    output.table([f"local ({zone})", "UTC", ""], rows)
