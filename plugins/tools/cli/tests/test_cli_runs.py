"""``apscheduler runs``: the history of a store, also without the code of the jobs."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from apscheduler.cli.client import Client, open_client
from apscheduler.cli.main import cli
from apscheduler.cli.shared import Past
from apscheduler.cli.sources import Source
from apscheduler.cli.watching import MAX_LOOKED_AT, Watch
from apscheduler.runs import Run, RunState
from commands import Command

for module in (
    "apscheduler.jobstores.sqlalchemy",
    "apscheduler.schedulers.background",
    "apscheduler.triggers.interval",
):
    pytest.importorskip(module)

STORE = "sqlite:///jobs.db"
COMMAND = Command("runs", APSCHEDULER_STORE=STORE)
invoke, ask = COMMAND.invoke, COMMAND.ask
CONFIG = {"apscheduler.jobstores.default": {"type": "sqlalchemy", "url": STORE}}
FUNCTIONS = """
from pathlib import Path

def good():
    Path("good_ran").touch()

def bad():
    raise ValueError("no paper\\nin the printer")
"""


def states(*arguments: str) -> list[tuple[str, str]]:
    return [(run["job_id"], run["state"]) for run in ask("list", *arguments)]


@contextmanager
def client() -> Iterator[Client]:
    opened = open_client(Source(url=STORE).config)
    try:
        yield opened
    finally:
        opened.shutdown()


def ready(job_id: str) -> str:
    """Have a run wait to be started."""
    with client() as opened:
        return opened.run_job(job_id).id


def execute(run_id: str) -> Run:
    """Have a scheduler run what waits, until this run has ended."""
    from apscheduler.schedulers.background import BackgroundScheduler

    scheduler = BackgroundScheduler(CONFIG)
    scheduler.start()
    try:
        run = scheduler.wait_for_run(run_id, timeout=30)
    finally:
        scheduler.shutdown()
    assert run is not None
    return run


@pytest.fixture(autouse=True)
def functions(project: Path) -> Path:
    """The module of the jobs, with a job for each function in the store."""
    from apscheduler.schedulers.background import BackgroundScheduler

    file = project / "run_functions.py"
    file.write_text(FUNCTIONS)
    sys.path.insert(0, str(project))
    scheduler = BackgroundScheduler(CONFIG)
    scheduler.start(paused=True)
    for name in ("good", "bad"):
        scheduler.add_job(f"run_functions:{name}", "interval", days=1, id=name)
    scheduler.shutdown()
    return file


@pytest.fixture
def three_runs(functions: Path) -> list[Run]:
    """Two runs that have ended and one that waits, of jobs whose module is gone."""
    ended = [execute(ready("good")), execute(ready("bad"))]
    waiting = ready("good")
    (functions.parent / "good_ran").unlink()
    functions.unlink()
    sys.modules.pop("run_functions", None)
    with client() as opened:
        last = opened.get_run(waiting)
    assert last is not None
    return [*ended, last]


# Listing


def test_runs_are_listed_latest_first_without_the_code_of_their_jobs(
    three_runs: list[Run],
) -> None:
    assert [run["id"] for run in ask("list")] == [run.id for run in three_runs[::-1]]
    assert states() == [("good", "ready"), ("bad", "failed"), ("good", "succeeded")]


def test_nothing_is_run_or_claimed_by_looking(
    three_runs: list[Run], project: Path
) -> None:
    for arguments in (["list"], ["show", three_runs[-1].id]):
        assert invoke(*arguments).exit_code == 0

    with client() as opened:
        assert opened.get_run(three_runs[-1].id) == three_runs[-1]
    assert not (project / "good_ran").exists()


def test_runs_are_selected_by_job_state_node_and_time(three_runs: list[Run]) -> None:
    good, bad, _ = three_runs

    assert states("--job", "bad") == [("bad", "failed")]
    assert states("--state", "failed", "--state", "succeeded") == [
        ("bad", "failed"),
        ("good", "succeeded"),
    ]
    assert states("--node", str(good.node)) == [("good", "succeeded")]
    assert states("--since", bad.scheduled_time.isoformat()) == [
        ("good", "ready"),
        ("bad", "failed"),
    ]
    assert states("--until", bad.scheduled_time.isoformat()) == [("good", "succeeded")]
    assert len(states("--since", "2h")) == 3
    assert states("--until", "2h") == states("--since", "+2h") == []


def test_runs_are_listed_page_by_page(three_runs: list[Run]) -> None:
    assert states("--limit", "1", "--offset", "1") == [("bad", "failed")]

    result = invoke("list", "--limit", "2")
    assert result.stdout.splitlines()[-1] == "2 of 3 runs."
    assert "of" not in invoke("list").stdout.splitlines()[-1]


def test_people_see_the_first_line_of_the_error(three_runs: list[Run]) -> None:
    header, _, failed, _ = invoke("list").stdout.splitlines()

    assert header.split() == [
        "id",
        "job",
        "scheduled",
        "state",
        "took",
        "node",
        "error",
    ]
    assert failed.endswith("ValueError: no paper")
    assert "No runs." in invoke("list", "--job", "nobody").stdout


@pytest.mark.parametrize("text", ["2h", "-2h", " 2H "])
def test_a_bare_span_is_one_before_now(text: str) -> None:
    now, then = (Past().convert(each, None, None) for each in ("now", text))

    assert 7199 < (now - then).total_seconds() < 7201


def test_digits_alone_are_a_date() -> None:
    assert Past().convert("20300131", None, None).year == 2030


@pytest.mark.parametrize(("count", "text"), [(1, "1 run waits"), (2, "2 runs wait")])
def test_the_doctor_tells_of_runs_that_nobody_starts(count: int, text: str) -> None:
    with client() as opened:
        job, store = (
            opened._lookup_job("good", None)[0],
            opened._native_store("default"),
        )
        for number in range(count):
            run = Run(str(number), job.id, "default", RunState.READY, opened._now())
            run.available_at = run.scheduled_time - timedelta(hours=1)
            store.add_ready_run(job, run)

    result = CliRunner().invoke(cli, ["doctor", "--store", STORE])

    assert f"{text} to be started, such as of job 'good'" in result.stdout


# Showing


def test_a_run_is_shown_with_its_traceback(three_runs: list[Run]) -> None:
    text = invoke("show", three_runs[1].id).stdout

    for part in ("failed", "bad", str(three_runs[1].node), "no paper", "in bad"):
        assert part in text
    document = ask("show", three_runs[1].id)
    assert document["traceback"] == three_runs[1].traceback
    assert document["scheduled_time"] == three_runs[1].scheduled_time.isoformat()


# Errors


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["list", "--state", "done"], 2, ["'done'", "succeeded", "lost"]),
        (["list", "--since", "soon"], 2, ["'soon'", "-1d"]),
        (["list", "--limit", "-1"], 2, ["-1"]),
        (["list", "--count", "1"], 2, ["--follow", "--limit"]),
        (["list", "--follow", "--until", "1h"], 2, ["--until"]),
        (["list", "--follow", "--offset", "1"], 2, ["--offset"]),
        (["list", "--follow", "--interval", "0"], 2, ["--interval"]),
        (["show", "gone"], 1, ["'gone'", "runs list"]),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: list[str], code: int, parts: list[str]
) -> None:
    result = invoke(*arguments)

    assert result.exit_code == code
    assert all(part in result.stderr for part in parts), result.stderr
    error = json.loads(invoke(*arguments, "--json").stderr)["error"]
    assert error["exit_code"] == code


# Following


def follow(
    monkeypatch: pytest.MonkeyPatch,
    steps: Sequence[Callable[[], object]],
    *arguments: str,
) -> list[tuple[str, str]]:
    """Return what is printed while something is done between the looks; then comes Ctrl+C."""
    left = [*steps]

    def step(seconds: float) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop(0)()

    monkeypatch.setattr("apscheduler.cli.watching.wait", step)
    result = invoke("list", "--follow", "--json", *arguments)
    assert result.exit_code == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    return [(run["job_id"], run["state"]) for run in lines]


def nothing() -> None:
    """Let it look again."""


def test_every_change_of_a_run_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[str] = []
    told = follow(
        monkeypatch,
        [
            nothing,
            lambda: waiting.append(ready("good")),
            nothing,
            lambda: execute(waiting[0]),
            lambda: execute(ready("bad")),  # begins and ends between two looks
            nothing,
        ],
    )

    assert told == [("good", "ready"), ("good", "succeeded"), ("bad", "failed")]


def test_following_begins_with_the_latest_runs_in_the_order_of_time(
    monkeypatch: pytest.MonkeyPatch, three_runs: list[Run]
) -> None:
    assert follow(monkeypatch, [nothing], "--limit", "2") == [
        ("bad", "failed"),
        ("good", "ready"),
    ]
    assert follow(monkeypatch, [nothing], "--limit", "0") == []


def test_following_tells_of_the_wanted_states_and_jobs_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = [lambda: execute(ready("good")), lambda: execute(ready("bad"))]

    assert follow(monkeypatch, steps, "--state", "failed") == [("bad", "failed")]
    assert follow(monkeypatch, steps, "--job", "good", "--limit", "0") == [
        ("good", "succeeded")
    ]


def test_following_ends_after_so_many_lines(
    monkeypatch: pytest.MonkeyPatch, three_runs: list[Run]
) -> None:
    waits: list[float] = []

    def step(seconds: float) -> None:
        waits.append(seconds)
        ready("bad")

    monkeypatch.setattr("apscheduler.cli.watching.wait", step)
    result = invoke("list", "-f", "--limit", "1", "--count", "3", "--interval", "5s")

    assert result.exit_code == 0
    jobs = [line.split()[3] for line in result.stdout.splitlines()]
    assert jobs == ["good", "bad", "bad"]
    assert waits == [5, 5]


class ManyRuns:
    """A client of a store with more runs than are looked at in one go."""

    timezone = None

    def __init__(self, real: Client) -> None:
        self._real = real
        self._now = real._now
        self.runs: list[Run] = []

    def add(self, count: int, state: RunState = RunState.SUCCEEDED) -> None:
        """Add runs that end now, one after the other."""
        for _ in range(count):
            now = self._now()
            run = Run(f"{len(self.runs):08}", "a", "default", state, now)
            run.finished_at = now if state.is_final else None
            self.runs.append(run)

    def get_runs(
        self, states: Sequence[RunState] | None = None, limit: int = 0
    ) -> list[Run]:
        found = [r for r in self.runs[::-1] if states is None or r.state in states]
        return found[:limit]

    def get_run(self, run_id: str) -> Run | None:
        return next((run for run in self.runs if run.id == run_id), None)


def test_no_run_is_left_out_however_many_there_are_between_two_looks() -> None:
    with client() as real:
        many = ManyRuns(real)
        watch = Watch(many, {}, ())  # type: ignore[arg-type]  # it has all that is needed
        many.add(1, RunState.RUNNING)
        assert len(watch.latest(5)) == 1
        many.add(3_000)
        assert len(watch.news()) == 3_000
        assert watch.news() == []
        many.runs[0] = Run(
            many.runs[0].id, "a", None, RunState.LOST, many.runs[0].scheduled_time
        )
        assert [run.state for run in watch.news()] == [RunState.LOST]
        many.add(MAX_LOOKED_AT - 1)
        assert len(watch.news()) == MAX_LOOKED_AT - 1
        assert watch.news() == []
