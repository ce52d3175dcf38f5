import logging
import random
from datetime import UTC, date, datetime, timedelta
from typing import Any
from unittest.mock import Mock
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apscheduler.testing.triggers import TriggerContract
from apscheduler.triggers import interval as interval_module
from apscheduler.triggers.interval import IntervalTrigger

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class TestIntervalTrigger(TriggerContract):
    state_version = 2
    takes_attributes = None

    @pytest.fixture(
        params=[
            {"minutes": 20, "start_date": "2026-01-01", "timezone": "UTC"},
            {"hours": 5, "timezone": "Europe/Berlin", "start_date": "2026-10-23"},
            {"minutes": 15, "timezone": "Europe/Berlin", "start_date": "2026-03-29"},
            {"seconds": 0.3, "start_date": "2025-01-01", "timezone": "Asia/Kathmandu"},
            {
                "days": 1,
                "start_date": "2020-01-01",
                "end_date": "2026-01-09",
                "timezone": "America/New_York",
            },
        ],
        ids=["utc", "berlin autumn", "berlin spring", "fraction", "ending"],
    )
    def trigger(self, request: pytest.FixtureRequest) -> IntervalTrigger:
        return IntervalTrigger(**request.param)


class TestIntervalTriggerWithJitter(TriggerContract):
    state_version = 2
    takes_attributes = None
    is_random = "each time has a random delay"

    @pytest.fixture
    def trigger(self) -> IntervalTrigger:
        return IntervalTrigger(
            minutes=1, jitter=90, start_date="2025-10-26", timezone="Europe/Berlin"
        )


EXAMPLES = [
    pytest.param(
        {"seconds": 10, "start_date": "2026-01-01"},
        "UTC",
        None,
        "2025-12-31T23:59:59+00:00",
        "2026-01-01T00:00:00+00:00",
        id="not before the start",
    ),
    pytest.param(
        {"seconds": 10, "start_date": "2026-01-01"},
        "UTC",
        None,
        "2026-01-01T00:00:10+00:00",
        "2026-01-01T00:00:10+00:00",
        id="an exact multiple is returned",
    ),
    pytest.param(
        {"seconds": 10, "start_date": "2026-01-01"},
        "UTC",
        None,
        "2026-01-01T00:00:10.000001+00:00",
        "2026-01-01T00:00:20+00:00",
        id="just after a multiple",
    ),
    pytest.param(
        {"hours": 1, "start_date": "2026-01-01 00:30:00"},
        "UTC",
        None,
        "2026-01-05T07:00:00+00:00",
        "2026-01-05T07:30:00+00:00",
        id="aligned to the start",
    ),
    pytest.param(
        {"hours": 2, "start_date": "2026-01-01"},
        "UTC",
        "2026-01-01T03:11:00+00:00",
        "2026-01-01T03:11:01+00:00",
        "2026-01-01T05:11:00+00:00",
        id="counts from the previous time",
    ),
    pytest.param(
        {"hours": 2, "start_date": "2026-01-01"},
        "UTC",
        "2026-01-01T04:00:00+00:00",
        "2026-02-01T00:00:00+00:00",
        "2026-01-01T06:00:00+00:00",
        id="may be in the past",
    ),
    pytest.param(
        {
            "seconds": 5,
            "start_date": "2026-01-01",
            "end_date": "2026-01-01 00:00:05",
        },
        "UTC",
        "2026-01-01T00:00:00+00:00",
        "2026-01-01T00:00:01+00:00",
        "2026-01-01T00:00:05+00:00",
        id="the end is included",
    ),
    pytest.param(
        {
            "seconds": 5,
            "start_date": "2026-01-01",
            "end_date": "2026-01-01 00:00:05",
        },
        "UTC",
        "2026-01-01T00:00:05+00:00",
        "2026-01-01T00:00:06+00:00",
        None,
        id="nothing after the end",
    ),
    pytest.param(
        {"days": 1, "start_date": "2026-03-28 09:00:00"},
        "Europe/Berlin",
        "2026-03-28T09:00:00+01:00",
        "2026-03-28T09:00:01+01:00",
        "2026-03-29T10:00:00+02:00",
        id="24 hours in spring",
    ),
    pytest.param(
        {"days": 1, "start_date": "2026-10-24 09:00:00"},
        "Europe/Berlin",
        "2026-10-24T09:00:00+02:00",
        "2026-10-24T09:00:01+02:00",
        "2026-10-25T08:00:00+01:00",
        id="24 hours in autumn",
    ),
    pytest.param(
        {"hours": 1, "start_date": "2026-10-24"},
        "Europe/Berlin",
        "2026-10-25T02:00:00+02:00",
        "2026-10-25T02:00:01+02:00",
        "2026-10-25T02:00:00+01:00",
        id="second pass of a repeated hour",
    ),
    pytest.param(
        {"hours": 1, "start_date": "2013-03-01"},
        "America/New_York",
        None,
        "2013-03-10T01:05:00-05:00",
        "2013-03-10T03:00:00-04:00",
        id="over a skipped hour",
    ),
    pytest.param(
        {"weeks": 1, "start_date": "2026-01-01"},
        "Asia/Kathmandu",
        "2026-01-01T00:00:00+05:45",
        "2026-01-01T00:00:01+05:45",
        "2026-01-08T00:00:00+05:45",
        id="odd offset",
    ),
    pytest.param(
        {"seconds": 0.3, "start_date": "2026-01-01"},
        "UTC",
        None,
        "2026-01-01T00:00:00.900000+00:00",
        "2026-01-01T00:00:00.900000+00:00",
        id="exact multiple of a fraction",
    ),
    pytest.param(
        {"hours": 1, "start_date": "9999-12-31"},
        "UTC",
        "9999-12-31T23:00:00+00:00",
        "9999-12-31T23:00:00+00:00",
        None,
        id="the end of time",
    ),
    pytest.param(
        {
            "minutes": 15,
            "start_date": "2026-10-25",
            "end_date": datetime(2026, 10, 25, 2, 30),
        },
        "Europe/Berlin",
        "2026-10-25T02:30:00+02:00",
        "2026-10-25T02:30:00+02:00",
        None,
        id="end in the first pass",
    ),
    pytest.param(
        {
            "minutes": 15,
            "start_date": "2026-10-25",
            "end_date": datetime(2026, 10, 25, 2, 30, fold=1),
        },
        "Europe/Berlin",
        "2026-10-25T02:30:00+02:00",
        "2026-10-25T02:30:00+02:00",
        "2026-10-25T02:45:00+02:00",
        id="end in the second pass",
    ),
    pytest.param(
        {"hours": 1, "start_date": "2026-01-01", "end_date": "9999-12-31 23:59:59"},
        "America/New_York",
        None,
        "2026-01-01T12:30:00+00:00",
        "2026-01-01T08:00:00-05:00",
        id="an end beyond what UTC can express",
    ),
]


def read(text: str | None, zone: str) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(ZoneInfo(zone)) if text else None


@pytest.mark.parametrize(("arguments", "zone", "previous", "now", "expected"), EXAMPLES)
def test_next_fire_time(
    arguments: dict[str, Any],
    zone: str,
    previous: str | None,
    now: str,
    expected: str | None,
) -> None:
    trigger = IntervalTrigger(**arguments, timezone=zone)

    following = trigger.get_next_fire_time(
        read(previous, zone), datetime.fromisoformat(now)
    )

    assert (following.isoformat() if following else None) == expected
    assert following is None or str(following.tzinfo) == zone


class TestArguments:
    def test_the_parts_add_up(self) -> None:
        trigger = IntervalTrigger(
            weeks=1, days=2, hours=3, minutes=4, seconds=5.5, timezone="UTC"
        )

        assert trigger.interval == timedelta(
            days=9, hours=3, minutes=4, seconds=5, milliseconds=500
        )
        assert trigger.interval_length == trigger.interval.total_seconds()

    def test_nothing_means_one_second(self) -> None:
        assert IntervalTrigger(timezone="UTC").interval == SECOND

    @pytest.mark.parametrize("arguments", [{"seconds": -5}, {"days": 1, "hours": -25}])
    def test_a_negative_interval_is_refused(self, arguments: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="must not be negative"):
            IntervalTrigger(**arguments)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"hours": "1"}, TypeError, "hours must be a number, not '1'"),
            ({"days": None}, TypeError, "days must be a number, not None"),
            ({"hour": 1}, TypeError, "hour"),
            ({"months": 1}, TypeError, "months"),
            ({"weeks": 1e300}, ValueError, "not a possible interval"),
            ({"weeks": float("nan")}, ValueError, "not a possible interval"),
            ({"start_date": "soon"}, ValueError, "start_date"),
            ({"end_date": 5}, TypeError, "end_date"),
            ({"timezone": 5}, TypeError, "time zone"),
        ],
    )
    def test_bad_arguments_are_refused(
        self, arguments: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            IntervalTrigger(**arguments)

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ({"timezone": "Europe/Berlin", "start_date": START}, "Europe/Berlin"),
            ({"start_date": START}, "UTC"),
            ({"end_date": START.astimezone(BERLIN)}, "Europe/Berlin"),
            (
                {"start_date": START, "end_date": START.astimezone(BERLIN)},
                "UTC",
            ),
            ({"start_date": "2026-01-01T00:00:00Z"}, "Asia/Tokyo"),
            ({"start_date": date(2026, 1, 1)}, "Asia/Tokyo"),
            ({}, "Asia/Tokyo"),
        ],
    )
    def test_the_zone_is_found(
        self,
        monkeypatch: pytest.MonkeyPatch,
        arguments: dict[str, Any],
        expected: str,
    ) -> None:
        monkeypatch.setattr(
            interval_module, "get_localzone", lambda: ZoneInfo("Asia/Tokyo")
        )

        trigger = IntervalTrigger(hours=1, **arguments)

        assert str(trigger.timezone) == expected

    def test_starts_one_interval_of_elapsed_time_from_now(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before_the_gap = datetime(2026, 3, 28, 12, tzinfo=BERLIN)
        monkeypatch.setattr(
            interval_module, "datetime", Mock(now=before_the_gap.astimezone)
        )

        trigger = IntervalTrigger(days=1, timezone="Europe/Berlin")

        assert trigger.start_date.isoformat() == "2026-03-29T13:00:00+02:00"

    def test_the_first_result_is_in_the_zone_of_the_trigger(self) -> None:
        trigger = IntervalTrigger(hours=1, start_date=START, timezone="Europe/Berlin")

        first = trigger.get_next_fire_time(None, START - SECOND)

        assert first is not None
        assert first.isoformat() == "2026-01-01T01:00:00+01:00"

    def test_an_end_before_the_start_is_no_error_but_logged(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        trigger = IntervalTrigger(
            hours=1, start_date="2026-02-01", end_date="2026-01-01", timezone="UTC"
        )

        assert trigger.get_next_fire_time(None, START) is None
        (record,) = caplog.records
        assert record.name == "apscheduler.triggers.interval"
        assert record.levelno == logging.WARNING
        assert "will never fire" in record.getMessage()

    def test_a_naive_now_is_refused(self) -> None:
        with pytest.raises(TypeError, match="naive"):
            IntervalTrigger(seconds=10).get_next_fire_time(None, datetime(2026, 1, 1))


class TestJitter:
    def test_does_not_move_the_grid(self) -> None:
        random.seed(1)
        trigger = IntervalTrigger(
            minutes=10, jitter=120, start_date=START, timezone="UTC"
        )
        previous, delays = START, []

        for index in range(1, 1001):
            following = trigger.get_next_fire_time(previous, previous)
            assert following is not None
            delays.append(following - START - index * timedelta(minutes=10))
            previous = following

        assert timedelta(0) <= min(delays) < timedelta(seconds=5)
        assert timedelta(seconds=115) < max(delays) <= timedelta(seconds=120)

    def test_longer_than_the_interval_still_advances_on_the_grid(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(random, "uniform", lambda low, high: high)
        trigger = IntervalTrigger(
            minutes=10, jitter=1500, start_date=START, timezone="UTC"
        )

        times = trigger.preview(3, START)

        assert [(time - START).total_seconds() for time in times] == [1500, 3300, 5100]

    def test_does_not_end_the_schedule_early_and_is_capped_at_the_end(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(random, "uniform", lambda low, high: high)
        trigger = IntervalTrigger(
            seconds=10,
            jitter=5,
            start_date=START,
            end_date=START + 13 * SECOND,
            timezone="Europe/Berlin",
        )

        second = trigger.get_next_fire_time(START, START)

        assert second == START + 13 * SECOND
        assert str(second.tzinfo) == "Europe/Berlin"
        assert trigger.get_next_fire_time(second, START) is None

    def test_the_last_fire_time_is_on_the_grid(self) -> None:
        trigger = IntervalTrigger(minutes=10, jitter=60, start_date=START)
        first = START + 33 * SECOND

        last = trigger.get_last_fire_time(first, START + timedelta(hours=5, minutes=7))

        assert last == START + timedelta(hours=5)
        assert trigger.get_last_fire_time(first, START + 599 * SECOND) == first
        assert trigger.count_fire_times(first, last) == 31


class TestState:
    STATE: dict[str, Any] = {  # noqa: RUF012 - never changed
        "timezone": BERLIN,
        "start_date": datetime(2026, 1, 1, tzinfo=BERLIN),
        "end_date": None,
        "interval": timedelta(hours=1),
    }

    def test_has_the_established_keys(self) -> None:
        trigger = IntervalTrigger(
            hours=1, start_date="2026-01-01", timezone="Europe/Berlin", jitter=5
        )

        assert trigger.__getstate__() == {"version": 2, "jitter": 5, **self.STATE}

    @pytest.mark.parametrize(
        "state",
        [
            {"version": 2, "jitter": None, **STATE},
            {"version": 1, **STATE},
            STATE,
            (None, {"version": 1, **STATE}),
            (None, {"interval_length": 3600.0, **STATE}),
        ],
    )
    def test_of_all_releases_can_be_read(self, state: Any) -> None:
        trigger = IntervalTrigger.__new__(IntervalTrigger)
        trigger.__setstate__(state)

        following = trigger.get_next_fire_time(None, START + SECOND)

        assert following is not None
        assert following.isoformat() == "2026-01-01T02:00:00+01:00"
        assert trigger.jitter is None
        assert trigger.interval_length == 3600

    @pytest.mark.parametrize("interval", [timedelta(0), -SECOND])
    def test_with_an_interval_that_never_ends_is_refused(
        self, interval: timedelta
    ) -> None:
        trigger = IntervalTrigger.__new__(IntervalTrigger)

        with pytest.raises(ValueError, match="must be positive"):
            trigger.__setstate__({**self.STATE, "interval": interval})


def test_describes_itself() -> None:
    trigger = IntervalTrigger(
        hours=1,
        start_date="2026-01-01",
        timezone="Europe/Berlin",
    )
    bounded = IntervalTrigger(
        days=9,
        hours=3,
        minutes=4,
        seconds=5,
        start_date="2026-01-01",
        end_date="2027-01-01",
        jitter=5,
        timezone="Europe/Berlin",
    )

    assert str(trigger) == "interval[1:00:00]"
    assert repr(trigger) == (
        "<IntervalTrigger (interval=datetime.timedelta(seconds=3600), start_date='2026-01-01 00:00:00 CET', "
        "timezone='Europe/Berlin')>"
    )
    assert str(bounded) == "interval[9 days, 3:04:05]"
    assert repr(bounded).endswith(
        "end_date='2027-01-01 00:00:00 CET', jitter=5, timezone='Europe/Berlin')>"
    )


ZONES = st.timezones()
TIMES = st.datetimes(datetime(1975, 1, 1), datetime(2090, 1, 1), timezones=ZONES)
LENGTHS = st.timedeltas(timedelta(milliseconds=1), timedelta(days=400))


@given(TIMES, LENGTHS, ZONES, st.integers(0, 300), st.floats(0, 0.999))
def test_agrees_with_counting_on_from_the_start(
    start: datetime, length: timedelta, zone: ZoneInfo, steps: int, part: float
) -> None:
    trigger = IntervalTrigger(
        seconds=length.total_seconds(), start_date=start, timezone=zone
    )
    grid = [start.astimezone(UTC)]
    for _ in range(steps + 1):
        grid.append(grid[-1] + length)
    now = grid[steps] + length * part

    first = trigger.get_next_fire_time(None, now)
    following = trigger.get_next_fire_time(grid[steps], now)

    assert first is not None
    assert following is not None
    assert first.tzinfo is following.tzinfo is zone
    assert first.astimezone(UTC) == min(time for time in grid if time >= now)
    assert following.astimezone(UTC) == grid[steps + 1]
    assert trigger.get_last_fire_time(start, now).astimezone(UTC) == grid[steps]
    assert trigger.count_fire_times(start, grid[steps]) == steps + 1


@given(TIMES, LENGTHS, st.floats(0.001, 2), st.integers(0, 100))
def test_jitter_only_delays_times_of_the_grid(
    start: datetime, length: timedelta, share: float, steps: int
) -> None:
    jitter = length.total_seconds() * share
    trigger = IntervalTrigger(
        seconds=length.total_seconds(), start_date=start, jitter=jitter, timezone="UTC"
    )
    begin = start.astimezone(UTC)
    previous = begin + steps * length + timedelta(seconds=random.uniform(0, jitter))

    following = trigger.get_next_fire_time(previous, previous)

    assert following is not None
    grid_time = begin
    while grid_time <= previous:
        grid_time += length
    assert grid_time <= following <= grid_time + timedelta(seconds=jitter)
