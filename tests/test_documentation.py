"""The documentation tells the truth: its examples run, and nothing that exists is left out.

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

from apscheduler import events
from apscheduler.distributions import COMPONENTS
from apscheduler.hooks import Specifications
from apscheduler.settings import JOB_DEFAULT_TYPES, KNOWN_KEYS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

PAGES = {
    path.relative_to(ROOT).as_posix(): path
    for path in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        *sorted(DOCS.rglob("*.md")),
    ]
    if "_build" not in path.parts
}
PLUGINS = sorted(
    path.parent.relative_to(ROOT / "plugins").as_posix()
    for path in ROOT.glob("plugins/*/*/pyproject.toml")
)
PLUGIN_HEADINGS = [
    "What it is for",
    "Install",
    "Configure",
    "Behaviour worth knowing",
    "Limits",
]

FENCE = re.compile(
    r"^(?P<fence>```+)(?P<language>[^`\n]*)\n(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
INCLUDE = re.compile(
    r"^```{include} (?P<path>.+)\n"
    r":start-after: \"(?P<after>.+)\"\n"
    r"(?::end-before: \"(?P<before>.+)\"\n)?```$",
    re.MULTILINE,
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


def headings_in(text: str, level: int) -> list[str]:
    return re.findall(rf"^#{{{level}}} (.+)$", FENCE.sub("", text), re.MULTILINE)


def headings_of(path: Path, level: int) -> list[str]:
    return headings_in(path.read_text("utf-8"), level)


def include(page: Path, directive: re.Match[str]) -> str:
    """Return what a directive puts into a page."""
    text = (page.parent / directive["path"]).read_text("utf-8")
    for phrase in filter(None, (directive["after"], directive["before"])):
        assert phrase in text
    text = text.partition(directive["after"])[2]
    return text.partition(directive["before"])[0] if directive["before"] else text


@pytest.mark.parametrize("page", PAGES)
def test_python_examples_of_a_page_run(page: str, tmp_path: Path) -> None:
    blocks = list(read_blocks(PAGES[page]))
    for block in blocks:
        if block.file:
            (tmp_path / block.file).write_text(block.text)
    program = make_program(blocks)
    tests = sorted(path.name for path in tmp_path.glob("test_*.py"))
    if not program and not tests:
        pytest.skip("there is nothing to run in this page")

    if program:
        (tmp_path / "page.py").write_text(program)
        output = run("page.py", cwd=tmp_path)
        assert "Exception in thread" not in output, output
    if tests:
        output = run("-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, cwd=tmp_path)
        assert " passed" in output


# What a reader does by hand: where the checkout is, and an environment to install into.
BY_HAND = {
    "git clone REPOSITORY apscheduler",
    "cd apscheduler",
    "python3 -m venv my-environment",
}
BIN = re.compile(r"^(?:\.venv|my-environment)/bin/")


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_are_right(page: str, tmp_path: Path) -> None:
    blocks = list(read_blocks(PAGES[page]))
    for block in blocks:
        if block.file:
            (tmp_path / block.file).write_text(block.text)

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
    while arguments:
        argument = arguments.pop(0)
        if argument == "--find-links":
            assert arguments.pop(0) == "dist"
        elif argument.startswith("./"):
            assert (ROOT / argument / "pyproject.toml").exists(), argument
        else:
            check_requirement(argument)


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


@pytest.mark.parametrize("page", PAGES)
def test_blocks_that_do_not_run_have_correct_syntax(page: str) -> None:
    for block in read_blocks(PAGES[page]):
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


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_of_a_page_lead_somewhere(page: str) -> None:
    text = FENCE.sub("", PAGES[page].read_text("utf-8"))
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (PAGES[page].parent / target).exists(), target


@pytest.mark.parametrize("page", [name for name in PAGES if name.startswith("docs/")])
def test_pages_have_one_sentence_per_line(page: str) -> None:
    text = FENCE.sub("", PAGES[page].read_text("utf-8"))
    crowded = [
        line
        for line in text.splitlines()
        if not line.startswith("|") and re.search(r"[a-z)`][.!?] [A-Z`]", line)
    ]

    assert crowded == []


@pytest.mark.parametrize("page", PAGES)
def test_only_distributions_that_exist_are_named(page: str) -> None:
    ours = {
        tomllib.loads(path.read_text("utf-8"))["project"]["name"]
        for path in ROOT.glob("plugins/*/*/pyproject.toml")
    }
    named = re.findall(
        r"apscheduler-(?:store|executor|trigger|scheduler)-[a-z]+",
        PAGES[page].read_text("utf-8"),
    )

    assert set(named) <= ours


@pytest.mark.parametrize("plugin", PLUGINS)
def test_every_plugin_has_a_page_with_the_usual_headings(plugin: str) -> None:
    kinds, name = plugin.split("/")
    kind = "" if kinds == "tools" else f"{kinds.removesuffix('s')}-"
    path = DOCS / "how-to" / "plugins" / f"{kind}{name}.md"

    text = INCLUDE.sub(lambda match: include(path, match), path.read_text("utf-8"))

    assert headings_in(text, 2) == PLUGIN_HEADINGS


HOOKS = sorted(name for name in vars(Specifications) if name.startswith("apscheduler"))


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_a_heading(hook: str) -> None:
    assert f"`{hook}`" in headings_of(DOCS / "reference" / "hooks.md", 2)


EVENTS = sorted(name for name in events.__all__ if name.startswith("EVENT_"))


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_has_a_row(event: str) -> None:
    page = (DOCS / "reference" / "events.md").read_text("utf-8")

    assert re.search(rf"^\| `{event}` \|", page, re.MULTILINE)


@pytest.mark.parametrize("key", sorted(KNOWN_KEYS | set(JOB_DEFAULT_TYPES)))
def test_every_configuration_key_has_a_row(key: str) -> None:
    page = (DOCS / "reference" / "configuration.md").read_text("utf-8")

    assert re.search(rf"^\| `{key}` \|", page, re.MULTILINE)


@pytest.mark.parametrize(
    "reference",
    [
        reference
        for components in COMPONENTS.values()
        for reference in components.values()
    ],
)
def test_every_component_that_exists_is_in_the_reference(reference: str) -> None:
    module, _, name = reference.partition(":")
    below = module.replace(".", "/")
    places = [f"{below}.py", f"{below}/__init__.py"]
    sources = [ROOT / "core/src", *ROOT.glob("plugins/*/*/src")]
    if not any((source / place).exists() for source in sources for place in places):
        pytest.skip("it is planned, but not there")

    pages = "".join(p.read_text("utf-8") for p in (DOCS / "reference").glob("*.md"))

    assert f"{module}.{name}" in pages or f"automodule:: {module}\n" in pages


def rooms() -> list[str]:
    """Return the modules of core, as a reader of the directory sees them."""
    source = ROOT / "core" / "src" / "apscheduler"
    return sorted(
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if path.name != "__init__.py"
    )


@pytest.mark.parametrize("room", rooms())
def test_every_module_of_core_is_in_the_architecture(room: str) -> None:
    page = (DOCS / "explanation" / "architecture.md").read_text("utf-8")

    assert f"`{room}`" in page


# What a program written for APScheduler 3 may notice.
DEVIATIONS = [
    "Late runs still happen",
    "A job with an unknown executor stays",
    "A job that cannot be restored stays",
    "Runs are claimed before they start",
    "Several schedulers on one store",
    "Jobs that are declared again keep their time",
    "Cron and the clock change",
    "Weekday numbers in crontab lines",
    "Unknown configuration keys",
    "Components that are not here",
    "New job options",
    "New events",
]


def test_every_deviation_is_listed() -> None:
    assert headings_of(DOCS / "how-to" / "migrate.md", 3) == DEVIATIONS


@pytest.mark.parametrize("deviation", DEVIATIONS)
def test_every_deviation_says_how_to_go_back(deviation: str) -> None:
    page = (DOCS / "how-to" / "migrate.md").read_text("utf-8")
    section = re.split(r"^###? ", page.partition(f"### {deviation}\n")[2], flags=re.M)[0]

    assert section.count("**To go back:**") == 1



def test_components_that_are_not_here_are_listed() -> None:
    page = (DOCS / "how-to" / "migrate.md").read_text("utf-8")
    rows = {
        row[0]: set(re.findall(r"`(\w+)`", row[1]))
        for row in re.findall(r"^\| ([a-z ]+) \| (`.+) \|$", page, re.MULTILINE)
    }
    here = {path.split("/")[1] for path in PLUGINS}
    names = {"job stores": "jobstore", "executors": "executor", "schedulers": "scheduler"}

    for words, kind in names.items():
        missing = {
            name
            for name, reference in COMPONENTS[kind].items()
            if reference.partition(":")[0].rpartition(".")[2] not in here
        }
        assert rows.get(words, set()) - {"rethinkdb"} == missing
