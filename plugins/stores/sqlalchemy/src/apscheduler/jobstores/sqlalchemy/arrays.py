"""Arrays, as PostgreSQL reads them."""

from collections.abc import Sequence
from typing import Any


def to_array(values: Sequence[Any]) -> str:
    """Return an array as PostgreSQL writes it; drivers take their time for this, element by element."""
    kinds = set(map(type, values))
    if kinds == {str}:
        joined = '","'.join(values)
        # Quotes are those between the values, where there are no more of them.
        if "\\" not in joined and joined.count('"') == 2 * (len(values) - 1):
            return f'{{"{joined}"}}'
    if kinds <= {float, int}:
        return f"{{{','.join(map(repr, values))}}}"
    if kinds == {type(None)}:
        return f"{{{','.join(['NULL'] * len(values))}}}"
    return f"{{{','.join(map(_element, values))}}}"


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, bytes):
        return f'"\\\\x{value.hex()}"'
    return repr(value)
