"""``plugins``, ``export``, ``import``, ``rewrite`` and ``completion``."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from apscheduler.cli.main import cli
from commands import Command

for module in ("apscheduler.jobstores.sqlalchemy", "apscheduler.triggers.interval"):
    pytest.importorskip(module)

STORE = "sqlite:///jobs.db"
PATIENCE = 30

COMMAND = Command(APSCHEDULER_STORE=STORE)
invoke, ask = COMMAND.invoke, COMMAND.ask


@pytest.fixture(autouse=True)
def two_jobs() -> None:
    """Jobs in the store."""
    for name in ("first", "second"):
        ask("jobs", "add", "--func", "builtins:print", "--id", name, "--interval", "5m")


def grace_times(store: str = STORE) -> dict[str, int | None]:
    jobs = json.loads(invoke("jobs", "list", "--json", APSCHEDULER_STORE=store).stdout)
    return {job["id"]: job["misfire_grace_time"] for job in jobs}


def test_an_option_of_many_jobs_is_changed() -> None:
    ask("rewrite", "--match", "f*", "--yes", "--grace-time", "5m")
    ask("rewrite", "--all", "--dry-run", "--grace-time", "9m")

    assert grace_times() == {"first": 300, "second": None}


def test_an_option_is_given_back_its_default_and_told_as_it_was_written() -> None:
    ask("rewrite", "first", "--grace-time", "5m", "--history", "5")
    (before,) = ask("jobs", "show", "first")

    result = invoke("rewrite", "first", "--grace-time", "any", "--history", "default")

    (after,) = ask("jobs", "show", "first")
    assert (before["history"], after["history"]) == (5, None)
    assert "has misfire_grace_time=any, history=default" in result.stdout


def test_nothing_to_rewrite_is_a_mistake() -> None:
    result = invoke("rewrite", "--all", "--yes")

    assert result.exit_code == 2
    assert "Give an option to change" in result.stderr


def test_jobs_are_moved_to_another_store_and_not_twice() -> None:
    ask("rewrite", "first", "--grace-time", "5m")
    ask("export", "jobs.json")

    copied = invoke("import", "jobs.json", "--store", "sqlite:///copy.db")
    again = invoke("import", "jobs.json", "--store", "sqlite:///copy.db")

    assert copied.stdout == "2 added, 0 replaced, 0 skipped.\n"
    assert again.exit_code == 1
    assert "nothing was added" in again.stderr
    assert grace_times("sqlite:///copy.db") == {"first": 300, "second": None}


def test_an_import_replaces_or_skips_on_demand() -> None:
    exported = invoke("export", "-").stdout
    Path("jobs.json").write_text(exported)
    ask("rewrite", "--all", "--yes", "--grace-time", "5m")

    skipped = ask("import", "jobs.json", "--skip")
    kept = grace_times()
    replaced = ask("import", "jobs.json", "--replace")

    assert (skipped["skipped"], replaced["replaced"]) == (2, 2)
    assert set(kept.values()) == {300}
    assert set(grace_times().values()) == {None}


@pytest.mark.parametrize(
    "content, message",
    [
        (b"[]", "must be a JSON object"),
        (b"[apscheduler]", "it is no JSON (Expecting value"),
        (b"\x80", "as 'apscheduler export' writes it"),
    ],
)
def test_a_file_that_is_no_export_is_refused_and_creates_no_store(
    content: bytes, message: str
) -> None:
    Path("jobs.json").write_bytes(content)

    result = invoke("import", "jobs.json", "--store", "sqlite:///other.db")

    assert result.exit_code == 1
    assert message in result.stderr
    assert not Path("other.db").exists()


def test_installed_components_are_listed_with_their_distributions() -> None:
    components = ask("plugins", "--kind", "trigger", "--load")["components"]

    (interval,) = [each for each in components if each["name"] == "interval"]
    assert interval["distribution"] == "apscheduler-trigger-interval"
    assert interval["installed"]
    assert interval["error"] is None


BROKEN = """
from apscheduler.hooks import hookimpl

class Trigger: ...

@hookimpl
def apscheduler_no_such_hook(): ...
"""
ENTRY_POINTS = """
[apscheduler]
broken-hooks = broken_plugins
[apscheduler.triggers]
broken = broken_plugins:Trigger
"""


def test_plugins_that_are_refused_are_not_listed_as_if_they_worked(
    project: Path,
) -> None:
    info = project / "broken_plugins-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: broken-plugins\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (project / "broken_plugins.py").write_text(BROKEN)

    done = subprocess.run(
        [sys.executable, "-m", "apscheduler.cli", "plugins", "--load", "--json"],
        env={**os.environ, "PYTHONPATH": str(project)},
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    assert done.stderr == ""
    answer = json.loads(done.stdout)
    (hook,) = [each for each in answer["hooks"] if each["name"] == "broken-hooks"]
    assert hook["error"].startswith("skipped: PluginValidationError: unknown hook")
    (trigger,) = [each for each in answer["components"] if each["name"] == "broken"]
    assert "Trigger must be a subclass of BaseTrigger" in trigger["error"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_get_a_script_that_completes(shell: str) -> None:
    assert "_APSCHEDULER_COMPLETE" in invoke("completion", shell).stdout


def test_ids_of_jobs_are_completed() -> None:
    completed = CliRunner().invoke(
        cli,
        [],
        prog_name="apscheduler",
        env={
            "APSCHEDULER_STORE": STORE,
            "_APSCHEDULER_COMPLETE": "bash_complete",
            "COMP_WORDS": "apscheduler jobs pause f",
            "COMP_CWORD": "3",
        },
    )

    assert completed.stdout == "plain,first\n"
