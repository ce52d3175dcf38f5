"""``apscheduler jobs``: looking at jobs and changing them, also without their code."""

import json
import pickle
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from apscheduler.cli.jobs.showing import describe_origin
from apscheduler.cli.standins import DetachedPickle
from apscheduler.triggers.date import DateTrigger
from commands import Command

for module in (
    "apscheduler.jobstores.sqlalchemy",
    "apscheduler.schedulers.background",
    "apscheduler.triggers.cron",
    "apscheduler.triggers.interval",
):
    pytest.importorskip(module)

STORE = "sqlite:///jobs.db"
COMMAND = Command("jobs", APSCHEDULER_STORE=STORE)
invoke, ask = COMMAND.invoke, COMMAND.ask
FUNCTIONS = """
from pathlib import Path

class Size(int):
    pass

class Thing:
    def __init__(self, name):
        self.name = name

class Shelf(list):
    pass

class Made:
    def __init__(self, parts):
        self.parts = parts
    def __reduce__(self):
        return Made, (self.parts,)

def report(*args, **kwargs):
    Path("reported").touch()
"""


@pytest.fixture(autouse=True)
def functions(project: Path) -> Path:
    """The module of the jobs."""
    file = project / "job_functions.py"
    file.write_text(FUNCTIONS)
    return file


@pytest.fixture
def three_jobs(functions: Path) -> Iterator[None]:
    """Jobs in a store, whose module is gone afterwards."""
    add("daily", "--cron", "0 9 * * mon-fri")
    add("often", "--interval", "5m", "--args", '["x"]', "--kwargs", '{"size": 5}')
    add("paused", "--interval", "1h", "--paused")
    functions.unlink()
    sys.modules.pop("job_functions", None)
    yield


def add(job_id: str, *arguments: str) -> None:
    ask("add", "--func", "job_functions:report", "--id", job_id, *arguments)


def ids(*arguments: str) -> list[str]:
    return [job["id"] for job in ask("list", *arguments)]


# Adding


def test_a_job_is_added_with_its_options() -> None:
    add(
        "a",
        *("--interval", "90", "jitter=3", "--grace-time", "5m", "--no-coalesce"),
        *("--max-instances", "2", "--on-lost", "retry", "--history", "7"),
    )

    (job,) = ask("list")
    assert job["trigger"] == "interval[0:01:30]"
    options = ("misfire_grace_time", "coalesce", "max_instances", "on_lost", "history")
    assert [job[name] for name in options] == [300, False, 2, "retry", 7]


def test_any_installed_trigger_takes_its_arguments_as_pairs() -> None:
    add("a", "--trigger", "cron", "hour=5", "minute=30", "timezone=Europe/Berlin")

    (job,) = ask("list")
    assert datetime.fromisoformat(job["next_run_time"]).astimezone(UTC).minute == 30
    assert "hour='5'" in job["trigger"]


def test_a_job_that_is_there_is_only_replaced_on_demand() -> None:
    add("a", "--interval", "5m")

    again = invoke(
        "add", "--func", "job_functions:report", "--id", "a", "--interval", "6m"
    )
    add("a", "--interval", "7m", "--replace")

    assert again.exit_code == 1
    assert "There is a job" in again.stderr
    assert "--replace" in again.stderr
    assert [job["trigger"] for job in ask("list")] == ["interval[0:07:00]"]


@pytest.mark.parametrize(
    "arguments, warning",
    [
        (("--date", "2020-01-01"), "2020-01-01 00:00:00 is past: the job runs at once"),
        (
            ("--date", "2020-01-01", "--grace-time", "5m"),
            "the job does not run, since its grace time is 300 seconds",
        ),
        (("--date", "2020-01-01", "--paused"), ""),
        (("--date", "now"), ""),
        (("--date", "+1h"), ""),
    ],
)
def test_a_date_that_is_past_is_warned_of(
    arguments: tuple[str, ...], warning: str
) -> None:
    result = invoke("add", "--func", "job_functions:report", *arguments)

    assert result.exit_code == 0
    assert warning in result.stderr
    assert bool(warning) == bool(result.stderr)


MISTAKES = [
    (("--interval", "5m", "--date", "now"), 2, "not --interval and --date"),
    ((), 2, "Give one of --cron, --interval, --date and --trigger"),
    (("--cron", "61 * * * *"), 2, "higher than the maximum value (59)"),
    (("--interval", "5m", "jiter=3"), 2, "did you mean 'jitter'"),
    (("--interval", "5m", "jitter"), 2, "looks like hour=5"),
    (("--interval", "5m", "--args", "x"), 2, "'x' must be a JSON list such as"),
    (("--interval", "5m", "--args", '{"a": 1}'), 2, "must be a JSON list such as"),
    (("--interval", "5m", "--kwargs", "[1]"), 2, "must be a JSON object such as"),
    (("--trigger", "crom"), 2, "No trigger named 'crom' is installed"),
    (("--date", "tomorrow"), 2, "'tomorrow' is not a time"),
    (("--interval", "0"), 2, "'0' is no interval: it must be more than 0"),
    (("--interval", "5m", "minutes=5"), 2, "minutes=5 contradicts --interval"),
    (("--date", "2030-01-01", "run_date=2031-01-01"), 2, "contradicts --date"),
    (
        ("--cron", "0 9 * * *", "dialect=vixie"),
        2,
        "dialect=vixie contradicts --dialect",
    ),
    (("--interval", "5m", "--dialect", "vixie"), 2, "--dialect goes with --cron"),
    (("--trigger", "and"), 2, "the trigger 'and' needs triggers"),
    (("--interval", "5m", "--grace-time", "0.5"), 2, "whole seconds"),
    (("--interval", "5m", "--replace"), 2, "needs the --id"),
    (("--interval", "5m", "--func", "nowhere:f"), 1, "nowhere"),
    (("--interval", "5m", "--func", "builtins:print", "--kwargs", '{"x": 1}'), 1, "x"),
]


@pytest.mark.parametrize("arguments, code, message", MISTAKES)
def test_mistakes_are_explained(
    arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = invoke("add", "--func", "job_functions:report", *arguments)

    assert result.exit_code == code
    assert message in " ".join(result.stderr.split())
    assert not Path("jobs.db").exists()


# Looking, without the code of the jobs


@pytest.mark.usefixtures("three_jobs")
def test_jobs_are_listed_in_the_order_of_their_times() -> None:
    lines = invoke("list").stdout.splitlines()

    assert lines[0].split() == ["id", "next", "run", "trigger", "function"]
    assert [line.split()[0] for line in lines[1:]] == ["often", "daily", "paused"]


@pytest.mark.usefixtures("three_jobs")
@pytest.mark.parametrize(
    "arguments, expected",
    [
        (("--state", "paused"), ["paused"]),
        (("--state", "active"), ["often", "daily"]),
        (("--state", "due"), []),
        (("--state", "unavailable"), ["often", "daily", "paused"]),
        (("--trigger", "interval"), ["often", "paused"]),
        (("--before", "+10m"), ["often"]),
        (("--after", "+10m"), ["daily"]),
        (("d*", "pau*"), ["daily", "paused"]),
    ],
)
def test_jobs_are_filtered(arguments: tuple[str, ...], expected: list[str]) -> None:
    assert ids(*arguments) == expected


@pytest.mark.usefixtures("three_jobs")
def test_a_job_is_shown_with_arguments_times_and_why_it_cannot_run_here() -> None:
    output = invoke("show", "often").stdout
    (job,) = ask("show", "often")

    assert "arguments     ('x', size=5)" in output
    assert "can run here  no: " in output
    assert len(job["next_run_times"]) == 3
    assert "job_functions" in job["unavailable"]


@pytest.mark.usefixtures("three_jobs")
def test_a_job_that_is_not_there_is_named() -> None:
    result = invoke("show", "daily", "nowhere")

    assert result.exit_code == 1
    assert "There is no job 'nowhere'" in result.stderr
    assert "daily" in result.stdout


# Changing, without the code of the jobs


@pytest.mark.usefixtures("three_jobs")
def test_jobs_are_paused_and_resumed() -> None:
    ask("pause", "often", "daily")
    assert ids("--state", "active") == []

    ask("resume", "often")
    assert ids("--state", "active") == ["often"]


@pytest.mark.usefixtures("three_jobs")
def test_jobs_are_rescheduled() -> None:
    ask("reschedule", "paused", "--interval", "2m")

    assert ids("--state", "active")[0] == "paused"


@pytest.mark.usefixtures("three_jobs")
def test_what_fails_for_one_job_is_done_for_the_others() -> None:
    result = invoke("remove", "nowhere", "often", "--json")

    assert result.exit_code == 1
    assert [job["id"] for job in json.loads(result.stdout)["done"]] == ["often"]
    assert json.loads(result.stdout)["failed"][0]["id"] == "nowhere"
    assert ids() == ["daily", "paused"]


@pytest.mark.usefixtures("three_jobs")
def test_many_jobs_are_not_changed_unless_that_is_confirmed() -> None:
    refused = invoke("remove", "--all")
    invoke("remove", "--match", "*a*", "--yes")

    assert refused.exit_code == 2
    assert "This would remove 3 jobs: give --yes" in refused.stderr
    assert ids() == ["often"]


@pytest.mark.usefixtures("three_jobs")
def test_somebody_has_to_say_which_jobs_are_meant() -> None:
    assert invoke("pause").exit_code == 2
    assert invoke("pause", "often", "--all").exit_code == 2


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_changed_job_keeps_arguments_of_classes_that_are_not_there(
    protocol: int, functions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(functions.parent)
    import job_functions  # type: ignore[import-not-found]  # it is made by the test

    shelf = job_functions.Shelf([1, 2])
    shelf.label = "tools"
    args: tuple[Any, ...] = (
        job_functions.Thing("lamp"),
        job_functions.Made([3]),
        shelf,
    )
    if protocol < 2:  # these make objects of builtin types by their bases
        args = args[:2]
    state = {"func": "job_functions:report", "args": args, "name": "before"}
    data = pickle.dumps(state, protocol)
    functions.unlink()
    monkeypatch.delitem(sys.modules, "job_functions")
    serializer = DetachedPickle(protocol)

    read = serializer.loads(data)
    written = serializer.dumps({**read, "name": "after"})

    functions.write_text(FUNCTIONS)
    found = pickle.loads(written)
    assert type(found["func"]) is str
    assert (found["func"], found["name"]) == ("job_functions:report", "after")
    assert found["args"][0].name == "lamp"
    assert found["args"][1].parts == [3]
    if protocol >= 2:
        assert (list(found["args"][2]), found["args"][2].label) == ([1, 2], "tools")


def test_a_trigger_whose_class_is_not_there_only_matters_where_it_is_needed(
    functions: Path,
) -> None:
    functions.write_text(
        FUNCTIONS + "from apscheduler.triggers.date import DateTrigger\n"
        "class Own(DateTrigger):\n    pass\n"
    )
    code = (
        "from apscheduler.schedulers.background import BackgroundScheduler as S\n"
        "import job_functions as f\n"
        f"s = S(jobstores={{'default': {{'type': 'sqlalchemy', 'url': {STORE!r}}}}})\n"
        "s.start(paused=True)\n"
        "s.add_job(f.report, f.Own('2099-01-01'), id='own')\n"
        "s.shutdown()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    functions.write_text(FUNCTIONS)

    paused = invoke("pause", "own")
    resumed = invoke("resume", "own")

    assert paused.exit_code == 0, paused.stderr
    assert resumed.exit_code == 1
    assert "class of the trigger is not there: <job_functions:Own>" in resumed.stdout


def test_a_job_that_was_to_run_now_runs_in_the_process_that_runs_jobs(
    functions: Path,
) -> None:
    add("a", "--date", "2099-01-01")
    command = [sys.executable, "-m", "apscheduler.cli", "run", "--store", STORE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if " a " in line and "kept" in line:
                break
        ask("run-now", "a")
        for line in process.stdout:
            if "ok" in line:
                break
        process.terminate()

    assert process.returncode == 0
    assert Path("reported").exists()
    assert DateTrigger("2099-01-01").run_date.year == 2099
    assert ids() == ["a"]


def test_damaged_jobs_are_listed_and_can_be_removed() -> None:
    add("a", "--interval", "5m")
    with closing(sqlite3.connect("jobs.db")) as database, database:
        database.execute("update apscheduler_jobs set job_state = X'00'")

    (job,) = ask("list", "--state", "unavailable")
    ask("remove", "a")

    assert job["error"]
    assert ids() == []


def test_a_cron_text_without_quotes_is_explained() -> None:
    words = ["--cron", "0", "9", "a.py", "b.py", "mon-fri"]

    result = invoke("add", "--func", "job_functions:report", *words)

    assert result.exit_code == 2
    assert "Put the columns of a cron text into quotes" in " ".join(
        result.stderr.split()
    )


ORIGINS = [
    ("shop@modified 1780315200.25", "shop, modified 2026-06-01 12:00:00"),
    ("shop@version 1.10", "shop, version 1.10"),
    ("default@", "default"),
    (None, None),
]


@pytest.mark.parametrize("origin, text", ORIGINS)
def test_where_a_job_is_declared_is_told_in_words(
    origin: str | None, text: str | None
) -> None:
    now = datetime(2026, 6, 2, tzinfo=UTC)

    assert describe_origin(origin, now) == text
