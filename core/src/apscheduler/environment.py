"""``${NAME}`` in configuration files: values that come from the environment and are never shown.

``$${`` stands for ``${`` itself; any other dollar sign has no meaning.
"""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

REFERENCE = re.compile(r"\$\$\{|\$\{(?P<name>[^}]*)(?P<end>\}?)")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# Shorter values are hidden only where they appear in quotes: they are part of too many words.
MIN_HIDDEN_LENGTH = 4


class EnvironmentText(str):
    """A text that is made, wholly or in part, of environment variables; ``repr`` shows what stands in the file.

    :ivar written: the text in the file
    :ivar values: value → the reference that stands for it
    """

    written: str
    values: dict[str, str]

    def __repr__(self) -> str:
        return repr(self.written)

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str(self),)


def expand(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Return the text with its references replaced.

    :param environment: the variables; default: those of the process
    :raises ValueError: if a variable does not exist, or a reference is not complete
    """
    variables = os.environ if environment is None else environment
    values: dict[str, str] = {}

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name = match["name"]
        if not match["end"] or not VARIABLE.fullmatch(name):
            raise ValueError(
                f"{match[0]!r} is not a reference to an environment variable, which looks like '${{NAME}}'; write "
                "'$${' for '${' itself"
            )
        if name not in variables:
            raise ValueError(f"the environment variable {name!r} is not set")
        values[variables[name]] = match[0]
        return variables[name]

    expanded = REFERENCE.sub(replace, text)
    if not values:
        return expanded
    result = EnvironmentText(expanded)
    result.written, result.values = text, values
    return result


def plain(value: Any) -> Any:
    """Return the value with ordinary texts in place of those that hide theirs, also inside lists and dicts."""
    if isinstance(value, EnvironmentText):
        return str(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def censor(message: str, config: object) -> str:
    """Return the message with references in place of the values that the configuration took from the environment."""
    values: dict[str, str] = {}
    for text in _find_texts(config):
        values |= text.values
    for value in sorted(values, key=len, reverse=True):
        if len(value) >= MIN_HIDDEN_LENGTH:
            message = message.replace(value, values[value])
        message = message.replace(repr(value), repr(values[value]))
    return message


def _find_texts(value: object) -> Iterator[EnvironmentText]:
    if isinstance(value, EnvironmentText):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _find_texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _find_texts(item)
