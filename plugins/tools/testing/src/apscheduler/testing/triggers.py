"""What every trigger promises, as tests to subclass.

.. code-block:: python

    class TestNoonTrigger(TriggerContract):
        @pytest.fixture
        def trigger(self) -> NoonTrigger:
            return NoonTrigger()

The fixture ``trigger`` returns a trigger that fires at least once when asked at ``now``.
"""

import copy
import itertools
import pickle
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, ClassVar

import pytest

from apscheduler.testing.contracts import Contract, only_if
from apscheduler.triggers.base import COPIERS, BaseTrigger

# How many fire times are looked at.
STEPS = 40

ONE_MICROSECOND = timedelta(microseconds=1)
ELSEWHERE = timezone(timedelta(hours=-9, minutes=-30), "elsewhere")


def walk(trigger: BaseTrigger, now: datetime, steps: int = STEPS) -> list[datetime]:
    """Return up to ``steps`` fire times, asking for each of them just after the one before."""
    times: list[datetime] = []
    following = trigger.get_next_fire_time(None, now)
    while following is not None and len(times) < steps:
        times.append(following)
        following = trigger.get_next_fire_time(following, following + ONE_MICROSECOND)
    return times


def instants(times: list[datetime]) -> list[datetime]:
    """Return the times in UTC, where comparing means comparing instants."""
    return [time.astimezone(UTC) for time in times]


def _copy_for_store(trigger: BaseTrigger) -> BaseTrigger:
    """Return what stores copy for whoever asks for a job that they have read; where they read again, the trigger."""
    copier = COPIERS.get(type(trigger))
    return trigger if copier is None else copier(trigger)


class TriggerContract(Contract):
    """Subclass this, give it a fixture ``trigger``, and say what it cannot promise."""

    now: ClassVar[datetime] = datetime(2026, 1, 1, tzinfo=UTC)
    """When the trigger is asked for its first fire time."""

    state_version: ClassVar[int | None] = None
    """The version that the trigger writes into its state; None if it does not write one."""

    is_random: ClassVar[str | None] = None
    """Why the trigger does not return the same time twice, such as jitter."""

    cannot_be_pickled: ClassVar[str | None] = None
    """Why the trigger cannot be kept in a persistent store."""

    takes_attributes: ClassVar[str | None] = "classes without __slots__ do"
    """Why other attributes can be set on the trigger; None promises that they cannot."""

    def test_fires_at_aware_times(self, trigger: BaseTrigger) -> None:
        times = walk(trigger, self.now)

        assert times
        assert [time for time in times if time.utcoffset() is None] == []

    def test_fires_at_times_that_exist_on_the_clocks(
        self, trigger: BaseTrigger
    ) -> None:
        for time in walk(trigger, self.now):
            assert time.astimezone(UTC).astimezone(time.tzinfo).replace(
                tzinfo=None
            ) == time.replace(tzinfo=None)

    def test_each_fire_time_is_later_than_the_one_before(
        self, trigger: BaseTrigger
    ) -> None:
        times = instants(walk(trigger, self.now))

        assert times == sorted(set(times))

    def test_advances_also_when_asked_at_the_previous_time_itself(
        self, trigger: BaseTrigger
    ) -> None:
        for time in walk(trigger, self.now):
            following = trigger.get_next_fire_time(time, time)
            assert following is None or following.astimezone(UTC) > time.astimezone(UTC)

    @only_if(lambda suite: not suite.is_random)
    def test_the_answer_depends_on_the_question_alone(
        self, trigger: BaseTrigger
    ) -> None:
        first = walk(trigger, self.now)

        again = walk(trigger, self.now)

        assert instants(again) == instants(first)

    @only_if(lambda suite: not suite.is_random)
    def test_the_zone_of_the_question_does_not_matter(
        self, trigger: BaseTrigger
    ) -> None:
        times = walk(trigger, self.now)

        abroad = trigger.get_next_fire_time(None, self.now.astimezone(ELSEWHERE))
        assert abroad is not None
        assert abroad.astimezone(UTC) == times[0].astimezone(UTC)
        for time, following in itertools.pairwise(times):
            asked = time.astimezone(ELSEWHERE)
            answer = trigger.get_next_fire_time(asked, asked)
            assert answer is not None
            assert answer.astimezone(UTC) == following.astimezone(UTC)

    def test_a_finished_schedule_stays_finished(self, trigger: BaseTrigger) -> None:
        times = walk(trigger, self.now)
        is_finished = len(times) < STEPS

        following = trigger.get_next_fire_time(times[-1], times[-1])
        assert (following is None) == is_finished
        if is_finished:
            much_later = times[-1] + timedelta(days=10_000)
            assert trigger.get_next_fire_time(times[-1], much_later) is None

    @only_if(lambda suite: not suite.is_random)
    def test_the_last_fire_time_is_the_one_found_by_walking(
        self, trigger: BaseTrigger
    ) -> None:
        times = walk(trigger, self.now)
        first = times[0]

        for time, following in zip(times, [*times[1:], None], strict=True):
            exact = time.astimezone(UTC)
            assert trigger.get_last_fire_time(first, exact).astimezone(UTC) == exact
            if following is not None:
                before = following.astimezone(UTC) - ONE_MICROSECOND
                found = trigger.get_last_fire_time(first, before)
                assert found.astimezone(UTC) == exact

    @only_if(lambda suite: not suite.is_random)
    def test_the_last_fire_time_can_be_reached_from_any_fire_time(
        self, trigger: BaseTrigger
    ) -> None:
        times = walk(trigger, self.now)

        for time in times:
            found = trigger.get_last_fire_time(time, times[-1])
            assert found.astimezone(UTC) == times[-1].astimezone(UTC)

    def test_the_last_fire_time_is_in_the_past_and_not_before_the_first(
        self, trigger: BaseTrigger
    ) -> None:
        times = walk(trigger, self.now)

        for time in times:
            found = trigger.get_last_fire_time(times[0], time).astimezone(UTC)
            assert times[0].astimezone(UTC) <= found <= time.astimezone(UTC)

    @only_if(lambda suite: not suite.is_random)
    def test_the_last_fire_time_after_the_end_is_the_last_of_all(
        self, trigger: BaseTrigger
    ) -> None:
        times = walk(trigger, self.now)

        asked = times[-1]
        if len(times) < STEPS:  # there is an end
            asked += timedelta(days=10_000)
        found = trigger.get_last_fire_time(times[0], asked)

        assert found.astimezone(UTC) == times[-1].astimezone(UTC)

    @only_if(lambda suite: not suite.is_random)
    def test_the_schedule_goes_on_after_the_last_fire_time(
        self, trigger: BaseTrigger
    ) -> None:
        times = walk(trigger, self.now)

        for time, following in itertools.pairwise(times):
            last = trigger.get_last_fire_time(times[0], time)
            answer = trigger.get_next_fire_time(last, time)
            assert answer is not None
            assert answer.astimezone(UTC) == following.astimezone(UTC)

    @only_if(lambda suite: not suite.is_random)
    def test_counts_the_fire_times_found_by_walking(self, trigger: BaseTrigger) -> None:
        times = walk(trigger, self.now)

        for index, time in enumerate(times):
            assert trigger.count_fire_times(times[0], time) == index + 1
            assert trigger.count_fire_times(time, times[-1]) == len(times) - index

    @only_if(lambda suite: not suite.is_random)
    def test_previews_what_a_new_job_would_get(self, trigger: BaseTrigger) -> None:
        times = walk(trigger, self.now, 10)

        assert instants(trigger.preview(10, self.now)) == instants(times)
        assert instants(trigger.preview(1, self.now)) == instants(times[:1])
        assert trigger.preview(0, self.now) == []

    @only_if(lambda suite: not suite.cannot_be_pickled)
    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_is_the_same_after_pickling(
        self, trigger: BaseTrigger, protocol: int
    ) -> None:
        restored = pickle.loads(pickle.dumps(trigger, protocol))

        self.assert_same(restored, trigger)
        self.assert_same(_copy_for_store(restored), trigger)

    def test_is_the_same_after_copying(self, trigger: BaseTrigger) -> None:
        self.assert_same(copy.copy(trigger), trigger)
        self.assert_same(copy.deepcopy(trigger), trigger)
        self.assert_same(_copy_for_store(trigger), trigger)

    @only_if(lambda suite: not suite.cannot_be_pickled)
    def test_is_the_same_after_restoring_its_state(self, trigger: BaseTrigger) -> None:
        if not hasattr(trigger, "__setstate__"):
            pytest.skip("Python restores this trigger")

        restored = type(trigger).__new__(type(trigger))
        restored.__setstate__(trigger.__getstate__())

        self.assert_same(restored, trigger)

    def test_writes_its_version(self, trigger: BaseTrigger) -> None:
        state = self.get_state(trigger)

        assert state["version"] == self.state_version

    def test_refuses_the_state_of_a_later_version(self, trigger: BaseTrigger) -> None:
        state = self.get_state(trigger)
        state["version"] += 1

        with pytest.raises(ValueError, match=str(state["version"])):
            trigger.__setstate__(state)  # type: ignore[attr-defined]  # promised with the version

    def test_takes_a_state_without_version_for_the_first_one(
        self, trigger: BaseTrigger
    ) -> None:
        state = self.get_state(trigger)
        del state["version"]

        restored = type(trigger).__new__(type(trigger))
        restored.__setstate__(state)  # type: ignore[attr-defined]  # promised with the version

        self.assert_same(restored, trigger)

    @only_if(lambda suite: not suite.takes_attributes)
    def test_takes_no_other_attributes(self, trigger: BaseTrigger) -> None:
        with pytest.raises(AttributeError):
            trigger.something_else = 1  # type: ignore[attr-defined]  # that is the point

    def get_state(self, trigger: BaseTrigger) -> dict[str, Any]:
        if self.state_version is None:
            pytest.skip("this trigger writes no version")
        state = trigger.__getstate__()
        assert isinstance(state, dict)
        return state

    def assert_same(self, restored: BaseTrigger, trigger: BaseTrigger) -> None:
        """Check that both are triggers of one kind with the same schedule."""
        assert type(restored) is type(trigger)
        if type(trigger).__repr__ is not object.__repr__:
            assert repr(restored) == repr(trigger)
            assert str(restored) == str(trigger)
        if not self.is_random:
            assert instants(walk(restored, self.now)) == instants(
                walk(trigger, self.now)
            )
