"""Many rows in few statements on MySQL and MariaDB."""

from collections.abc import Iterator, Mapping, Sequence
from types import NoneType
from typing import Any

from sqlalchemy import Column, Connection, Double, Float, Integer, Table

from apscheduler.jobstores.sqlalchemy.statements import Values
from apscheduler.jobstores.sqlalchemy.writing.raw import RawWriter, quote

# Servers limit the length of a statement; this is what the driver makes of it.
MAX_LENGTH = 1_000_000
# What servers or drivers may read as something else within a text.
ESCAPED = frozenset("'\\%")


class RowInsert(RawWriter):
    """Puts all rows into one INSERT.

    Drivers do that, too, but take their time to write each value down. What needs no escaping is written here; where
    there is anything else, all is left to the driver.

    :param end: what follows the rows
    """

    def __init__(self, table: Table, names: Sequence[str], end: str = ""):
        super().__init__(table, names, (), None)
        self._end = end

    def execute(self, connection: Connection, rows: Sequence[Values]) -> None:
        if self._sql is None:
            names = ", ".join(f"`{name}`" for name in self._names)
            self._sql = f"INSERT INTO {self.name_of(connection)} ({names}) VALUES "
        texts = _write_rows(rows)
        if texts is None:
            places = _places(len(self._names))
            connection.exec_driver_sql(f"{self._sql}({places}){self._end}", list(rows))
        else:
            for part in _divide(texts):
                connection.exec_driver_sql(f"{self._sql}{','.join(part)}{self._end}")


class InsertedUpdate(RawWriter):
    """Changes rows by one INSERT that finds them there, after they were locked and are known to be those that are meant.

    An UPDATE that is joined to a list of rows would do with one statement, but it needs temporary tables, and the list
    is written in another way in each release.

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
        self._is_locked = is_locked
        given = (*names, keys[0])
        # What must not be NULL is given, though it is not written: the row is there.
        fillers = {
            c.name: _filler(c)
            for c in table.c
            if not c.nullable and c.name not in given
        }
        values = [f"`{name}` = VALUES(`{name}`)" for name in names]
        values += [f"`{name}` = {quote(v)}" for name, v in constants.items()]
        end = f" ON DUPLICATE KEY UPDATE {', '.join(values)}"
        self._insert = RowInsert(table, (*given, *fillers), end)
        self._fillers = tuple(fillers.values())

    def execute(self, connection: Connection, rows: Sequence[Values]) -> None:
        if not self._is_locked:
            rows = self._lock(connection, rows)
        end = len(self._names) + 1
        if rows:
            written = [(*row[:end], *self._fillers) for row in rows]
            self._insert.execute(connection, written)

    def _lock(self, connection: Connection, rows: Sequence[Values]) -> Sequence[Values]:
        """Lock the rows that are meant, and return those that are there, as they were given."""
        keys = ", ".join(f"t.`{key}`" for key in self._keys)
        start = len(self._names)
        ids, values = _write_list([row[start] for row in rows])
        sql = (
            f"SELECT {keys} FROM {self.name_of(connection)} AS t FORCE INDEX (PRIMARY) "
            f"WHERE t.`{self._keys[0]}` IN ({ids}){self.has_state()} FOR UPDATE"
        )
        found = set(map(tuple, connection.exec_driver_sql(sql, values)))
        return [row for row in rows if row[start:] in found]


class ListedDelete(RawWriter):
    """Lists all rows in the condition."""

    def __init__(self, table: Table, keys: Sequence[str], state: str | None):
        super().__init__(table, (), keys, state)

    def execute(self, connection: Connection, rows: Sequence[Values]) -> None:
        table = self.name_of(connection)
        ids, values = _write_list([row[0] for row in rows])
        condition = f"t.`{self._keys[0]}` IN ({ids})"
        if len(self._keys) > 1:
            names = ", ".join(f"t.`{key}`" for key in self._keys)
            row_places = ", ".join([f"({_places(len(self._keys))})"] * len(rows))
            condition += f" AND ({names}) IN ({row_places})"
            values = (*values, *[value for row in rows for value in row])
        sql = (
            f"DELETE t FROM {table} AS t FORCE INDEX (PRIMARY) "
            f"WHERE {condition}{self.has_state()}"
        )
        connection.exec_driver_sql(sql, values)


def _places(number: int) -> str:
    return ", ".join(["%s"] * number)


def _write_list(values: Sequence[Any]) -> tuple[str, Values]:
    """Return a list of values as SQL writes it, and the parameters that are left in it."""
    column = _write_column(values)
    if column is None:
        return _places(len(values)), tuple(values)
    return ", ".join(column), ()


def _write_rows(rows: Sequence[Values]) -> list[str] | None:
    """Return rows as SQL writes them, None if that is not for us to do."""
    columns = []
    for values in zip(*rows, strict=True):
        column = _write_column(values)
        if column is None:
            return None
        columns.append(column)
    return [f"({','.join(row)})" for row in zip(*columns, strict=True)]


def _divide(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Return texts in parts that are not too long, and have at least one of them each."""
    start = length = 0
    for end, text in enumerate(texts):
        length += len(text)
        if length > MAX_LENGTH and end > start:
            yield texts[start:end]
            start, length = end, len(text)
    yield texts[start:]


def _write_column(values: Sequence[Any]) -> Sequence[str] | None:
    kinds = set(map(type, values))
    if kinds == {str}:
        text = "".join(values)
        if text.isascii() and text.isprintable() and not ESCAPED.intersection(text):
            return [f"'{value}'" for value in values]
    elif kinds == {float}:  # with an exponent it is no decimal number
        texts = list(map(repr, values))
        return [text if "e" in text else f"{text}e0" for text in texts]
    elif kinds == {int}:
        return list(map(repr, values))
    elif kinds == {bytes}:
        return [f"X'{value.hex()}'" for value in values]
    elif kinds == {NoneType}:
        return ["NULL"] * len(values)
    return None


def _filler(column: Column[Any]) -> Any:
    return 0 if isinstance(column.type, (Float, Double, Integer)) else ""
