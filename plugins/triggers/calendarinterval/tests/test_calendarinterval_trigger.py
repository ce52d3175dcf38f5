import logging
import random
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apscheduler.testing.triggers import TriggerContract
from apscheduler.triggers import calendarinterval as calendarinterval_module
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger

BERLIN = ZoneInfo("Europe/Berlin")
ONE_DAY = timedelta(days=1)


class TestCalendarIntervalTrigger(TriggerContract):
    state_version = 1
    takes_attributes = None

    @pytest.fixture(
        params=[
            {"days": 1, "hour": 2, "minute": 30, "start_date": "2026-03-20"},
            {"days": 1, "hour": 2, "minute": 30, "start_date": "2026-10-20"},
            {"days": 1, "start_date": "2026-04-20", "timezone": "Africa/Cairo"},
            {"weeks": 2, "start_date": "2019-12-31", "timezone": "America/Havana"},
            {"months": 1, "start_date": "2026-01-31"},
            {"months": 5, "hour": 2, "minute": 30, "start_date": "2025-10-29"},
            {"years": 1, "start_date": "2024-02-29"},
            {"months": 1, "weeks": 1, "days": 2, "hour": 5, "start_date": "2026-01-15"},
            {"years": 1, "days": 1, "start_date": "2026-12-31"},
            {"days": 1, "start_date": "2026-01-31", "end_date": "2026-02-05"},
            {"months": 2, "start_date": "2026-01-31", "end_date": "2027-02-28"},
        ],
        ids=lambda arguments: " ".join(f"{k}={v}" for k, v in arguments.items()),
    )
    def trigger(self, request: pytest.FixtureRequest) -> CalendarIntervalTrigger:
        return CalendarIntervalTrigger(**{"timezone": "Europe/Berlin", **request.param})


class TestCalendarIntervalTriggerWithJitter(TriggerContract):
    state_version = 1
    takes_attributes = None
    is_random = "each time has a random delay"

    @pytest.fixture(
        params=[{"days": 1}, {"months": 1}, {"months": 1, "days": 3}],
        ids=["days", "months", "both"],
    )
    def trigger(self, request: pytest.FixtureRequest) -> CalendarIntervalTrigger:
        return CalendarIntervalTrigger(
            **request.param, hour=23, jitter=90000, start_date="2026-01-31"
        )


EXAMPLES = [
    pytest.param(
        {"days": 1, "start_date": "2026-01-01"},
        "UTC",
        None,
        "2026-01-01T00:00:00+00:00",
        id="the start date although it is past",
    ),
    pytest.param(
        {"days": 1, "hour": 8, "start_date": "2026-01-01"},
        "UTC",
        "2026-01-01T08:00:00+00:00",
        "2026-01-02T08:00:00+00:00",
        id="daily",
    ),
    pytest.param(
        {"months": 1, "start_date": "2026-01-31"},
        "UTC",
        "2026-01-31T00:00:00+00:00",
        "2026-03-31T00:00:00+00:00",
        id="no 31st of February",
    ),
    pytest.param(
        {"months": 2, "hour": 16, "minute": 49, "start_date": "2026-12-31"},
        "UTC",
        "2026-12-31T16:49:00+00:00",
        "2027-08-31T16:49:00+00:00",
        id="no 31st of February, April and June",
    ),
    pytest.param(
        {"years": 1, "start_date": "2024-02-29"},
        "UTC",
        "2024-02-29T00:00:00+00:00",
        "2028-02-29T00:00:00+00:00",
        id="leap day",
    ),
    pytest.param(
        {"months": 1, "weeks": 1, "days": 2, "hour": 5, "start_date": "2026-01-15"},
        "Europe/Berlin",
        "2026-01-15T05:00:00+01:00",
        "2026-02-24T05:00:00+01:00",
        id="months before days",
    ),
    pytest.param(
        {"days": 1, "hour": 2, "minute": 30, "start_date": "2026-03-28"},
        "Europe/Berlin",
        "2026-03-28T02:30:00+01:00",
        "2026-03-30T02:30:00+02:00",
        id="a skipped time skips the date",
    ),
    pytest.param(
        {"days": 1, "hour": 2, "minute": 30, "start_date": "2026-03-29"},
        "Europe/Berlin",
        None,
        "2026-03-30T02:30:00+02:00",
        id="a skipped time on the start date",
    ),
    pytest.param(
        {"days": 1, "hour": 2, "minute": 30, "start_date": "2026-10-24"},
        "Europe/Berlin",
        "2026-10-24T02:30:00+02:00",
        "2026-10-25T02:30:00+02:00",
        id="the first of a repeated time",
    ),
    pytest.param(
        {"days": 1, "hour": 2, "minute": 30, "start_date": "2026-10-24"},
        "Europe/Berlin",
        "2026-10-25T02:30:00+02:00",
        "2026-10-26T02:30:00+01:00",
        id="not the second of a repeated time",
    ),
    pytest.param(
        {"days": 1, "start_date": "2026-01-01", "end_date": "2026-01-02"},
        "UTC",
        "2026-01-01T00:00:00+00:00",
        "2026-01-02T00:00:00+00:00",
        id="the end is included",
    ),
    pytest.param(
        {"days": 1, "start_date": "2026-01-01", "end_date": "2026-01-02"},
        "UTC",
        "2026-01-02T00:00:00+00:00",
        None,
        id="nothing after the end",
    ),
    pytest.param(
        {"days": 1, "start_date": "2026-10-24"},
        "Europe/Berlin",
        "2026-10-23T22:00:00+00:00",
        "2026-10-25T00:00:00+02:00",
        id="previous time in another zone",
    ),
    pytest.param(
        {"days": 1, "start_date": "9999-12-31"},
        "UTC",
        "9999-12-31T00:00:00+00:00",
        None,
        id="the last day there is",
    ),
    pytest.param(
        {"years": 1, "start_date": "9999-06-01"},
        "UTC",
        "9999-06-01T00:00:00+00:00",
        None,
        id="the last year there is",
    ),
    pytest.param(
        {"months": 7, "start_date": "9999-12-01"},
        "Asia/Tokyo",
        "9999-12-01T00:00:00+09:00",
        None,
        id="the last month there is",
    ),
]


@pytest.mark.parametrize(("arguments", "zone", "previous", "expected"), EXAMPLES)
def test_next_fire_time(
    arguments: dict[str, Any],
    zone: str,
    previous: str | None,
    expected: str | None,
) -> None:
    trigger = CalendarIntervalTrigger(**arguments, timezone=zone)
    now = datetime(2026, 6, 1, tzinfo=UTC)

    if previous is None:
        following = trigger.get_next_fire_time(None, now)
    else:
        asked = datetime.fromisoformat(previous)
        if asked.tzinfo is not UTC:
            asked = asked.astimezone(ZoneInfo(zone))
        following = trigger.get_next_fire_time(asked, asked + timedelta(seconds=1))

    assert (following.isoformat() if following else None) == expected
    assert following is None or following.fold == 0


class TestArguments:
    def test_are_keywords(self) -> None:
        with pytest.raises(TypeError, match="positional"):
            CalendarIntervalTrigger(1)  # type: ignore[call-arg]  # that is the point

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({}, ValueError, "must not be zero"),
            ({"years": 0, "days": 0}, ValueError, "must not be zero"),
            ({"days": -1}, ValueError, "days must not be negative, but is -1"),
            ({"days": 1.5}, TypeError, r"days must be a whole number, not 1\.5"),
            ({"weeks": "1"}, TypeError, "weeks must be a whole number, not '1'"),
            ({"days": 1, "hour": 24}, ValueError, "hour must be in"),
            ({"days": 1, "minute": -1}, ValueError, "minute must be in"),
            ({"days": 1, "second": 60}, ValueError, "second must be in"),
            ({"days": 1, "start_date": "2026-1-2"}, ValueError, "'2026-1-2'"),
            ({"days": 1, "start_date": "2026-01-02 05:00:00"}, ValueError, "05:00"),
            ({"days": 1, "end_date": 5}, TypeError, "end_date must be a date"),
            (
                {"days": 1, "start_date": "2026-01-02", "end_date": "2026-01-01"},
                ValueError,
                "2026-01-01 must not be before start_date 2026-01-02",
            ),
            ({"days": 1, "timezone": 5}, TypeError, "time zone"),
        ],
    )
    def test_bad_ones_are_refused(
        self, arguments: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            CalendarIntervalTrigger(**arguments)

    def test_dates_may_be_dates_strings_or_times(self) -> None:
        trigger = CalendarIntervalTrigger(
            days=1,
            start_date=datetime(2026, 1, 1, 23, 30, tzinfo=UTC),
            end_date=date(2027, 1, 1),
            timezone="Europe/Berlin",
        )

        assert trigger.start_date == date(2026, 1, 2)
        assert trigger.end_date == date(2027, 1, 1)

    @pytest.mark.parametrize("hours", [-12, 14])
    def test_today_is_the_date_in_the_zone_of_the_trigger(self, hours: int) -> None:
        zone = timezone(timedelta(hours=hours))
        before = datetime.now(zone).date()

        trigger = CalendarIntervalTrigger(days=1, timezone=zone)

        assert before <= trigger.start_date <= datetime.now(zone).date()

    def test_without_a_zone_the_local_one_counts(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(calendarinterval_module, "get_localzone", lambda: BERLIN)

        assert CalendarIntervalTrigger(days=1).timezone is BERLIN

    def test_a_time_that_never_comes_is_logged(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        trigger = CalendarIntervalTrigger(
            days=1,
            hour=2,
            minute=30,
            start_date="2026-03-29",
            end_date="2026-03-29",
            timezone="Europe/Berlin",
        )

        assert trigger.preview(1, datetime(2026, 1, 1, tzinfo=UTC)) == []
        (record,) = caplog.records
        assert record.name == "apscheduler.triggers.calendarinterval"
        assert record.levelno == logging.WARNING
        assert "will never fire" in record.getMessage()


class TestJitter:
    @pytest.mark.parametrize(
        ("interval", "expected"),
        [
            (
                {"days": 1},
                [date(2026, 1, 2), date(2026, 1, 3), date(2026, 1, 4)],
            ),
            (
                {"months": 1},
                [date(2026, 1, 2), date(2026, 2, 2), date(2026, 3, 2)],
            ),
            (
                {"months": 1, "days": 1},
                [date(2026, 1, 2), date(2026, 2, 3), date(2026, 3, 4)],
            ),
        ],
    )
    def test_beyond_midnight_loses_no_date(
        self,
        monkeypatch: pytest.MonkeyPatch,
        interval: dict[str, Any],
        expected: list[date],
    ) -> None:
        monkeypatch.setattr(random, "uniform", lambda low, high: high)
        trigger = CalendarIntervalTrigger(
            **interval,
            hour=23,
            minute=59,
            jitter=120,
            start_date="2026-01-01",
            timezone="UTC",
        )

        times = trigger.preview(3, datetime(2026, 1, 1, tzinfo=UTC))

        assert [time.date() for time in times] == expected

    def test_the_last_fire_time_has_no_delay(self) -> None:
        trigger = CalendarIntervalTrigger(
            days=1, hour=23, jitter=7200, start_date="2026-01-01", timezone="UTC"
        )
        first = datetime(2026, 1, 2, 0, 30, tzinfo=UTC)

        last = trigger.get_last_fire_time(first, first + 10 * ONE_DAY)

        assert last == datetime(2026, 1, 11, 23, tzinfo=UTC)
        assert trigger.get_last_fire_time(first, first + ONE_DAY / 2) == first


class TestState:
    STATE: dict[str, Any] = {  # noqa: RUF012 - never changed
        "interval": [0, 1, 2, 3],
        "time": [5, 6, 7],
        "start_date": date(2026, 1, 1),
        "end_date": date(2030, 1, 1),
        "timezone": BERLIN,
    }

    def test_has_the_established_keys(self) -> None:
        trigger = CalendarIntervalTrigger(
            months=1,
            weeks=2,
            days=3,
            hour=5,
            minute=6,
            second=7,
            start_date="2026-01-01",
            end_date="2030-01-01",
            timezone="Europe/Berlin",
            jitter=9,
        )

        assert trigger.__getstate__() == {"version": 1, "jitter": 9, **self.STATE}

    @pytest.mark.parametrize(
        "state", [{"version": 1, "jitter": None, **STATE}, {"version": 1, **STATE}]
    )
    def test_written_by_earlier_releases_can_be_read(self, state: Any) -> None:
        trigger = CalendarIntervalTrigger.__new__(CalendarIntervalTrigger)
        trigger.__setstate__(state)
        now = datetime(2026, 1, 1, tzinfo=BERLIN)

        times = trigger.preview(2, now)

        assert [time.isoformat() for time in times] == [
            "2026-01-01T05:06:07+01:00",
            "2026-02-18T05:06:07+01:00",
        ]
        assert (trigger.years, trigger.months, trigger.weeks, trigger.days) == (
            0,
            1,
            2,
            3,
        )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            {"years": 1, "days": 4, "end_date": "2030-01-01", "jitter": 9},
            (
                "CalendarIntervalTrigger(years=1, days=4, time='05:06:07', start_date='2026-01-01', "
                "end_date='2030-01-01', timezone='Europe/Berlin')"
            ),
        ),
        (
            {"weeks": 2, "timezone": UTC},
            (
                "CalendarIntervalTrigger(weeks=2, time='05:06:07', start_date='2026-01-01', "
                "timezone='datetime.timezone.utc')"
            ),
        ),
    ],
)
def test_describes_itself(arguments: dict[str, Any], expected: str) -> None:
    trigger = CalendarIntervalTrigger(
        **{
            "hour": 5,
            "minute": 6,
            "second": 7,
            "start_date": "2026-01-01",
            "timezone": "Europe/Berlin",
            **arguments,
        }
    )

    assert repr(trigger) == str(trigger) == expected


def exists(wall: datetime, zone: tzinfo) -> bool:
    """Say whether the clocks show this time, by asking them."""
    aware = wall.replace(tzinfo=zone)
    return aware.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == wall


def list_dates(start: date, months: int, days: int, count: int) -> list[date]:
    """Return the dates of the grid, by trying one month after the other."""
    dates = [start]
    while len(dates) < count:
        day = dates[-1]
        year, month, wanted = day.year, day.month, day.day
        while months:
            for _ in range(months):
                month += 1
                if month > 12:
                    year, month = year + 1, 1
            try:
                day = date(year, month, wanted)
                break
            except ValueError:
                pass
        dates.append(day + days * ONE_DAY)
    return dates


@given(
    start=st.dates(date(1975, 1, 1), date(2035, 12, 31)),
    zone=st.timezones(),
    months=st.sampled_from([0, 0, 1, 2, 5, 12, 13]),
    days=st.sampled_from([0, 1, 2, 7, 30, 45]),
    at=st.times(datetime(1, 1, 1).time(), time(23, 59, 59)),
    data=st.data(),
)
def test_agrees_with_going_through_the_calendar(
    start: date, zone: ZoneInfo, months: int, days: int, at: time, data: st.DataObject
) -> None:
    at = at.replace(microsecond=0)
    days = days or (0 if months else 1)
    trigger = CalendarIntervalTrigger(
        years=months // 12,
        months=months % 12,
        weeks=days // 7,
        days=days % 7,
        hour=at.hour,
        minute=at.minute,
        second=at.second,
        start_date=start,
        timezone=zone,
    )
    walls = [datetime.combine(d, at) for d in list_dates(start, months, days, 60)]
    expected = [wall.replace(tzinfo=zone) for wall in walls if exists(wall, zone)]
    first = expected[0]

    assert trigger.get_next_fire_time(None, datetime.now(UTC)) == first
    index = data.draw(st.integers(0, len(expected) - 2))
    following = trigger.get_next_fire_time(expected[index], expected[index])
    assert following is not None
    assert following.astimezone(UTC) == expected[index + 1].astimezone(UTC)
    before = expected[index + 1].astimezone(UTC) - timedelta(microseconds=1)
    last = trigger.get_last_fire_time(first, before)
    assert last.astimezone(UTC) == expected[index].astimezone(UTC)
