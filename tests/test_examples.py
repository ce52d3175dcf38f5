"""Every example runs, as its own program or distribution."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
TRIGGER = EXAMPLES / "third_party_trigger"


def run(*command: str | Path, cwd: Path, path: Path | None = None) -> str:
    """Return what a Python command prints, if it succeeds within the time of a test."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, "-W", "error", *map(str, command)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the third-party trigger installed into it, as pip does."""
    target = tmp_path_factory.mktemp("installed")
    options: list[str | Path] = [
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "--no-compile",
    ]
    pip = ["-m", "pip", "install", "-q", "--root-user-action=ignore", *options]
    run(*pip, "--target", target, TRIGGER, cwd=target)
    return target


def test_first_steps_ticks_and_stops(tmp_path: Path) -> None:
    lines = run(EXAMPLES / "first_steps.py", cwd=tmp_path).splitlines()

    assert [line for line in lines if line.startswith("It is ")]
    assert lines[-2:] == ["Time to go", "Stopped"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("asyncio", {"Hello you", "Working beside the loop"}),
        ("background", {"Hello you"}),
        ("gevent", {"Hello you"}),
        ("tornado", {"Hello from the server", "Working beside the loop"}),
        ("twisted", {"Hello from the server", "Working beside the reactor"}),
        ("qt", {"It is 20.5 degrees", "It is 22.5 degrees"}),
    ],
)
def test_application_runs_its_jobs_and_stops(
    tmp_path: Path, name: str, expected: set[str]
) -> None:
    program = EXAMPLES / f"{name}_application.py"

    lines = run(program, cwd=tmp_path).splitlines()

    assert expected <= set(lines)
    assert lines[-1] == "Stopped"


# Of each kind of store the fixtures that give the address of a server and a place there.
PLACES = {
    "memory": None,
    "sqlalchemy": None,
    "redis": ("redis_url", "redis_prefix"),
    "mongodb": ("mongodb_url", "mongodb_database_name"),
    "etcd": ("etcd_url", "etcd_path"),
    "zookeeper": ("zookeeper_url", "zookeeper_path"),
}


@pytest.mark.parametrize("kind", PLACES)
def test_jobs_in_a_store_are_found_by_the_next_program(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place = [request.getfixturevalue(name) for name in PLACES[kind] or ()]
    if kind in ("etcd", "zookeeper"):
        place[0] = place[0].rpartition("://")[2].partition("/")[0]
    program = EXAMPLES / "job_stores.py"

    first = run(program, kind, *place, cwd=tmp_path).splitlines()
    second = run(program, kind, *place, cwd=tmp_path).splitlines()

    assert [first[0], first[-1]] == ["New", "Stopped"]
    assert second[0] == ("New" if kind == "memory" else "Added before")
    assert "Hello you" in first
    assert "Hello you" in second


def test_third_party_trigger_keeps_the_promises_of_triggers(installed: Path) -> None:
    test = TRIGGER / "test_noon_trigger.py"
    options: list[str | Path] = [
        "-q",
        "-c",
        os.devnull,
        "--rootdir",
        TRIGGER,
        "-p",
        "no:cacheprovider",
    ]

    assert " passed" in run(
        "-m", "pytest", *options, test, cwd=installed, path=installed
    )


def test_third_party_trigger_is_found_by_its_name(installed: Path) -> None:
    command: list[str | Path] = [
        "-m",
        "apscheduler.cli",
        "check",
        TRIGGER / "lunch.ini",
    ]

    output = run(*command, cwd=installed, path=installed)

    assert "noon" in output
    assert "12:00:00" in output
