"""Which functions and classes a store may refer to: patterns that are compared before anything is imported."""

import re
from collections.abc import Iterable, Mapping
from functools import reduce
from importlib import import_module
from inspect import isclass
from typing import Any, NamedTuple

NAME = r"[^\W\d]\w*"
PATTERN = re.compile(
    rf"(?P<module>{NAME}(?:\.{NAME})*)(?P<below>\.\*)?:(?P<name>(?:{NAME}\.)*(?:{NAME}|\*))"
)


class NotAllowedError(ValueError):
    """Raised when stored state, or state to be stored, refers to something that is not on the allow-list."""


class _Pattern(NamedTuple):
    module: str
    is_package: bool  # whether the modules below are meant
    owner: str  # what the name begins with, where it ends with a star
    name: str | None

    def matches(self, module: str, name: str) -> bool:
        if self.is_package:
            if not module.startswith(self.module + "."):
                return False
        elif module != self.module:
            return False
        return name == self.name if self.name else name.startswith(self.owner)


class AllowList:
    """Decides what stored state may refer to besides triggers, times and plain data.

    :param patterns: ``"package.module:name"``; ``"package.module:*"`` is everything that the module defines itself,
        ``"package.*:*"`` the same for every module below the package
    :raises ValueError: if one does not look like this
    """

    def __init__(self, patterns: Iterable[str]):
        if isinstance(patterns, str):
            raise TypeError(
                f"allowed_callables must be a list of patterns, but is {patterns!r}"
            )
        self.patterns = tuple(patterns)
        self._parsed = [_parse(pattern) for pattern in self.patterns]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {list(self.patterns)}>"

    def permits(self, module: str, name: str) -> bool:
        """Return whether a pattern matches; nothing is imported."""
        return self._find(module, name) is not None

    def check(self, module: str, name: str) -> None:
        """Raise an error if no pattern matches; nothing is imported.

        :raises NotAllowedError: if none does
        """
        if not self.permits(module, name):
            raise NotAllowedError(
                f"'{module}:{name}' is not allowed: add it to allowed_callables, which has {', '.join(self.patterns)}"
            )

    def resolve(self, reference: str) -> Any:
        """Return what a reference ``module:name`` leads to, if that is allowed.

        :raises NotAllowedError: if it is not; nothing was imported unless the module itself is allowed
        :raises LookupError: if there is no such thing
        """
        module, _, name = str(reference).partition(":")
        self.check(module, name)
        pattern = self._find(module, name)
        assert pattern is not None
        try:
            owner: Any = import_module(module)
        except ImportError as exc:
            raise LookupError(
                f"Cannot resolve reference {reference!r}: could not import {module!r}: {exc}"
            ) from exc
        try:
            if pattern.name:  # listed as it is, whatever way it leads
                return reduce(getattr, name.split("."), owner)
            *classes, last = name.split(".")
            for part in classes:
                owner = getattr(owner, part)
                if not isclass(owner) or owner.__module__ != module:
                    raise _not_defined(reference, part)
            found = getattr(owner, last)
        except AttributeError as exc:
            raise LookupError(
                f"Cannot resolve reference {reference!r}: {module!r} has no {name!r}"
            ) from exc
        if not callable(found) or getattr(found, "__module__", None) != module:
            raise _not_defined(reference, last)
        return found

    def check_state(self, document: Mapping[str, Any]) -> None:
        """Raise an error if the function of a job is not allowed.

        :param document: the state of the job, or a record with ``job_state`` in it
        :raises NotAllowedError: if it is not
        """
        self.resolve(state_in(document)["func"])

    def _find(self, module: str, name: str) -> _Pattern | None:
        found = [each for each in self._parsed if each.matches(module, name)]
        # One that names it exactly wins.
        return max(found, key=lambda each: each.name is not None, default=None)


def state_in(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the state of the job in what was stored: some stores keep a record with its run time around it."""
    state: Mapping[str, Any] = document.get("job_state", document)
    return state


def _parse(pattern: str) -> _Pattern:
    match = PATTERN.fullmatch(pattern) if isinstance(pattern, str) else None
    if match is None:
        raise ValueError(
            f"{pattern!r} is not a pattern of allowed callables: write 'package.module:name', 'package.module:*' or "
            "'package.*:*'"
        )
    name = match["name"]
    if name.endswith("*"):
        return _Pattern(match["module"], bool(match["below"]), name[:-1], None)
    return _Pattern(match["module"], bool(match["below"]), "", name)


def _not_defined(reference: str, part: str) -> NotAllowedError:
    return NotAllowedError(
        f"{reference!r} is not allowed: a star stands for the functions and classes that a module defines itself, and "
        f"{part!r} is none of them; list it by its full name if it is meant"
    )
