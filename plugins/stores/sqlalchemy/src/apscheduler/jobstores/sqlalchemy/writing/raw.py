"""What statements that are written by hand have in common."""

from collections.abc import Sequence

from sqlalchemy import Connection, Table


def marked(keys: Sequence[str]) -> tuple[str, ...]:
    # A parameter that has the name of a column would be written to it.
    return tuple(f"_{key}" for key in keys)


def quote(value: str | None) -> str:
    """Return a constant as SQL; it is one of ours, so there is nothing to escape."""
    return "NULL" if value is None else f"'{value}'"


class RawWriter:
    """A statement written by hand, its text made when it is first carried out."""

    def __init__(
        self, table: Table, names: Sequence[str], keys: Sequence[str], state: str | None
    ):
        self._table = table
        self._names = tuple(names)
        self._keys = tuple(keys)
        self._state = state
        self._sql: str | None = None

    def name_of(self, connection: Connection) -> str:
        return connection.dialect.identifier_preparer.format_table(self._table)

    def has_state(self) -> str:
        return "" if self._state is None else f" AND t.state = {quote(self._state)}"
