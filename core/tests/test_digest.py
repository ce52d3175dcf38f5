"""Digests that recognise an unchanged declaration."""

import gc
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import MagicMock

import pytest

from apscheduler.digest import digest_declaration
from apscheduler.job import Job
from apscheduler.triggers.base import BaseTrigger


class Every(BaseTrigger):
    """Fires every so many hours."""

    def __init__(self, hours: int):
        self.hours = hours

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime:
        return (previous_fire_time or now) + timedelta(hours=self.hours)


def work(*args: Any, **kwargs: Any) -> None:
    """Do nothing."""


def other(*args: Any, **kwargs: Any) -> None:
    """Do nothing, under another name."""


BASE: dict[str, Any] = {
    "func": work,
    "trigger": "interval",
    "trigger_args": {"hours": 1},
    "args": (1,),
    "kwargs": {"a": 1},
    "name": None,
    "options": {"coalesce": True},
    "executor": "default",
}


def digest(**changes: Any) -> str | None:
    given = {**BASE, **changes}
    trigger = given["trigger"]
    job = Job(
        MagicMock(timezone=UTC),
        "j",
        func=given["func"],
        args=(),
        kwargs={},
        trigger=trigger if isinstance(trigger, BaseTrigger) else Every(1),
        executor="default",
    )
    return digest_declaration(job, **given)


def test_equal_declarations_have_equal_digests() -> None:
    assert digest() is not None
    assert digest() == digest()
    assert digest(trigger=Every(2), trigger_args={}) == digest(
        trigger=Every(2), trigger_args={}
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"func": other},
        {"trigger": "cron"},
        {"trigger": Every(1)},
        {"trigger_args": {"hours": 2}},
        {"args": (2,)},
        {"kwargs": {"a": 2}},
        {"name": "n"},
        {"options": {"coalesce": False}},
        {"options": {}},
        {"executor": "x"},
    ],
    ids=lambda changes: " ".join(changes),
)
def test_whatever_changes_changes_the_digest(changes: dict[str, Any]) -> None:
    assert digest(**changes) not in (None, digest())


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"kwargs": {"a": 1, "b": 2}}, {"kwargs": {"b": 2, "a": 1}}),
        ({"trigger_args": {"a": 1, "b": 2}}, {"trigger_args": {"b": 2, "a": 1}}),
        ({"options": {"a": 1, "b": 2}}, {"options": {"b": 2, "a": 1}}),
    ],
)
def test_the_order_of_keywords_does_not_matter(one: Any, two: Any) -> None:
    assert digest(**one) == digest(**two)


@pytest.mark.parametrize(
    "changes",
    [
        {"trigger": None},
        {"args": (object(),)},
        {"kwargs": {"x": object()}},
        {"func": lambda: None},
        {"options": {"next_run_time": datetime(2030, 1, 1, tzinfo=UTC)}},
        {"args": iter((1,))},
    ],
    ids=[
        "no trigger",
        "object",
        "object by keyword",
        "lambda",
        "explicit time",
        "iter",
    ],
)
def test_what_has_no_lasting_text_form_has_no_digest(changes: dict[str, Any]) -> None:
    assert digest(**changes) is None


def test_digests_that_are_in_stores_already_stay_valid() -> None:
    found = digest(
        func=gc.isenabled,
        trigger_args={"start_date": datetime(2030, 1, 1, tzinfo=UTC), "hours": 1},
        args=[{"b": (1, None), "a": {3, 1}}],
        kwargs={"x": "it's", "w": 1.5},
        options={"coalesce": True, "misfire_grace_time": None, "history": 5},
    )

    assert found == "a94da4b2f8706d417707"


PROGRAM = """
import json, sys
from unittest.mock import MagicMock
from datetime import UTC
from apscheduler.digest import digest_declaration
from apscheduler.job import Job
from apscheduler.triggers.base import BaseTrigger
class T(BaseTrigger):
    def get_next_fire_time(self, previous_fire_time, now): return None
job = Job(MagicMock(timezone=UTC), "j", func=json.dumps, args=(1,), kwargs={},
          trigger=T(), executor="default")
print(json.dumps(digest_declaration(
    job, json.dumps, "cron", {"hour": {"a", "b", "c"}},
    [{"x", "y", "z"}, frozenset("pqr")], {"k": {"u", "v", "w"}}, None, {}, "default")))
"""


def test_digests_are_equal_in_processes_that_hash_differently() -> None:
    digests = set()
    for seed in "123":
        output = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        digests.add(json.loads(output.stdout))

    assert len(digests) == 1
    assert None not in digests
