"""Statements that are carried out often, without what SQLAlchemy does each time and for each row."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    Column,
    Connection,
    CursorResult,
    Select,
    Text,
    bindparam,
    func,
)
from sqlalchemy.sql.expression import Executable

from apscheduler.jobstores.sqlalchemy.arrays import to_array
from apscheduler.jobstores.sqlalchemy.flavours import Flavour

# The values of one execution, in the order of the names that its statement was given.
Values = tuple[Any, ...]


class Statement:
    """A statement, compiled when it is first carried out, for one kind of database.

    Values go to the driver, and come from it, as they are: texts, bytes, numbers and None, which every driver takes.

    :param statement: any statement of SQLAlchemy
    :param names: the parameters that are given; whatever else it has is constant
    """

    def __init__(self, statement: Executable, names: Sequence[str] = ()):
        self._statement = statement
        self._names = tuple(names)
        self._compiled: tuple[str, Callable[[Values], Any]] | None = None

    def execute(self, connection: Connection, *values: Any) -> CursorResult[Any]:
        """Carry out the statement once."""
        sql, arrange = self._compiled or self._compile(connection)
        return connection.exec_driver_sql(sql, arrange(values))

    def execute_many(self, connection: Connection, rows: Sequence[Values]) -> None:
        """Carry out the statement for each row; there must be one."""
        sql, arrange = self._compiled or self._compile(connection)
        connection.exec_driver_sql(sql, list(map(arrange, rows)))

    def _compile(self, connection: Connection) -> tuple[str, Callable[[Values], Any]]:
        compiled: Any = self._statement.compile(  # type: ignore[attr-defined]  # every executable has it
            dialect=connection.dialect, column_keys=list(self._names)
        )
        names = self._names
        constants = {
            name: value for name, value in compiled.params.items() if name not in names
        }
        arrange: Callable[[Values], Any]
        if not compiled.positional:

            def arrange(values: Values) -> Any:
                return constants | dict(zip(names, values, strict=True))

        elif tuple(compiled.positiontup) == names:
            arrange = tuple
        else:
            order = compiled.positiontup

            def arrange(values: Values) -> Any:
                named = constants | dict(zip(names, values, strict=True))
                return tuple([named[name] for name in order])

        self._compiled = str(compiled), arrange
        return self._compiled


class ListStatement:
    """A query of rows that have one of some values in a column; the list of values is all that is given.

    :param query: the query without this condition
    """

    def __init__(self, flavour: Flavour, query: Select[Any], column: Column[str]):
        self._statement: Statement | None = None
        if flavour.takes_arrays:
            values = bindparam("values", type_=ARRAY(Text))
            query = query.where(column == func.any(values))
            self._statement = Statement(query, ("values",))
        else:
            chosen = column.in_(bindparam("values", expanding=True))
            self._query = query.where(chosen)

    def execute(
        self, connection: Connection, values: Sequence[str]
    ) -> CursorResult[Any]:
        """Carry out the query."""
        if self._statement is not None:
            return self._statement.execute(connection, to_array(values))
        return connection.execute(self._query, {"values": list(values)})
