import pickle
from datetime import UTC, date, datetime, timedelta
from typing import Any
from unittest.mock import Mock
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apscheduler.testing.triggers import TriggerContract
from apscheduler.triggers import date as date_module
from apscheduler.triggers.date import DateTrigger

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


class TestDateTrigger(TriggerContract):
    state_version = 1
    takes_attributes = None

    @pytest.fixture(
        params=[
            ("2026-06-01 12:00:00", "UTC"),
            ("2026-10-25 02:30:00", "Europe/Berlin"),
            ("1999-01-01", "Asia/Kathmandu"),
        ],
        ids=["future", "repeated hour", "past"],
    )
    def trigger(self, request: pytest.FixtureRequest) -> DateTrigger:
        return DateTrigger(*request.param)


@pytest.mark.parametrize(
    ("run_date", "zone", "previous", "now", "expected"),
    [
        pytest.param(
            "2026-06-01 12:00:00",
            "UTC",
            None,
            "2030-01-01T00:00:00+00:00",
            "2026-06-01T12:00:00+00:00",
            id="past dates are still returned",
        ),
        pytest.param(
            "2026-06-01 12:00:00",
            "UTC",
            "2026-06-01T12:00:00+00:00",
            "2026-06-01T12:00:01+00:00",
            None,
            id="only once",
        ),
        pytest.param(
            "2026-03-29 02:30:00",
            "Europe/Berlin",
            None,
            "2026-01-01T00:00:00+01:00",
            "2026-03-29T03:30:00+02:00",
            id="skipped time is moved forward",
        ),
        pytest.param(
            "2026-10-25 02:30:00",
            "Europe/Berlin",
            None,
            "2026-01-01T00:00:00+01:00",
            "2026-10-25T02:30:00+02:00",
            id="first of a repeated time",
        ),
        pytest.param(
            "2026-06-01T12:00:00-05:00",
            "Europe/Berlin",
            None,
            "2026-01-01T00:00:00+01:00",
            "2026-06-01T12:00:00-05:00",
            id="explicit offset wins",
        ),
        pytest.param(
            date(2022, 11, 30),
            "Europe/Berlin",
            None,
            "2026-01-01T00:00:00+01:00",
            "2022-11-30T00:00:00+01:00",
            id="a date means midnight",
        ),
        pytest.param(
            "2022-4-30 08:00:00",
            "Europe/Berlin",
            None,
            "2026-01-01T00:00:00+01:00",
            "2022-04-30T08:00:00+02:00",
            id="short month",
        ),
        pytest.param(
            datetime(2026, 10, 25, 2, 30, fold=1),
            "Europe/Berlin",
            None,
            "2026-01-01T00:00:00+01:00",
            "2026-10-25T02:30:00+01:00",
            id="second of a repeated time",
        ),
    ],
)
def test_fires_at_its_date(
    run_date: Any, zone: str, previous: str | None, now: str, expected: str | None
) -> None:
    trigger = DateTrigger(run_date, zone)

    following = trigger.get_next_fire_time(
        datetime.fromisoformat(previous) if previous else None,
        datetime.fromisoformat(now),
    )

    assert (following.isoformat() if following else None) == expected


def test_without_a_date_it_fires_now_in_its_zone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Mock(now=lambda zone: NOON.astimezone(zone))
    monkeypatch.setattr(date_module, "datetime", clock)

    trigger = DateTrigger(timezone="Europe/Berlin")

    assert trigger.run_date.isoformat() == "2026-06-01T14:00:00+02:00"


def test_without_a_zone_it_takes_the_local_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(date_module, "get_localzone", lambda: BERLIN)

    assert DateTrigger("2026-06-01").run_date.tzinfo is BERLIN


def test_an_aware_date_is_kept_as_it_is() -> None:
    assert DateTrigger(NOON, "Europe/Berlin").run_date is NOON


def test_describes_itself() -> None:
    trigger = DateTrigger(NOON)

    assert str(trigger) == "date[2026-06-01 12:00:00 UTC]"
    assert repr(trigger) == "<DateTrigger (run_date='2026-06-01 12:00:00 UTC')>"


def test_its_state_is_the_date() -> None:
    assert DateTrigger(NOON).__getstate__() == {"version": 1, "run_date": NOON}


@pytest.mark.parametrize(
    "state",
    [
        {"version": 1, "run_date": NOON},
        {"run_date": NOON},
        (None, {"version": 1, "run_date": NOON}),
        (None, {"run_date": NOON}),
    ],
)
def test_reads_the_states_of_all_releases(state: Any) -> None:
    trigger = DateTrigger.__new__(DateTrigger)
    trigger.__setstate__(state)

    assert trigger.run_date == NOON


@pytest.mark.parametrize(
    ("run_date", "zone", "error"),
    [
        ("soon", "UTC", ValueError),
        (5, "UTC", TypeError),
        ("2026-01-01", "Europe/Atlantis", ZoneInfoNotFoundError),
        ("2026-01-01", 5, TypeError),
    ],
)
def test_bad_arguments_are_refused(
    run_date: Any, zone: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        DateTrigger(run_date, zone)


def test_jitter_is_not_for_a_single_date() -> None:
    with pytest.raises(TypeError, match="jitter"):
        DateTrigger(NOON, jitter=5)  # type: ignore[call-arg]  # that is the point


@given(
    st.datetimes(timezones=st.timezones(), allow_imaginary=False),
    st.datetimes(timezones=st.just(UTC)),
)
def test_any_date_is_returned_whatever_the_time_is(
    run_date: datetime, now: datetime
) -> None:
    trigger = pickle.loads(pickle.dumps(DateTrigger(run_date)))

    assert trigger.get_next_fire_time(None, now) == run_date
    assert trigger.get_next_fire_time(run_date, now) is None
    assert trigger.get_last_fire_time(run_date, now + timedelta()) == run_date
