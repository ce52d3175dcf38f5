"""The README agrees with the examples and plugins. Its commands and programs run in ``test_documentation_examples.py``."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")

SHOWN = [
    "examples/first_steps.py",
    "examples/third_party_trigger/noon_trigger.py",
    "examples/third_party_trigger/pyproject.toml",
]
WORDS = {
    "apscheduler.triggers": "trigger",
    "apscheduler.jobstores": "store",
    "apscheduler.executors": "executor",
    "apscheduler.schedulers": "scheduler",
}


def plugins() -> dict[str, tuple[str, set[str]]]:
    """Return distribution → (kind, configured names) of every plugin."""
    found = {}
    for path in ROOT.glob("plugins/*/*/pyproject.toml"):
        project = tomllib.loads(path.read_text("utf-8"))["project"]
        groups = project.get("entry-points", {})
        kinds = [word for group, word in WORDS.items() if group in groups] or ["tool"]
        names = {name for group in WORDS for name in groups.get(group, {})}
        found[project["name"]] = (kinds[0], names)
    return found


@pytest.mark.parametrize("path", SHOWN)
def test_files_are_shown_as_they_are(path: str) -> None:
    section = README.partition(f"`{path}`:")[2]
    block = re.search(r"^```\w+\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)

    assert block is not None
    assert block[1] == (ROOT / path).read_text("utf-8")


def test_plugin_table_lists_every_plugin_with_its_names() -> None:
    rows = re.findall(
        r"^\| (\w+) \|(.*?)\| `(apscheduler-[\w-]+)` \|", README, re.MULTILINE
    )
    listed = {
        distribution: (kind, set(re.findall(r"`(\w+)`", names)))
        for kind, names, distribution in rows
    }

    assert listed == plugins()


def test_extras_that_are_named_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = {
        extra
        for extras in re.findall(r"apscheduler\[([\w,]+)\]", README)
        for extra in extras.split(",")
    }

    assert named == set(project["optional-dependencies"])
