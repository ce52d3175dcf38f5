import json
import logging
import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apscheduler.callables import state_resolver
from apscheduler.plugins import PluginNotFoundError
from apscheduler.testing.triggers import TriggerContract
from apscheduler.triggers import combining
from apscheduler.triggers.base import BaseTrigger, TriggerError
from apscheduler.triggers.combining import AndTrigger, OrTrigger

# The combinations come without triggers of their own; these tests combine the usual ones.
for module in ("calendarinterval", "cron", "date", "interval"):
    pytest.importorskip(f"apscheduler.triggers.{module}", exc_type=ImportError)

from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def cron(**arguments: Any) -> CronTrigger:
    return CronTrigger(**{"timezone": "UTC", **arguments})


def every(start: str = "2026-01-01", **arguments: Any) -> IntervalTrigger:
    return IntervalTrigger(**{"timezone": "UTC", "start_date": start, **arguments})


def calendar(start: str = "2026-01-01", **arguments: Any) -> CalendarIntervalTrigger:
    return CalendarIntervalTrigger(
        **{"timezone": "UTC", "start_date": start, **arguments}
    )


def once(at: str) -> DateTrigger:
    return DateTrigger(at, "UTC")


class HourlyTrigger(BaseTrigger):
    """Somebody else's trigger: at full hours, with nothing but the one method."""

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        asked = (previous_fire_time or now).astimezone(UTC)
        hour = asked.replace(minute=0, second=0, microsecond=0)
        return hour if previous_fire_time is None and hour >= now else hour + HOUR

    def __repr__(self) -> str:
        return "HourlyTrigger()"


class PhaseTrigger(HourlyTrigger):
    """Somebody else's trigger with settings in slots and in a dictionary."""

    __slots__ = ("color",)

    def __init__(self) -> None:
        self.color = "red"
        self.size = 3


class StuckTrigger(HourlyTrigger):
    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        return START


class NaiveTrigger(HourlyTrigger):
    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        return now.replace(tzinfo=None)


OR_CHILDREN: dict[str, Callable[[], list[BaseTrigger]]] = {
    "intervals": lambda: [every(minutes=20), every(minutes=30), every(hours=7)],
    "cron and interval": lambda: [cron(minute=7), every(minutes=20)],
    "dates": lambda: [once("2026-01-03"), once("2026-01-01"), once("2026-01-02")],
    "calendars long ago": lambda: [
        calendar("2025-12-30", days=1, hour=5, timezone="Europe/Berlin"),
        every("2020-01-01", days=3),
    ],
    "ending": lambda: [
        every(hours=1, end_date="2026-01-01 05:00:00"),
        every("2026-01-01 00:30:00", hours=2, end_date="2026-01-02"),
    ],
    "repeated hour": lambda: [
        every("2026-10-24 22:00:00", minutes=30, timezone="Europe/Berlin"),
        cron(minute="*/20", start_date="2026-10-24 22:00:00", timezone="Europe/Berlin"),
    ],
    "nested": lambda: [OrTrigger([every(hours=3)]), AndTrigger([every(hours=5)])],
    "other people's": lambda: [HourlyTrigger(), every(minutes=50)],
}


class TestOrTrigger(TriggerContract):
    state_version = 1
    takes_attributes = None

    @pytest.fixture(params=OR_CHILDREN)
    def trigger(self, request: pytest.FixtureRequest) -> OrTrigger:
        return OrTrigger(OR_CHILDREN[request.param]())


AND_CHILDREN: dict[str, Callable[[], list[BaseTrigger]]] = {
    "intervals": lambda: [every(hours=2), every(hours=3)],
    "cron": lambda: [cron(day_of_week="mon", hour=9), cron(hour=9)],
    "calendar and cron": lambda: [calendar(days=3), cron(day_of_week="sat,sun")],
    "calendars long ago": lambda: [
        calendar("2025-12-31", days=2),
        calendar("2025-12-31", days=3),
    ],
    "ending": lambda: [every(hours=2, end_date="2026-01-05"), every(hours=3)],
    "date": lambda: [once("2026-01-01 06:00:00"), every(hours=3)],
    "zones": lambda: [
        cron(hour="*/2", timezone="Europe/Berlin"),
        cron(hour="*/3", timezone="Asia/Tokyo"),
    ],
    "nested": lambda: [
        AndTrigger([every(hours=2), every(hours=3)]),
        OrTrigger([every(hours=4), every(hours=9)]),
    ],
    "other people's": lambda: [HourlyTrigger(), every(minutes=50)],
}


class TestAndTrigger(TriggerContract):
    state_version = 1
    takes_attributes = None

    @pytest.fixture(params=AND_CHILDREN)
    def trigger(self, request: pytest.FixtureRequest) -> AndTrigger:
        return AndTrigger(AND_CHILDREN[request.param]())


class TestCombinationsWithJitter(TriggerContract):
    state_version = 1
    takes_attributes = None
    is_random = "each time has a random delay"

    @pytest.fixture(params=[AndTrigger, OrTrigger])
    def trigger(self, request: pytest.FixtureRequest) -> Any:
        return request.param([every(hours=2), every(hours=3)], jitter=60)


EXAMPLES = [
    pytest.param(
        lambda: OrTrigger(
            [cron(day_of_week="mon", hour=2), cron(day_of_week="tue", hour=15)]
        ),
        "2026-01-05T02:00:00+00:00",
        "2026-01-05T02:00:01+00:00",
        "2026-01-06T15:00:00+00:00",
        id="or: the other weekday",
    ),
    pytest.param(
        lambda: OrTrigger([every(minutes=20), cron(minute=7)]),
        "2026-01-01T00:07:00+00:00",
        "2026-01-01T00:07:01+00:00",
        "2026-01-01T00:20:00+00:00",
        id="or: an interval keeps its own grid",
    ),
    pytest.param(
        lambda: OrTrigger([once("2026-01-01"), once("2026-02-01")]),
        "2026-01-01T00:00:00+00:00",
        "2026-01-01T00:00:01+00:00",
        "2026-02-01T00:00:00+00:00",
        id="or: the second date",
    ),
    pytest.param(
        lambda: OrTrigger([]),
        None,
        "2026-01-01T00:00:00+00:00",
        None,
        id="or: nothing",
    ),
    pytest.param(
        lambda: OrTrigger([calendar("1990-01-01", days=1, hour=4), cron(hour=5)]),
        "2026-01-01T04:00:00+00:00",
        "2026-01-01T04:00:00+00:00",
        "2026-01-01T05:00:00+00:00",
        id="or: a calendar that began long ago",
    ),
    pytest.param(
        lambda: OrTrigger(
            [every(hours=1, timezone=BERLIN), cron(minute=0, timezone=BERLIN)]
        ),
        "2026-10-25T02:00:00+02:00",
        "2026-10-25T02:00:00+02:00",
        "2026-10-25T02:00:00+01:00",
        id="or: the second pass of a repeated hour",
    ),
    pytest.param(
        lambda: AndTrigger([cron(day_of_week="sat,sun"), cron(day="*/3")]),
        None,
        "2026-01-01T00:00:00+00:00",
        "2026-01-04T00:00:00+00:00",
        id="and: weekend and every third day",
    ),
    pytest.param(
        lambda: AndTrigger([every(hours=2), every(hours=3)]),
        None,
        "2026-01-01T00:30:00+00:00",
        "2026-01-01T06:00:00+00:00",
        id="and: intervals",
    ),
    pytest.param(
        lambda: AndTrigger([cron(hour=5, end_date="2026-01-01"), cron(hour=5)]),
        None,
        "2026-01-01T00:00:00+00:00",
        None,
        id="and: one finished trigger finishes all",
    ),
    pytest.param(
        lambda: AndTrigger([cron(day_of_week="mon", hour=9), cron(hour=9)]),
        "2026-01-05T09:00:00+00:00",
        "2026-01-05T09:00:01+00:00",
        "2026-01-12T09:00:00+00:00",
        id="and: after the first time",
    ),
    pytest.param(
        lambda: AndTrigger([calendar(days=3), cron(day_of_week="sat,sun")]),
        None,
        "2026-01-01T00:00:00+00:00",
        "2026-01-04T00:00:00+00:00",
        id="and: calendar interval and weekend",
    ),
    pytest.param(
        lambda: AndTrigger([cron(minute="*"), cron(day_of_week="mon", hour=9)]),
        "2026-01-05T09:00:00+00:00",
        "2026-01-05T09:00:00+00:00",
        "2026-01-12T09:00:00+00:00",
        id="and: a dense and a rare trigger",
    ),
]


@pytest.mark.parametrize(("make", "previous", "now", "expected"), EXAMPLES)
def test_next_fire_time(
    make: Callable[[], BaseTrigger],
    previous: str | None,
    now: str,
    expected: str | None,
) -> None:
    following = make().get_next_fire_time(
        datetime.fromisoformat(previous) if previous else None,
        datetime.fromisoformat(now),
    )

    assert (following.isoformat() if following else None) == expected


class TestChildrenByName:
    @pytest.mark.parametrize(
        "child",
        [
            {"type": "cron", "hour": 5},
            ("cron", {"hour": 5}),
            ["cron", {"hour": 5}],
            {"type": "cron", "hour": 5, "timezone": "Europe/Berlin"},
        ],
    )
    def test_are_made_in_the_zone_of_the_combination(self, child: Any) -> None:
        trigger = OrTrigger([child], timezone=BERLIN)

        assert str(trigger) == "or[cron[hour='5']]"
        assert str(trigger.triggers[0].timezone) == "Europe/Berlin"  # type: ignore[attr-defined]  # of cron

    def test_may_have_their_own_zone(self) -> None:
        trigger = OrTrigger(
            [{"type": "cron", "hour": 5, "timezone": "Asia/Tokyo"}], timezone=BERLIN
        )

        assert str(trigger.triggers[0].timezone) == "Asia/Tokyo"  # type: ignore[attr-defined]  # of cron

    def test_may_be_combinations(self) -> None:
        description = {
            "type": "and",
            "triggers": [("cron", {"hour": 5}), {"type": "cron", "day": "last"}],
        }

        trigger = OrTrigger([once("2026-01-01"), description], timezone="Asia/Tokyo")

        assert str(trigger) == (
            "or[date[2026-01-01 00:00:00 UTC], and[cron[hour='5'], cron[day='last']]]"
        )
        nested = trigger.triggers[1].triggers[0]  # type: ignore[attr-defined]  # of combinations
        assert str(nested.timezone) == "Asia/Tokyo"

    def test_the_description_is_left_as_it_was(self) -> None:
        description = {"type": "cron", "hour": 5}

        OrTrigger([description], timezone="UTC")

        assert description == {"type": "cron", "hour": 5}

    def test_a_name_that_is_not_installed_is_reported(self) -> None:
        with pytest.raises(PluginNotFoundError, match="fortnight"):
            OrTrigger([{"type": "fortnight"}])

    @pytest.mark.parametrize(
        "child",
        [5, "cron", {"hour": 5}, ("cron",), ("cron", 5), ("cron", {}, {}), None],
    )
    def test_anything_else_is_refused_by_name(self, child: Any) -> None:
        with pytest.raises(TypeError) as caught:
            AndTrigger([child])

        assert f"not {child!r}" in str(caught.value)

    @pytest.mark.parametrize("triggers", ["cron", {"type": "cron"}, 5, None])
    def test_the_children_must_be_a_list(self, triggers: Any) -> None:
        with pytest.raises(TypeError, match="must be a list"):
            OrTrigger(triggers)


class TestArguments:
    def test_the_list_is_kept_as_given(self) -> None:
        triggers = [cron(hour=5)]

        assert AndTrigger(triggers).triggers is triggers

    @pytest.mark.parametrize("cls", [AndTrigger, OrTrigger])
    def test_a_zone_does_not_change_given_triggers(self, cls: Any) -> None:
        trigger = cls([cron(hour=5)], timezone="Asia/Tokyo")

        assert str(trigger.triggers[0].timezone) == "UTC"

    def test_and_needs_triggers(self) -> None:
        with pytest.raises(ValueError, match="at least one trigger"):
            AndTrigger([])


class TestReports:
    def test_or_without_triggers(self, caplog: pytest.LogCaptureFixture) -> None:
        OrTrigger([])

        (record,) = caplog.records
        assert record.name == "apscheduler.triggers.combining"
        assert record.levelno == logging.WARNING
        assert "or[] will never fire" in record.getMessage()

    def test_and_that_ends_before_its_triggers_agree(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        trigger = AndTrigger([once("2026-01-01 05:00:01"), every(hours=1)])

        assert trigger.get_next_fire_time(None, START) is None
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert "will never fire" in record.getMessage()

    def test_and_whose_triggers_never_agree_ends_with_an_error(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(combining, "SEARCH_LIMIT", 100)
        trigger = AndTrigger([every(hours=2), every("2026-01-01 01:00:00", hours=2)])

        assert trigger.get_next_fire_time(None, START) is None
        assert trigger.get_next_fire_time(START, START) is None
        assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
        assert "gives up" in caplog.text

    def test_a_finished_and_is_nothing_to_report(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        trigger = AndTrigger([every(hours=1, end_date="2026-01-01")])

        assert trigger.get_next_fire_time(START, START) is None
        assert caplog.records == []

    def test_and_of_triggers_with_jitter(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        AndTrigger([cron(hour=5, jitter=10), cron(hour=5)])

        assert "random delays" in caplog.text

    @pytest.mark.parametrize("cls", [AndTrigger, OrTrigger])
    def test_a_trigger_that_does_not_advance(self, cls: Any) -> None:
        trigger = cls([StuckTrigger(), every(hours=1)])

        with pytest.raises(TriggerError, match="does not advance"):
            trigger.get_next_fire_time(START, START)

    @pytest.mark.parametrize("cls", [AndTrigger, OrTrigger])
    def test_a_trigger_that_returns_naive_times(self, cls: Any) -> None:
        with pytest.raises(TriggerError, match="without a time zone"):
            cls([NaiveTrigger()]).get_next_fire_time(None, START)


class TestJitter:
    def test_is_added_to_the_common_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(random, "uniform", lambda low, high: high)
        trigger = AndTrigger([every(hours=2), every(hours=3)], jitter=60)

        first, second = trigger.preview(2, START + HOUR)

        assert first == START + 6 * HOUR + timedelta(seconds=60)
        assert second == START + 12 * HOUR + timedelta(seconds=60)

    def test_comes_on_top_of_that_of_the_children(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(random, "uniform", lambda low, high: high)
        trigger = OrTrigger([every(hours=2, jitter=30)], jitter=60)

        first, second = trigger.preview(2, START + HOUR)

        assert first == START + 2 * HOUR + timedelta(seconds=90)
        assert second == START + 4 * HOUR + timedelta(seconds=90)

    @pytest.mark.parametrize("cls", [AndTrigger, OrTrigger])
    def test_the_last_fire_time_has_no_delay(self, cls: Any) -> None:
        trigger = cls([every(hours=2), every(hours=2)], jitter=60)
        first = START + timedelta(seconds=30)

        last = trigger.get_last_fire_time(first, START + 1001 * HOUR)

        assert last == START + 1000 * HOUR


class TestState:
    def test_has_the_established_keys(self) -> None:
        child = once("2026-01-01")

        state = OrTrigger([AndTrigger([child], jitter=5)]).__getstate__()

        assert state == {
            "version": 1,
            "jitter": None,
            "triggers": [
                (
                    "apscheduler.triggers.combining:AndTrigger",
                    {
                        "version": 1,
                        "jitter": 5,
                        "triggers": [
                            (
                                "apscheduler.triggers.date:DateTrigger",
                                {"version": 1, "run_date": START},
                            )
                        ],
                    },
                )
            ],
        }

    def test_written_by_earlier_releases_can_be_read(self) -> None:
        hourly = {
            "version": 2,
            "timezone": UTC,
            "start_date": START,
            "end_date": None,
            "interval": HOUR,
        }
        trigger = OrTrigger.__new__(OrTrigger)

        trigger.__setstate__(
            {
                "version": 1,
                "jitter": None,
                "triggers": [
                    ("apscheduler.triggers.interval:IntervalTrigger", hourly),
                    ("apscheduler.triggers.date:DateTrigger", {"run_date": START}),
                ],
            }
        )

        assert str(trigger) == "or[interval[1:00:00], date[2026-01-01 00:00:00 UTC]]"
        assert trigger.preview(2, START) == [START, START + HOUR]

    def test_pairs_may_have_become_lists(self) -> None:
        trigger = OrTrigger.__new__(OrTrigger)
        reference = "apscheduler.triggers.combining:OrTrigger"
        inner = {"version": 1, "triggers": [], "jitter": 3}

        trigger.__setstate__(json.loads(json.dumps({"triggers": [[reference, inner]]})))

        assert repr(trigger) == "<OrTrigger([<OrTrigger([], jitter=3)>])>"

    def test_of_triggers_that_leave_it_to_python_is_restored(self) -> None:
        restored = OrTrigger.__new__(OrTrigger)

        token = state_resolver.set(lambda reference: PhaseTrigger)
        try:
            restored.__setstate__(OrTrigger([PhaseTrigger()]).__getstate__())
        finally:
            state_resolver.reset(token)

        (child,) = restored.triggers
        assert isinstance(child, PhaseTrigger)
        assert (child.color, child.size) == ("red", 3)

    @pytest.mark.parametrize("reference", ["os:system", "datetime:datetime"])
    def test_with_a_reference_to_no_trigger_is_refused(self, reference: str) -> None:
        trigger = OrTrigger.__new__(OrTrigger)

        with pytest.raises(ValueError, match=reference):
            trigger.__setstate__({"version": 1, "triggers": [(reference, {})]})


def test_describe_themselves() -> None:
    child = cron(hour=5)

    assert str(AndTrigger([child, child])) == "and[cron[hour='5'], cron[hour='5']]"
    assert repr(OrTrigger([child], jitter=60)) == f"<OrTrigger([{child!r}], jitter=60)>"
    assert repr(AndTrigger([child])) == f"<AndTrigger([{child!r}])>"


CHILDREN = st.lists(
    st.tuples(st.integers(1, 30), st.integers(0, 59)), min_size=1, max_size=4
)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"])
# Clock changes of both zones, in both directions, are among the hours looked at.
BEGINNINGS = st.sampled_from(
    [date(2026, 3, 28), date(2026, 4, 4), date(2026, 10, 3), date(2026, 10, 24)]
)


@given(
    CHILDREN, st.lists(ZONES, min_size=4, max_size=4), BEGINNINGS, st.integers(0, 99)
)
def test_agree_with_the_sets_of_their_triggers_times(
    children: list[tuple[int, int]], zones: list[str], beginning: date, skip: int
) -> None:
    start = datetime(beginning.year, beginning.month, beginning.day, tzinfo=UTC)
    triggers, sets = [], []
    for (minutes, offset), zone in zip(children, zones, strict=False):
        first = start + timedelta(minutes=offset)
        triggers.append(
            IntervalTrigger(minutes=minutes, start_date=first, timezone=zone)
        )
        step = timedelta(minutes=minutes)
        sets.append({first + k * step for k in range(48 * 60 // minutes)})
    horizon = start + timedelta(hours=47)

    for trigger, expected in [
        (OrTrigger(triggers), set.union(*sets)),
        (AndTrigger(triggers), set.intersection(*sets)),
    ]:
        times = sorted(time for time in expected if time < horizon)
        if len(times) < 2:
            continue
        index = min(skip, len(times) - 2)
        now = times[index + 1] - timedelta(microseconds=1)
        berlin = times[index].astimezone(BERLIN)
        following = trigger.get_next_fire_time(berlin, now)
        assert following is not None
        assert following.astimezone(UTC) == times[index + 1]
        first_time = trigger.get_next_fire_time(None, now)
        assert first_time is not None
        assert first_time.astimezone(UTC) == times[index + 1]
        last = trigger.get_last_fire_time(times[0], now)
        assert last.astimezone(UTC) == times[index]
        assert trigger.count_fire_times(times[0], times[index]) == index + 1
