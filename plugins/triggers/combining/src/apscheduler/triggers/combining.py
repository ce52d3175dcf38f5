"""Triggers made of other triggers: fire when all agree, or whenever any of them does.

The children are asked on their own grids: what another child returned is never taken for their previous fire time.
"""

import inspect
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, ClassVar, Self, cast

from apscheduler.callables import state_resolver
from apscheduler.triggers.base import (
    ONE_MICROSECOND,
    WALK_LIMIT,
    BaseTrigger,
    TriggerError,
    set_state,
)
from apscheduler.util import obj_to_ref

STATE_VERSION = 1

# How many times an "and" asks its children for another time before it gives up.
SEARCH_LIMIT = 10_000

# How many jumps past fire times of long ago a child is allowed. One is enough if it computes its last fire time.
JUMP_LIMIT = 100

Child = BaseTrigger | Mapping[str, Any] | Sequence[Any]

logger = logging.getLogger(__name__)


class BaseCombiningTrigger(BaseTrigger):
    """What both combinations share: their children, jitter, state and text.

    :param triggers: the children: triggers, or ``{"type": "cron", "hour": 5}`` or ``("cron", {"hour": 5})`` for
        triggers by name
    :param jitter: delay each time by a random 0 to ``jitter`` seconds, on top of the children's own jitter
    :param timezone: given to the children that are named and do not say theirs
    :raises LookupError: if there is no trigger of a name
    """

    __slots__ = ("jitter", "triggers")

    alias: ClassVar[str]
    triggers: Sequence[BaseTrigger]

    def __init__(
        self,
        triggers: Sequence[Child],
        jitter: float | None = None,
        timezone: str | tzinfo | None = None,
    ) -> None:
        if isinstance(triggers, (str, Mapping)) or not isinstance(triggers, Sequence):
            raise TypeError(
                f"triggers must be a list of triggers or their descriptions, not {triggers!r}"
            )
        if all(isinstance(child, BaseTrigger) for child in triggers):
            self.triggers = cast("Sequence[BaseTrigger]", triggers)
        else:
            self.triggers = [_make_child(child, timezone) for child in triggers]
        self.jitter = jitter

    def declaration(self) -> object:
        children = [child.declaration() for child in self.triggers]
        return type(self).__qualname__, children, self.jitter

    def __getstate__(self) -> dict[str, Any]:
        return {
            "version": STATE_VERSION,
            "triggers": [
                (obj_to_ref(type(child)), child.__getstate__())
                for child in self.triggers
            ],
            "jitter": self.jitter,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        version = state.get("version", 1)
        if version > STATE_VERSION:
            raise ValueError(
                f"Cannot restore an {self.alias!r} trigger of version {version!r}: this release reads versions up to "
                f"{STATE_VERSION}; update apscheduler-trigger-combining"
            )
        self.triggers = [_restore_child(*pair) for pair in state["triggers"]]
        self.jitter = state.get("jitter")

    def explain(self) -> str:
        together = (
            "whenever one of these does"
            if self.alias == "or"
            else "when all of these do at once"
        )
        texts = "; ".join(
            f"({i}) {child.explain()}" for i, child in enumerate(self.triggers, 1)
        )
        return f"{together}: {texts}"

    def explain_why_never(self, now: datetime) -> str | None:
        reasons = [child.explain_why_never(now) for child in self.triggers]
        texts = [f"({i}) {reason}" for i, reason in enumerate(reasons, 1) if reason]
        if not texts:
            return (
                "its parts never fire at the same time" if self.alias == "and" else None
            )
        return "; ".join(texts)

    def to_plain(self) -> dict[str, Any]:
        return {
            "version": STATE_VERSION,
            "triggers": list(self.triggers),
            "jitter": self.jitter,
        }

    @classmethod
    def from_plain(cls, state: dict[str, Any]) -> Self:
        triggers = state["triggers"]
        if not all(isinstance(child, BaseTrigger) for child in triggers):
            raise ValueError(
                f"The triggers of a combination must be triggers: {triggers!r}"
            )
        trigger = cls.__new__(cls)
        trigger.__setstate__({**state, "triggers": ()})
        trigger.triggers = triggers
        return trigger

    def __str__(self) -> str:
        return f"{self.alias}[{', '.join(map(str, self.triggers))}]"

    def __repr__(self) -> str:
        jitter = f", jitter={self.jitter}" if self.jitter else ""
        return f"<{type(self).__name__}({self.triggers!r}{jitter})>"


class OrTrigger(BaseCombiningTrigger):
    """Fires whenever any of its triggers does, until all of them are finished."""

    __slots__ = ()

    alias = "or"

    def __init__(
        self,
        triggers: Sequence[Child],
        jitter: float | None = None,
        timezone: str | tzinfo | None = None,
    ) -> None:
        super().__init__(triggers, jitter, timezone)
        if not self.triggers:
            logger.warning("%s will never fire: it has no triggers", self)

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        """Return the earliest of the children's next times."""
        earliest: datetime | None = None
        earliest_instant: datetime | None = None
        for child in self.triggers:
            following = _start(child, previous_fire_time, now)
            if following is None:
                continue
            instant = following.astimezone(UTC)
            if earliest_instant is None or instant < earliest_instant:
                earliest, earliest_instant = following, instant
        return self._apply_jitter(earliest, self.jitter, now)

    def starts_in_the_past(self) -> bool:
        return any(child.starts_in_the_past() for child in self.triggers)

    def get_last_fire_time(self, first: datetime, now: datetime) -> datetime:
        """Return the latest of the children's last fire times; with jitter, without its delay."""
        last, end = first, now.astimezone(UTC)
        for child in self.triggers:
            start = _get_next_after(child, first)
            if start is None or start.astimezone(UTC) > end:
                continue
            candidate = child.get_last_fire_time(start, now)
            if candidate.astimezone(UTC) > last.astimezone(UTC):
                last = candidate
        return last

    def count_fire_times(self, first: datetime, last: datetime) -> int | None:
        """Return the number of fire times; several children at the same time count once."""
        instants: set[datetime] = set()
        end = last.astimezone(UTC)
        for child in self.triggers:
            following = _get_next_after(child, first)
            while following is not None and following.astimezone(UTC) <= end:
                instants.add(following.astimezone(UTC))
                if len(instants) >= WALK_LIMIT:
                    return None
                following = _advance(child, following)
        return 1 + len(instants)


class AndTrigger(BaseCombiningTrigger):
    """Fires when all of its triggers do, at exactly the same time, until one of them is finished.

    :raises ValueError: if there are no triggers
    """

    __slots__ = ()

    alias = "and"

    def __init__(
        self,
        triggers: Sequence[Child],
        jitter: float | None = None,
        timezone: str | tzinfo | None = None,
    ) -> None:
        super().__init__(triggers, jitter, timezone)
        self._check()
        if any(getattr(child, "jitter", None) for child in self.triggers):
            logger.warning(
                "%s will hardly ever fire: the random delays of its triggers do not agree; give jitter to the "
                "combination instead",
                self,
            )

    def _check(self) -> None:
        if not self.triggers:
            raise ValueError(
                "An 'and' trigger needs at least one trigger, but triggers is empty"
            )

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        """Return the earliest time on which all children agree.

        :raises ValueError: if there are no children
        """
        self._check()
        times: list[datetime] = []
        for child in self.triggers:
            following = _start(child, previous_fire_time, now)
            if following is None:
                self._report_end(child, previous_fire_time)
                return None
            times.append(following)

        for _ in range(SEARCH_LIMIT):
            instants = [time.astimezone(UTC) for time in times]
            latest = max(instants)
            earliest = min(instants)
            if earliest == latest:
                return self._apply_jitter(times[0], self.jitter, now)
            index = instants.index(earliest)
            child = self.triggers[index]
            following = _catch_up(child, times[index], latest)
            if following is None:
                self._report_end(child, previous_fire_time)
                return None
            times[index] = following

        logger.error(
            "%s found no common time of its triggers from %s to %s and gives up: its schedule ends here",
            self,
            previous_fire_time or now,
            latest,
        )
        return None

    def _report_end(
        self, child: BaseTrigger, previous_fire_time: datetime | None
    ) -> None:
        if previous_fire_time is None:
            logger.warning(
                "%s will never fire: %s is finished before all triggers agree on a time",
                self,
                child,
            )

    def get_last_fire_time(self, first: datetime, now: datetime) -> datetime:
        """Return the last time on which all children agree; with jitter, without its delay."""
        if not all(_computes_last(child) for child in self.triggers):
            return super().get_last_fire_time(first, now)
        starts: list[datetime] = []
        for child in self.triggers:
            start = _get_next_after(child, first)
            if start is None:
                return first
            starts.append(start)

        beginning = max(start.astimezone(UTC) for start in starts)
        limit = now.astimezone(UTC)
        for _ in range(SEARCH_LIMIT):
            if limit < beginning:
                return first
            lasts = [
                child.get_last_fire_time(start, limit)
                for child, start in zip(self.triggers, starts, strict=True)
            ]
            instants = [last.astimezone(UTC) for last in lasts]
            # No common time can be later than the earliest of the children's last ones.
            limit = min(instants)
            if limit == max(instants):
                return lasts[0]
        return super().get_last_fire_time(first, now)


def _start(
    child: BaseTrigger, previous: datetime | None, now: datetime
) -> datetime | None:
    """Return the first time a child has to offer: for a new schedule, or later than the previous fire time."""
    if previous is None:
        return _ask(child, None, now)
    return _get_next_after(child, previous)


def _ask(
    child: BaseTrigger, previous: datetime | None, now: datetime
) -> datetime | None:
    following = child.get_next_fire_time(previous, now)
    if following is not None and following.tzinfo is None:
        raise TriggerError(
            f"{child} returned {following} without a time zone: triggers that are combined must return aware times"
        )
    return following


def _advance(child: BaseTrigger, previous: datetime) -> datetime | None:
    """Return the child's next time after one of its own."""
    following = _ask(child, previous, previous)
    if following and following.astimezone(UTC) <= previous.astimezone(UTC):
        raise TriggerError(
            f"{child} does not advance: after {previous} it returned {following}"
        )
    return following


def _get_next_after(child: BaseTrigger, time: datetime) -> datetime | None:
    """Return the first fire time later than ``time``, on the grid that the child has by itself."""
    try:
        now = time.astimezone(UTC) + ONE_MICROSECOND
    except OverflowError:
        return None
    following = _ask(child, None, now)
    for _ in range(JUMP_LIMIT):
        if following is None or following.astimezone(UTC) >= now:
            return following
        # The child's schedule starts in the past, whatever the time is now.
        last = child.get_last_fire_time(following, time)
        following = _advance(child, last)
    raise TriggerError(
        f"{child} has too many fire times before {time} to be combined: it came only to {following}"
    )


def _catch_up(
    child: BaseTrigger, previous: datetime, latest: datetime
) -> datetime | None:
    """Return a time of the child nearer to ``latest``, or not earlier than it if the child can compute that."""
    if not _computes_last(child):
        return _advance(child, previous)
    last = child.get_last_fire_time(previous, latest)
    return last if last.astimezone(UTC) == latest else _advance(child, last)


def _computes_last(child: BaseTrigger) -> bool:
    """Say whether a child finds its last fire time without walking there."""
    return type(child).get_last_fire_time is not BaseTrigger.get_last_fire_time


def _make_child(child: Child, timezone: str | tzinfo | None) -> BaseTrigger:
    """Return the trigger of a description."""
    if isinstance(child, BaseTrigger):
        return child
    if isinstance(child, Mapping):
        arguments = dict(child)
        name = arguments.pop("type", None)
    elif isinstance(child, (tuple, list)) and len(child) == 2:
        name, arguments = child[0], child[1]
    else:
        name, arguments = None, None
    if not isinstance(name, str) or not isinstance(arguments, Mapping):
        raise TypeError(
            "triggers must hold triggers, {'type': 'cron', 'hour': 5} or ('cron', {'hour': 5}), "
            f"not {child!r}"
        )
    from apscheduler.plugins import load_component

    if timezone is not None:
        arguments = {"timezone": timezone, **arguments}
    made = load_component("trigger", name)(**arguments)
    if not isinstance(made, BaseTrigger):
        raise TypeError(f"{name!r} is not a trigger but a {type(made).__qualname__}")
    return made


def _restore_child(reference: str, state: Any) -> BaseTrigger:
    cls = state_resolver.get()(reference)
    if not inspect.isclass(cls) or not issubclass(cls, BaseTrigger):
        raise ValueError(f"{reference!r} does not lead to a trigger, but to {cls!r}")
    child = cls.__new__(cls)
    set_state(child, state)
    return child
