"""The example of a distribution with plugins of every kind, installed from its wheel, in an environment of its own."""

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = ROOT / "examples" / "third_party_plugin"

MEMBERS = [
    "core",
    "plugins/stores/memory",
    "plugins/executors/pool",
    "plugins/schedulers/blocking",
    "plugins/schedulers/background",
    "plugins/triggers/cron",
    "plugins/triggers/date",
    "plugins/triggers/interval",
    "plugins/tools/testing",
]
WANTED = [
    "apscheduler-scheduler-background",
    "apscheduler-trigger-date",
    "apscheduler-trigger-interval",
    "office-scheduling[test]",
]
LIBRARIES = ["pytest"]

PROGRAM = """
import sys, threading
from apscheduler.config import create_scheduler
from apscheduler.events import EVENT_JOB_EXECUTED

ran = threading.Event()
scheduler = create_scheduler(sys.argv[1])
scheduler.add_listener(lambda event: ran.set(), EVENT_JOB_EXECUTED)
scheduler.start()
print(*(f"{job.id}: {job.trigger}" for job in scheduler.get_jobs()), sep="; ")
assert ran.wait(40)
scheduler.shutdown()
"""

# Building and installing takes longer than a test may.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def python(environments: Any) -> Path:
    sources = [*(ROOT / member for member in MEMBERS), PLUGIN]
    made: Path = environments.make(sources, WANTED, LIBRARIES)
    return made


def test_its_own_tests_pass_where_only_wheels_are_installed(
    environments: Any, python: Path
) -> None:
    options = ["-q", "-c", "/dev/null", "-p", "no:cacheprovider"]
    paths = ["--rootdir", str(PLUGIN), str(PLUGIN / "tests")]

    output = environments.run(
        python, "-m", "pytest", *options, *paths, PYTHONDONTWRITEBYTECODE="1"
    )

    assert re.search(r"^\d+ passed", output, re.MULTILINE), output
    assert "failed" not in output


def test_a_configuration_uses_them_all_by_name(
    environments: Any, python: Path, tmp_path: Path
) -> None:
    path = tmp_path / "office.toml"
    text = (PLUGIN / "office.toml").read_text()
    path.write_text(text.replace("office.json", str(tmp_path / "office.json")))
    journal = tmp_path / "journal.txt"

    output = environments.run(
        python, "-c", PROGRAM, path, OFFICE_JOURNAL=str(journal)
    ).splitlines()

    assert "cleaning: weekend" in output[0]
    assert "Hello" in output
    assert journal.read_text().startswith("greeting took ")
    assert '"greeting"' in (tmp_path / "office.json").read_text()


def shown_files() -> list[tuple[Path, str]]:
    """Return the pages that show files, with the names that they give them."""
    return [
        (page, name)
        for page in sorted((ROOT / "docs" / "how-to").glob("write-a*.md"))
        if page.name != "write-a-scheduler.md"  # there is none among them
        for name in re.findall(r"<!-- file: (\S+) -->", page.read_text("utf-8"))
    ]


@pytest.mark.parametrize(
    ("page", "name"), shown_files(), ids=lambda value: Path(value).name
)
def test_pages_show_its_files_as_they_are(page: Path, name: str) -> None:
    below = "tests" if name.startswith("test_") else "src"
    shown = re.search(
        rf"<!-- file: {name} -->\n```python\n(.*?)^```$",
        page.read_text("utf-8"),
        re.MULTILINE | re.DOTALL,
    )

    assert shown is not None
    assert shown[1] == (PLUGIN / below / name).read_text("utf-8")
