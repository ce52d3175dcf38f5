"""The command: what it prints, which code it exits with, and how it takes signals."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from textwrap import dedent
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from apscheduler.cli.main import CommandGroup, cli
from apscheduler.cli.shared import Duration, format_seconds
from apscheduler.hooks import get_hooks, hookimpl

for module in (
    "apscheduler.schedulers.background",
    "apscheduler.executors.pool",
    "apscheduler.jobstores.memory",
    "apscheduler.triggers.cron",
    "apscheduler.triggers.interval",
):
    pytest.importorskip(module)

PATIENCE = 30

FUNCTIONS = """
import time
from pathlib import Path

def tick(text="tick"):
    print(text, flush=True)

def fail():
    raise ValueError("no luck")

def work():
    print("begin", flush=True)
    while not Path("go").exists():
        time.sleep(0.02)
    print("end", flush=True)
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with functions, that commands in this process find as well."""
    (tmp_path / "cli_functions.py").write_text(FUNCTIONS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("cli_functions", None)


def write(text: str, name: str = "jobs.ini") -> str:
    Path(name).write_text(dedent(text))
    return name


TICK = """
    [apscheduler.jobs.tick]
    func = cli_functions:tick
    trigger = interval
    seconds = 0.2
"""


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, catch_exceptions=False)


# The command line


def test_the_version_is_that_of_the_distribution() -> None:
    assert (
        invoke("--version").output
        == f"apscheduler, version {version('apscheduler-cli')}\n"
    )


def test_help_says_where_functions_are_looked_for_and_which_codes_there_are() -> None:
    output = " ".join(invoke("run", "--help").output.split())

    assert "as if by a script beside CONFIG" in output
    assert "Exit codes: 0 stopped as asked" in output


DURATIONS = [
    ("10", 10),
    ("10s", 10),
    ("1.5s", 1.5),
    ("5m", 300),
    ("1h30m", 5400),
    ("2d", 172800),
    ("1D2H", 93600),
]


@pytest.mark.parametrize("text, seconds", DURATIONS)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "ten", "5x", "-5s", "1m1h"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write for example 10s"):
        Duration().convert(text, None, None)


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0.004, "0.00 s"),
        (3, "3 s"),
        (12.3, "12 s"),
        (75, "1 min 15 s"),
        (3700, "1 h 1 min"),
    ],
)
def test_spans_of_time_are_readable(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_missing_argument_is_a_usage_error(command: str) -> None:
    assert invoke(command).exit_code == 2


def test_plugins_add_commands() -> None:
    @click.command()
    def hello() -> None:
        click.echo("hello")

    class Plugin:
        @hookimpl
        def apscheduler_cli_commands(self) -> Sequence[Any]:
            return [hello]

    plugin = Plugin()
    get_hooks().register(plugin, name="hello-plugin")
    try:
        group = CommandGroup("apscheduler", commands=dict(cli.commands))
        result = CliRunner().invoke(group, ["hello"])
    finally:
        get_hooks().unregister(plugin)

    assert result.output == "hello\n"


def test_a_plugin_whose_commands_fail_is_named_and_the_others_work() -> None:
    class Plugin:
        @hookimpl
        def apscheduler_cli_commands(self) -> Sequence[Any]:
            raise ImportError("no such thing")

    plugin = Plugin()
    get_hooks().register(plugin, name="broken-plugin")
    try:
        group = CommandGroup("apscheduler", commands=dict(cli.commands))
        result = CliRunner().invoke(group, ["--help"])
    finally:
        get_hooks().unregister(plugin)

    assert "'broken-plugin' are missing: no such thing" in result.output
    assert result.exit_code == 0
    assert "check" in result.output


# check


def test_check_says_what_is_fine_and_when_jobs_would_run() -> None:
    path = write(
        TICK
        + """
    [apscheduler]
    timezone = UTC
    [apscheduler.jobstores.default]
    type = memory
    [apscheduler.jobs.new_year]
    func = cli_functions:tick
    crontab = 0 0 1 1 *
    """
    )

    result = invoke("check", path)

    assert result.exit_code == 0
    assert "job store 'default': memory" in result.output
    assert re.search(
        r"job 'tick': cli_functions:tick, interval\[.*\]; next \S+, \S+, \S+\n",
        result.output,
    )
    assert re.search(r"'new_year': .*next \d{4}-01-01 00:00:00, ", result.output)
    assert result.output.endswith("jobs.ini is fine.\n")


def test_check_lists_all_problems() -> None:
    path = write(
        """
        [apscheduler]
        timezon = UTC
        [apscheduler.jobstores.default]
        type = mongodbb
        [apscheduler.jobs.a]
        func = nowhere:f
        trigger = interval
        seconds = 1
        [apscheduler.jobs.b]
        func = cli_functions:tick
        crontab = 0 0 30 2 *
        [apscheduler.jobs.c]
        func = cli_functions:tick
        kwargs = {"txet": "x"}
        trigger = interval
        secnds = 1
        """
    )

    result = invoke("check", path)

    lines = [line for line in result.output.splitlines() if line.startswith("problem")]
    expected = ["timezon", "mongodbb", "nowhere:f", "never fires", "secnds"]
    assert result.exit_code == 1
    assert len(lines) == len(expected)
    for words in expected:
        assert sum(words in line for line in lines) == 1
    assert result.output.endswith("5 problems.\n")


def test_check_names_the_distribution_of_a_plugin_that_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from apscheduler import checks, plugins

    def load(kind: plugins.Kind, name: str) -> type:
        raise plugins.PluginNotFoundError(kind, name)

    monkeypatch.setattr(checks, "load_component", load)

    result = invoke("check", write("[apscheduler.jobstores.default]\ntype = redis"))

    assert "pip install apscheduler-store-redis" in result.output


def test_check_passes_on_what_triggers_warn_about() -> None:
    path = write(
        """
        [apscheduler.jobs.a]
        func = cli_functions:tick
        crontab = 0 0 * * 1
        dialect = apscheduler
        """
    )

    result = invoke("check", path)

    assert re.search(r"note +In the crontab line .* means tue", result.output)
    assert result.exit_code == 0


@pytest.mark.parametrize("command, code", [("run", 2), ("check", 1)])
@pytest.mark.parametrize("config", ["gone.ini", "x.yaml"])
def test_a_file_that_cannot_be_read_is_one_clear_line(
    command: str, code: int, config: str
) -> None:
    Path("x.yaml").touch()

    result = invoke(command, config)

    assert result.exit_code == code
    assert f"{config}: " in result.output
    assert "Traceback" not in result.output


# run


class Process:
    """The command in a process of its own."""

    def __init__(self, *arguments: str, **environment: str):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "apscheduler.cli", *arguments],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "TZ": "UTC", **environment},
        )
        self._watchdog = threading.Timer(PATIENCE, self.process.kill)
        self._watchdog.start()
        self.lines: list[str] = []

    def wait_for(self, words: str) -> str:
        """Return the first line from here on that contains these words."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)
            if words in line:
                return line
        raise AssertionError(f"{words!r} is missing in {self.lines} {self.errors()}")

    def errors(self) -> str:
        assert self.process.stderr
        return self.process.stderr.read()

    def end(self) -> tuple[int, str, str]:
        """Wait for the end and return the exit code, the output and the errors."""
        output, errors = self.process.communicate()
        return self.process.returncode, "".join(self.lines) + output, errors

    def close(self) -> None:
        self._watchdog.cancel()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    processes: list[Process] = []

    def start(*arguments: str, **environment: str) -> Process:
        processes.append(Process(*arguments, **environment))
        return processes[-1]

    yield start
    for process in processes:
        process.close()


@pytest.mark.parametrize("kind", ["blocking", "background"])
def test_run_tells_what_runs_next_and_what_has_run_and_stops_in_time(
    start: Callable[..., Process], kind: str
) -> None:
    path = write(f"[apscheduler]\nscheduler = {kind}\ntimezone = UTC" + dedent(TICK))

    code, output, errors = start("run", path, "--for", "1s").end()

    assert (code, errors) == (0, "")
    assert "runs jobs.ini, times are in UTC. It stops after 1 s." in output
    assert re.search(
        r"\n\d\d:\d\d:\d\d  tick      new      next \d\d:\d\d:\d\d\n", output
    )
    assert re.search(r"\n\d\d:\d\d:\d\d  tick      ok       took 0.00 s; next ", output)
    assert re.search(r"\nStopped after [1-5] runs?\.\n", output)
    assert "\x1b[" not in output


def test_functions_are_found_beside_the_configuration_from_anywhere(
    start: Callable[..., Process], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project / write(TICK)
    (project / "elsewhere").mkdir()
    monkeypatch.chdir(project / "elsewhere")

    process = start("run", str(path))

    assert process.wait_for("tick\n")


def test_a_job_that_fails_is_reported_and_does_not_fail_the_command(
    start: Callable[..., Process],
) -> None:
    path = write(TICK.replace("functions:tick", "functions:fail"))

    process = start("run", path)
    line = process.wait_for("failed")
    process.process.send_signal(signal.SIGTERM)
    code, output, errors = process.end()

    assert code == 0
    assert re.search(r"tick      failed   took .*ValueError: no luck; next", line)
    assert re.search(r"Stopped after (\d+) runs?, \1 of them failed\.", output)
    assert 'raise ValueError("no luck")' in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_after_running_jobs_have_ended(
    start: Callable[..., Process], number: int
) -> None:
    process = start("run", write(WORK))
    process.wait_for("begin")

    process.process.send_signal(number)
    process.wait_for("Stopping when the runs that are going on have ended")
    Path("go").touch()
    code, output, errors = process.end()

    assert (code, errors) == (0, "")
    assert "\nend\n" in output
    assert output.endswith("Stopped after 1 run.\n")


def test_a_second_signal_aborts_running_jobs(start: Callable[..., Process]) -> None:
    process = start("run", write(WORK))
    process.wait_for("begin")

    process.process.send_signal(signal.SIGTERM)
    process.wait_for("Stopping when")
    process.process.send_signal(signal.SIGINT)
    code, output, _ = process.end()

    assert code == 128 + signal.SIGINT
    assert "end\n" not in output


WORK = """
    [apscheduler.jobs.work]
    func = cli_functions:work
    next_run_time = 2020-01-01
    trigger = interval
    hours = 1
"""


def test_an_idle_scheduler_stops_at_once(start: Callable[..., Process]) -> None:
    process = start("run", write("[apscheduler]\ntimezone = UTC"))
    process.wait_for("There are no jobs yet.")

    process.process.send_signal(signal.SIGTERM)

    code, output, errors = process.end()
    assert (code, errors) == (0, "")
    assert output.endswith("Stopped after 0 runs.\n")


def test_an_asyncio_scheduler_finishes_its_coroutines(
    start: Callable[..., Process], project: Path
) -> None:
    pytest.importorskip("apscheduler.schedulers.asyncio")
    (project / "cli_functions.py").write_text(
        dedent("""
        import asyncio
        from pathlib import Path
        async def work():
            print("begin", flush=True)
            while not Path("go").exists():
                await asyncio.sleep(0.02)
            print("end", flush=True)
        """)
    )
    path = write("[apscheduler]\nscheduler = asyncio" + dedent(WORK))
    process = start("run", path)
    process.wait_for("begin")

    process.process.send_signal(signal.SIGTERM)
    process.wait_for("Stopping when the runs that are going on have ended")
    Path("go").touch()
    code, output, errors = process.end()

    assert (code, errors) == (0, "")
    assert "\nend\n" in output


@pytest.mark.parametrize(
    "text, message",
    [
        (TICK.replace("tick", "nothing"), "has no 'nothing'"),
        ("[apscheduler]\ntimezone = Mars", r"x.ini, \[apscheduler\] timezone = 'Mars'"),
        ("[apscheduler.jobs.a]\nfunc = a:b", r"x.ini, \[apscheduler.jobs.a\] trigger"),
    ],
)
def test_a_wrong_configuration_exits_with_2_and_without_a_traceback(
    text: str, message: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "apscheduler.cli", "run", write(text, "x.ini")],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    assert done.returncode == 2
    assert re.search(message, done.stderr)
    assert "Traceback" not in done.stderr


def test_a_store_that_does_not_start_exits_with_1_and_without_a_traceback(
    project: Path,
) -> None:
    (project / "cli_functions.py").write_text(
        dedent("""
        from apscheduler.jobstores.memory import MemoryJobStore
        class Store(MemoryJobStore):
            def start(self, scheduler, alias):
                raise OSError("nobody at home")
        """)
    )
    path = write("[apscheduler.jobstores.default]\nclass = cli_functions:Store")
    done = subprocess.run(
        [sys.executable, "-m", "apscheduler.cli", "run", path],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    assert done.returncode == 1
    assert done.stderr == "Error: The scheduler cannot run: OSError: nobody at home\n"


def test_a_second_start_shows_that_jobs_were_kept(
    start: Callable[..., Process],
) -> None:
    pytest.importorskip("apscheduler.jobstores.sqlalchemy")
    store = "[apscheduler.jobstores.default]\ntype = sqlalchemy\nurl = sqlite:///jobs.sqlite\n"
    path = write(store + dedent(TICK))
    first = start("run", path)
    first.wait_for(" ok ")
    first.process.send_signal(signal.SIGTERM)
    assert first.end()[0] == 0

    second = start("run", path)

    assert second.wait_for("1 job, all of them kept from the last time:")
    assert re.search(
        r"tick +kept .*last run \d\d:\d\d:\d\d, ok", second.wait_for("kept  ")
    )


@pytest.fixture
def left() -> Sequence[str]:
    """Where there is a job of an earlier time."""
    pytest.importorskip("apscheduler.jobstores.sqlalchemy")
    store = ("--store", "sqlite:///jobs.sqlite")
    added = ("--func", "cli_functions:tick", "--id", "left", "--interval", "5m")
    assert invoke("jobs", "add", *added, *store).exit_code == 0
    return store


def test_run_tells_of_jobs_that_cannot_be_restored_rather_than_that_there_are_none(
    start: Callable[..., Process], left: Sequence[str], project: Path
) -> None:
    (project / "cli_functions.py").unlink()

    process = start("run", *left)

    assert process.wait_for("1 job, none of which can be restored here:")
    assert re.search("left +cannot run +.*cli_functions", process.wait_for("left"))


def test_run_tells_of_a_job_whose_executor_is_not_there(
    start: Callable[..., Process], left: Sequence[str]
) -> None:
    assert invoke("rewrite", "left", "--executor", "slow", *left).exit_code == 0

    process = start("run", *left)

    assert process.wait_for("1 job, all of them kept from the last time:")
    assert re.search(
        r"left +cannot run +no executor 'slow' is configured; next ",
        process.wait_for("left"),
    )


def test_run_creates_no_store_of_which_only_the_url_is_known() -> None:
    pytest.importorskip("apscheduler.jobstores.sqlalchemy")

    result = invoke("run", "--store", "sqlite:///jbos.sqlite")

    assert result.exit_code == 1
    assert "There is nothing in sqlite:///jbos.sqlite yet" in result.stderr
    assert not Path("jbos.sqlite").exists()
