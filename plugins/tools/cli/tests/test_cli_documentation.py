"""The commands in the documentation, and those in help texts, are right."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from apscheduler.cli.main import COMMANDS, cli

DOCS = Path(__file__).parents[4] / "docs"
PAGE = DOCS / "how-to" / "command-line.md"
FILE = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", re.DOTALL)

needs_docs = pytest.mark.skipif(
    not DOCS.is_dir(), reason="the documentation is part of the checkout only"
)


@needs_docs
def test_the_commands_of_the_page_run_one_after_the_other() -> None:
    for module in ("jobstores.sqlalchemy", "triggers.calendarinterval"):
        pytest.importorskip(f"apscheduler.{module}")
    page = PAGE.read_text("utf-8")
    for name, text in FILE.findall(page):
        Path(name).write_text(text)
    commands = re.findall(r"^apscheduler (.+)$", page, re.MULTILINE)

    assert commands
    for command in commands:
        result = CliRunner().invoke(cli, shlex.split(command))
        assert result.exit_code == 0, f"{command}\n{result.output}"


def walk(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Give the path of every command; of a group, that of itself and those below."""
    if path:
        yield path
    if not isinstance(command, click.Group):
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from walk(found, (*path, name))


ALL = [path for name in COMMANDS for path in walk(cli, ()) if path[0] == name]


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_a_help_text_with_examples_that_can_be_parsed(
    path: tuple[str, ...],
) -> None:
    text = CliRunner().invoke(cli, [*path, "--help"]).output
    begin = f"apscheduler {' '.join(path)}"
    examples = re.findall(rf"^ +({begin}(?: .*)?)$", text, re.MULTILINE)

    assert examples
    for example in examples:
        command: click.Command = cli
        name, *words = shlex.split(example)
        while isinstance(command, click.Group):
            name = words.pop(0)
            found = command.get_command(click.Context(command), name)
            assert found is not None
            command = found
        command.make_context(name, words)


def test_the_first_help_text_names_every_command() -> None:
    output = CliRunner().invoke(cli, ["--help"]).output

    assert {path[0] for path in ALL} == COMMANDS.keys()
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", output, re.MULTILINE), name
