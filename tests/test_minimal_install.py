"""A program needs only the distributions that it names, installed from their wheels."""

import os
import subprocess
import sys
import zipfile
from importlib.metadata import distribution, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent

MEMBERS = [
    "core",
    "plugins/stores/memory",
    "plugins/executors/pool",
    "plugins/triggers/interval",
    "plugins/schedulers/blocking",
    "plugins/schedulers/background",
]
WANTED = ["apscheduler-scheduler-background", "apscheduler-trigger-interval"]

INTERVAL_JOB = """
from threading import Event

from apscheduler.schedulers.background import BackgroundScheduler

ran = Event()
with_defaults = BackgroundScheduler()
with_defaults.start()
with_defaults.add_job(ran.set, "interval", seconds=1)
print("ran" if ran.wait(20) else "did not run")
with_defaults.shutdown()
"""

REDIS_STORE = """
from apscheduler.schedulers.background import BackgroundScheduler

try:
    BackgroundScheduler({"apscheduler.jobstores.default": {"type": "redis"}})
except LookupError as exc:
    print(exc)
"""

REDIS_IMPORT = """
try:
    from apscheduler.jobstores.redis import RedisJobStore
except ImportError as exc:
    print(exc)
"""

ORIGIN = """
import apscheduler
print(apscheduler.__file__)
"""

# Building and installing takes longer than a test may.
pytestmark = pytest.mark.timeout(300)


def run(*command: str | Path, cwd: Path) -> str:
    """Return what a command prints; it sees nothing of this environment."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "PIP_", "VIRTUAL_ENV", "COV"))
    }
    done = subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def wheel_of_installed(name: str, directory: Path) -> None:
    """Make a wheel of a pure Python distribution as it is installed here.

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


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of an environment with the wheels of this module alone."""
    directory = tmp_path_factory.mktemp("minimal")
    wheels = directory / "wheels"
    for member in MEMBERS:
        build: list[str | Path] = [
            "-m",
            "hatchling",
            "build",
            "-t",
            "wheel",
            "-d",
            wheels,
        ]
        run(sys.executable, *build, cwd=ROOT / member)
    for text in requires("apscheduler-core") or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate():
            wheel_of_installed(requirement.name, wheels)

    environment = directory / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=directory)
    interpreter = environment / "bin" / "python"
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", interpreter]
    offline: list[str | Path] = ["install", "-q", "--no-index", "--find-links", wheels]
    run(*pip, *offline, *WANTED, cwd=directory)
    return interpreter


def run_program(python: Path, text: str) -> str:
    return run(python, "-W", "error", "-c", text, cwd=python.parent)


def test_the_code_comes_from_the_wheels(python: Path) -> None:
    assert Path(run_program(python, ORIGIN)).is_relative_to(python.parent.parent)


def test_an_interval_job_runs_with_the_defaults(python: Path) -> None:
    assert run_program(python, INTERVAL_JOB) == "ran"


def test_a_store_that_is_not_installed_says_how_to_get_it(python: Path) -> None:
    assert run_program(python, REDIS_STORE) == (
        "No job store named 'redis' is installed. "
        "It comes with apscheduler-store-redis: pip install apscheduler-store-redis"
    )


def test_importing_a_store_that_is_not_installed_says_how_to_get_it(
    python: Path,
) -> None:
    assert run_program(python, REDIS_IMPORT) == (
        "apscheduler.jobstores.redis comes with apscheduler-store-redis: "
        "pip install apscheduler-store-redis"
    )
