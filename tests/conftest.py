"""Environments of their own, with nothing in them but the wheels that a test wants."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from importlib.metadata import distribution, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement


class Environments:
    """Makes environments and runs programs in them."""

    def __init__(self, make_directory: Any):
        self._make_directory = make_directory

    def make(
        self,
        sources: Sequence[Path],
        wanted: Sequence[str],
        libraries: Sequence[str] = (),
    ) -> Path:
        """Return the interpreter of an environment with distributions that are built from their sources.

        :param wanted: which of them to install by name; what they need comes with them
        :param libraries: which third-party distributions they need besides those of core; what these need comes along
        """
        directory: Path = self._make_directory("environment")
        wheels = directory / "wheels"
        for source in sources:
            build: list[str | Path] = ["-m", "hatchling", "build", "-t", "wheel"]
            self._run(sys.executable, *build, "-d", wheels, cwd=source)
        needed = _needed_by("apscheduler-core").union(
            libraries, *map(_needed_by, libraries)
        )
        for library in needed:
            _make_wheel_of_installed(library, wheels)
        environment = directory / "environment"
        venv = ["-m", "venv", "--without-pip"]
        self._run(sys.executable, *venv, environment, cwd=directory)
        python = environment / "bin" / "python"
        pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", python]
        offline: list[str | Path] = ["--no-index", "--find-links", wheels]
        self._run(*pip, "install", "-q", *offline, *wanted, cwd=directory)
        return python

    def run(self, python: Path, *arguments: str | Path, **variables: str) -> str:
        """Return what a program of an environment prints, warnings being errors."""
        cwd = python.parent
        return self._run(
            *(python, "-W", "error", *arguments), cwd=cwd, variables=variables
        )

    def _run(
        self, *command: str | Path, cwd: Path, variables: dict[str, str] | None = None
    ) -> str:
        """Return what a command prints; it sees nothing of this environment."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "PIP_", "VIRTUAL_ENV", "COV"))
        }
        done = subprocess.run(
            [*map(str, command)],
            cwd=cwd,
            env={**environment, **(variables or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout.strip()


def _needed_by(name: str) -> set[str]:
    """Return the names of the distributions that one needs, here and now, and those that these need."""
    needed: set[str] = set()
    for text in requires(name) or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": ""}):
            needed |= {requirement.name, *_needed_by(requirement.name)}
    return needed


def _make_wheel_of_installed(name: str, directory: Path) -> None:
    """Make a wheel of a distribution as it is installed here, which fits this interpreter.

    So the test installs the real third-party libraries and needs no network.
    """
    found = distribution(name)
    label = f"{found.name.replace('-', '_')}-{found.version}"
    left_out = {"INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"}
    with zipfile.ZipFile(directory / f"{label}-py3-none-any.whl", "w") as wheel:
        for path in found.files or ():
            if (
                "__pycache__" in path.parts
                or path.name in left_out
                or ".." in path.parts
            ):
                continue
            wheel.write(str(path.locate()), path.as_posix())


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Environments:
    """Return what makes environments."""
    return Environments(tmp_path_factory.mktemp)
