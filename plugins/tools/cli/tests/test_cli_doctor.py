"""What ``doctor`` finds."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import Distribution
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from apscheduler.cli.doctor import installation
from apscheduler.jobstores.contract import NativeJobStore
from apscheduler.nodes import Identity
from apscheduler.testing.jobs import EverySecond, make_stored_job
from commands import Command

for module in ("apscheduler.jobstores.sqlalchemy", "apscheduler.triggers.interval"):
    pytest.importorskip(module)

from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore

STORE = "sqlite:///jobs.db"
PATIENCE = 30

COMMAND = Command(APSCHEDULER_STORE=STORE)
invoke, ask = COMMAND.invoke, COMMAND.ask


def details_of_nodes() -> list[dict[str, Any]]:
    return [
        finding["details"]
        for finding in json.loads(invoke("doctor", "--json").stdout)["findings"]
        if "node" in finding["details"]
    ]


@pytest.fixture(autouse=True)
def two_jobs(project: Path) -> None:
    """Jobs in the store."""
    for name in ("first", "second"):
        ask("jobs", "add", "--func", "builtins:print", "--id", name, "--interval", "5m")


@pytest.fixture
def store(two_jobs: None) -> Iterator[NativeJobStore]:
    store = SQLAlchemyJobStore(STORE)
    store.start(None, "default")
    yield store
    store.shutdown()


@pytest.fixture
def scheduler(project: Path, two_jobs: None) -> Iterator["subprocess.Popen[str]"]:
    """A process that runs a job for as long as there is no file ``go``."""
    (project / "doctor_functions.py").write_text(
        dedent("""
        import time
        from pathlib import Path
        def work():
            print("begin", flush=True)
            while not Path("go").exists():
                time.sleep(0.02)
        """)
    )
    ask(*("jobs", "add", "--func", "doctor_functions:work"), "--id", "work", *NOW)
    process = subprocess.Popen(
        [sys.executable, "-m", "apscheduler.cli", "run", "--store", STORE],
        text=True,
        stdout=subprocess.PIPE,
    )
    watchdog = threading.Timer(PATIENCE, process.kill)
    watchdog.start()
    assert process.stdout
    while "begin" not in process.stdout.readline():
        assert process.poll() is None
    yield process
    watchdog.cancel()
    process.kill()
    process.communicate()


NOW = ("--date", "now")


def test_the_doctor_finds_nothing_wrong_where_nothing_is() -> None:
    report = ask("doctor")

    assert report["ok"]
    texts = " ".join(finding["text"] for finding in report["findings"])
    assert "it can be written to" in texts
    assert "it has 2 jobs, 0 of them paused" in texts


def test_the_doctor_looks_at_the_installation_alone_if_no_store_is_known() -> None:
    result = invoke("doctor", APSCHEDULER_STORE="")

    assert result.exit_code == 0
    assert "ok       package apscheduler: " in result.stdout
    assert "ok       plugins: " in result.stdout
    assert "ok       job stores: none was examined: give a" in result.stdout


def test_the_doctor_names_a_job_that_cannot_run_here(project: Path) -> None:
    (project / "leaving.py").write_text("def work(): pass\n")
    ask("jobs", "add", "--func", "leaving:work", "--id", "left", "--interval", "5m")
    (project / "leaving.py").write_text("")
    sys.modules.pop("leaving", None)
    result = invoke("doctor")

    assert result.exit_code == 1
    assert "job 'left' cannot run here: LookupError" in result.stdout


def test_the_doctor_names_a_store_that_cannot_be_opened_and_hides_its_password() -> (
    None
):
    pytest.importorskip("psycopg")
    url = "postgresql://me:hidden-word@127.0.0.1:1/db"

    result = invoke("doctor", "--store", url)

    assert result.exit_code == 1
    assert "problem  job store 'default': it cannot be opened" in result.stdout
    assert "hidden-word" not in result.output


def test_the_doctor_finds_another_package_in_the_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    info = tmp_path / "APScheduler-3.11.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: APScheduler\nVersion: 3.11.3\n")
    (info / "RECORD").write_text("apscheduler/__init__.py,,\n")
    (tmp_path / "apscheduler").mkdir()
    (tmp_path / "apscheduler" / "__init__.py").touch()
    rival = Distribution.at(info)
    monkeypatch.setattr(installation, "distributions", lambda: [rival])

    found = list(installation.examine_installation([]))

    assert found[0].level == "problem"
    assert "the distribution apscheduler 3.11.3 brings a package" in found[0].text


@pytest.mark.parametrize("name", ["apscheduler.py", "apscheduler/__init__.py"])
def test_the_doctor_finds_a_module_of_that_name_where_programs_import_from(
    project: Path, name: str
) -> None:
    (project / name).parent.mkdir(exist_ok=True)
    (project / name).touch()

    result = invoke("doctor")

    assert result.exit_code == 1
    assert f"may get {name} there in place of this one" in result.stdout


def test_distributions_of_several_versions_are_found() -> None:
    ours = {"apscheduler-core": "3.20.0", "apscheduler-cli": "3.20.0"}

    finding = installation._compare_versions(
        {**ours, "apscheduler-store-redis": "3.19.0"}
    )

    assert finding.level == "problem"
    assert "most are 3.20.0, but there is apscheduler-store-redis 3.19.0" in (
        finding.text
    )


def test_broken_plugins_are_found_without_a_store(project: Path) -> None:
    info = project / "broken_plugins-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: broken-plugins\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        dedent("""
        [apscheduler]
        unknown-hook = broken_plugins
        gone-hooks = gone_plugins
        [apscheduler.triggers]
        gone = gone_plugins.triggers:Trigger
        """)
    )
    (project / "broken_plugins.py").write_text(
        "from apscheduler.hooks import hookimpl\n"
        "@hookimpl\n"
        "def apscheduler_no_such_hook(): ...\n"
    )

    done = subprocess.run(
        [sys.executable, "-m", "apscheduler.cli", "doctor", "--json"],
        check=False,
        env={**os.environ, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    assert (done.returncode, done.stderr) == (1, "")
    texts = {
        each["subject"]: each["text"] for each in json.loads(done.stdout)["findings"]
    }
    assert "unknown hook" in texts["hook plugin 'unknown-hook'"]
    assert "No module named 'gone_plugins'" in texts["hook plugin 'gone-hooks'"]
    assert "gone_plugins.triggers:Trigger" in texts["trigger 'gone'"]
    assert "plugins" not in texts


def test_a_store_that_is_not_configured_well_keeps_nobody_from_the_others() -> None:
    Path("jobs.ini").write_text(
        "[apscheduler.jobstores.broken]\ntype = nothing\n"
        f"[apscheduler.jobstores.default]\ntype = sqlalchemy\nurl = {STORE}\n"
    )

    result = invoke("doctor", "jobs.ini", APSCHEDULER_STORE="")

    assert result.exit_code == 1
    assert "problem  job store 'broken': it is not configured well: " in result.stdout
    assert "ok       job store 'default': it has 2 jobs" in result.stdout


def test_the_doctor_compares_the_clock_of_a_server(
    redis_url: str, redis_prefix: str
) -> None:
    redis = pytest.importorskip("redis")
    pytest.importorskip("apscheduler.jobstores.redis")
    keys = [f"{redis_prefix}jobs", f"{redis_prefix}times"]
    with redis.Redis.from_url(redis_url) as client:
        client.zadd(keys[1], {"nobody": 1e12})
    options = [
        f"--store-option={option}={key}"
        for option, key in zip(("jobs_key", "run_times_key"), keys, strict=True)
    ]

    report = ask("doctor", "--store", redis_url, *options)

    (offset,) = [
        each["details"]["offset_seconds"]
        for each in report["findings"]
        if "offset_seconds" in each["details"]
    ]
    assert isinstance(offset, float)


# Nodes and runs


def test_the_doctor_tells_a_scheduler_that_lives(
    scheduler: "subprocess.Popen[str]",
) -> None:
    (node,) = details_of_nodes()

    assert not node["is_dead"]
    assert (node["pid"], node["open_runs"]) == (scheduler.pid, 1)
    assert node["host"] == os.uname().nodename
    assert datetime.fromisoformat(node["renewed_at"]) <= datetime.now(UTC)


def test_the_doctor_tells_a_scheduler_that_died_and_what_it_owned(
    scheduler: "subprocess.Popen[str]",
) -> None:
    scheduler.send_signal(signal.SIGKILL)
    scheduler.wait()

    (node,) = details_of_nodes()
    output = invoke("doctor").stdout

    assert node["is_dead"]
    assert (node["pid"], node["open_runs"]) == (scheduler.pid, 1)
    assert "owns 1 run, " in output
    assert "it is dead, since its process is gone" in output


def test_a_scheduler_that_has_ended_leaves_nothing_to_tell(
    scheduler: "subprocess.Popen[str]",
) -> None:
    scheduler.send_signal(signal.SIGTERM)
    Path("go").touch()
    scheduler.wait()

    assert details_of_nodes() == []


def test_the_doctor_tells_of_lost_runs(
    scheduler: "subprocess.Popen[str]", store: NativeJobStore
) -> None:
    scheduler.send_signal(signal.SIGKILL)
    scheduler.wait()
    store.take_over(Identity().node, datetime.now(UTC))

    output = invoke("doctor").stdout

    assert "1 run lost within a day, such as of job 'work'" in output
    assert "0 runs going on, of 0 schedulers" in output


# Nothing there


def test_the_doctor_creates_nothing_where_nothing_is() -> None:
    report = ask("doctor", "--store", "sqlite:///other.db")

    assert "there is nothing of it yet" in report["findings"][-1]["text"]
    assert not Path("other.db").exists()


def test_the_doctor_writes_nothing_to_an_empty_server(
    redis_url: str, redis_prefix: str
) -> None:
    redis = pytest.importorskip("redis")
    pytest.importorskip("apscheduler.jobstores.redis")
    options = [
        f"--store-option={name}={redis_prefix}{name}"
        for name in ("jobs_key", "run_times_key")
    ]

    report = ask("doctor", "--store", redis_url, *options)

    assert "there is nothing of it yet" in report["findings"][-1]["text"]
    with redis.Redis.from_url(redis_url) as client:
        assert client.keys(f"{redis_prefix}*") == []


# Jobs that cannot run


def test_a_job_whose_executor_is_not_configured_is_told_of_alike_everywhere() -> None:
    Path("jobs.ini").write_text(
        f"[apscheduler.executors.default]\ntype = threadpool\n[apscheduler.jobstores.default]\ntype = sqlalchemy\nurl = {STORE}\n"
    )
    ask("rewrite", "first", "--executor", "slow")

    result = invoke("doctor", "jobs.ini", APSCHEDULER_STORE="")

    assert result.exit_code == 1
    assert (
        "job 'first' cannot run here: no executor 'slow' is configured. Configure "
        "[apscheduler.executors.slow], or give the job another one: 'apscheduler rewrite first --executor default'"
        in result.stdout
    )
    shown = invoke("jobs", "show", "first", "-c", "jobs.ini")
    assert "no: no executor 'slow' is configured. Configure" in shown.stdout
    listed = ask("jobs", "list", "--state", "unavailable", "-c", "jobs.ini")
    assert [each["id"] for each in listed] == ["first"]
    ask("rewrite", "first", "--executor", "default")
    assert invoke("doctor", "jobs.ini", APSCHEDULER_STORE="").exit_code == 0


@pytest.mark.parametrize("place", ["trigger", "combination", "argument"])
def test_the_doctor_names_a_job_with_a_class_that_is_not_there(
    project: Path,
    store: NativeJobStore,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    combining = pytest.importorskip("apscheduler.triggers.combining")
    (project / "leaving_class.py").write_text(
        dedent("""
        from apscheduler.triggers.base import BaseTrigger
        class Leaving(BaseTrigger):
            def get_next_fire_time(self, previous_fire_time, now):
                return None
        """)
    )
    monkeypatch.syspath_prepend(project)
    leaving = importlib.import_module("leaving_class").Leaving()
    options: dict[str, Any] = {
        "trigger": {"trigger": leaving},
        "combination": {"trigger": combining.OrTrigger([EverySecond(), leaving])},
        "argument": {"args": (1, {"key": [leaving]})},
    }
    time = datetime.now(UTC) + timedelta(hours=1)
    store.add_job(make_stored_job("left", time, **options[place]))
    (project / "leaving_class.py").unlink()
    del sys.modules["leaving_class"]

    result = invoke("doctor")
    listed = ask("jobs", "list", "--state", "unavailable")

    assert result.exit_code == 1
    assert re.search(r"job 'left' cannot run here: .*leaving_class", result.stdout)
    assert [job["id"] for job in listed] == ["left"]
