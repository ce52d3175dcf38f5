"""Many rows in few statements on MySQL and MariaDB."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Connection, Double, Float, Integer, LargeBinary, Table

from apscheduler.jobstores.sqlalchemy.statements import Values
from apscheduler.jobstores.sqlalchemy.writing.raw import RawWriter, quote


class InsertedUpdate(RawWriter):
    """Changes rows by one INSERT that finds them there, after they were locked and are known to be those that are meant.

    Drivers put all rows of an INSERT into one statement. An UPDATE that is joined to a list of rows would do with one
    statement, but it needs temporary tables, and the list is written in another way in each release.

    :param is_locked: they are locked already
    """

    def __init__(
        self,
        table: Table,
        names: Sequence[str],
        keys: Sequence[str],
        state: str | None,
        constants: Mapping[str, str | None],
        is_locked: bool,
    ):
        super().__init__(table, names, keys, state)
        self._constants = constants
        self._is_locked = is_locked
        given = {*names, keys[0]}
        # What must not be NULL is given, though it is not written: the row is there.
        self._fillers: dict[str, Any] = {
            c.name: _filler(c)
            for c in table.c
            if not c.nullable and c.name not in given
        }

    def execute(self, connection: Connection, rows: Sequence[Values]) -> None:
        if not self._is_locked:
            rows = self._lock(connection, rows)
        if not rows:
            return
        if self._sql is None:
            self._sql = self._write(self.name_of(connection))
        end, fillers = len(self._names) + 1, tuple(self._fillers.values())
        written = [(*row[:end], *fillers) for row in rows]
        connection.exec_driver_sql(self._sql, written)

    def _lock(self, connection: Connection, rows: Sequence[Values]) -> Sequence[Values]:
        """Lock the rows that are meant, and return those that are there, as they were given."""
        keys = ", ".join(f"t.`{key}`" for key in self._keys)
        start = len(self._names)
        sql = (
            f"SELECT {keys} FROM {self.name_of(connection)} AS t FORCE INDEX (PRIMARY) "
            f"WHERE t.`{self._keys[0]}` IN ({_places(len(rows))}){self.has_state()} FOR UPDATE"
        )
        ids = tuple([row[start] for row in rows])
        found = set(map(tuple, connection.exec_driver_sql(sql, ids)))
        return [row for row in rows if row[start:] in found]

    def _write(self, table: str) -> str:
        names = (*self._names, self._keys[0], *self._fillers)
        columns = ", ".join(f"`{name}`" for name in names)
        values = [f"`{name}` = VALUES(`{name}`)" for name in self._names]
        values += [f"`{name}` = {quote(v)}" for name, v in self._constants.items()]
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


def _filler(column: Column[Any]) -> Any:
    if isinstance(column.type, (Float, Double, Integer)):
        return 0
    return b"" if isinstance(column.type, LargeBinary) else ""
