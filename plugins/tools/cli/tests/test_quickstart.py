"""The example that a newcomer runs first."""

import runpy
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from apscheduler.config import check_config, load_config

EXAMPLES = Path(__file__).parents[4] / "examples"

pytestmark = pytest.mark.skipif(
    not EXAMPLES.is_dir(), reason="the examples are part of the checkout only"
)


@pytest.fixture
def functions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Callable[..., None]]:
    monkeypatch.chdir(tmp_path)
    return runpy.run_path(str(EXAMPLES / "quickstart.py"))


def test_ini_and_toml_are_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("jobstores.sqlalchemy", "triggers.cron", "triggers.interval"):
        pytest.importorskip(f"apscheduler.{module}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)
    ini = check_config(EXAMPLES / "quickstart.ini")
    toml = check_config(EXAMPLES / "quickstart.toml")

    assert not ini.problems.problems + toml.problems.problems
    declared = [
        {
            name: (job._declaration, job.misfire_grace_time)
            for name, (job, _) in found.jobs.items()
        }
        for found in (ini, toml)
    ]
    assert declared[0] == declared[1]
    assert declared[0].keys() == {"backup", "report"}
    keys = ("jobstores", "executors")
    assert [ini.config[key] for key in keys] == [toml.config[key] for key in keys]
    name = "apscheduler.name"
    assert (
        load_config(EXAMPLES / "quickstart.ini")[name]
        == load_config(EXAMPLES / "quickstart.toml")[name]
    )


def test_backup_keeps_the_last_whole_copies(
    functions: dict[str, Callable[..., None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect("app.sqlite")) as database, database:
        database.execute("create table notes (text)")
        database.execute("insert into notes values ('kept')")
    Path("copies").mkdir()
    for second in range(6):
        Path(f"copies/app-20200101-00000{second}.sqlite").touch()

    functions["backup"]("app.sqlite", "copies", keep=5)

    copies = sorted(Path("copies").iterdir())
    assert len(copies) == 5
    assert copies[0].name == "app-20200101-000002.sqlite"
    with closing(sqlite3.connect(copies[-1])) as copy:
        assert copy.execute("select text from notes").fetchall() == [("kept",)]


def test_report_prints_the_size_of_the_directory(
    functions: dict[str, Callable[..., None]], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("data/below").mkdir(parents=True)
    Path("data/a").write_bytes(b"x" * 1024)
    Path("data/below/b").write_bytes(b"x" * 2048)

    functions["report"]("data")

    assert "data has 2 files, 3 KiB" in capsys.readouterr().out
