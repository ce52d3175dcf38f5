"""The documentation leaves nothing out that exists, and names nothing that does not."""

import re
import runpy
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

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
READMES = {
    path.relative_to(ROOT).as_posix(): path
    for path in [
        ROOT / "core/README.md",
        *sorted(ROOT.glob("plugins/*/*/README.md")),
        *sorted(ROOT.glob("examples/**/README.md")),
    ]
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

FENCE = re.compile(r"^(?P<fence>```+).*?^(?P=fence)$", re.MULTILINE | re.DOTALL)
INCLUDE = re.compile(
    r"^```{include} (?P<path>.+)\n"
    r":start-after: \"(?P<after>.+)\"\n"
    r"(?::end-before: \"(?P<before>.+)\"\n)?```$",
    re.MULTILINE,
)


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


@pytest.mark.parametrize("page", PAGES | READMES)
def test_relative_links_of_a_page_lead_somewhere(page: str) -> None:
    path = ROOT / page
    text = FENCE.sub("", path.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (path.parent / target).exists(), target


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


def test_the_reference_of_the_command_line_is_what_the_commands_say() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "document-commands"))

    assert script["PAGE"].read_text("utf-8") == script["describe_all"](), (
        "write the page anew: .venv/bin/python scripts/document-commands"
    )


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


def is_here(reference: str) -> bool:
    """Return whether the module of a component is in the checkout; some are planned."""
    below = reference.partition(":")[0].replace(".", "/")
    sources = [ROOT / "core/src", *ROOT.glob("plugins/*/*/src")]
    return any(
        (source / place).exists()
        for source in sources
        for place in (f"{below}.py", f"{below}/__init__.py")
    )


@pytest.mark.parametrize(
    "reference",
    [
        reference
        for components in COMPONENTS.values()
        for reference in components.values()
        if is_here(reference)
    ],
)
def test_every_component_that_exists_is_in_the_reference(reference: str) -> None:
    module, _, name = reference.partition(":")
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


@pytest.fixture(scope="module")
def architecture() -> dict[str, Any]:
    """What the script has that draws the architecture."""
    return runpy.run_path(str(ROOT / "scripts" / "draw-architecture"))


def test_the_drawing_of_the_architecture_is_up_to_date(
    architecture: dict[str, Any],
) -> None:
    assert architecture["DRAWING"].read_text("utf-8") == architecture["draw"](), (
        "draw it anew: python3 scripts/draw-architecture"
    )


def test_arrows_lead_to_what_is_imported_and_to_everything_that_is(
    architecture: dict[str, Any],
) -> None:
    drawing = ElementTree.parse(DOCS / "explanation" / "architecture.svg")
    titles = filter(None, (each.get("data-edge") for each in drawing.iter()))
    arrows = {tuple(title.split(" → ")) for title in titles}
    real: set[tuple[str, str]] = architecture["find_edges"]()
    reachable = {box: architecture["reachable"](box, arrows) for box, _ in real}

    assert arrows <= real
    assert [edge for edge in sorted(real) if edge[1] not in reachable[edge[0]]] == []
    assert [box for box in reachable if box in reachable[box]] == [], "going in circles"


def test_core_imports_no_plugin(architecture: dict[str, Any]) -> None:
    boxes = architecture["BOXES"]
    upwards = [
        (begin, end)
        for begin, end in architecture["find_edges"]()
        if boxes[end].plugins and not boxes[begin].plugins
    ]

    assert upwards == []


def test_modules_are_listed_above_those_that_they_import_and_with_their_room(
    architecture: dict[str, Any],
) -> None:
    page = (DOCS / "explanation" / "architecture.md").read_text("utf-8")
    rows = re.findall(r"^\| (.*) \| `([\w/.]+)` \| .* \|$", page, re.MULTILINE)
    places = {module: place for place, (_, module) in enumerate(rows)}
    modules = architecture["find_modules"]()

    def place_of(name: str) -> int | None:
        path = name.removeprefix("apscheduler.").replace(".", "/")
        return places.get(f"{path}.py", places.get(f"{path}/"))

    room, wrong = "", []
    rooms = [room := title or room for title, _ in rows]
    for name, (box, path) in modules.items():
        place = place_of(name)
        if place is None or architecture["BOXES"][box].plugins:
            continue
        if rooms[place] != box:
            wrong.append(f"{name} is in the room {box!r}")
        for target in architecture["find_imports"](path, modules, inside=False):
            below = place_of(target)
            if below is not None and below <= place and target != name:
                wrong.append(f"{name} imports {target}")

    assert wrong == []


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
    "The client of etcd",
    "RethinkDB",
    "New job options",
    "New events",
    "Coroutines that are cancelled",
    "Texts of errors and logs",
]


def test_every_deviation_is_listed() -> None:
    assert headings_of(DOCS / "how-to" / "migrate.md", 3) == DEVIATIONS


@pytest.mark.parametrize("deviation", DEVIATIONS)
def test_every_deviation_says_how_to_go_back(deviation: str) -> None:
    page = (DOCS / "how-to" / "migrate.md").read_text("utf-8")
    section = re.split(
        r"^###? ", page.partition(f"### {deviation}\n")[2], flags=re.MULTILINE
    )[0]

    assert section.count("**To go back:**") == 1


def test_every_component_that_is_planned_is_here() -> None:
    here = {path.split("/")[1] for path in PLUGINS}
    for kind in ("jobstore", "executor", "scheduler"):
        modules = {path.partition(":")[0] for path in COMPONENTS[kind].values()}
        assert {module.rpartition(".")[2] for module in modules} <= here
