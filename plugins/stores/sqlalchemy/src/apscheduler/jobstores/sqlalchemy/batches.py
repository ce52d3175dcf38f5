"""Statements that are carried out for many rows at once, without what SQLAlchemy does for each row."""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.sql.expression import Executable


class Batch:
    """A statement, compiled when it is first carried out.

    Values go to the driver as they are: texts, bytes, numbers and None, which every driver takes.

    :param statement: an insert, update or delete
    :param names: the parameters that rows give; whatever else it has is constant
    """

    def __init__(self, statement: Executable, names: Sequence[str]):
        self._statement = statement
        self._names = frozenset(names)
        self._compiled: tuple[str, Callable[[Mapping[str, Any]], Any]] | None = None

    def execute(
        self, connection: Connection, rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Carry out the statement for each row."""
        if self._compiled is None:
            self._compiled = self._compile(connection)
        sql, pick = self._compiled
        connection.exec_driver_sql(sql, [pick(row) for row in rows])

    def _compile(
        self, connection: Connection
    ) -> tuple[str, Callable[[Mapping[str, Any]], Any]]:
        compiled: Any = self._statement.compile(  # type: ignore[attr-defined]  # every executable has it
            dialect=connection.dialect, column_keys=sorted(self._names)
        )
        constants = {
            name: value
            for name, value in compiled.params.items()
            if name not in self._names
        }
        if not compiled.positional:
            return str(compiled), lambda row: {**constants, **row}
        order = compiled.positiontup
        if not constants:
            return str(compiled), itemgetter(*order) if len(order) > 1 else (
                lambda row: (row[order[0]],)
            )
        return str(compiled), lambda row: tuple(
            [row[name] if name in row else constants[name] for name in order]
        )
