"""What several commands have in common: durations, times as text, logging."""

import logging
import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import click

from apscheduler.util import convert_to_datetime

LOG_LEVELS = ("debug", "info", "warning", "error", "critical")

DURATION = re.compile(
    r"(?:(?P<d>\d+(?:\.\d+)?)d)?(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?(?:(?P<s>\d+(?:\.\d+)?)s?)?"
)
UNIT_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}

IMPORT_HELP = "Functions are imported as if by a script beside CONFIG: its directory and the current one are looked at first."


class Duration(click.ParamType):  # type: ignore[type-arg]  # not generic in click 8.1
    """A span of time such as ``10s``, ``5m``, ``1h30m`` or ``2d``; a bare number means seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number of seconds."""
        if isinstance(value, (int, float)):
            return float(value)
        match = DURATION.fullmatch(value.strip().lower())
        if not value.strip() or match is None:
            self.fail(
                f"{value!r} is not a duration: write for example 10s, 5m, 1h30m or 2d",
                param,
                ctx,
            )
        parts = match.groupdict()
        return sum(float(parts[u]) * UNIT_SECONDS[u] for u in parts if parts[u])


class Moment(click.ParamType):  # type: ignore[type-arg]  # not generic in click 8.1
    """A time: ISO 8601, ``now``, or a span from now such as ``+2h`` or ``-1d``. Without an offset it is local."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the time; one without a zone is for :func:`in_zone`."""
        if isinstance(value, datetime):
            return value
        text = value.strip()
        now = datetime.now(UTC)
        if text.lower() == "now":
            return now
        if text[:1] in ("+", "-") and text[1:]:
            seconds = Duration().convert(text[1:], param, ctx)
            return now + timedelta(seconds=seconds if text[0] == "+" else -seconds)
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            self.fail(
                f"{value!r} is not a time: write for example 2030-01-31, '2030-01-31 18:00', "
                "2030-01-31T18:00:00+01:00, now, +2h or -1d",
                param,
                ctx,
            )


class Past(Moment):
    """A time as everywhere, where a bare span is one before now: ``2h``."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the time."""
        if isinstance(value, str) and re.fullmatch(
            r"\d[\d.dhms]*[dhms]", value.strip(), re.IGNORECASE
        ):
            value = f"-{value.strip()}"
        return super().convert(value, param, ctx)


def in_zone(time: datetime | None, zone: tzinfo) -> datetime | None:
    """Return a time that was given on the command line, with the zone if it has none."""
    return convert_to_datetime(time, zone, "time")


def set_up_logging(level: str) -> None:
    """Write log records of this level and above to standard error."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )


def format_time(time: datetime, now: datetime) -> str:
    """Return the time of day, with the date unless it is that of ``now``; both in the same zone."""
    if time.date() == now.date():
        return time.strftime("%H:%M:%S")
    return time.strftime("%Y-%m-%d %H:%M:%S")


def format_seconds(seconds: float) -> str:
    """Return a span of time in a form that is easy to read."""
    if seconds < 60:
        return (
            f"{seconds:.2f} s" if seconds < 10 and seconds % 1 else f"{seconds:.0f} s"
        )
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def count(number: int, noun: str) -> str:
    """Return how many things there are."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
