"""Fields, text, state and limits of the cron trigger."""

import pickle
import random
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import pytest

from apscheduler.testing.triggers import TriggerContract
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.cron.expressions import (
    AllExpression,
    LastDayOfMonthExpression,
    MonthRangeExpression,
    RangeExpression,
    WeekdayPositionExpression,
    WeekdayRangeExpression,
)
from apscheduler.triggers.cron.fields import (
    BaseField,
    DayOfMonthField,
    DayOfWeekField,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class CronContract(TriggerContract):
    state_version = 2
    takes_attributes = None


class TestCronTriggerInUtc(CronContract):
    @pytest.fixture
    def trigger(self) -> CronTrigger:
        return CronTrigger(day_of_week="mon-fri", hour="9,17", timezone=UTC)


class TestCronTriggerThroughClockChanges(CronContract):
    now: ClassVar[datetime] = datetime(2026, 3, 28, 20, tzinfo=UTC)

    @pytest.fixture
    def trigger(self) -> CronTrigger:
        return CronTrigger(minute="*/15", timezone="Europe/Berlin")


class TestCronTriggerThatEnds(CronContract):
    @pytest.fixture
    def trigger(self) -> CronTrigger:
        return CronTrigger(
            day="last", start_date="2026-03-01", end_date="2026-09-30", timezone=UTC
        )


class TestCronTriggerWithJitter(CronContract):
    is_random = "jitter"

    @pytest.fixture
    def trigger(self) -> CronTrigger:
        return CronTrigger(hour="*/6", jitter=60, timezone="America/New_York")


class TestCronTriggerWithEitherDay(CronContract):
    state_version = 3

    @pytest.fixture
    def trigger(self) -> CronTrigger:
        return CronTrigger.from_crontab("0 12 13 * fri", UTC, dialect="vixie")


class DecadeField(BaseField):
    """A year field of somebody else, which takes the first year of each decade only."""

    def get_next_value(self, date: date) -> int | None:
        following = super().get_next_value(date)
        return None if following is None else -(-following // 10) * 10


class DecadeTrigger(CronTrigger):
    __slots__ = ()
    FIELDS_MAP: ClassVar[dict[str, type[BaseField]]] = {
        **CronTrigger.FIELDS_MAP,
        "year": DecadeField,
    }


class TestCronTriggerWithForeignField(CronContract):
    @pytest.fixture
    def trigger(self) -> DecadeTrigger:
        return DecadeTrigger(year="*", month="2,3", day="last", timezone="Asia/Tokyo")


# Fields


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"hour": 5}, {"year": "*", "day_of_week": "*", "hour": "5", "second": "0"}),
        ({"year": "*"}, {"month": "1", "day": "1", "week": "*", "hour": "0"}),
        ({"second": 7}, {"year": "*", "month": "*", "day": "*", "minute": "*"}),
        ({}, {"year": "*", "hour": "*", "second": "*"}),
        ({"hour": None, "minute": 3}, {"hour": "*", "minute": "3", "second": "0"}),
    ],
)
def test_fields_that_are_not_given_are_filled_in(
    given: dict[str, Any], expected: dict[str, str]
) -> None:
    trigger = CronTrigger(**given, timezone=UTC)

    fields = {field.name: field for field in trigger.fields}
    assert {name: str(fields[name]) for name in expected} == expected
    assert [name for name in fields if not fields[name].is_default] == [
        name for name, value in given.items() if value is not None
    ]


@pytest.mark.parametrize(
    ("name", "text", "normal"),
    [
        ("hour", "01", "1"),
        ("hour", " 1 , 2-2,3-5 ", "1,2,3-5"),
        ("hour", "5/10", "5/10"),
        ("hour", "*/23", "*/23"),
        ("month", "JAN-Mar,12", "jan-mar,12"),
        ("day_of_week", "Mon,fri-SUN", "mon,fri-sun"),
        ("day", "1ST  MON,LAST,last Fri", "1st mon,last,last fri"),
        ("day", "*/30", "*/30"),
    ],
)
def test_text_of_a_field_is_normalised(name: str, text: str, normal: str) -> None:
    trigger = CronTrigger(**{name: text}, timezone=UTC)  # type: ignore[arg-type]  # only fields

    assert str(trigger) == f"cron[{name}='{normal}']"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("year", "2009-fault", 'Unrecognized expression "2009-fault" for field "year"'),
        ("hour", "1,,2", 'Unrecognized expression "" for field "hour"'),
        ("hour", "4x", 'Unrecognized expression "4x" for field "hour"'),
        ("day", "1stmon", 'Unrecognized expression "1stmon" for field "day"'),
        ("hour", "22-2", "must not be higher than the maximum"),
        ("hour", "24", "last value .24. is higher than the maximum value .23."),
        ("year", "1969", "first value .1969. is lower than the minimum value .1970."),
        ("day_of_week", "7", "is higher than the maximum value .6."),
        ("hour", "*/0", "Increment must be higher than 0"),
        ("hour", "*/24", "step value .24. is higher than the total range"),
        ("hour", "23/1", "step value .1. is higher than the total range"),
        ("hour", "3-5/3", "step value .3. is higher than the total range"),
        ("day_of_week", "monday", 'Invalid weekday name "monday": expected one of mon'),
        ("day_of_week", "fri-mon", "must not be higher than the maximum"),
        ("month", "janu", 'Invalid month name "janu": expected one of jan'),
        ("day", "1st 0", 'Invalid weekday name "0"'),
    ],
)
def test_expressions_that_mean_nothing_are_refused(
    name: str, text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        CronTrigger(**{name: text}, timezone=UTC)  # type: ignore[arg-type]  # only fields


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_gap": "later"}, "on_gap must be one of None, 'shift', 'skip', not"),
        ({"on_fold": "never"}, "on_fold must be one of 'both', 'first', 'second'"),
    ],
)
def test_unknown_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CronTrigger(hour=1, timezone=UTC, **options)


def test_an_unknown_field_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="hours"):
        CronTrigger(hours=1)  # type: ignore[call-arg]  # that is the point


@pytest.mark.parametrize(
    "expression",
    [
        AllExpression(),
        AllExpression(5),
        RangeExpression(1, 5, 2),
        RangeExpression(4),
        RangeExpression(4, None, 2),
        MonthRangeExpression("jan", "dec"),
        MonthRangeExpression("dec"),
        WeekdayRangeExpression("tue", "sun"),
        WeekdayPositionExpression("2nd", "tue"),
        LastDayOfMonthExpression(),
    ],
    ids=repr,
)
def test_the_repr_of_an_expression_is_how_to_make_it(expression: AllExpression) -> None:
    assert eval(repr(expression)) == expression


def test_expressions_and_fields_are_equal_when_they_mean_the_same() -> None:
    assert RangeExpression(0, 9, 2) == RangeExpression(0, 9, 2)
    assert RangeExpression(0, 9, 2) != RangeExpression(0, 9, 5)
    assert RangeExpression(0, 6) != WeekdayRangeExpression("mon", "sun")
    assert BaseField("hour", "01") == BaseField("hour", "1")
    assert BaseField("hour", "0-9/2") != BaseField("hour", "0-9/5")
    assert BaseField("hour", "1") != BaseField("minute", "1")
    assert BaseField("hour", "1") != "1"


@pytest.mark.parametrize(
    ("field", "moment", "expected"),
    [
        (BaseField("hour", "5,20"), datetime(2026, 1, 1, 6), 20),
        (BaseField("hour", "5"), datetime(2026, 1, 1, 6), None),
        (BaseField("minute", "*/20"), datetime(2026, 1, 1, 6, 41), None),
        (BaseField("minute", "*/20"), datetime(2026, 1, 1, 6, 21), 40),
        (DayOfMonthField("day", "31"), datetime(2026, 2, 1), None),
        (DayOfMonthField("day", "last"), datetime(2028, 2, 1), 29),
        (DayOfMonthField("day", "5th sun"), datetime(2026, 2, 1), None),
        (DayOfMonthField("day", "1st sun"), datetime(2026, 2, 2), None),
        (DayOfWeekField("day_of_week", "sat"), datetime(2026, 1, 1), 5),
    ],
)
def test_a_field_names_its_next_value(
    field: BaseField, moment: datetime, expected: int | None
) -> None:
    assert field.get_next_value(moment) == expected


# Warnings


@pytest.mark.parametrize(
    ("fields", "ignored"),
    [
        ({"day_of_week": "mon-fri/2"}, "'/2' in day_of_week='mon-fri/2'"),
        ({"day_of_week": "fri-6"}, "'-6' in day_of_week='fri-6'"),
        ({"day": "lastfoo"}, "'foo' in day='lastfoo'"),
    ],
)
def test_text_after_a_name_is_ignored_with_a_warning(
    fields: dict[str, Any], ignored: str, caplog: pytest.LogCaptureFixture
) -> None:
    CronTrigger(**fields, timezone=UTC)

    assert len(caplog.messages) == 1
    assert ignored in caplog.messages[0]


def test_a_trigger_without_fields_warns_that_it_fires_every_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    CronTrigger(timezone=UTC)

    assert len(caplog.messages) == 1
    assert "every second" in caplog.messages[0]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"month": 2, "day": 30}, "no date has month='2' and day='30' at once"),
        ({"month": "4,6", "day": 31}, "month='4,6' and day='31'"),
        ({"month": 7, "week": 10}, "month='7' and week='10'"),
        ({"year": 2025, "week": 53}, "year='2025' and week='53'"),
        ({"day": "1st mon", "day_of_week": "tue"}, "day='1st mon' and day_of_week='tu"),
        ({"year": "2026", "month": 2, "day": 29, "hour": 3}, "year='2026' and month="),
    ],
)
def test_impossible_dates_are_named_when_the_trigger_is_made(
    fields: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    trigger = CronTrigger(**fields, timezone="Europe/Berlin")

    assert len(caplog.messages) == 1
    assert str(trigger) in caplog.messages[0]
    assert reason in caplog.messages[0]
    assert trigger.get_next_fire_time(None, START) is None
    assert trigger.get_next_fire_time(START, START) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"year": 2020},
        {"month": 2, "day": "5th mon"},
        {"month": 2, "day": 29, "day_of_week": "mon"},
        {"week": 53, "day": 1},
    ],
)
def test_dates_that_are_rare_or_past_are_no_reason_to_warn(
    fields: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    CronTrigger(**fields, timezone=UTC)

    assert caplog.messages == []


# Text and state


def test_text_shows_the_given_fields_and_options() -> None:
    trigger = CronTrigger(
        day_of_week="mon-fri",
        hour=5,
        start_date="2026-01-01",
        end_date="2027-01-01 12:00:00",
        timezone="Europe/Berlin",
        jitter=3,
        on_gap="skip",
        on_fold="first",
    )

    assert str(trigger) == "cron[day_of_week='mon-fri', hour='5']"
    assert repr(trigger) == (
        "<CronTrigger (day_of_week='mon-fri', hour='5', start_date='2026-01-01 00:00:00 CET', "
        "end_date='2027-01-01 12:00:00 CET', jitter=3, on_gap='skip', on_fold='first', timezone='Europe/Berlin')>"
    )


def test_text_of_a_trigger_without_fields() -> None:
    trigger = CronTrigger(timezone=UTC)

    assert str(trigger) == "cron[]"
    assert repr(trigger) == "<CronTrigger (, timezone='UTC')>"


def test_the_state_has_the_layout_of_version_2() -> None:
    trigger = CronTrigger(day="last fri", hour="1-5", timezone=UTC, jitter=3)
    trigger.get_next_fire_time(None, START)

    state = trigger.__getstate__()

    fields = state.pop("fields")
    assert state == {
        "version": 2,
        "timezone": UTC,
        "start_date": None,
        "end_date": None,
        "jitter": 3,
    }
    assert [set(vars(field)) for field in fields] == [
        {"name", "is_default", "expressions"}
    ] * 8
    day, hour = fields[2], fields[5]
    assert type(day) is DayOfMonthField
    assert vars(day.expressions[0]) == {"step": None, "option_num": 5, "weekday": 4}
    assert vars(hour.expressions[0]) == {"step": None, "first": 1, "last": 5}


def test_loads_what_a_release_3_wrote() -> None:
    # Made of bare objects, as pickle makes them: no constructor has run.
    def bare(cls: type[Any], **attributes: Any) -> Any:
        instance = object.__new__(cls)
        instance.__dict__.update(attributes)
        return instance

    def field(name: str, expression: Any, is_default: bool) -> Any:
        cls = CronTrigger.FIELDS_MAP[name]
        return bare(cls, name=name, is_default=is_default, expressions=[expression])

    every = bare(AllExpression, step=None)
    zero = bare(RangeExpression, step=None, first=0, last=0)
    state = {
        "version": 2,
        "timezone": ZoneInfo("Europe/Berlin"),
        "start_date": None,
        "end_date": None,
        "fields": [
            field("year", every, True),
            field("month", every, True),
            field("day", every, True),
            field("week", every, True),
            field(
                "day_of_week",
                bare(WeekdayRangeExpression, step=None, first=0, last=4),
                False,
            ),
            field("hour", bare(RangeExpression, step=4, first=8, last=None), False),
            field("minute", zero, True),
            field("second", zero, True),
        ],
    }

    trigger = CronTrigger.__new__(CronTrigger)
    trigger.__setstate__(("ignored", state))

    assert str(trigger) == "cron[day_of_week='mon-fri', hour='8/4']"
    assert trigger.jitter is None
    friday_evening = datetime(2026, 1, 2, 20, tzinfo=ZoneInfo("Europe/Berlin"))
    following = trigger.get_next_fire_time(friday_evening, friday_evening)
    assert following is not None
    assert following.isoformat() == "2026-01-05T08:00:00+01:00"


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, {}),
        ({"on_gap": "shift"}, {"on_gap": "shift"}),
        ({"on_fold": "second"}, {"on_fold": "second"}),
        ({"on_gap": "skip", "on_fold": "both"}, {"on_gap": "skip"}),
    ],
)
def test_only_unusual_options_are_kept_in_the_state(
    options: dict[str, Any], kept: dict[str, str]
) -> None:
    trigger = CronTrigger(hour=2, timezone="Europe/Berlin", **options)

    state = trigger.__getstate__()
    restored = pickle.loads(pickle.dumps(trigger))

    assert {name: state[name] for name in state if name.startswith("on_")} == kept
    assert repr(restored) == repr(trigger)


def test_a_trigger_can_be_given_another_state() -> None:
    trigger = CronTrigger(hour=2, timezone=UTC)
    trigger.get_next_fire_time(None, START)

    trigger.__setstate__(CronTrigger(hour=3, timezone=UTC).__getstate__())

    assert trigger.get_next_fire_time(None, START) == START.replace(hour=3)


# Time zones


def test_the_zone_is_that_of_the_dates_unless_given() -> None:
    tokyo = datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Tokyo"))

    assert str(CronTrigger(hour=1, start_date=tokyo).timezone) == "Asia/Tokyo"
    assert str(CronTrigger(hour=1, end_date=tokyo).timezone) == "Asia/Tokyo"
    assert CronTrigger(hour=1, end_date=tokyo, timezone="UTC").timezone is UTC


def test_the_zone_is_the_local_one_without_dates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    zone = ZoneInfo("Asia/Kathmandu")
    monkeypatch.setattr("apscheduler.triggers.cron.get_localzone", lambda: zone)

    assert CronTrigger(hour=1).timezone is zone


def test_zones_that_are_equal_but_have_other_names_keep_them() -> None:
    zone = timezone(timedelta(0), "Zulu")

    answer = CronTrigger(hour=1, timezone=zone).get_next_fire_time(None, START)

    assert answer is not None
    assert answer.tzname() == "Zulu"


# Limits


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_the_schedule_ends_with_the_year_9999(zone: str) -> None:
    trigger = CronTrigger(
        year=9999, month=12, day=31, hour=23, minute=59, second=59, timezone=zone
    )

    last = trigger.get_next_fire_time(None, START)

    assert last is not None
    assert last.replace(tzinfo=None) == datetime(9999, 12, 31, 23, 59, 59)
    assert trigger.get_next_fire_time(last, last) is None


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_nothing_fires_after_the_end_of_time(zone: str) -> None:
    end_of_time = datetime.max.replace(tzinfo=UTC)
    trigger = CronTrigger(second="*", timezone=zone)

    assert trigger.get_next_fire_time(None, end_of_time) is None
    assert trigger.get_next_fire_time(end_of_time, end_of_time) is None


def test_jitter_does_not_lead_out_of_the_year_9999(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    trigger = CronTrigger(
        year=9999, month=12, day=31, hour=23, jitter=99_999, timezone=UTC
    )

    answer = trigger.get_next_fire_time(None, START)

    assert answer == datetime(9999, 12, 31, 23, tzinfo=UTC)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_nothing_fires_before_1970(zone: str) -> None:
    trigger = CronTrigger(hour=0, timezone=zone)

    for year in (1, 1900, 1969):
        answer = trigger.get_next_fire_time(None, datetime(year, 1, 1, tzinfo=UTC))
        assert answer == datetime(1970, 1, 1, tzinfo=ZoneInfo(zone))


def test_the_start_date_counts_also_after_a_fire() -> None:
    trigger = CronTrigger(hour=5, start_date="2026-03-01", timezone=UTC)

    answer = trigger.get_next_fire_time(START, START)

    assert answer == datetime(2026, 3, 1, 5, tzinfo=UTC)


def test_new_year_is_in_the_last_week_of_the_year_before() -> None:
    trigger = CronTrigger(week=53, month=1, day=1, timezone=UTC)

    times = trigger.preview(12, START.replace(year=1970))

    expected = [
        year
        for year in range(1970, times[-1].year + 1)
        if date(year, 1, 1).isocalendar().week == 53
    ]
    assert [time.year for time in times] == expected


def test_a_clock_that_was_set_back_is_followed() -> None:
    trigger = CronTrigger(hour=5, timezone=UTC)

    answer = trigger.get_next_fire_time(START + timedelta(days=9), START)

    assert answer == START.replace(hour=5)


# Jitter


def test_jitter_delays_but_not_beyond_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    trigger = CronTrigger(
        hour="5,6", jitter=90, end_date="2026-01-01 06:01:00", timezone=UTC
    )

    first = trigger.get_next_fire_time(None, START)
    assert first is not None
    second = trigger.get_next_fire_time(first, first)
    assert second is not None

    assert first == START.replace(hour=5, minute=1, second=30)
    assert second == START.replace(hour=6, minute=1)
    assert trigger.get_next_fire_time(second, second) is None


def test_jitter_is_elapsed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    trigger = CronTrigger(hour=1, minute=59, jitter=120, timezone="Europe/Berlin")

    answer = trigger.get_next_fire_time(None, datetime(2026, 3, 28, 23, tzinfo=UTC))

    assert answer is not None
    assert answer.isoformat() == "2026-03-29T03:01:00+02:00"


# Backlogs


def test_counts_a_month_of_seconds() -> None:
    trigger = CronTrigger(second="*", timezone="Europe/Berlin")
    first = datetime(2026, 3, 10, tzinfo=ZoneInfo("Europe/Berlin"))

    last = trigger.get_last_fire_time(first, first + timedelta(days=30))

    assert last == first + timedelta(days=30)
    elapsed = last.astimezone(UTC) - first.astimezone(UTC)
    assert elapsed == timedelta(days=29, hours=23)
    assert trigger.count_fire_times(first, last) == elapsed // SECOND + 1


def test_counts_over_centuries() -> None:
    trigger = CronTrigger(month=2, day=29, timezone=UTC)
    first = datetime(2000, 2, 29, tzinfo=UTC)
    last = datetime(2400, 2, 29, tzinfo=UTC)

    assert trigger.count_fire_times(first, last) == 98
    assert trigger.get_last_fire_time(first, last + timedelta(days=1_000)) == last


# Fields of others


def test_fields_of_others_are_asked_for_their_values() -> None:
    trigger = DecadeTrigger(year="*", month="2,3", day="last", timezone=UTC)

    assert [time.date().isoformat() for time in trigger.preview(3, START)] == [
        "2030-02-28",
        "2030-03-31",
        "2040-02-29",
    ]


def test_fields_of_others_fire_around_clock_changes_as_well() -> None:
    class HourField(BaseField):
        pass

    class HourTrigger(CronTrigger):
        __slots__ = ()
        FIELDS_MAP: ClassVar[dict[str, type[BaseField]]] = {
            **CronTrigger.FIELDS_MAP,
            "hour": HourField,
        }

    start = datetime(2026, 3, 27, tzinfo=UTC)
    ours = CronTrigger(hour="0,2", minute=30, timezone="Europe/Berlin")
    theirs = HourTrigger(hour="0,2", minute=30, timezone="Europe/Berlin")

    assert theirs.preview(20, start) == ours.preview(20, start)


def test_fields_of_others_end_with_the_year_9999() -> None:
    trigger = DecadeTrigger(year="9990", timezone=UTC)

    answer = trigger.get_next_fire_time(None, START)

    assert answer == datetime(9990, 1, 1, tzinfo=UTC)
    assert trigger.get_next_fire_time(answer, answer) is None
