"""How commands answer: tables and lines for people, JSON for machines.

With ``--json`` exactly one JSON document goes to standard output; with ``--follow`` and the like one per line.
Times are in ISO 8601 with their offset, spans in seconds.
"""

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

F = TypeVar("F", bound=Callable[..., Any])

Cell = str | Text | None

NOTHING = "-"


class Output:
    """Where the answer of a command goes.

    :ivar is_json: whether machines read it
    """

    def __init__(self, is_json: bool):
        self.is_json = is_json
        # On a pipe nothing is cut off, whatever its width is thought to be.
        self.console = Console(highlight=False)

    def document(self, value: Any) -> None:
        """Write one JSON document; call it once, and only with ``is_json``."""
        click.echo(json.dumps(value, indent=2, default=encode, ensure_ascii=False))

    def json_line(self, value: Any) -> None:
        """Write one JSON document on a line of its own, for answers that go on."""
        click.echo(json.dumps(value, default=encode, ensure_ascii=False))

    def say(self, text: str | Text, style: str = "") -> None:
        """Write a line for people; nothing with ``is_json``."""
        if not self.is_json:
            line = Text(text, style) if isinstance(text, str) else text
            self.console.print(line, soft_wrap=True)

    def line(self, word: str, style: str, text: str) -> None:
        """Write a line that begins with a coloured word; nothing with ``is_json``."""
        line = Text(f"{word:<7}  " if word else "", style)
        line.append(text, "default")
        self.say(line)

    def table(
        self, columns: Sequence[str], rows: Iterable[Sequence[Cell]], empty: str = ""
    ) -> None:
        """Write a table for people; nothing with ``is_json``.

        :param empty: what to say in place of a table without rows
        """
        if self.is_json:
            return
        table = Table(*columns, box=None, pad_edge=False, header_style="bold")
        for row in rows:
            cells = (Text(NOTHING, "dim") if cell is None else cell for cell in row)
            table.add_row(*(Text(c) if isinstance(c, str) else c for c in cells))
        if not table.row_count:
            self.say(empty)
        elif self.console.is_terminal:
            self.console.print(table)
        else:  # as wide as it needs to be, for grep and files
            width = self.console.measure(table, options=_unlimited(self)).maximum
            self.console.print(table, width=max(width, 1), no_wrap=True, crop=False)

    def fields(self, values: Mapping[str, Cell]) -> None:
        """Write names and values, one pair per line; nothing with ``is_json``."""
        width = max(map(len, values), default=0)
        for name, value in values.items():
            line = Text(f"{name:<{width}}  ", "bold")
            line.append(NOTHING if value is None else value, None if value else "dim")
            self.say(line)


def _unlimited(output: Output) -> Any:
    return output.console.options.update(width=100_000)


def output_options(command: F) -> F:
    """Give a command ``--json``; it gets an :class:`Output` as ``output``."""

    @click.option("--json", "is_json", is_flag=True, help="Answer in JSON.")
    @functools.wraps(command)
    def with_output(*args: Any, is_json: bool, **kwargs: Any) -> Any:
        return command(*args, output=Output(is_json), **kwargs)

    return with_output  # type: ignore[return-value]  # click needs no signature


def encode(value: object) -> Any:
    """Return what JSON can hold of a value that it does not know."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return repr(value)
