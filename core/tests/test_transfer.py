"""Jobs as JSON: what is written, what comes back, what is refused."""

import base64
import io
import json
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock
from zoneinfo import ZoneInfo

import pytest

import apscheduler
from apscheduler.job import Job
from apscheduler.transfer import read_jobs, write_jobs
from apscheduler.triggers.base import BaseTrigger

MODULE = __name__


def work(*args: Any, **kwargs: Any) -> None:
    """Do nothing."""


class Stateful(BaseTrigger):
    """A trigger that says what its state is."""

    def __init__(self, step: timedelta, zone: Any):
        self.step, self.zone = step, zone

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime:
        return (previous_fire_time or now) + self.step

    def __getstate__(self) -> dict[str, Any]:
        return {"step": self.step, "zone": self.zone}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.step, self.zone = state["step"], state["zone"]


class Empty:
    """An object with an empty state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.restored = state


def make_job(**options: Any) -> Job:
    given = {
        "func": work,
        "args": (1, "a"),
        "kwargs": {"k": None},
        "trigger": Stateful(timedelta(minutes=5), ZoneInfo("Europe/Berlin")),
        "executor": "default",
        "misfire_grace_time": 5,
        "coalesce": True,
        "max_instances": 1,
        "next_run_time": datetime(2030, 1, 1, tzinfo=UTC),
        **options,
    }
    return Job(MagicMock(timezone=UTC), given.pop("id", "j"), **given)


def written(*jobs: Job) -> str:
    file = io.StringIO()
    write_jobs(jobs, file)
    return file.getvalue()


def there_and_back(job: Job) -> Job:
    return read_jobs(io.StringIO(written(job)))[0]


def test_the_file_is_one_json_object() -> None:
    document = json.loads(written(make_job()))

    assert document["version"] == 1
    assert document["scheduler_version"] == apscheduler.version
    (state,) = document["jobs"]
    assert state["func"] == f"{MODULE}:work"
    assert set(state["trigger"]) == {"__apscheduler_class__", "__apscheduler_state__"}
    assert state["trigger"]["__apscheduler_class__"] == f"{MODULE}:Stateful"
    assert pickle.loads(
        base64.b64decode(state["next_run_time"]["__apscheduler_pickle__"])
    ) == datetime(2030, 1, 1, tzinfo=UTC)


def test_jobs_come_back_as_they_were() -> None:
    job = make_job(misfire_grace_time=None, coalesce=False, next_run_time=None)

    copy = there_and_back(job)

    assert copy == job
    assert (copy.func, copy.name, copy.executor) == (work, "work", "default")
    assert (copy.misfire_grace_time, copy.coalesce) == (None, False)
    assert copy.next_run_time is None
    assert isinstance(copy.trigger, Stateful)
    assert copy.trigger.step == timedelta(minutes=5)
    assert copy.trigger.zone == ZoneInfo("Europe/Berlin")


def test_several_jobs_keep_their_order() -> None:
    jobs = read_jobs(io.StringIO(written(make_job(id="b"), make_job(id="a"))))

    assert [job.id for job in jobs] == ["b", "a"]


def test_no_jobs_are_an_empty_list() -> None:
    assert json.loads(written())["jobs"] == []
    assert read_jobs(io.StringIO(written())) == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, 2), [1, 2]),
        ({1: 2}, {"1": 2}),
        (timedelta(seconds=5), timedelta(seconds=5)),
        ({1, 2}, {1, 2}),
        (b"bytes", b"bytes"),
        (datetime(2030, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)),
        ({"nested": {"deep": (timedelta(1),)}}, {"nested": {"deep": [timedelta(1)]}}),
        ("ünï", "ünï"),
    ],
    ids=str,
)
def test_arguments_after_a_round_trip(value: Any, expected: Any) -> None:
    assert there_and_back(make_job(args=[value])).args[0] == expected


def test_an_object_with_an_empty_state_comes_back_as_an_object() -> None:
    copy = there_and_back(make_job(args=[Empty()])).args[0]

    assert isinstance(copy, Empty)
    assert copy.restored == {}


def test_a_job_that_cannot_be_referred_to_raises_value_error_and_writes_nothing(
    tmp_path: Path,
) -> None:
    file = tmp_path / "jobs.json"
    file.write_text("older export")

    with pytest.raises(ValueError, match="textual reference"):
        write_jobs([make_job(func=lambda *args, **kwargs: None)], file)

    assert file.read_text() == "older export"


@pytest.mark.parametrize("convert", [str, Path])
def test_files_can_be_given_by_path(tmp_path: Path, convert: Any) -> None:
    path = convert(tmp_path / "jobs.json")

    write_jobs([make_job(args=("ünï",))], path)

    assert read_jobs(path)[0].args[0] == "ünï"


def test_a_file_object_is_not_closed() -> None:
    file = io.StringIO()

    write_jobs([make_job()], file)
    file.seek(0)
    read_jobs(file)

    assert not file.closed


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '"x"',
        "5",
        "null",
        '{"jobs": []}',
        '{"version": 2, "jobs": []}',
        '{"version": "1", "jobs": []}',
        '{"version": 1}',
        "not json",
    ],
)
def test_other_files_raise_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        read_jobs(io.StringIO(text))


def test_a_missing_function_raises_lookup_error() -> None:
    text = written(make_job()).replace(":work", ":gone")

    with pytest.raises(LookupError):
        read_jobs(io.StringIO(text))


def test_an_argument_that_json_cannot_hold_is_named_with_its_job() -> None:
    with pytest.raises(TypeError) as caught:
        written(make_job(args=[{(1, 2): 3}]))

    assert "'j'" in " ".join(caught.value.__notes__)
