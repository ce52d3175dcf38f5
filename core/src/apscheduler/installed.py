"""The entry points of what is installed, read once: looking through all distributions takes milliseconds."""

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def entry_points_of(group: str) -> "list[EntryPoint]":
    """Return the entry points of a group."""
    return list(_all().select(group=group))


def forget() -> None:
    """Look again next time, for programs that install while they run."""
    _all.cache_clear()


@cache
def _all() -> Any:
    from importlib.metadata import entry_points

    return entry_points()
