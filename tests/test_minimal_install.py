"""A program needs only the distributions that it names, installed from their wheels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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


Run = Callable[[str], str]


@pytest.fixture(scope="module")
def python(environments: Any) -> Path:
    """Return the interpreter of an environment with the wheels of this module alone."""
    made: Path = environments.make([ROOT / member for member in MEMBERS], WANTED)
    return made


@pytest.fixture
def run_program(environments: Any, python: Path) -> Run:
    return lambda text: environments.run(python, "-c", text)


def test_the_code_comes_from_the_wheels(run_program: Run, python: Path) -> None:
    assert Path(run_program(ORIGIN)).is_relative_to(python.parent.parent)


def test_an_interval_job_runs_with_the_defaults(run_program: Run) -> None:
    assert run_program(INTERVAL_JOB) == "ran"


def test_a_store_that_is_not_installed_says_how_to_get_it(run_program: Run) -> None:
    assert run_program(REDIS_STORE) == (
        "No job store named 'redis' is installed. "
        "It comes with apscheduler-store-redis: pip install apscheduler-store-redis"
    )


def test_importing_a_store_that_is_not_installed_says_how_to_get_it(
    run_program: Run,
) -> None:
    assert run_program(REDIS_IMPORT) == (
        "apscheduler.jobstores.redis comes with apscheduler-store-redis: "
        "pip install apscheduler-store-redis"
    )
