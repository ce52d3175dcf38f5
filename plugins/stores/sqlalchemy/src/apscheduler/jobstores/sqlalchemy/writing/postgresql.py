"""Many rows in one statement on PostgreSQL: each column is an array."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Double, Float, Integer, LargeBinary, Table
from sqlalchemy.types import TypeEngine

from apscheduler.jobstores.sqlalchemy.arrays import to_array
from apscheduler.jobstores.sqlalchemy.statements import Values
from apscheduler.jobstores.sqlalchemy.writing.raw import RawWriter, marked, quote


class ArrayWriter(RawWriter):
    """Gives each column as one array."""

    def execute(self, connection: Connection, rows: Sequence[Values]) -> None:
        connection.exec_driver_sql(*self.render(connection, rows))

    def render(
        self, connection: Connection, rows: Sequence[Values]
    ) -> tuple[str, Values]:
        """Return the statement that writes the rows, and its parameters."""
        if self._sql is None:
            self._sql = self._write(self.name_of(connection))
        return self._sql, tuple(map(to_array, zip(*rows, strict=True)))

    def _write(self, table: str) -> str:
        raise NotImplementedError

    def _unnest(self, alias: str = "v") -> str:
        columns = [self._table.c[name] for name in (*self._names, *self._keys)]
        arrays = ", ".join(f"%s::{_postgresql_type(c.type)}[]" for c in columns)
        names = ", ".join(f'"{name}"' for name in (*self._names, *marked(self._keys)))
        return f"unnest({arrays}) AS {alias} ({names})"

    def _matches(self) -> str:
        return " AND ".join(f't."{key}" = v."_{key}"' for key in self._keys)


class ArrayInsert(ArrayWriter):
    def __init__(self, table: Table, names: Sequence[str]):
        super().__init__(table, names, (), None)

    def render(
        self, connection: Connection, rows: Sequence[Values]
    ) -> tuple[str, Values]:
        if len(rows) > 1:
            return super().render(connection, rows)
        places = ", ".join(["%s"] * len(self._names))
        return f"{self._into(self.name_of(connection))} VALUES ({places})", rows[0]

    def _write(self, table: str) -> str:
        return f"{self._into(table)} SELECT * FROM {self._unnest()}"

    def _into(self, table: str) -> str:
        names = ", ".join(f'"{name}"' for name in self._names)
        return f"INSERT INTO {table} ({names})"


class ArrayUpdate(ArrayWriter):
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
        values = [f'"{name}" = v."{name}"' for name in self._names]
        values += [f'"{name}" = {quote(v)}' for name, v in self._constants.items()]
        return (
            f"UPDATE {table} AS t SET {', '.join(values)} FROM {self._unnest()} "
            f"WHERE {self._matches()}{self.has_state()}"
        )


class ArrayDelete(ArrayWriter):
    def __init__(self, table: Table, keys: Sequence[str], state: str | None):
        super().__init__(table, (), keys, state)

    def _write(self, table: str) -> str:
        return (
            f"DELETE FROM {table} AS t USING {self._unnest()} "
            f"WHERE {self._matches()}{self.has_state()}"
        )


def _postgresql_type(kind: TypeEngine[Any]) -> str:
    if isinstance(kind, (Float, Double)):
        return "float8"
    if isinstance(kind, Integer):
        return "int4"
    return "bytea" if isinstance(kind, LargeBinary) else "text"
