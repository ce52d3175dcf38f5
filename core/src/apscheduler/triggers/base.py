"""What every trigger promises: a pure function from (previous fire time, now) to the next fire time."""

import random
from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from apscheduler.util import convert_to_datetime, datetime_utc_add

# How many fire times the walking defaults below look at before they stop and say how far they came.
WALK_LIMIT = 10_000

ONE_MICROSECOND = timedelta(microseconds=1)


class TriggerError(ValueError):
    """A trigger that cannot be scheduled: it does not advance, or returns something that is no time."""


class BaseTrigger(metaclass=ABCMeta):
    """Decides when a job runs next.

    Triggers hold no state but their configuration. To be kept in a persistent store they must be picklable.
    """

    __slots__ = ()

    @abstractmethod
    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        """Return the fire time that follows, or None if there is none.

        :param previous_fire_time: the scheduled time of the last fire, jitter included; None for a job that is
            scheduled for the first time, rescheduled or resumed
        :param now: the current time, with a zone
        :return: an aware datetime, later than ``previous_fire_time``; it may lie in the past
        """

    def get_last_fire_time(self, first: datetime, now: datetime) -> datetime:
        """Return the last fire time that is not later than ``now``, reached from the fire time ``first``.

        This is what a coalesced backlog jumps to. The default walks, at most ``WALK_LIMIT`` steps, and returns how
        far it came: the caller sees from the next fire time whether there is more, and goes on from there.
        Triggers that can compute the answer should. With jitter, the answer may be a fire time without its delay.

        :param first: a fire time of this trigger, not later than ``now``
        :raises TriggerError: if the trigger does not advance
        """
        last, last_instant, end = first, first.astimezone(UTC), now.astimezone(UTC)
        for _ in range(WALK_LIMIT):
            following = self._get_following(last, now)
            if following is None:
                break
            instant = following.astimezone(UTC)
            if instant > end:
                break
            if instant <= last_instant:
                raise self._not_advancing(last, following)
            last, last_instant = following, instant
        return last

    def count_fire_times(self, first: datetime, last: datetime) -> int | None:
        """Return how many fire times there are from ``first`` to ``last``, both of them fire times and included.

        None means that they are too many to be counted by walking. Triggers that can compute the answer should.

        :raises TriggerError: if the trigger does not advance
        """
        count, current, end = 1, first, last.astimezone(UTC)
        instant = first.astimezone(UTC)
        while instant < end:
            following = self._get_following(current, last)
            if following is None:
                break
            following_instant = following.astimezone(UTC)
            if following_instant > end:
                break
            if following_instant <= instant:
                raise self._not_advancing(current, following)
            count += 1
            if count > WALK_LIMIT:
                return None
            current, instant = following, following_instant
        return count

    def preview(self, count: int, now: datetime | None = None) -> list[datetime]:
        """Return up to ``count`` fire times as a new job would get them at ``now`` (default: the current time).

        :raises TriggerError: if the trigger does not advance
        """
        now = datetime.now(UTC) if now is None else now
        times: list[datetime] = []
        while len(times) < count:
            previous = times[-1] if times else None
            following = self._get_following(previous, previous or now)
            if following is None:
                break
            if previous and following.astimezone(UTC) <= previous.astimezone(UTC):
                raise self._not_advancing(previous, following)
            times.append(following)
        return times

    def _get_following(
        self, previous: datetime | None, now: datetime
    ) -> datetime | None:
        following = self.get_next_fire_time(previous, now)
        return None if following is None else _as_aware(following, previous or now)

    def _not_advancing(self, previous: datetime, following: datetime) -> TriggerError:
        return TriggerError(
            f"{self} does not advance: after {previous} it returned {following}; a trigger must return a time later "
            "than the previous fire time, or None"
        )

    def __str__(self) -> str:
        """Return what listings and logs call it: the name of the class, for a trigger that has no text of its own."""
        has_own = type(self).__repr__ is not object.__repr__
        return repr(self) if has_own else type(self).__name__

    def explain(self) -> str:
        """Return the schedule in words, for people; the default is its text."""
        return str(self)

    def explain_why_never(self, now: datetime) -> str | None:
        """Return why the schedule has no fire time from ``now`` on, None if that cannot be told."""
        end = getattr(self, "end_date", None)
        if isinstance(end, datetime) and end.timestamp() < now.timestamp():
            return f"its end, {end:%Y-%m-%d %H:%M:%S %Z}, is past"
        return None

    def starts_in_the_past(self) -> bool:
        """Return whether the schedule begins where it was told to, even if that is long past.

        The scheduler then goes on to the first fire time from now on when a job is added, rescheduled or resumed.
        """
        return False

    def declaration(self) -> object:
        """Return what this trigger was declared with, in a form whose ``repr`` is the same in every process.

        Two triggers with equal declarations are the same schedule to a program that declares its jobs at each start.
        A trigger whose start depends on when it was made says so by ``_has_start = False``: its start is no part of
        the declaration.
        """
        state: Any = self.__getstate__()
        if isinstance(state, dict) and not getattr(self, "_has_start", True):
            state = {key: value for key, value in state.items() if key != "start_date"}
        cls = type(self)
        return f"{cls.__module__}:{cls.__qualname__}", state

    def to_plain(self) -> Any:
        """Return the state in a form for stores that hold data only: no objects but times, zones and triggers.

        The default is the state that is pickled. Triggers with other objects in it replace both methods.
        """
        return self.__getstate__()

    @classmethod
    def from_plain(cls, state: Any) -> Self:
        """Return the trigger that :meth:`to_plain` has returned this state of."""
        trigger = cls.__new__(cls)
        set_state(trigger, state)
        return trigger

    def _apply_jitter(
        self, next_fire_time: datetime | None, jitter: float | None, now: datetime
    ) -> datetime | None:
        """Return the time delayed by a random 0 to ``jitter`` seconds."""
        if next_fire_time is None or not jitter:
            return next_fire_time
        delay = timedelta(seconds=random.uniform(0, jitter))
        try:
            # Elapsed time: adding to the wall clock would lose the second pass through a repeated hour.
            return datetime_utc_add(next_fire_time, delay)
        except OverflowError:
            return next_fire_time


# How triggers of these classes, not of those derived from them, are copied so that the copy can be changed. Job stores
# copy what they have read for whoever asks for a job; triggers of other classes are read again each time.
COPIERS: dict[type[BaseTrigger], Callable[[Any], BaseTrigger]] = {}


def set_state(trigger: BaseTrigger, state: Any) -> None:
    """Give a trigger the state that its ``__getstate__`` has returned."""
    setter = getattr(trigger, "__setstate__", None)
    if setter is not None:
        setter(state)
        return
    # Other people's triggers may rely on Python: a dictionary, or one together with the values of slots.
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    for values in (attributes, slots):
        for name, value in (values or {}).items():
            setattr(trigger, name, value)


def _as_aware(value: datetime, like: datetime) -> datetime:
    """Return a fire time as an aware datetime; other people's triggers may return naive ones or date strings."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value
    try:
        return convert_to_datetime(value, like.tzinfo, "The fire time")
    except (TypeError, ValueError) as exc:
        raise TriggerError(str(exc)) from exc
