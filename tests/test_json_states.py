"""States as JSON: everything that a job has comes back, and what JSON cannot hold is refused when it is added."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import IntEnum
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.serializers.allowing import NotAllowedError
from apscheduler.serializers.json import JsonSerializer, NotPlainError
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import AndTrigger, OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2030, 6, 1, 12, 0, 0, 5, tzinfo=BERLIN)
FOLD = datetime(2030, 10, 27, 2, 30, tzinfo=BERLIN, fold=1)


class Level(IntEnum):
    LOW = 1


class Tick(BaseTrigger):
    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        return now


def state(**changes: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "id": "a",
        "func": "somewhere:work",
        "name": "work",
        "trigger": None,
        "args": (),
        "kwargs": {},
        "next_run_time": NOW,
        **changes,
    }


def there_and_back(value: Any, **options: Any) -> Any:
    serializer = JsonSerializer(**options)
    return serializer.loads(serializer.dumps(value))


VALUES = [
    *(None, True, False, 0, -5, 2**200, 1.5, 1e300, "", "ä\ud800\0$", b"", b"\xff\0"),
    *(float("inf"), float("-inf"), bytearray(b"\xff")),
    *([], [1, [2]], (), (1, (2,)), set(), {1, 2.5}, frozenset((None,)), {(1, 2)}),
    *({}, {"a": {"b": 1}}, {1: 2, (3,): None}, {"$tuple": [1]}, {"$": 1, "b": 2}),
    *(NOW, FOLD, datetime(2030, 1, 1), datetime(2030, 1, 1, fold=1)),
    *(NOW.astimezone(UTC), NOW.astimezone(timezone(timedelta(hours=-5, minutes=-30)))),
    *(date(2030, 1, 2), time(1, 2, 3, 4), timedelta(-1, 5, 7), timedelta.max),
    *(Decimal("1.50"), Decimal("NaN"), UUID(int=7), BERLIN, UTC),
    timezone(timedelta(seconds=-1)),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_every_value_that_json_can_hold_comes_back(value: Any) -> None:
    kwargs = {"given": value}

    found = there_and_back(state(args=(value,), kwargs=kwargs))

    assert repr(found["args"]) == repr((value,))
    assert repr(found["kwargs"]) == repr(kwargs)
    assert found["next_run_time"] == NOW
    if isinstance(value, datetime):
        (restored,) = found["args"]
        assert (restored.tzinfo, restored.fold) == (value.tzinfo, value.fold)


def test_what_is_stored_is_json_and_names_no_class() -> None:
    data = JsonSerializer().dumps(
        state(args=(NOW,), trigger=IntervalTrigger(seconds=5, timezone=BERLIN))
    )

    stored = json.loads(data)

    assert stored["args"] == {
        "$tuple": [
            {
                "$datetime": "2030-06-01T12:00:00.000005",
                "fold": 0,
                "zone": {"$zone": "Europe/Berlin"},
            }
        ]
    }
    assert stored["trigger"]["$trigger"]["type"] == "interval"
    assert b"apscheduler" not in data


def test_zones_of_pytz_become_zones_of_the_same_name() -> None:
    pytz = pytest.importorskip("pytz")
    zone = pytz.timezone("Europe/Berlin")
    for is_dst in (True, False):  # the hour that there is twice
        given = zone.localize(datetime(2030, 10, 27, 2, 30), is_dst=is_dst)
        (restored,) = there_and_back(state(args=(given,)))["args"]
        assert restored.tzinfo is BERLIN
        assert restored.timestamp() == given.timestamp()


TRIGGERS: dict[str, Callable[[], BaseTrigger]] = {
    "date": lambda: DateTrigger(NOW),
    "date in a fold": lambda: DateTrigger(FOLD),
    "interval": lambda: IntervalTrigger(
        hours=1.5, start_date=NOW, end_date=FOLD, jitter=3, timezone=BERLIN
    ),
    "interval, fixed zone": lambda: IntervalTrigger(
        days=1, timezone=timezone(timedelta(hours=2))
    ),
    "cron": lambda: CronTrigger(
        *("2030-2035", "jan-mar,7", "last sun,1st mon,15", "*/2", "mon-fri", "*/3"),
        *("5-50/7", "1,2"),
        start_date=NOW,
        timezone=BERLIN,
        jitter=5,
        on_gap="skip",
        on_fold="first",
    ),
    "cron with defaults": lambda: CronTrigger(hour=3, timezone=BERLIN),
    "cron, last day": lambda: CronTrigger(day="last", hour="*", timezone=BERLIN),
    "crontab": lambda: CronTrigger.from_crontab(
        "*/5 4 1,15 * sun,3", timezone=BERLIN, dialect="vixie"
    ),
    "calendarinterval": lambda: CalendarIntervalTrigger(
        months=1, hour=5, start_date=date(2030, 1, 31), timezone=BERLIN
    ),
    "and": lambda: AndTrigger(
        [CronTrigger(hour=3, timezone=BERLIN), CronTrigger(day=5, timezone=BERLIN)],
        jitter=2,
    ),
    "or, nested": lambda: OrTrigger(
        [
            DateTrigger(NOW),
            AndTrigger([IntervalTrigger(hours=1, start_date=NOW, timezone=BERLIN)]),
        ]
    ),
}


@pytest.mark.parametrize("name", TRIGGERS)
def test_every_trigger_comes_back(name: str) -> None:
    trigger = TRIGGERS[name]()

    restored = there_and_back(state(trigger=trigger))["trigger"]

    assert type(restored) is type(trigger)
    assert repr(restored) == repr(trigger)
    assert repr(restored.__getstate__()) == repr(trigger.__getstate__())


def test_a_trigger_that_is_no_plugin_is_refused_unless_it_is_on_the_list() -> None:
    with pytest.raises(NotPlainError, match=r"'a'.*Tick, which is no installed plugin"):
        JsonSerializer().dumps(state(trigger=Tick()))

    options = {"allowed_callables": [f"{__name__}:Tick", "json:dumps"]}
    allowed = state(trigger=Tick(), func="json:dumps")
    assert isinstance(there_and_back(allowed, **options)["trigger"], Tick)
    data = JsonSerializer(**options).dumps(allowed)
    with pytest.raises(NotAllowedError, match="no installed plugin"):
        JsonSerializer().loads(data)


@pytest.mark.parametrize(
    ("changes", "place", "kind"),
    [
        ({"args": (1, object())}, "args[1]", "builtins.object"),
        ({"args": ([0, {"x": print}],)}, "args[0][1]['x']", "builtins."),
        ({"kwargs": {"level": Level.LOW}}, "kwargs['level']", "Level"),
        ({"kwargs": {"path": Path("/a")}}, "kwargs['path']", "PosixPath"),
        ({"args": (time(1, tzinfo=UTC),)}, "args[0]", "with a zone"),
    ],
)
def test_what_json_cannot_hold_is_refused_with_job_and_argument(
    changes: dict[str, Any], place: str, kind: str
) -> None:
    for document in (state(**changes), {"job_state": state(**changes)}):
        with pytest.raises(NotPlainError) as caught:
            JsonSerializer().dumps(document)

        message = str(caught.value)
        assert message.startswith("Job 'a' cannot be stored: ")
        assert place in message and kind in message


def tagged(**content: Any) -> bytes:
    return json.dumps({"id": "a", "func": "os:getpid", "args": content}).encode()


@pytest.mark.parametrize(
    "content",
    [
        {"$trigger": {"type": "os:system", "state": {}}},
        {"$trigger": {"class": "os:system", "state": {}}},
        {"$trigger": {"class": "json:JSONDecoder", "state": {}}},
        {"$trigger": {"type": "threadpool", "state": {}}},
        {"$trigger": {"type": "and", "state": {"triggers": ["os:system"]}}},
        {
            "$trigger": {
                "type": "and",
                "state": {"triggers": [["os:system", {}]], "jitter": None},
            }
        },
        {"$trigger": []},
        {"$pickle": "gASVAAA="},
        {"$zone": "../../../etc/passwd"},
        {"$zone": "/etc/passwd"},
        {"$zone": 5},
        {"$bytes": "%%%"},
        {"$datetime": "yesterday", "fold": 0},
        {"$timedelta": [10**30]},
        {"$dict": [[[], 1]]},
        {"$set": [[]]},
        {"$decimal": {}},
    ],
    ids=repr,
)
def test_damaged_or_malicious_values_raise_an_ordinary_exception(
    content: dict[str, Any],
) -> None:
    with pytest.raises((ValueError, TypeError, LookupError, ArithmeticError)):
        JsonSerializer().loads(tagged(**content))


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"5", b"{", b"\x80\x05}.", b"[" * 100_000]
)
def test_bytes_that_are_no_state_raise_an_ordinary_exception(data: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        JsonSerializer().loads(data)


def test_functions_are_checked_against_the_list() -> None:
    serializer = JsonSerializer(allowed_callables=["json:dumps"])

    assert serializer.loads(serializer.dumps(state(func="json:dumps")))
    with pytest.raises(NotAllowedError, match="'a' cannot be stored"):
        serializer.dumps(state(func="os:system"))
    with pytest.raises(NotAllowedError):
        serializer.loads(JsonSerializer().dumps(state(func="os:system")))
    # A listing shows it all the same.
    shown = serializer.describe(JsonSerializer().dumps(state(func="os:system")))
    assert shown["func"] == "os:system"


def test_a_store_with_json_refuses_a_job_when_it_is_added(tmp_path: Path) -> None:
    store = SQLAlchemyJobStore(
        f"sqlite:///{tmp_path / 'jobs.db'}", serializer=JsonSerializer()
    )
    scheduler = BackgroundScheduler(jobstores={"default": store})
    scheduler.start(paused=True)
    try:
        with pytest.raises(NotPlainError, match=r"Job 'bad' .*args\[0\]"):
            scheduler.add_job(print, "interval", hours=1, args=[object()], id="bad")
        scheduler.add_job(print, "cron", hour=5, args=[NOW], id="good")

        (job,) = scheduler.get_jobs()

        assert (job.id, list(job.args)) == ("good", [NOW])
        assert str(job.trigger) == "cron[hour='5']"
    finally:
        scheduler.shutdown()
