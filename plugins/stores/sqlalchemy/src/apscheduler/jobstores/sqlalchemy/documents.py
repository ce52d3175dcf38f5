"""Many rows in one statement on MySQL and MariaDB: all of them are one JSON document."""

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Connection, Double, Float, Integer, LargeBinary, Table
from sqlalchemy.types import TypeEngine

from apscheduler.jobstores.sqlalchemy.raw import RawWriter, quote
from apscheduler.jobstores.sqlalchemy.statements import Values

# The server takes a statement of 16 MB, unless told otherwise; one row may be longer than that all the same.
MAX_LENGTH = 2_000_000


class DocumentWriter(RawWriter):
    """Gives all rows as one parameter. Identifiers are compared as our own tables compare them."""

    def execute(self, connection: Connection, rows: Sequence[Values]) -> None:
        if self._sql is None:
            self._sql = self._write(self.name_of(connection))
        for part in _parts(rows):
            document = json.dumps(part, default=_encode, ensure_ascii=False)
            connection.exec_driver_sql(self._sql, (document,))

    def _write(self, table: str) -> str:
        raise NotImplementedError

    def _rows(self) -> str:
        columns = ", ".join(
            f"`{name}` {_type_of(self._table.c[key].type)} PATH '$[{number}]'"
            for number, (name, key) in enumerate(self._columns().items())
        )
        return f"JSON_TABLE(%s, '$[*]' COLUMNS ({columns})) AS v"

    def _columns(self) -> dict[str, str]:
        """Return the names of the columns of the document, and those of the table that they belong to."""
        keys = {f"_{key}": key for key in self._keys}
        return {name: name for name in self._names} | keys

    def _value_of(self, name: str) -> str:
        if isinstance(self._table.c[name].type, LargeBinary):
            return f"FROM_BASE64(v.`{name}`)"
        return f"v.`{name}`"


class DocumentInsert(DocumentWriter):
    """Adds rows."""

    def __init__(self, table: Table, names: Sequence[str]):
        super().__init__(table, names, (), None)

    def _write(self, table: str) -> str:
        names = ", ".join(f"`{name}`" for name in self._names)
        values = ", ".join(map(self._value_of, self._names))
        return f"INSERT INTO {table} ({names}) SELECT {values} FROM {self._rows()}"


class DocumentUpdate(DocumentWriter):
    """Changes rows."""

    def __init__(
        self,
        table: Table,
        names: Sequence[str],
        keys: Sequence[str],
        state: str | None,
        constants: Mapping[str, str | None],
    ):
        super().__init__(table, names, keys, state)
        self._constants = constants

    def _write(self, table: str) -> str:
        values = [f"t.`{name}` = {self._value_of(name)}" for name in self._names]
        values += [f"t.`{name}` = {quote(v)}" for name, v in self._constants.items()]
        # The document first, and then the primary key: looking through the table would lock, and wait for, all of it.
        return (
            f"UPDATE {self._rows()} STRAIGHT_JOIN {table} AS t FORCE INDEX (PRIMARY) "
            f"ON {self._matches()}{self.has_state()} SET {', '.join(values)}"
        )

    def _matches(self) -> str:
        return " AND ".join(f"t.`{key}` = v.`_{key}`" for key in self._keys)


class LockedUpdate(RawWriter):
    """Changes rows that are there and locked, of any collation, by one INSERT that finds them there.

    Drivers put the rows of an INSERT into one statement.
    """

    def __init__(
        self,
        table: Table,
        names: Sequence[str],
        keys: Sequence[str],
    ):
        super().__init__(table, names, keys, None)
        given = {*names, *keys[:1]}
        # What must not be NULL is given, though it is not written: the row is there.
        self._fillers: dict[str, Any] = {
            c.name: _filler(c)
            for c in table.c
            if not c.nullable and c.name not in given
        }

    def execute(self, connection: Connection, rows: Sequence[Values]) -> None:
        fillers = tuple(self._fillers.values())
        written = [(*row, *fillers) for row in rows]
        if self._sql is None:
            self._sql = self._write(self.name_of(connection))
        connection.exec_driver_sql(self._sql, written)

    def _write(self, table: str) -> str:
        names = (*self._names, self._keys[0], *self._fillers)
        columns = ", ".join(f"`{name}`" for name in names)
        values = [f"`{name}` = VALUES(`{name}`)" for name in self._names]
        return (
            f"INSERT INTO {table} ({columns}) VALUES ({_places(len(names))}) "
            f"ON DUPLICATE KEY UPDATE {', '.join(values)}"
        )


class ListedDelete(RawWriter):
    """Lists all rows in the condition."""

    def __init__(self, table: Table, keys: Sequence[str], state: str | None):
        super().__init__(table, (), keys, state)

    def execute(self, connection: Connection, rows: Sequence[Values]) -> None:
        table = self.name_of(connection)
        condition = f"t.`{self._keys[0]}` IN ({_places(len(rows))})"
        values = [row[0] for row in rows]
        if len(self._keys) > 1:
            names = ", ".join(f"t.`{key}`" for key in self._keys)
            row_places = ", ".join([f"({_places(len(self._keys))})"] * len(rows))
            condition += f" AND ({names}) IN ({row_places})"
            values += [value for row in rows for value in row]
        sql = (
            f"DELETE t FROM {table} AS t FORCE INDEX (PRIMARY) "
            f"WHERE {condition}{self.has_state()}"
        )
        connection.exec_driver_sql(sql, tuple(values))


def _places(number: int) -> str:
    return ", ".join(["%s"] * number)


def _type_of(kind: TypeEngine[Any]) -> str:
    if isinstance(kind, (Float, Double)):
        return "DOUBLE"
    if isinstance(kind, Integer):
        return "INT"
    # As our own tables have it: an index cannot be used to compare with another collation.
    return "LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"


def _filler(column: Column[Any]) -> Any:
    if isinstance(column.type, (Float, Double, Integer)):
        return 0
    return b"" if isinstance(column.type, LargeBinary) else ""


def _encode(value: Any) -> str:
    return b64encode(value).decode()


def _parts(rows: Sequence[Values]) -> Iterator[Sequence[Values]]:
    """Return the rows in as many parts as the server needs: one, unless they are very long."""
    start = length = 0
    for number, row in enumerate(rows):
        length += sum(len(value) for value in row if isinstance(value, (str, bytes)))
        if length > MAX_LENGTH and number > start:
            yield rows[start:number]
            start, length = number, 0
    yield rows[start:]
