"""Why an expression can never match: said once, when the trigger is made, instead of waiting in silence."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations

from apscheduler.triggers.cron.fields import BaseField
from apscheduler.triggers.cron.limits import MAX_VALUES, MIN_VALUES
from apscheduler.triggers.cron.rules import Rules
from apscheduler.triggers.cron.schedule import schedule_for

DATE_FIELDS = ("year", "month", "day", "week", "day_of_week")


def explain_why_never(fields: Sequence[BaseField], rules: Rules) -> str | None:
    """Return which fields exclude each other, or None if there is a matching date in some year."""
    names = _conflicting_fields(rules)
    if names is None:
        return None
    texts = {field.name: str(field) for field in fields}
    return " and ".join(f"{name}={texts[name]!r}" for name in names)


@lru_cache(maxsize=1_000)
def _conflicting_fields(rules: Rules) -> tuple[str, ...] | None:
    """Return the smallest set of fields that no date satisfies at once."""
    if not schedule_for(rules).never_matches():
        return None
    for size in range(1, len(DATE_FIELDS)):
        for names in combinations(DATE_FIELDS, size):
            if schedule_for(_restricted_to(names, rules)).never_matches():
                return names
    return DATE_FIELDS


def _restricted_to(names: tuple[str, ...], rules: Rules) -> Rules:
    """Return these rules with the other fields of the date set to ``*``."""
    if "year" not in names:
        rules = rules._replace(years=_every("year"))
    if "month" not in names:
        rules = rules._replace(months=_every("month"))
    if "day" not in names:
        rules = rules._replace(days=_every("day"), weekday_positions=(), last_day=False)
    if "week" not in names:
        rules = rules._replace(weeks=_every("week"))
    if "day_of_week" not in names:
        rules = rules._replace(weekdays=_every("day_of_week"))
    return rules


def _every(name: str) -> range:
    return range(MIN_VALUES[name], MAX_VALUES[name] + 1)
