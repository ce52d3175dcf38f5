"""What ``run`` shows at a terminal, in a pipe, and to machines: real processes, ended by real signals."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Group
from rich.text import Text

for module in (
    "apscheduler.schedulers.blocking",
    "apscheduler.executors.pool",
    "apscheduler.jobstores.memory",
    "apscheduler.triggers.interval",
):
    pytest.importorskip(module)

if not hasattr(os, "login_tty"):
    pytest.skip("there are no pseudo-terminals here", allow_module_level=True)

from apscheduler.cli.reporters.live import LiveReporter
from apscheduler.schedulers.blocking import BlockingScheduler

PATIENCE = 30
SHOW_CURSOR = "\x1b[?25h"
STYLING = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# What a view is drawn with: erase a line, go up; and everything else.
DRAWING = re.compile(r"\x1b\[2K|\x1b\[1A|\x1b\[[0-9;?]*[A-Za-z]|[\r\n]|[^\r\n\x1b]+")

CONFIG = """
    [apscheduler]
    timezone = UTC
    [apscheduler.jobs.tick]
    func = view_functions:tick
    trigger = interval
    seconds = 0.3
    [apscheduler.jobs.fail]
    func = view_functions:fail
    trigger = interval
    seconds = 0.4
    [apscheduler.jobs.work]
    func = view_functions:work
    next_run_time = 2020-01-01
    trigger = interval
    hours = 1
"""

LOG_IN = """
import os, sys
os.login_tty(int(sys.argv.pop(1)))
from apscheduler.cli import main
main()
"""

FUNCTIONS = """
import os
import time
from pathlib import Path

def tick():
    print("tick is heard", flush=True)

def fail():
    raise ValueError("no luck")

def work():
    os.system("echo work has begun")
    while not Path("go").exists():
        time.sleep(0.02)
"""


@pytest.fixture(autouse=True)
def functions(project: Path) -> None:
    (project / "view_functions.py").write_text(FUNCTIONS)
    (project / "jobs.ini").write_text(dedent(CONFIG))


def read_screen(raw: str) -> list[str]:
    """Return what somebody sees who looks at a terminal that is high enough for everything."""
    lines, row, column = [""], 0, 0
    for token in DRAWING.findall(raw):
        if token == "\x1b[2K":
            lines[row] = ""
        elif token == "\x1b[1A":
            row = max(0, row - 1)
        elif token == "\r":
            column = 0
        elif token == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif not token.startswith("\x1b"):
            kept = lines[row].ljust(column)
            column += len(token)
            lines[row] = kept[: column - len(token)] + token + kept[column:]
    return [line.rstrip() for line in lines]


class Terminal:
    """The command at a pseudo-terminal that is its controlling one."""

    def __init__(self, *arguments: str, **environment: str):
        self._master, slave = os.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", LOG_IN, str(slave), "run", "jobs.ini", *arguments],
            pass_fds=[slave],
            env={**os.environ, "TERM": "xterm", "LINES": "40", "COLUMNS": "100"}
            | environment,
        )
        os.close(slave)
        self._watchdog = threading.Timer(PATIENCE, self.process.kill)
        self._watchdog.start()
        self.raw = ""

    @property
    def text(self) -> str:
        """Everything that was written so far, without colours and the like."""
        return STYLING.sub("", self.raw).replace("\r", "")

    @property
    def lines(self) -> list[str]:
        """What somebody sees who looks at the terminal."""
        return read_screen(self.raw)

    def wait_for(self, pattern: str) -> None:
        while not re.search(pattern, self.text):
            assert self._read(), f"{pattern!r} is missing in {self.text}"

    def _read(self) -> bool:
        with suppress(OSError):  # the other end is closed
            data = os.read(self._master, 65536)
            self.raw += data.decode(errors="replace")
            return bool(data)
        return False

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def end(self) -> int:
        while self._read():
            pass
        return self.process.wait()

    def close(self) -> None:
        self._watchdog.cancel()
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    terminals: list[Terminal] = []

    def start(*arguments: str, **environment: str) -> Terminal:
        terminals.append(Terminal(*arguments, **environment))
        return terminals[-1]

    yield start
    for each in terminals:
        each.close()


def test_a_terminal_shows_what_comes_next_what_runs_and_how_runs_ended(
    terminal: Callable[..., Terminal],
) -> None:
    view = terminal()

    view.wait_for(r"Next\n(\d\d:\d\d:\d\d +(tick|fail) +(in|due)[^\n]*\n){2}")
    view.wait_for(r"Running\n\d\d:\d\d:\d\d  work  for \d")
    view.wait_for(r"Recent\n(.*\n)*?\d\d:\d\d:\d\d  tick +ok +took 0\.00 s")
    view.wait_for(r"fail +failed +took 0\.00 s; ValueError: no luck")
    view.wait_for(r"tick is heard\n")
    view.wait_for(r"\n[1-9]\d* runs?, [1-9]\d* failed")


def test_a_view_forgets_what_has_ended(terminal: Callable[..., Terminal]) -> None:
    view = terminal()
    view.wait_for(r"Running\n\d\d:\d\d:\d\d  work")

    Path("go").touch()

    view.wait_for(r"work +ok")
    view.wait_for(r"Running\nnothing")


@pytest.mark.parametrize("means", ["Ctrl+C", "SIGTERM"])
def test_a_view_ends_when_the_running_ones_have_and_leaves_the_terminal_as_it_was(
    terminal: Callable[..., Terminal], means: str
) -> None:
    view = terminal()
    view.wait_for(r"Running\n\d\d:\d\d:\d\d  work")

    if means == "Ctrl+C":
        view.type(b"\x03")
    else:
        view.process.send_signal(signal.SIGTERM)
    view.wait_for("Stopping when the running ones have ended")
    Path("go").touch()
    code = view.end()

    assert code == 0
    assert re.search(
        r"\nStopped after \d+ runs?(, \d+ of them failed)?\.\n$", view.text
    )
    assert SHOW_CURSOR in view.raw


def test_a_second_signal_shows_the_cursor_again(
    terminal: Callable[..., Terminal],
) -> None:
    view = terminal()
    view.wait_for(r"Running\n\d\d:\d\d:\d\d  work")

    view.type(b"\x03")
    view.wait_for("Stopping when")
    view.type(b"\x03")
    code = view.end()

    assert code == 128 + signal.SIGINT
    assert view.raw.rstrip().endswith(SHOW_CURSOR)


def test_records_of_logs_appear_above_the_view(
    terminal: Callable[..., Terminal],
) -> None:
    view = terminal("--log-level", "info")

    view.wait_for(r"INFO apscheduler\.scheduler: Scheduler started\n")
    view.wait_for(r"ERROR apscheduler\.executors\.default: Job \"fail")
    view.wait_for(r"raise ValueError\(\"no luck\"\)\n")


def test_what_jobs_and_their_processes_print_stands_above_one_view(
    terminal: Callable[..., Terminal],
) -> None:
    view = terminal()
    view.wait_for(r"(?s)(tick is heard\n.*){3}")
    view.wait_for("work has begun")
    view.wait_for(r"(?s)(Recent\n.*){5}")

    view.process.send_signal(signal.SIGTERM)
    Path("go").touch()
    view.end()

    text = "\n".join(view.lines)
    assert text.count("Next") <= 1
    assert view.lines.count("work has begun") == 1
    ticks = view.lines.count("tick is heard")
    assert ticks == view.text.count("tick is heard") >= 3
    assert text.index("work has begun") < text.index("Stopped after")


def test_what_is_printed_while_the_view_is_drawn_stands_above_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    file = Screen()
    terminal: Any = SimpleNamespace(file=file)
    view = LiveReporter(BlockingScheduler(timezone="UTC"), terminal)

    def print_lines() -> None:
        for _ in range(300):
            view._show_above("printed")

    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        view._live.start()
        thread = threading.Thread(target=print_lines)
        thread.start()
        for height in cycle(range(5)):
            view._show(Group(Text("Next"), *[Text("row")] * height))
            if not thread.is_alive():
                break
        view._live.stop()
    finally:
        sys.setswitchinterval(switching)

    lines = read_screen(file.getvalue())
    assert lines.count("printed") == 300
    assert lines.count("Next") == 1


@pytest.mark.parametrize(
    "arguments, environment", [(("--plain",), {}), ((), {"TERM": "dumb"})]
)
def test_a_terminal_gets_lines_on_demand_or_if_it_can_show_nothing_else(
    terminal: Callable[..., Terminal],
    arguments: tuple[str, ...],
    environment: dict[str, str],
) -> None:
    view = terminal(*arguments, **environment)

    view.wait_for(r"tick +ok +took 0\.00 s; next")
    view.process.send_signal(signal.SIGTERM)
    Path("go").touch()

    assert view.end() == 0
    assert "Running" not in view.text


def test_a_wrong_configuration_is_one_line_at_a_terminal_too(
    terminal: Callable[..., Terminal], project: Path
) -> None:
    (project / "jobs.ini").write_text("[apscheduler]\ntimezone = Mars\n")

    view = terminal()

    assert view.end() == 2
    assert view.text.count("\n") == 1


# Machines


def lines_of(process: "subprocess.Popen[str]") -> Iterator[dict[str, Any]]:
    assert process.stdout
    for line in process.stdout:
        yield json.loads(line)


@pytest.fixture
def machine() -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", "apscheduler.cli", "run", "jobs.ini", "--json"],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    watchdog = threading.Timer(PATIENCE, process.kill)
    watchdog.start()
    yield process
    watchdog.cancel()
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_machines_get_an_object_per_line_from_the_start_to_the_end(
    machine: "subprocess.Popen[str]", number: int
) -> None:
    documents, names = [], []
    wanted = {"run_succeeded", "run_failed"}
    for document in lines_of(machine):
        documents.append(document)
        names.append(document["event"])
        if wanted and wanted <= set(names):
            wanted = set()
            machine.send_signal(number)
        if document["event"] == "stopping":
            Path("go").touch()
    code = machine.wait()
    assert machine.stderr
    errors = machine.stderr.read()

    first = {document["event"]: document for document in reversed(documents)}
    assert code == 0
    assert (names[0], names[-1]) == ("starting", "stopped")
    assert first["starting"]["timezone"] == "UTC"
    assert names.index("job_added") < names.index("scheduler_started")
    assert first["run_succeeded"]["job_id"] == "tick"
    assert first["run_succeeded"]["exception"] is None
    assert first["run_failed"]["exception"] == "ValueError: no luck"
    assert "in fail\n" in first["run_failed"]["traceback"]
    submitted = {
        run_id
        for document in documents
        if document["event"] == "run_submitted"
        for run_id in document["run_ids"]
    }
    assert first["run_succeeded"]["run_id"] in submitted
    assert first["stopped"]["runs"] == sum(
        name in ("run_succeeded", "run_failed") for name in names
    )
    assert "tick is heard\n" in errors
    assert "work has begun\n" in errors


def test_a_machine_is_told_of_a_failing_start_in_json(
    machine: "subprocess.Popen[str]", project: Path
) -> None:
    (project / "jobs.ini").write_text("[apscheduler]\ntimezone = Mars\n")

    done = subprocess.run(
        [sys.executable, "-m", "apscheduler.cli", "run", "jobs.ini", "--json"],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert json.loads(done.stderr)["error"]["kind"] == "configuration"
