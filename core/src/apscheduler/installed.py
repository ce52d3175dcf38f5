"""The entry points of what is installed, read once: looking through all distributions takes milliseconds."""

import os
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

METADATA = (".dist-info", ".egg-info")


def entry_points_of(group: str) -> "list[EntryPoint]":
    """Return the entry points of a group."""
    return list(_all().select(group=group))


def mentions(group: str) -> bool:
    """Return whether any distribution may have entry points of a group; False is certain.

    Most programs have no hook plugin: loading what reads entry points properly would be most of what there is to do.
    """
    heading = f"[{group}]".encode()
    return any(_mentions(path or ".", heading) for path in sys.path)


def forget() -> None:
    """Look again next time, for programs that install while they run."""
    _all.cache_clear()


def _mentions(path: str, heading: bytes) -> bool:
    try:
        names = [name for name in os.listdir(path) if name.endswith(METADATA)]
    except NotADirectoryError:  # an archive, which may hold anything
        return True
    except OSError:
        return False
    for name in names:
        try:
            with open(os.path.join(path, name, "entry_points.txt"), "rb") as file:
                if heading in file.read():
                    return True
        except OSError:  # it has none
            continue
    return False


@cache
def _all() -> Any:
    from importlib.metadata import entry_points

    return entry_points()
