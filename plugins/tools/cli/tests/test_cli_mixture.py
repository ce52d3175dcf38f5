"""What the command says when another package is where the core was."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PATIENCE = 30
PIP = "pip uninstall -y apscheduler"


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A place that comes first on the path, with the command in a package that lacks the core."""
    place = tmp_path / "site-packages"
    command = importlib.util.find_spec("apscheduler.cli")
    assert command is not None and command.origin is not None
    shutil.copytree(Path(command.origin).parent, place / "apscheduler" / "cli")
    (place / "apscheduler" / "__init__.py").touch()
    return place


def install(place: Path, name: str, version: str, file: str) -> None:
    info = place / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text(f"{file},,\n")


def start(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "apscheduler.cli", *arguments],
        env={**os.environ, "PYTHONPATH": str(place)},
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.mark.parametrize("arguments", [("--version",), ("doctor", "jobs.ini")])
def test_a_package_that_was_installed_over_this_one_is_named_with_what_mends_it(
    broken: Path, arguments: tuple[str, ...]
) -> None:
    install(broken, "APScheduler", "3.11.3", "apscheduler/__init__.py")
    (broken / "apscheduler" / "job.py").write_text("class Job: pass\n")

    done = start(broken, *arguments)

    assert done.returncode == 1
    assert done.stderr.startswith("Error: The distribution APScheduler 3.11.3 brings")
    assert PIP in done.stderr and "apscheduler-cli==" in done.stderr
    assert done.stderr.count("\n") == 1


def test_files_that_another_package_took_away_are_told_of(broken: Path) -> None:
    install(broken, "apscheduler-core", "3.20.0", "apscheduler/util.py")

    done = start(broken, "doctor")

    assert done.returncode == 1
    assert done.stderr.startswith("Error: Files of apscheduler-core are gone")
    assert PIP in done.stderr
    assert done.stderr.count("\n") == 1


def test_another_error_is_not_hidden(broken: Path) -> None:
    (broken / "click.py").write_text("import of_nobody")

    done = start(broken, "doctor")

    assert "No module named 'of_nobody'" in done.stderr
    assert "Traceback" in done.stderr
