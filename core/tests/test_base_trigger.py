import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from apscheduler.triggers.base import WALK_LIMIT, BaseTrigger, TriggerError

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Stepping(BaseTrigger):
    """Fires every ``step`` of elapsed time up to ``end``, in the zone of the previous time."""

    def __init__(self, step: timedelta = HOUR, end: datetime | None = None) -> None:
        self.step = step
        self.end = end

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        if previous_fire_time is None:
            return now
        following = previous_fire_time.astimezone(UTC) + self.step
        if self.end and following > self.end:
            return None
        return following.astimezone(previous_fire_time.tzinfo)

    def __str__(self) -> str:
        return "stepping"


class Answering(BaseTrigger):
    """Returns whatever it is told, as other people's triggers may."""

    def __init__(self, answer: Callable[[datetime | None], Any]) -> None:
        self.answer = answer

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> Any:
        return self.answer(previous_fire_time)


def test_a_trigger_must_say_when_it_fires_next() -> None:
    class Silent(BaseTrigger):
        pass

    with pytest.raises(TypeError, match="get_next_fire_time"):
        Silent()  # type: ignore[abstract]  # that is the point


def test_triggers_that_declare_slots_take_no_other_attributes() -> None:
    class Slotted(BaseTrigger):
        __slots__ = ()

        def get_next_fire_time(
            self, previous_fire_time: datetime | None, now: datetime
        ) -> datetime | None:
            return None

    with pytest.raises(AttributeError):
        Slotted().color = "red"  # type: ignore[attr-defined]  # that is the point


class TestLastFireTime:
    @pytest.mark.parametrize(
        ("elapsed", "expected"),
        [
            (timedelta(0), 0),
            (timedelta(minutes=59), 0),
            (HOUR, 1),
            (timedelta(hours=100, minutes=1), 100),
        ],
    )
    def test_is_the_last_one_not_later_than_now(
        self, elapsed: timedelta, expected: int
    ) -> None:
        last = Stepping().get_last_fire_time(START, START + elapsed)

        assert last == START + expected * HOUR

    def test_stops_at_the_end_of_the_schedule(self) -> None:
        trigger = Stepping(end=START + 2 * HOUR)

        last = trigger.get_last_fire_time(START, START + 50 * HOUR)

        assert last == START + 2 * HOUR

    def test_is_left_to_the_caller_beyond_the_walk_limit(self) -> None:
        trigger = Stepping(timedelta(seconds=1))

        last = trigger.get_last_fire_time(START, START + timedelta(days=1))

        assert last == START + timedelta(seconds=WALK_LIMIT)

    def test_is_found_through_a_repeated_hour(self) -> None:
        first = datetime(2026, 10, 25, 2, 0, tzinfo=BERLIN)
        now = datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN)

        last = Stepping(timedelta(minutes=30)).get_last_fire_time(first, now)

        assert last.isoformat() == "2026-10-25T02:30:00+01:00"

    @pytest.mark.parametrize("step", [timedelta(0), -HOUR])
    def test_a_trigger_that_does_not_advance_is_reported(self, step: timedelta) -> None:
        with pytest.raises(TriggerError, match="stepping does not advance"):
            Stepping(step).get_last_fire_time(START, START + HOUR)

    def test_a_naive_answer_counts_in_the_zone_of_the_previous_time(self) -> None:
        first = datetime(2026, 1, 1, 12, tzinfo=BERLIN)
        answers = iter([datetime(2026, 1, 1, 13), "2026-01-01 14:00:00", None])
        trigger = Answering(lambda previous: next(answers))

        last = trigger.get_last_fire_time(first, first + 10 * HOUR)

        assert last.isoformat() == "2026-01-01T14:00:00+01:00"

    @pytest.mark.parametrize("answer", [5, "soon"])
    def test_an_answer_that_is_no_time_is_reported(self, answer: Any) -> None:
        trigger = Answering(lambda previous: answer)

        with pytest.raises(TriggerError, match=repr(answer)):
            trigger.get_last_fire_time(START, START + HOUR)


class TestCount:
    @pytest.mark.parametrize("steps", [0, 1, 24, 1000])
    def test_includes_both_ends(self, steps: int) -> None:
        assert Stepping().count_fire_times(START, START + steps * HOUR) == steps + 1

    def test_stops_where_the_schedule_ends(self) -> None:
        trigger = Stepping(end=START + 2 * HOUR)

        assert trigger.count_fire_times(START, START + 10 * HOUR) == 3

    def test_counts_both_passes_through_a_repeated_hour(self) -> None:
        first = datetime(2026, 10, 25, 1, 0, tzinfo=BERLIN)
        last = datetime(2026, 10, 25, 3, 0, tzinfo=BERLIN)

        assert Stepping().count_fire_times(first, last) == 4

    def test_is_unknown_when_there_are_too_many(self) -> None:
        trigger = Stepping(timedelta(seconds=1))
        limit = timedelta(seconds=WALK_LIMIT)

        assert trigger.count_fire_times(START, START + limit - HOUR) is not None
        assert trigger.count_fire_times(START, START + limit) is None

    def test_a_trigger_that_does_not_advance_is_reported(self) -> None:
        with pytest.raises(TriggerError, match="does not advance"):
            Stepping(-HOUR).count_fire_times(START, START + HOUR)


class TestPreview:
    def test_lists_what_a_new_job_would_get(self) -> None:
        assert Stepping().preview(3, START) == [START, START + HOUR, START + 2 * HOUR]

    def test_ends_with_the_schedule(self) -> None:
        assert len(Stepping(end=START + HOUR).preview(5, START)) == 2
        assert Answering(lambda previous: None).preview(5, START) == []

    def test_starts_now_when_no_time_is_given(self) -> None:
        before = datetime.now(UTC)

        (first,) = Stepping().preview(1)

        assert before <= first <= datetime.now(UTC)

    def test_a_trigger_that_does_not_advance_is_reported(self) -> None:
        with pytest.raises(TriggerError, match="does not advance"):
            Stepping(timedelta(0)).preview(2, START)


class TestJitter:
    @pytest.mark.parametrize("jitter", [None, 0, 0.0])
    def test_without_jitter_the_time_is_unchanged(self, jitter: float | None) -> None:
        assert Stepping()._apply_jitter(START, jitter, START) is START

    def test_without_a_time_there_is_nothing_to_delay(self) -> None:
        assert Stepping()._apply_jitter(None, 10, START) is None

    def test_delays_uniformly_from_zero_to_the_limit(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        drawn = []

        def uniform(low: float, high: float) -> float:
            drawn.append((low, high))
            return 2.5

        monkeypatch.setattr(random, "uniform", uniform)

        delayed = Stepping()._apply_jitter(START, 10, START)

        assert drawn == [(0, 10)]
        assert delayed == START + timedelta(seconds=2.5)

    @pytest.mark.parametrize(
        ("time", "expected"),
        [
            (
                datetime(2026, 3, 29, 1, 50, tzinfo=BERLIN),
                "2026-03-29T03:20:00+02:00",
            ),
            (
                datetime(2026, 10, 25, 2, 10, tzinfo=BERLIN),
                "2026-10-25T02:40:00+02:00",
            ),
            (
                datetime(2026, 10, 25, 2, 10, fold=1, tzinfo=BERLIN),
                "2026-10-25T02:40:00+01:00",
            ),
        ],
    )
    def test_is_elapsed_time(
        self, monkeypatch: pytest.MonkeyPatch, time: datetime, expected: str
    ) -> None:
        monkeypatch.setattr(random, "uniform", lambda low, high: 1800)

        delayed = Stepping()._apply_jitter(time, 3600, time)

        assert delayed is not None
        assert delayed.isoformat() == expected

    def test_does_not_reach_beyond_the_last_year(self) -> None:
        end = datetime.max.replace(tzinfo=UTC)

        assert Stepping()._apply_jitter(end, 10, START) == end


class Plain(BaseTrigger):
    def get_next_fire_time(self, previous_fire_time: Any, now: datetime) -> None:
        """Return None."""


class Represented(Plain):
    def __repr__(self) -> str:
        return "<represented>"


class Told(Represented):
    def __str__(self) -> str:
        return "told"


@pytest.mark.parametrize(
    "trigger, text",
    [(Plain(), "Plain"), (Represented(), "<represented>"), (Told(), "told")],
)
def test_a_trigger_without_a_text_of_its_own_is_called_by_its_class(
    trigger: BaseTrigger, text: str
) -> None:
    assert str(trigger) == text
    assert trigger.explain() == text
