"""Around changes of the clock: compared with a reference that walks every minute and looks at the local time."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apscheduler.triggers.cron import CronTrigger

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
WEEKDAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
HALF_HOUR_OFF = timezone(timedelta(hours=-9, minutes=-30))


class BriefZone(tzinfo):
    """A zone that is one hour ahead from 08:00 to 14:30 UTC on 2026-06-10, and on no other day."""

    start = datetime(2026, 6, 10, 8)
    end = datetime(2026, 6, 10, 14, 30)

    def utcoffset(self, dt: datetime | None) -> timedelta:
        return timedelta(0) if dt is None else self.dst(dt)

    def dst(self, dt: datetime | None) -> timedelta:
        if dt is None:
            return timedelta(0)
        wall = dt.replace(tzinfo=None, fold=0)
        begin = self.start + (HOUR if dt.fold == 0 else timedelta(0))
        end = self.end + (HOUR if dt.fold == 0 else timedelta(0))
        return HOUR if begin <= wall < end else timedelta(0)

    def tzname(self, dt: datetime | None) -> str:
        return "brief"

    def fromutc(self, dt: datetime) -> datetime:
        utc = dt.replace(tzinfo=None)
        if self.start <= utc < self.end:
            return dt + HOUR
        return dt.replace(fold=1 if self.end <= utc < self.end + HOUR else 0)


# A zone and an instant close to what is interesting there.
CHANGES: list[tuple[tzinfo, datetime]] = [
    (ZoneInfo(zone), datetime.fromisoformat(time + "Z"))
    for zone, time in [
        ("Europe/Berlin", "2026-03-29T01:00"),
        ("Europe/Berlin", "2026-10-25T01:00"),
        ("America/New_York", "2026-03-08T07:00"),
        ("America/New_York", "2026-11-01T06:00"),
        ("Australia/Lord_Howe", "2026-10-03T15:30"),  # half an hour forwards
        ("Australia/Lord_Howe", "2026-04-04T15:00"),  # half an hour back
        ("Africa/Cairo", "2026-04-23T22:00"),  # at midnight, forwards
        ("Africa/Cairo", "2026-10-29T21:00"),  # at midnight, back to the day before
        ("America/Sao_Paulo", "2018-11-04T03:00"),  # at midnight, forwards
        ("America/Sao_Paulo", "2018-02-18T02:00"),  # at midnight, back
        ("America/St_Johns", "2006-10-29T02:31"),  # one minute after midnight, back
        ("Asia/Kathmandu", "1985-12-31T18:30"),  # a quarter of an hour
        ("Pacific/Apia", "2011-12-30T10:00"),  # a day left out
        ("Pacific/Kwajalein", "1993-08-21T12:00"),  # a day left out
        ("Antarctica/Troll", "2026-03-29T01:00"),  # two hours
        ("Africa/Casablanca", "2026-02-15T02:00"),  # standard time in summer
        ("Europe/London", "2026-10-25T01:00"),
        ("UTC", "2026-02-28T12:00"),
    ]
]
CHANGES.append((HALF_HOUR_OFF, datetime(2026, 12, 31, 12, tzinfo=UTC)))
CHANGES.append((BriefZone(), datetime(2026, 6, 10, 8, tzinfo=UTC)))
CHANGES.append((BriefZone(), datetime(2026, 6, 10, 15, tzinfo=UTC)))


@dataclass(frozen=True)
class Expression:
    """A field as text, and what it means."""

    text: str
    matches: Callable[[datetime], bool]

    def __repr__(self) -> str:
        return repr(self.text)


def number_expressions(
    low: int, high: int, read: Callable[[datetime], int]
) -> st.SearchStrategy[Expression]:
    def every(step: int) -> Expression:
        return Expression(f"*/{step}", lambda time: (read(time) - low) % step == 0)

    def some(values: set[int]) -> Expression:
        text = ",".join(map(str, sorted(values)))
        return Expression(text, lambda time: read(time) in values)

    def span(ends: tuple[int, int]) -> Expression:
        first, last = sorted(ends)
        return Expression(f"{first}-{last}", lambda time: first <= read(time) <= last)

    values = st.integers(low, high)
    return st.one_of(
        st.just(Expression("*", lambda time: True)),
        st.integers(1, high - low).map(every),
        st.sets(values, min_size=1, max_size=3).map(some),
        st.tuples(values, values).map(span),
    )


def position_expressions() -> st.SearchStrategy[Expression]:
    def position(choice: tuple[int, int]) -> Expression:
        place, weekday = choice
        text = f"{['1st', '2nd', '3rd', '4th', '5th'][place]} {WEEKDAYS[weekday]}"
        return Expression(
            text,
            lambda time: time.weekday() == weekday and (time.day - 1) // 7 == place,
        )

    def last(weekday: int) -> Expression:
        return Expression(
            f"last {WEEKDAYS[weekday]}",
            lambda time: (
                time.weekday() == weekday
                and time.month != (time.replace(tzinfo=None) + 7 * DAY).month
            ),
        )

    last_day = Expression("last", lambda time: is_last_day(time))
    weekdays = st.integers(0, 6)
    return st.one_of(
        st.tuples(st.integers(0, 4), weekdays).map(position),
        weekdays.map(last),
        st.just(last_day),
    )


def is_last_day(time: datetime) -> bool:
    return (time.replace(tzinfo=None) + DAY).day == 1


def weekday_names() -> st.SearchStrategy[Expression]:
    def names(ends: tuple[int, int]) -> Expression:
        first, last = sorted(ends)
        text = WEEKDAYS[first] + (f"-{WEEKDAYS[last]}" if first < last else "")
        return Expression(text, lambda time: first <= time.weekday() <= last)

    return st.tuples(st.integers(0, 6), st.integers(0, 6)).map(names)


# Dates are mostly free: the times of day are what the clock changes.
def mostly_free(other: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    free = st.just(Expression("*", lambda time: True))
    return st.one_of(free, free, free, other)


EXPRESSIONS = st.fixed_dictionaries(
    {
        "day": mostly_free(
            number_expressions(1, 31, lambda time: time.day) | position_expressions()
        ),
        "week": mostly_free(
            number_expressions(1, 53, lambda time: time.isocalendar().week)
        ),
        "day_of_week": mostly_free(
            number_expressions(0, 6, lambda time: time.weekday()) | weekday_names()
        ),
        "hour": number_expressions(0, 23, lambda time: time.hour),
        "minute": number_expressions(0, 59, lambda time: time.minute),
    }
)


@dataclass(frozen=True)
class Moment:
    """A minute as it is on the clock, and what the clock leaves out before it."""

    instant: datetime
    local: datetime
    skipped: tuple[tuple[datetime, datetime], ...]
    """Wall times with the instants they would have been at."""
    is_first_pass: bool
    is_second_pass: bool


@lru_cache
def moments(zone: tzinfo, middle: datetime) -> list[Moment]:
    found = []
    instant = middle - 3 * DAY
    while instant < middle + 2 * DAY:
        local = instant.astimezone(zone)
        before = (instant - MINUTE).astimezone(zone).replace(tzinfo=None)
        skipped = []
        for minute in range(1, 2 * 24 * 60):
            wall = before + minute * MINUTE
            if wall >= local.replace(tzinfo=None):
                break
            skipped.append((wall, instant + (minute - 1) * MINUTE))
        early = local.replace(fold=0).utcoffset()
        late = local.replace(fold=1).utcoffset()
        is_repeated = early is not None and late is not None and early > late
        found.append(
            Moment(
                instant,
                local,
                tuple(skipped),
                is_repeated and local.fold == 0,
                is_repeated and local.fold == 1,
            )
        )
        instant += MINUTE
    return found


def reference(
    expressions: dict[str, Expression],
    zone: tzinfo,
    middle: datetime,
    on_gap: str | None,
    on_fold: str,
) -> list[datetime]:
    """Return the fire times of four days, found in the simplest possible way."""

    def matches(time: datetime) -> bool:
        return all(expression.matches(time) for expression in expressions.values())

    shifts = on_gap == "shift" or (on_gap is None and expressions["hour"].text != "*")
    times = set()
    for moment in moments(zone, middle):
        if shifts:
            for wall, instant in moment.skipped:
                if matches(wall):
                    times.add(instant)
                    break
        if on_fold == "first" and moment.is_second_pass:
            continue
        if on_fold == "second" and moment.is_first_pass:
            continue
        if matches(moment.local):
            times.add(moment.instant)
    return sorted(time for time in times if middle - 2 * DAY <= time < middle + 2 * DAY)


def in_utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.astimezone(UTC)


@settings(max_examples=150, deadline=None, database=None)
@given(
    expressions=EXPRESSIONS,
    change=st.sampled_from(CHANGES),
    on_gap=st.sampled_from([None, "shift", "skip"]),
    on_fold=st.sampled_from(["both", "both", "first", "second"]),
    asked=st.lists(st.integers(-2 * 24 * 60, 2 * 24 * 60 - 1), max_size=12),
)
def test_fires_when_a_walk_over_all_minutes_says_so(
    expressions: dict[str, Expression],
    change: tuple[tzinfo, datetime],
    on_gap: str | None,
    on_fold: str,
    asked: list[int],
) -> None:
    zone, middle = change
    expected = reference(expressions, zone, middle, on_gap, on_fold)
    fields: dict[str, Any] = {
        name: expression.text for name, expression in expressions.items()
    }
    trigger = CronTrigger(
        **fields,
        timezone=zone,
        on_gap=on_gap,  # type: ignore[arg-type]  # one of the accepted words
        on_fold=on_fold,  # type: ignore[arg-type]  # one of the accepted words
    )

    start, end = middle - 2 * DAY, middle + 2 * DAY
    found: list[datetime] = []
    following = trigger.get_next_fire_time(None, start)
    while following is not None and following.astimezone(UTC) < end:
        assert following.astimezone(UTC).astimezone(zone).replace(
            tzinfo=None
        ) == following.replace(tzinfo=None), "no such time on the clock"
        found.append(following)
        following = trigger.get_next_fire_time(following, following)

    assert [time.astimezone(UTC) for time in found] == expected
    for offset in asked:
        now = middle + offset * MINUTE + timedelta(seconds=30)
        later = [time for time in expected if time > now]
        answer = in_utc(trigger.get_next_fire_time(None, now))
        assert answer == later[0] if later else answer is None or answer >= end
        earlier = [time for time in expected if time <= now]
        if earlier:
            first, last = found[0], earlier[-1]
            assert in_utc(trigger.get_last_fire_time(first, now)) == last
            assert trigger.count_fire_times(first, last) == len(earlier)
            assert trigger.count_fire_times(last, found[-1]) == len(later) + 1


@pytest.mark.parametrize(
    ("on_fold", "expected"),
    [("both", ["+02:00", "+01:00"]), ("first", ["+02:00"]), ("second", ["+01:00"])],
)
def test_on_fold_selects_the_pass(on_fold: str, expected: list[str]) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    trigger = CronTrigger(
        hour=2,
        minute=30,
        timezone=berlin,
        on_fold=on_fold,  # type: ignore[arg-type]  # one of the accepted words
        end_date=datetime(2026, 10, 26, tzinfo=berlin),
    )

    times = trigger.preview(9, datetime(2026, 10, 25, tzinfo=berlin))

    assert [time.isoformat()[-6:] for time in times] == expected


@pytest.mark.parametrize(
    ("fields", "on_gap", "expected"),
    [
        ({"hour": 2, "minute": 30}, None, ["2026-03-29T03:30:00+02:00"]),
        ({"hour": 2, "minute": 30}, "shift", ["2026-03-29T03:30:00+02:00"]),
        ({"hour": 2, "minute": 30}, "skip", []),
        ({"hour": 2, "minute": "10,50"}, None, ["2026-03-29T03:10:00+02:00"]),
        # The hour is a plain *, the day is not.
        ({"hour": "*", "minute": 30, "day": 29}, "skip", ["2026-03-29T03:30:00+02:00"]),
        ({"hour": "2,3", "minute": 30}, None, ["2026-03-29T03:30:00+02:00"]),
    ],
)
def test_on_gap_decides_about_times_that_are_left_out(
    fields: dict[str, int | str], on_gap: str | None, expected: list[str]
) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    trigger = CronTrigger(
        **fields,  # type: ignore[arg-type]  # only fields of the date
        timezone=berlin,
        on_gap=on_gap,  # type: ignore[arg-type]  # one of the accepted words
        end_date=datetime(2026, 3, 29, 4, 0, tzinfo=berlin),
    )

    times = trigger.preview(9, datetime(2026, 3, 29, 1, 45, tzinfo=berlin))

    assert [time.isoformat() for time in times] == expected


def test_a_lost_hour_is_made_up_for_although_another_hour_matches_too() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    trigger = CronTrigger(hour="1,2", minute=10, timezone=berlin)
    previous = datetime(2026, 3, 29, 1, 10, tzinfo=berlin)

    answer = trigger.get_next_fire_time(previous, previous + timedelta(seconds=1))

    assert answer is not None
    assert answer.isoformat() == "2026-03-29T03:10:00+02:00"


def test_a_shifted_time_that_matches_anyway_is_counted_once() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    trigger = CronTrigger(hour="2,3", minute=30, timezone=berlin)
    first = datetime(2026, 3, 28, 3, 30, tzinfo=berlin)
    last = datetime(2026, 3, 29, 3, 30, tzinfo=berlin)

    assert trigger.get_next_fire_time(first, first) == last
    assert trigger.count_fire_times(first, last) == 2


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"month": 3, "day": 29, "hour": 12}, "2026-03-29T12:00:00+02:00"),
        ({"month": 3, "day": 29, "hour": 2}, "2026-03-29T03:00:00+02:00"),
        ({"month": 3, "day": 30}, "2026-03-30T00:00:00+02:00"),
        ({"month": 10, "day": 25, "hour": 2}, "2026-10-25T02:00:00+01:00"),
    ],
)
def test_days_with_a_change_are_found_from_afar(
    fields: dict[str, int], expected: str
) -> None:
    trigger = CronTrigger(**fields, timezone="Europe/Berlin")  # type: ignore[arg-type]  # only fields of the date
    first = datetime(2025, 12, 1, tzinfo=UTC)
    now = datetime(2027, 2, 1, tzinfo=UTC)

    last = trigger.get_last_fire_time(first, now)

    assert last.isoformat() == expected
    before = last.astimezone(UTC) - 60 * DAY
    times = trigger.preview(2, before)
    assert last.astimezone(UTC) in [time.astimezone(UTC) for time in times]


def test_finds_a_change_by_an_odd_number_of_seconds() -> None:
    # Monrovia was 44 minutes and 30 seconds behind UTC until 1972-01-07.
    zone = ZoneInfo("Africa/Monrovia")
    trigger = CronTrigger(second="*/15", timezone=zone)
    start = datetime(1972, 1, 7, 0, 44, 0, tzinfo=UTC)

    times = trigger.preview(4, start)

    assert [time.astimezone(UTC).strftime("%H:%M:%S") for time in times] == [
        "00:44:00",
        "00:44:15",
        "00:44:30",
        "00:44:45",
    ]
    assert [time.strftime("%H:%M:%S") for time in times] == [
        "23:59:30",
        "23:59:45",
        "00:44:30",
        "00:44:45",
    ]


@pytest.mark.parametrize(
    ("end", "previous", "expected"),
    [
        # 02:30 of the first pass is over when the second one has begun.
        ((2, 30, 0), (2, 0, 1), None),
        # 02:30 of the second pass is still to come at 02:30 of the first.
        ((2, 30, 1), (2, 30, 0), "2026-10-25T02:45:00+02:00"),
    ],
)
def test_the_end_date_is_an_instant(
    end: tuple[int, int, int], previous: tuple[int, int, int], expected: str | None
) -> None:
    def at(hour: int, minute: int, fold: int) -> datetime:
        zone = ZoneInfo("Europe/Berlin")
        return datetime(2026, 10, 25, hour, minute, tzinfo=zone, fold=fold)

    trigger = CronTrigger(minute="*/15", end_date=at(*end), timezone="Europe/Berlin")

    answer = trigger.get_next_fire_time(at(*previous), at(*previous))

    assert (answer and answer.isoformat()) == expected


def test_a_zone_without_fold_is_not_asked_for_a_second_pass() -> None:
    class OldZone(BriefZone):
        def fromutc(self, dt: datetime) -> datetime:
            return super().fromutc(dt).replace(fold=0)

    trigger = CronTrigger(minute="*/30", timezone=OldZone())

    times = trigger.preview(6, datetime(2026, 6, 10, 14, 0, tzinfo=UTC))

    assert [time.strftime("%H:%M") for time in times] == [
        "15:00",
        "15:30",
        "16:00",
        "16:30",
        "17:00",
        "17:30",
    ]
