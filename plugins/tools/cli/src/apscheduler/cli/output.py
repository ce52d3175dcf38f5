"""How commands answer: tables and lines for people, JSON for machines.

With ``--json`` exactly one JSON document goes to standard output; with ``--follow`` and the like one per line.
Times are in ISO 8601 with their offset, spans in seconds.
"""

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

Cell = str | Text | None

DASH = Text("-", "dim")

# So few items are done before anybody could read how far that has come.
MIN_SHOWN = 20


class Output:
    """Where the answer of a command goes.

    :ivar is_json: whether machines read it
    """

    def __init__(self, is_json: bool):
        self.is_json = is_json
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
        cells = [
            [DASH if cell is None else _as_text(cell) for cell in row] for row in rows
        ]
        if not cells:
            self.say(empty)
        elif self.console.is_terminal:
            table = Table(*columns, box=None, pad_edge=False, header_style="bold")
            for line in cells:
                table.add_row(*line)
            self.console.print(table)
        else:  # nothing is wrapped: for grep, and for files
            self._align([[Text(column) for column in columns], *cells])

    def _align(self, lines: Sequence[Sequence[Text]]) -> None:
        widths = [
            max(cell.cell_len for cell in column) for column in zip(*lines, strict=True)
        ]
        for line in lines:
            padded = (
                f"{cell.plain:<{width}}"
                for cell, width in zip(line, widths, strict=True)
            )
            click.echo("  ".join(padded).rstrip())

    def fields(self, values: Mapping[str, Cell]) -> None:
        """Write names and values, one pair per line; nothing with ``is_json``."""
        width = max(map(len, values), default=0)
        for name, value in values.items():
            line = Text(f"{name:<{width}}  ", "bold")
            line.append_text(DASH if value is None else _as_text(value))
            self.say(line)


def _as_text(value: str | Text) -> Text:
    return Text(value) if isinstance(value, str) else value


def progress(items: Sequence[T], what: str) -> Iterator[T]:
    """Go through items, and show on a terminal how far that has come; nothing is written to standard output."""
    console = Console(stderr=True)
    if not console.is_terminal or len(items) < MIN_SHOWN:
        yield from items
        return
    yield from track(items, what, console=console, transient=True)


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
