"""What can be wrong in a configuration, and where: one sentence per problem that names file, section, key and value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from traceback import format_exception
from typing import Any

from apscheduler.environment import censor

NOTHING: Any = object()


@dataclass(frozen=True)
class Source:
    """The file a configuration was read from.

    :ivar path: as it was given
    :ivar modified: when the file was changed last, seconds since 1970
    :ivar sections: keys with their prefix that are not written in a section of their own, and the section they are in
    :ivar unprefixed: sections that would be ours if their names began with the prefix
    """

    path: str
    modified: float
    sections: Mapping[str, str] = field(default_factory=dict, repr=False)
    unprefixed: Sequence[str] = ()

    def locate(self, section: str, key: str | None) -> str:
        """Return where in the file a key is written."""
        full = f"{section}.{key}" if key else section
        written_in = self.sections.get(full)
        if written_in is not None:
            return f"{self.path}, [{written_in}] {full}"
        return f"{self.path}, [{section}]" + (f" {key}" if key else "")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    :ivar place: where
    :ivar text: what is wrong, what was expected, what to do
    :ivar fatal: False: a scheduler works without it, and only warns
    :ivar cause: the exception that was raised, if there was one
    """

    place: str
    text: str
    fatal: bool = True
    cause: BaseException | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.place}: {self.text}" if self.place else self.text


class ConfigurationError(ValueError):
    """A configuration that cannot be used.

    :ivar problems: everything that was found to be wrong, the first of which is the message
    """

    def __init__(self, problems: Sequence[Problem]):
        super().__init__(problems)
        self.problems = list(problems)

    def __str__(self) -> str:
        first, *others = self.problems
        if not others:
            return str(first)
        more = "1 more problem" if len(others) == 1 else f"{len(others)} more problems"
        return f"{first} (and {more}; 'apscheduler check' lists all)"


class ProblemList:
    """Collects problems of one configuration; values that come from the environment do not appear in them.

    :param source: the file; None for a configuration that was made by a program
    :param config: the whole configuration
    """

    def __init__(self, source: Source | None, config: object):
        self.source = source
        self.problems: list[Problem] = []
        self._config = config

    def add(
        self,
        section: str,
        key: str | None,
        text: object,
        value: Any = NOTHING,
        fatal: bool = True,
    ) -> None:
        """Note a problem.

        :param section: with its prefix, such as ``apscheduler.jobs.backup``
        :param value: the wrong value; left out where there is none
        """
        if self.source is not None:
            place = self.source.locate(section, key)
        else:
            place = f"{section}.{key}" if key else section
        if value is not NOTHING:
            place += f" = {value!r}"
        message = censor(describe(text), self._config)
        cause = text if isinstance(text, BaseException) else None
        self.problems.append(Problem(place, message, fatal, cause))

    def add_general(self, exc: Exception) -> None:
        """Note an exception of which only the file is known."""
        path = "" if self.source is None else self.source.path
        message = censor(describe(exc), self._config)
        self.problems.append(Problem(path, message, cause=exc))

    def raise_fatal(self) -> None:
        """Raise what keeps a scheduler from being made.

        :raises ConfigurationError: if there is anything of that kind
        """
        fatal = [problem for problem in self.problems if problem.fatal]
        if not fatal:
            return
        cause = fatal[0].cause
        if cause is not None:
            shown = "".join(format_exception(cause))
            if censor(shown, self._config) != shown:
                cause = None  # the traceback would show what the message hides
        raise ConfigurationError(fatal) from cause


def describe(text: object) -> str:
    """Return a sentence for an exception or a text."""
    if isinstance(text, KeyError) and text.args:
        return str(text.args[0])
    if isinstance(text, BaseException):
        return str(text) or type(text).__name__
    return str(text)
