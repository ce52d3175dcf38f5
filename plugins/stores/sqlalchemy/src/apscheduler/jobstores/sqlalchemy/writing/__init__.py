"""Statements for many rows at a time: one round trip, or as few as the database allows, whatever their number."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import (
    Connection,
    Table,
    and_,
    bindparam,
    delete,
    insert,
    literal_column,
    update,
)

from apscheduler.jobstores.sqlalchemy.flavours import Flavour
from apscheduler.jobstores.sqlalchemy.statements import Statement, Values
from apscheduler.jobstores.sqlalchemy.writing.mysql import (
    InsertedUpdate,
    ListedDelete,
    RowInsert,
)
from apscheduler.jobstores.sqlalchemy.writing.postgresql import (
    ArrayDelete,
    ArrayInsert,
    ArrayUpdate,
)
from apscheduler.jobstores.sqlalchemy.writing.raw import marked, quote

NONE: Mapping[str, str | None] = {}


class Writer(Protocol):
    """Writes rows, given as values in the order of the names that it was made for."""

    def execute(self, connection: Connection, rows: Sequence[Values]) -> None:
        """Write the rows; there must be one."""


def inserting(flavour: Flavour, table: Table, names: Sequence[str]) -> Writer:
    """Return what adds rows to a table."""
    if flavour.takes_arrays:
        return ArrayInsert(table, names)
    if flavour.is_mysql:
        return RowInsert(table, names)
    return _EachRow(Statement(insert(table), names))


def updating(
    flavour: Flavour,
    table: Table,
    names: Sequence[str],
    keys: Sequence[str],
    state: str | None = None,
    *,
    constants: Mapping[str, str | None] = NONE,
    is_locked: bool = False,
) -> Writer:
    """Return what changes rows.

    :param names: the columns that are written; a row has their values first, then those of the keys
    :param keys: the columns that tell which row it is, first of all its primary key
    :param state: only rows that have this in the column ``state``
    :param constants: further columns that are written, and what to each
    :param is_locked: the rows are there, in that state, and locked by this transaction
    """
    if flavour.takes_arrays:
        return ArrayUpdate(table, names, keys, state, constants)
    if flavour.is_mysql:
        return InsertedUpdate(table, names, keys, state, constants, is_locked)
    statement = update(table).where(*_is_row(table, keys, state))
    values: dict[str, Any] = {name: bindparam(name) for name in names}
    # As text: rows then have the parameters as they are, with nothing to be put between them.
    values |= {name: literal_column(quote(v)) for name, v in constants.items()}
    return _EachRow(Statement(statement.values(values), (*names, *marked(keys))))


def deleting(
    flavour: Flavour, table: Table, keys: Sequence[str], state: str | None = None
) -> Writer:
    """Return what deletes rows; the parameters mean what they mean for changing them."""
    if flavour.takes_arrays:
        return ArrayDelete(table, keys, state)
    if flavour.is_mysql:
        return ListedDelete(table, keys, state)
    statement = delete(table).where(*_is_row(table, keys, state))
    return _EachRow(Statement(statement, marked(keys)))


def _is_row(table: Table, keys: Sequence[str], state: str | None) -> list[Any]:
    conditions: list[Any] = [table.c[key] == bindparam(f"_{key}") for key in keys]
    if state is not None:
        conditions.append(table.c.state == literal_column(quote(state)))
    return [and_(*conditions)]


class _EachRow:
    """Has the driver carry out a statement for each row."""

    def __init__(self, statement: Statement):
        self._statement = statement

    def execute(self, connection: Connection, rows: Sequence[Values]) -> None:
        self._statement.execute_many(connection, rows)
