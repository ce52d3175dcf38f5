"""What the text of statements depends on."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Select, Table


@dataclass(frozen=True)
class Flavour:
    """A kind of database, as a driver talks to it.

    :ivar skips_locked: rows can be locked so that others pass over them, instead of waiting
    """

    name: str
    driver: str
    paramstyle: str
    skips_locked: bool

    @property
    def locks_rows(self) -> bool:
        """Whether a row that was read for update stays as it is until the end of the transaction."""
        return self.is_mysql or self.name == "postgresql"

    @property
    def is_mysql(self) -> bool:
        return self.name in ("mysql", "mariadb")

    @property
    def table_options(self) -> dict[str, Any]:
        """What a table is created with: transactions are needed, and identifiers that differ in case are different ones.

        Options of other databases would do no harm, but SQLAlchemy loads all that it has of a database to check them.
        """
        if not self.is_mysql:
            return {}
        return {
            f"{self.name}_engine": "InnoDB",
            f"{self.name}_default_charset": "utf8mb4",
            f"{self.name}_collate": "utf8mb4_bin",
        }

    def only_where(self, condition: Any, *names: str) -> dict[str, Any]:
        """Return the options of an index on the rows that meet a condition, in databases of these names."""
        return {f"{self.name}_where": condition} if self.name in names else {}

    @property
    def takes_arrays(self) -> bool:
        """Whether a list can be one parameter of a statement."""
        return self.name == "postgresql" and self.driver in ("psycopg", "psycopg2")

    def lock(
        self, query: Select[Any], table: Table, *columns: str, waits: bool = False
    ) -> Select[Any]:
        """Return a query that locks what it reads.

        :param columns: those of the index that leads to the rows; none for the primary key
        :param waits: wait for rows that others have locked; otherwise they are left out, where that is possible
        """
        if not self.locks_rows:
            return query
        if self.is_mysql:
            # Looking through the whole table would lock all of it.
            index = _index_on(table, columns) if columns else "PRIMARY"
            query = query.with_hint(table, f"FORCE INDEX ({index})")
        return query.with_for_update(skip_locked=self.skips_locked and not waits)


def _index_on(table: Table, columns: tuple[str, ...]) -> str:
    for index in table.indexes:
        found: list[Column[Any]] = list(index.columns)
        if tuple(column.name for column in found[: len(columns)]) == columns:
            return str(index.name)
    raise LookupError(f"Table {table.name} has no index on {', '.join(columns)}")
