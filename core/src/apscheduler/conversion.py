"""From texts in files to the arguments that a component takes, by the annotations of its constructor."""

import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import Parameter
from types import NoneType
from typing import Any, get_args, get_origin

from apscheduler.util import asbool


class ArgumentReader:
    """Knows which keyword arguments a callable takes, and of which types.

    :param target: a class, or another callable
    """

    def __init__(self, target: Callable[..., Any]):
        self._parameters: dict[str, Parameter] = {}
        self._takes_any = True
        try:
            signature = _signature(target)
        except (TypeError, ValueError):  # some built-in classes have none
            return
        self._takes_any = False
        for parameter in signature.parameters.values():
            if parameter.kind is Parameter.VAR_KEYWORD:
                self._takes_any = True
            elif parameter.kind not in (
                Parameter.VAR_POSITIONAL,
                Parameter.POSITIONAL_ONLY,
            ):
                self._parameters[parameter.name] = parameter

    def explain_unknown(
        self, name: str, what: str, others: Iterable[str] = ()
    ) -> str | None:
        """Return a sentence if there is no such argument, with the nearest that there is.

        :param others: names that can be meant, too
        """
        if self._takes_any or name in self._parameters:
            return None
        from difflib import get_close_matches  # slow to load, and hopefully not needed

        near = get_close_matches(name, (*self._parameters, *others), n=1)
        known = ", ".join(sorted(self._parameters)) or "nothing"
        hint = f"did you mean {near[0]!r}?" if near else f"it takes {known}"
        return f"{what} has no option {name!r}; {hint}"

    def find_missing(self, given: Mapping[str, Any]) -> list[str]:
        """Return the names of arguments that must be given and are not."""
        return [
            name
            for name, parameter in self._parameters.items()
            if parameter.default is Parameter.empty and name not in given
        ]

    def convert(self, name: str, value: Any) -> Any:
        """Return what a text means for this argument; anything but a text unchanged.

        :raises ValueError: saying what was expected
        """
        parameter = self._parameters.get(name)
        if not isinstance(value, str) or parameter is None:
            return value
        return convert_text(value, _types(parameter.annotation))


def convert_text(text: str, types: frozenset[Any]) -> Any:
    """Return what a text means where values of these types are accepted.

    :raises ValueError: saying what was expected
    """
    word = text.strip().lower()
    if word == "none" and NoneType in types:
        return None
    if str in types:
        # So that it makes no difference whether a file has types.
        return int(word) if int in types and word.isdecimal() else text
    if bool in types:
        return asbool(text)
    if float in types or int in types:
        return _number(text, fractions=float in types)
    if types & {dict, Mapping}:
        return read_json(text, dict)
    if types & {list, tuple, Sequence}:
        return read_json(text, list)
    return text


def read_json(text: str, kind: type) -> Any:
    """Return the list or dict that is written as JSON.

    :raises ValueError: if it is something else
    """
    example = '["text", 5]' if kind is list else '{"name": "text", "number": 5}'
    expected = f"expected {'a list' if kind is list else 'an object'} in JSON, such as {example}"
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise ValueError(f"{expected} ({exc})") from exc
    if not isinstance(value, kind):
        raise ValueError(expected)  # the text is wrong, not its type
    return value


def _number(text: str, fractions: bool) -> float:
    try:
        return int(text)
    except ValueError:
        if not fractions:
            raise ValueError("expected a whole number") from None
    try:
        return float(text)
    except ValueError:
        raise ValueError("expected a number") from None


def _signature(target: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(target, eval_str=True)
    except NameError:  # an annotation that only type checkers can resolve
        return inspect.signature(target)


def _types(annotation: Any) -> frozenset[Any]:
    """Return the members of a union without their parameters; of nothing known, an empty set."""
    if annotation is Parameter.empty or isinstance(annotation, str):
        return frozenset()
    if annotation is None:
        return frozenset({NoneType})
    origin = get_origin(annotation)
    if origin is None:
        return frozenset({annotation})
    if isinstance(origin, type) and origin.__module__ in (
        "builtins",
        "collections.abc",
    ):
        return frozenset({origin})
    parts = [_types(part) for part in get_args(annotation)]
    return frozenset().union(*parts)
