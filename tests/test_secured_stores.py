"""Stores whose states are signed or limited by a list: what an attacker writes into the database does not run."""

import io
import json
import logging
import pickle
import sqlite3
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from apscheduler.config import ConfigurationError, check_config, create_scheduler
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.serializers import PickleSerializer, Serializer, SignatureError
from apscheduler.serializers.allowing import NotAllowedError
from apscheduler.serializers.json import JsonSerializer
from apscheduler.serializers.signed import SignedSerializer
from apscheduler.triggers.combining import AndTrigger
from apscheduler.triggers.interval import IntervalTrigger

KEY = "a-key-that-is-only-for-tests"
ran = Event()
hits: list[Any] = []


def work() -> None:
    ran.set()


def hit(*args: Any) -> None:
    hits.append(args)
    ran.set()


class Attack:
    """Is pickled as a call."""

    def __reduce__(self) -> Any:
        return hit, (1,)


class AttackingTrigger(AndTrigger):
    """Names a trigger of another module in its state."""

    def __getstate__(self) -> dict[str, Any]:
        return {"triggers": [("trap:Trigger", {})], "jitter": None}


SECURED: dict[str, Serializer] = {
    "signed": SignedSerializer(KEY),
    "list": PickleSerializer(allowed_callables=[f"{__name__}:work"]),
    "json": JsonSerializer(),
    "signed json with list": SignedSerializer(
        KEY, format="json", allowed_callables=[f"{__name__}:work"]
    ),
}


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()
    hits.clear()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def make_scheduler(file: Path) -> Iterator[Any]:
    made = []

    def make(serializer: Serializer | None = None) -> BackgroundScheduler:
        store = SQLAlchemyJobStore(f"sqlite:///{file}", serializer=serializer)
        scheduler = BackgroundScheduler(jobstores={"default": store}, timezone=UTC)
        made.append(scheduler)
        return scheduler

    yield make
    for scheduler in made:
        if scheduler.running:
            scheduler.shutdown()


def write(file: Path, job_id: str, data: bytes, time: float | None = 1.0) -> None:
    """Write to the table as somebody who has got hold of the database."""
    with sqlite3.connect(file) as connection:
        connection.execute(
            "INSERT OR REPLACE INTO apscheduler_jobs VALUES (?, ?, ?)",
            (job_id, time, data),
        )
    connection.close()


def read(file: Path) -> dict[str, bytes]:
    with sqlite3.connect(file) as connection:
        rows = connection.execute("SELECT id, job_state FROM apscheduler_jobs")
        found = dict(rows.fetchall())
    connection.close()
    return found


def state(job_id: str = "evil", **changes: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "id": job_id,
        "func": f"{__name__}:hit",
        "name": "evil",
        "args": (),
        "kwargs": {},
        "executor": "default",
        "coalesce": True,
        "trigger": IntervalTrigger(hours=1, timezone=UTC),
        "max_instances": 1,
        "misfire_grace_time": None,
        "next_run_time": datetime(1970, 1, 1, tzinfo=UTC),
        **changes,
    }


def attacks() -> dict[str, bytes]:
    trigger = AttackingTrigger([IntervalTrigger(hours=1)])
    # Of the third protocol names can be replaced, which are written as lines.
    disguised = pickle.dumps(state(func=f"{__name__}:work", trigger=trigger), 3)
    return {
        "function": pickle.dumps(state()),
        "argument": pickle.dumps(state(func=f"{__name__}:work", args=(Attack(),))),
        "call": pickle.dumps(Attack()),
        "trigger": disguised.replace(
            f"c{__name__}\nAttackingTrigger\n".encode(),
            b"capscheduler.triggers.combining\nAndTrigger\n",
        ),
    }


@pytest.fixture(autouse=True)
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a module about that says when it is imported."""
    lines = ["import sys", f"sys.modules[{__name__!r}].hits.append('imported')"]
    (tmp_path / "trap.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "trap", raising=False)


@pytest.mark.parametrize("attack", attacks())
@pytest.mark.parametrize("name", SECURED)
def test_what_somebody_writes_to_the_database_does_not_run(
    make_scheduler: Any,
    file: Path,
    name: str,
    attack: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = attacks()[attack]
    if name == "json" and attack == "function":
        # The list, or a key, is what keeps a function from being called: JSON is open to those who know it.
        data = JsonSerializer().dumps(state(func="no.such.module:hit"))
    serializer = SECURED[name]
    first = make_scheduler(serializer)
    first.start(paused=True)
    first.add_job(work, "date", id="good")
    write(file, "evil", data)

    with caplog.at_level(logging.ERROR):
        first.resume()
        assert ran.wait(20)
        assert [job.id for job in first.get_jobs()] == []
        with pytest.raises(Exception):  # noqa: B017  # what it is depends on the attack
            first._native_store("default").lookup_job("evil")
        (record,) = first._native_store("default").get_job_records()
        first.shutdown()

    assert hits == []
    assert record.id == "evil" and record.error
    assert read(file) == {"evil": data}
    reports = [r for r in caplog.records if "'evil'" in r.getMessage()]
    assert len(reports) == 1


@pytest.mark.parametrize("attack", attacks())
def test_the_same_attacks_do_work_where_nothing_is_locked(
    make_scheduler: Any, file: Path, attack: str
) -> None:
    scheduler = make_scheduler()
    scheduler.start(paused=True)
    write(file, "evil", attacks()[attack])

    scheduler.get_jobs()
    if attack == "function":
        scheduler.resume()
        assert ran.wait(20)

    assert hits


def test_listings_of_a_store_without_locks_run_nothing_and_import_nothing(
    make_scheduler: Any, file: Path
) -> None:
    scheduler = make_scheduler()
    scheduler.start(paused=True)
    for name, data in attacks().items():
        write(file, name, data)

    records = scheduler._native_store("default").get_job_records()

    assert len(records) == len(attacks())
    assert hits == []
    shown = {record.id: record.trigger for record in records}
    assert shown["trigger"] == "and[Trigger]"


def test_a_signed_state_cannot_be_put_in_the_place_of_another_job(
    make_scheduler: Any, file: Path
) -> None:
    scheduler = make_scheduler(SECURED["signed"])
    scheduler.start(paused=True)
    scheduler.add_job(hit, "interval", hours=1, args=["delete"], id="delete")
    scheduler.add_job(work, "interval", hours=1, id="keep")
    write(file, "keep", read(file)["delete"])

    with pytest.raises(ValueError, match="the state of another one, 'delete'"):
        scheduler.get_job("keep")
    assert [job.id for job in scheduler.get_jobs()] == ["delete"]
    scheduler.resume()
    scheduler.add_job(work, "date", id="due now")
    assert ran.wait(20)

    assert hits == []


def test_a_signed_copy_cannot_be_put_in_the_place_of_that_of_another_run(
    make_scheduler: Any, file: Path
) -> None:
    scheduler = make_scheduler(SECURED["signed"])
    scheduler.start(paused=True)
    scheduler.add_job(hit, "interval", hours=1, args=["delete"], id="delete")
    scheduler.add_job(work, "interval", hours=1, id="keep")
    scheduler.run_job("keep")
    with sqlite3.connect(file) as connection:
        changed = connection.execute(
            "UPDATE apscheduler_jobs_runs SET job_state = ?", (read(file)["delete"],)
        )
        assert changed.rowcount == 1
    connection.close()

    scheduler.resume()
    scheduler.add_job(work, "date", id="due now")
    assert ran.wait(20)
    scheduler.shutdown()

    assert hits == []


def test_a_copy_without_signature_is_not_run(make_scheduler: Any, file: Path) -> None:
    scheduler = make_scheduler(SECURED["signed"])
    scheduler.start(paused=True)
    scheduler.add_job(work, "interval", hours=1, id="keep")
    scheduler.run_job("keep")
    with sqlite3.connect(file) as connection:
        connection.execute(
            "UPDATE apscheduler_jobs_runs SET job_state = ?",
            (pickle.dumps(state("keep")),),
        )
    connection.close()

    scheduler.resume()
    scheduler.add_job(work, "date", id="due now")
    assert ran.wait(20)
    scheduler.shutdown()

    assert hits == []


def test_a_job_that_is_refused_can_be_replaced_and_removed(
    make_scheduler: Any, file: Path
) -> None:
    scheduler = make_scheduler(SECURED["signed"])
    scheduler.start(paused=True)
    for job_id in ("a", "b"):
        write(file, job_id, pickle.dumps(state(job_id)))

    scheduler.add_job(work, "date", id="a", replace_existing=True)
    scheduler.remove_job("b")

    assert [job.id for job in scheduler.get_jobs()] == ["a"]


def test_changes_of_jobs_keep_to_the_list(make_scheduler: Any) -> None:
    scheduler = make_scheduler(SECURED["list"])
    scheduler.start(paused=True)
    scheduler.add_job(work, "interval", hours=1, id="a")

    with pytest.raises(NotAllowedError):
        scheduler.modify_job("a", func=hit)
    with pytest.raises(NotAllowedError):
        scheduler.add_job(hit, "interval", hours=1, id="b")

    assert [job.func for job in scheduler.get_jobs()] == [work]


@pytest.mark.parametrize("kind", ["function", "argument", "trigger"])
def test_the_list_holds_for_imported_files(make_scheduler: Any, kind: str) -> None:
    source = make_scheduler()
    source.start(paused=True)
    source.add_job(work, "interval", hours=1, id="a")
    exported = io.StringIO()
    source.export_jobs(exported)
    document = json.loads(exported.getvalue())
    (job,) = document["jobs"]
    assert "__apscheduler_class__" in job["trigger"]
    if kind == "function":
        job["func"] = f"{__name__}:hit"
    elif kind == "argument":
        import base64

        text = base64.b64encode(pickle.dumps(Attack())).decode()
        job["args"] = [{"__apscheduler_pickle__": text}]
    else:
        job["trigger"]["__apscheduler_class__"] = "antigravity:Trigger"
    source.shutdown()
    target = make_scheduler(SECURED["list"])
    target.start(paused=True)
    target.remove_all_jobs()

    with pytest.raises(NotAllowedError):
        target.import_jobs(io.StringIO(json.dumps(document)))
    target.import_jobs(io.StringIO(exported.getvalue()))

    assert hits == []
    assert [job.func for job in target.get_jobs()] == [work]


# Configuration.

INI = """
[apscheduler.jobstores.default]
type = sqlalchemy
url = sqlite://

[apscheduler.jobstores.default.serializer]
type = signed
key = ${KEY}
old_keys = ["${OLD}"]
allowed_callables = ["tests.*:*"]
"""


def test_a_serializer_is_configured_in_a_file_with_keys_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", KEY)
    monkeypatch.setenv("OLD", KEY[::-1])
    path = tmp_path / "scheduler.ini"
    path.write_text(INI)

    scheduler = create_scheduler(path)

    assert check_config(path).problems.problems == []
    serializer = scheduler._jobstores["default"].serializer  # type: ignore[attr-defined]
    assert isinstance(serializer, SignedSerializer)
    assert serializer.allowed is not None
    assert serializer.allowed.patterns == ("tests.*:*",)
    old = SignedSerializer(KEY[::-1], format="json")
    assert serializer.verify(old.sign(b"data")) == b"data"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("key = short-secret", "has 12 bytes"),
        ("kee = secret-secret-secret", "no option 'kee'; did you mean 'key'?"),
        (
            "key = secret-secret-secret\nold_keys = secret-more",
            "expected a list in JSON",
        ),
        ("key = secret-secret-secret\nformat = yaml", "No serializer named 'yaml'"),
        (
            'key = secret-secret-secret\nallowed_callables = ["x"]',
            "'x' is not a pattern",
        ),
        ("key_file = /nowhere/secrets", "'/nowhere/secrets' cannot be read"),
    ],
)
def test_mistakes_are_reported_without_the_keys(
    tmp_path: Path, line: str, message: str
) -> None:
    path = tmp_path / "scheduler.ini"
    path.write_text(INI.partition("key =")[0] + line)

    with pytest.raises(ConfigurationError) as caught:
        create_scheduler(path)

    text = "\n".join(map(str, caught.value.problems))
    assert message in text
    assert "secret-" not in text
    assert "short-secret" not in text


def test_a_serializer_without_type_is_reported_without_the_key() -> None:
    store = {"type": "sqlalchemy", "url": "sqlite://", "serializer": {"key": KEY}}

    with pytest.raises(ValueError, match="either 'type' or 'class'") as caught:
        BackgroundScheduler(jobstores={"default": store})

    assert KEY not in str(caught.value)


def test_an_unsigned_job_is_reported_once_and_stays(
    make_scheduler: Any, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = make_scheduler()
    before.start(paused=True)
    before.add_job(work, "interval", hours=1, id="a")
    before.shutdown()
    scheduler = make_scheduler(SECURED["signed"])
    scheduler.start(paused=True)

    for _ in range(3):
        assert scheduler.get_jobs() == []
    with pytest.raises(SignatureError):
        scheduler.get_job("a")

    assert list(read(file)) == ["a"]
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 1
