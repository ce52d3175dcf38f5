"""The configuration examples in the READMEs of stores, executors and schedulers work, as dictionary and as INI."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from apscheduler.config import create_scheduler, load_config
from apscheduler.distributions import COMPONENTS
from apscheduler.events import EVENT_JOB_EXECUTED
from apscheduler.plugins import load_component
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.testing.servers import Server

ROOT = Path(__file__).resolve().parent.parent
SOON = 30
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# The server that the example of a store is about.
SERVERS = {
    "redis": "own_redis",
    "mongodb": "own_mongodb",
    "etcd": "own_etcd",
    "zookeeper": "own_zookeeper",
}
STORES = ["memory", "sqlalchemy", *SERVERS]
SCHEDULERS = sorted(COMPONENTS["scheduler"])
EXECUTORS = {
    "asyncio": ["asyncio"],
    "debug": ["debug"],
    "gevent": ["gevent"],
    "pool": ["threadpool", "processpool"],
    "tornado": ["tornado"],
    "twisted": ["twisted"],
}


def test_every_plugin_of_these_kinds_is_looked_at() -> None:
    for kind, names in [
        ("stores", STORES),
        ("executors", EXECUTORS),
        ("schedulers", SCHEDULERS),
    ]:
        there = {path.parent.name for path in ROOT.glob(f"plugins/{kind}/*/README.md")}
        assert there == set(names)


def blocks_of(kind: str, name: str, language: str) -> list[str]:
    page = ROOT / "plugins" / kind / name / "README.md"
    found = BLOCK.findall(page.read_text("utf-8"))
    return [text for block_language, text in found if block_language == language]


def execute(example: str, **names: Any) -> dict[str, Any]:
    """Return the names that an example defines."""
    exec(example, names)  # noqa: S102  # it is ours
    return names


@pytest.fixture(autouse=True)
def in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def store_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(request: pytest.FixtureRequest, store_name: str) -> Any:
    """Return a server for the store, None if it needs none."""
    fixture = SERVERS.get(store_name)
    return request.getfixturevalue(fixture) if fixture else None


def on_server(text: str, server: Server | None) -> str:
    """Return an example with the address of a server that is there."""
    if server is None:
        return text
    assert str(server.standard_port) in text
    text = text.replace("localhost", "127.0.0.1")
    return text.replace(str(server.standard_port), str(server.port))


def nothing() -> str:
    return "ran"


def run_a_job(scheduler: BaseScheduler, store_name: str) -> None:
    """Run one on the store that the example has configured."""
    store = scheduler._jobstores["default"]
    assert type(store) is load_component("jobstore", store_name)
    ran = threading.Event()
    scheduler.add_listener(lambda event: ran.set(), EVENT_JOB_EXECUTED)
    scheduler.start()
    try:
        scheduler.add_job(nothing, "interval", hours=1, id="hourly")
        scheduler.run_job("hourly")
        assert ran.wait(SOON)
        assert scheduler.get_job("hourly") is not None
    finally:
        scheduler.shutdown()


@pytest.mark.parametrize("store_name", STORES, indirect=True)
def test_store_that_is_configured_by_a_dictionary_keeps_jobs(
    store_name: str, server: Server | None
) -> None:
    example = blocks_of("stores", store_name, "python")[0]

    names = execute(on_server(example, server))

    run_a_job(names["scheduler"], store_name)


@pytest.mark.parametrize("store_name", STORES, indirect=True)
def test_store_that_is_configured_by_a_file_keeps_jobs(
    store_name: str, server: Server | None, tmp_path: Path
) -> None:
    (example,) = blocks_of("stores", store_name, "ini")
    path = tmp_path / "scheduler.ini"
    path.write_text(on_server(example, server))

    run_a_job(create_scheduler(path), store_name)


def schedulers_by_name() -> dict[str, type[BaseScheduler]]:
    classes = [load_component("scheduler", name) for name in SCHEDULERS]
    return {cls.__name__: cls for cls in classes}


@pytest.mark.parametrize("plugin", EXECUTORS)
def test_executor_is_configured_alike_by_dictionary_and_by_file(
    plugin: str, tmp_path: Path
) -> None:
    example = blocks_of("executors", plugin, "python")[0]
    names = execute(example, **schedulers_by_name())
    (example,) = blocks_of("executors", plugin, "ini")
    path = tmp_path / "scheduler.ini"
    path.write_text(example)

    by_dictionary, by_file = names["scheduler"], create_scheduler(path)

    expected = {load_component("executor", name) for name in EXECUTORS[plugin]}
    for scheduler in (by_dictionary, by_file):
        assert set(map(type, scheduler._executors.values())) == expected
    assert by_dictionary._executors.keys() == by_file._executors.keys()
    for alias, executor in by_dictionary._executors.items():
        assert limit_of(by_file._executors[alias]) == limit_of(executor)


def limit_of(executor: Any) -> int | None:
    """Return how many workers an executor has, if it has a limit."""
    pool = getattr(executor, "executor", None) or getattr(executor, "_pool", None)
    return getattr(pool, "_max_workers", None)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_scheduler_is_configured_alike_by_dictionary_and_by_file(
    name: str, tmp_path: Path
) -> None:
    names = execute(blocks_of("schedulers", name, "python")[1])
    (example,) = blocks_of("schedulers", name, "ini")
    path = tmp_path / "scheduler.ini"
    path.write_text(example)
    cls: Any = load_component("scheduler", name)

    by_dictionary, by_file = cls(names["config"]), cls(load_config(path))

    assert str(by_dictionary.timezone) == str(by_file.timezone) == "Europe/Berlin"
    kinds = [type(s._executors["default"]) for s in (by_dictionary, by_file)]
    assert kinds[0] is kinds[1]
    assert isinstance(
        by_dictionary._executors["default"],
        load_component("executor", cls.default_executor),
    )


@pytest.mark.parametrize("name", SCHEDULERS)
def test_program_of_a_scheduler_runs_its_job(name: str, tmp_path: Path) -> None:
    program = blocks_of("schedulers", name, "python")[0]
    program = re.sub(r"(seconds=10|minutes=5)\b", "seconds=0.1", program)
    if name == "background":  # it is for programs that have something else to do
        program += "\nimport time\ntime.sleep(60)\n"
    path = tmp_path / "program.py"
    path.write_text(program)
    environment = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "QT_QPA_PLATFORM": "offscreen",
    }

    with subprocess.Popen(
        [sys.executable, "-W", "error", path],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline().strip() for _ in range(3)]
        finally:
            process.kill()

    assert lines in (["tick"] * 3, ["collecting"] * 3)
