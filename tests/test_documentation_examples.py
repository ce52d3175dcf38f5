"""The examples of README and documentation run, and their commands are right.

In a page, all Python blocks together are one program, run in an empty directory. What an HTML comment before a block
says holds for that block:

``file: NAME``
    it is that file, in the same directory; files named ``test_*.py`` are run by pytest
``fragment: REASON``
    it cannot be run, for this reason; its syntax is still checked
"""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    path.relative_to(ROOT).as_posix(): path
    for path in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *ROOT.glob("docs/**/*.md"),
    ]
    if "_build" not in path.parts
}
# Their examples are parts of programs.
READMES = {
    path.relative_to(ROOT).as_posix(): path
    for path in [
        ROOT / "core/README.md",
        *ROOT.glob("plugins/*/*/README.md"),
        *ROOT.glob("examples/**/README.md"),
    ]
}

FENCE = re.compile(
    r"^(?P<fence>```+)(?P<language>[^`\n]*)\n(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
MARK = re.compile(r"<!-- (?P<key>\w+): (?P<value>.+) -->\n+\Z")
RUN_SECONDS = 40


@dataclass
class Block:
    """A fenced block of a page."""

    language: str
    text: str
    line: int
    file: str | None = None
    fragment: str | None = None


def read_blocks(path: Path) -> Iterator[Block]:
    page = path.read_text("utf-8")
    for match in FENCE.finditer(page):
        before = page[: match.start()]
        block = Block(match["language"], match["text"], before.count("\n") + 2)
        mark = MARK.search(before)
        if mark is not None:
            assert mark["key"] in ("file", "fragment"), mark[0]
            setattr(block, mark["key"], mark["value"])
        yield block


def write_file(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def make_program(blocks: list[Block]) -> str:
    """Return the Python blocks of a page, in the lines that they have in the page."""
    lines: list[str] = []
    for block in blocks:
        if block.language == "python" and not (block.file or block.fragment):
            lines += [""] * (block.line - 1 - len(lines))
            lines += block.text.splitlines()
    return "\n".join(lines) + "\n" if lines else ""


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *command],
        cwd=cwd,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def is_run(block: Block) -> bool:
    return block.language == "python" and not block.fragment


@pytest.mark.parametrize(
    "page", [name for name in PAGES if any(map(is_run, read_blocks(PAGES[name])))]
)
def test_python_examples_of_a_page_run(page: str, tmp_path: Path) -> None:
    blocks = list(read_blocks(PAGES[page]))
    for block in blocks:
        if block.file:
            write_file(tmp_path / block.file, block.text)
    program = make_program(blocks)
    tests = sorted(path.name for path in tmp_path.glob("test_*.py"))

    assert program or tests
    if program:
        (tmp_path / "page.py").write_text(program)
        output = run("page.py", cwd=tmp_path)
        assert "Exception in thread" not in output, output
    if tests:
        output = run(
            "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, cwd=tmp_path
        )
        assert " passed" in output


# What a reader does by hand: where the checkout is, and an environment to install into.
BY_HAND = {
    "git clone REPOSITORY apscheduler",
    "cd apscheduler",
    "python3 -m venv my-environment",
    "pip uninstall --yes apscheduler",
}
BIN = re.compile(r"^(?:\.venv|my-environment)/bin/")


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_are_right(page: str, tmp_path: Path) -> None:
    blocks = list(read_blocks(PAGES[page]))
    for block in blocks:
        if block.file:
            write_file(tmp_path / block.file, block.text)

    for block in blocks:
        for line in block.text.splitlines() if block.language == "sh" else ():
            if line not in BY_HAND:
                program, *arguments = shlex.split(BIN.sub("", line))
                COMMANDS[program](arguments, tmp_path)


def check_make(arguments: list[str], directory: Path) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    target, *settings = arguments

    assert re.search(rf"^{re.escape(target)}:.* ## ", makefile, re.MULTILINE), target
    for setting in settings:
        assert f"\n{setting.partition('=')[0]} :=" in makefile, setting


def check_pip(arguments: list[str], directory: Path) -> None:
    """Check that what is installed exists, in this version, without installing it."""
    assert arguments.pop(0) == "install"
    if "--force-reinstall" in arguments:
        arguments.remove("--force-reinstall")
    while arguments:
        argument = arguments.pop(0)
        if argument == "--find-links":
            assert arguments.pop(0) == "dist"
        elif argument.startswith("./"):
            assert (ROOT / argument / "pyproject.toml").exists(), argument
        else:
            check_requirement(argument)


@pytest.mark.parametrize("page", PAGES | READMES)
def test_what_a_page_installs_is_among_our_wheels(page: str) -> None:
    for block in read_blocks(ROOT / page):
        for line in block.text.splitlines():
            program, _, arguments = BIN.sub("", line).partition(" ")
            if program == "pip" and line not in BY_HAND:
                assert arguments.startswith("install --find-links dist "), line
                check_pip(shlex.split(arguments), ROOT)


def check_requirement(text: str) -> None:
    requirement = Requirement(text)
    projects = {
        project["name"]: project
        for path in [ROOT / "pyproject.toml", *ROOT.glob("*/**/pyproject.toml")]
        if "plugins" in path.parts or path.parent in (ROOT, ROOT / "core")
        for project in [tomllib.loads(path.read_text("utf-8"))["project"]]
    }
    project = projects[requirement.name]
    assert str(requirement.specifier) == f"=={project['version']}"
    assert requirement.extras <= set(project.get("optional-dependencies", {}))


def check_python(arguments: list[str], directory: Path) -> None:
    if arguments[0] == "-c":
        run(*arguments, cwd=directory)
    else:  # run by test_examples.py
        assert (ROOT / arguments[0]).exists(), arguments[0]


def check_apscheduler(arguments: list[str], directory: Path) -> None:
    if arguments[1].startswith("examples/"):  # run by test_examples.py
        assert (ROOT / arguments[1]).exists(), arguments[1]
    else:
        run("-m", "apscheduler.cli", *arguments, cwd=directory)


COMMANDS: Mapping[str, Callable[[list[str], Path], None]] = {
    "apscheduler": check_apscheduler,
    "make": check_make,
    "pip": check_pip,
    "python": check_python,
}


@pytest.mark.parametrize("page", PAGES | READMES)
def test_blocks_that_do_not_run_have_correct_syntax(page: str) -> None:
    for block in read_blocks(ROOT / page):
        if block.language == "python":
            compile(block.text, f"{page}:{block.line}", "exec")
        elif block.language == "ini":
            ConfigParser(interpolation=None).read_string(block.text)
        elif block.language == "toml":
            tomllib.loads(block.text)


@pytest.mark.parametrize("page", PAGES)
def test_configuration_files_of_a_page_are_used_by_its_programs(page: str) -> None:
    blocks = list(read_blocks(PAGES[page]))
    users = "".join(b.text for b in blocks if b.language in ("python", "sh"))

    for block in blocks:
        if block.language in ("ini", "toml") and not block.fragment:
            assert block.file, f"{page}:{block.line} is neither a file nor a fragment"
            assert block.file in users or block.file == "pyproject.toml"
