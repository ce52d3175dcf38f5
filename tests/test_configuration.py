"""Configuration by keywords, by dicts and late: equal results, helpful errors, no surprises."""

import logging
import threading
from collections.abc import Iterator
from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import pytz  # type: ignore[import-untyped]  # it has no types of its own

from apscheduler.executors.base import BaseExecutor
from apscheduler.executors.debug import DebugExecutor
from apscheduler.executors.pool import ProcessPoolExecutor, ThreadPoolExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.triggers.cron import CronTrigger

logger_object = logging.getLogger("test.configuration")


class StubScheduler(BaseScheduler):
    """A scheduler without a loop."""

    def start(self, paused: bool = False) -> None:
        super().start(paused)

    def shutdown(self, wait: bool | float = True) -> None:
        super().shutdown(wait)

    def wakeup(self) -> None: ...


def work() -> None:
    """Do nothing."""


# Ways to say the same


def by_keywords() -> BackgroundScheduler:
    return BackgroundScheduler(
        jobstores={"default": MemoryJobStore(), "other": MemoryJobStore()},
        executors={
            "default": ThreadPoolExecutor(20),
            "processpool": ProcessPoolExecutor(5),
        },
        job_defaults={"coalesce": False, "max_instances": 3},
        timezone=pytz.utc,
    )


def by_flat_dict() -> BackgroundScheduler:
    return BackgroundScheduler(
        {
            "apscheduler.jobstores.default": {"type": "memory"},
            "apscheduler.jobstores.other": {"type": "memory"},
            "apscheduler.executors.default": {
                "class": "apscheduler.executors.pool:ThreadPoolExecutor",
                "max_workers": "20",
            },
            "apscheduler.executors.processpool": {
                "type": "processpool",
                "max_workers": "5",
            },
            "apscheduler.job_defaults.coalesce": "false",
            "apscheduler.job_defaults.max_instances": "3",
            "apscheduler.timezone": "UTC",
        }
    )


def by_flat_keys() -> BackgroundScheduler:
    return BackgroundScheduler(
        {
            "apscheduler.jobstores.default.type": "memory",
            "apscheduler.jobstores.other.type": "memory",
            "apscheduler.executors.default.class": ThreadPoolExecutor,
            "apscheduler.executors.default.max_workers": "20",
            "apscheduler.executors.processpool.type": "processpool",
            "apscheduler.executors.processpool.max_workers": "5",
            "apscheduler.job_defaults.coalesce": "no",
            "apscheduler.job_defaults.max_instances": "3",
            "apscheduler.timezone": "UTC",
        }
    )


def later() -> BackgroundScheduler:
    scheduler = BackgroundScheduler()
    scheduler.configure(
        jobstores={"default": {"type": "memory"}, "other": MemoryJobStore()},
        executors={
            "default": {"type": "threadpool", "max_workers": 20},
            "processpool": ProcessPoolExecutor(max_workers=5),
        },
        job_defaults={"coalesce": False, "max_instances": 3},
        timezone=UTC,
    )
    return scheduler


def with_other_prefix() -> BackgroundScheduler:
    scheduler = BackgroundScheduler()
    scheduler.configure(
        {
            "my.jobstores": {"default": {"type": "memory"}},
            "my.jobstores.other.type": "memory",
            "my.executors.default.type": "threadpool",
            "my.executors.default.max_workers": 20,
            "my.executors.processpool.type": "processpool",
            "my.executors.processpool.max_workers": 5,
            "my.job_defaults": {"coalesce": "0", "max_instances": 3},
            "my.timezone": "UTC",
            "apscheduler.timezone": "Asia/Tokyo",
        },
        prefix="my.",
    )
    return scheduler


@pytest.mark.parametrize(
    "make", [by_keywords, by_flat_dict, by_flat_keys, later, with_other_prefix]
)
def test_all_ways_to_configure_give_the_same(make: Any) -> None:
    scheduler = make()

    assert {a: type(s) for a, s in scheduler._jobstores.items()} == {
        "default": MemoryJobStore,
        "other": MemoryJobStore,
    }
    assert {a: type(e) for a, e in scheduler._executors.items()} == {
        "default": ThreadPoolExecutor,
        "processpool": ProcessPoolExecutor,
    }
    assert scheduler._executors["default"]._pool._max_workers == 20
    assert scheduler._executors["processpool"]._pool._max_workers == 5
    assert scheduler._job_defaults["coalesce"] is False
    assert scheduler._job_defaults["max_instances"] == 3
    assert str(scheduler.timezone) == "UTC"


MEMORY = {"default": {"type": "memory"}}


def test_keys_without_the_prefix_are_ignored_and_each_way_out_that_is_told_works(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ignoring = BackgroundScheduler({"jobstores": MEMORY})
    ignoring_too = BackgroundScheduler({"apscheduler": {"jobstores": MEMORY}})

    assert ignoring._jobstores == ignoring_too._jobstores == {}
    told = caplog.text
    assert "write 'apscheduler.jobstores'," in told
    assert "give the keyword argument jobstores=..." in told
    assert "give what is below it with prefix=None" in told
    ways_out = [
        BackgroundScheduler({"apscheduler.jobstores": MEMORY}),
        BackgroundScheduler(jobstores=MEMORY),
        BackgroundScheduler({"jobstores": MEMORY}, prefix=None),
    ]
    assert [[*scheduler._jobstores] for scheduler in ways_out] == [["default"]] * 3


def test_a_file_is_not_taken_for_a_dictionary() -> None:
    with pytest.raises(AttributeError, match=r"create_scheduler\(\)"):
        BackgroundScheduler("jobs.ini")  # type: ignore[arg-type]  # what is tested


def test_defaults() -> None:
    scheduler = BackgroundScheduler()

    assert scheduler.jobstore_retry_interval == 10
    assert scheduler._job_defaults["misfire_grace_time"] is None
    assert scheduler._job_defaults["coalesce"] is True
    assert scheduler._job_defaults["max_instances"] == 1
    assert scheduler._logger.name == "apscheduler.scheduler"
    assert (scheduler._executors, scheduler._jobstores) == ({}, {})
    assert scheduler.timezone is not None
    assert scheduler._daemon is True


@pytest.mark.parametrize(
    ("options", "attribute", "expected"),
    [
        ({"timezone": "Asia/Tokyo"}, "timezone", ZoneInfo("Asia/Tokyo")),
        ({"timezone": UTC}, "timezone", UTC),
        ({"jobstore_retry_interval": "2.5"}, "jobstore_retry_interval", 2.5),
        ({"daemon": "off"}, "_daemon", False),
        ({"daemon": "yes"}, "_daemon", True),
        ({"logger": logger_object}, "_logger", logger_object),
        ({"logger": f"{__name__}:logger_object"}, "_logger", logger_object),
    ],
)
def test_options(options: dict[str, Any], attribute: str, expected: Any) -> None:
    by_keyword = BackgroundScheduler(**options)
    by_dict = BackgroundScheduler({f"apscheduler.{k}": v for k, v in options.items()})

    assert getattr(by_keyword, attribute) == expected
    assert getattr(by_dict, attribute) == expected


def test_one_line_restores_the_grace_time_of_version_3() -> None:
    scheduler = BackgroundScheduler(job_defaults={"misfire_grace_time": 1})
    scheduler.start(paused=True)
    try:
        assert scheduler.add_job(work, "interval", hours=1).misfire_grace_time == 1
    finally:
        scheduler.shutdown()


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"timezone": "Nowhere/Town"}, Exception, "Nowhere/Town"),
        ({"timezone": 5}, TypeError, "5"),
        ({"jobstore_retry_interval": "soon"}, ValueError, "soon"),
        ({"logger": "just.a.name"}, ValueError, "just.a.name"),
        ({"logger": "no_such_module_x:y"}, LookupError, "no_such_module_x"),
        ({"job_defaults": {"coalesce": "perhaps"}}, ValueError, "perhaps"),
        ({"job_defaults": {"max_instances": "x"}}, ValueError, "max_instances"),
        ({"jobstores": ["redis"]}, AttributeError, "jobstores"),
        ({"executors": "threadpool"}, AttributeError, "executors"),
        ({"job_defaults": ["coalesce"]}, AttributeError, "job_defaults"),
        ({"jobstores": {"x": 5}}, TypeError, r"jobstores\.x"),
        ({"jobstores": {"x": "memory"}}, TypeError, r"jobstores\.x"),
        ({"jobstores": {"x": MemoryJobStore}}, TypeError, r"jobstores\.x"),
        ({"jobstores": {"x": DebugExecutor()}}, TypeError, r"jobstores\.x"),
        ({"jobstores": {"x": {}}}, ValueError, r"jobstores\.x"),
        ({"jobstores": {"x": {"type": "no such"}}}, LookupError, "no such"),
        ({"jobstores": {"x": {"class": "a.b.C"}}}, ValueError, r"a\.b\.C"),
        ({"jobstores": {"x": {"class": "json:nothing"}}}, LookupError, "nothing"),
        ({"jobstores": {"x": {"class": "builtins:dict"}}}, TypeError, r"jobstores\.x"),
        (
            {"jobstores": {"x": {"type": "memory", "nonsense": 1}}},
            TypeError,
            "nonsense",
        ),
        ({"executors": {"x": MemoryJobStore()}}, TypeError, r"executors\.x"),
        ({"executors": {"x": {"max_workers": 5}}}, ValueError, r"executors\.x"),
        (
            {"executors": {"x": {"type": "threadpool", "max_workers": 0}}},
            ValueError,
            "max_workers",
        ),
    ],
)
def test_wrong_values_raise_the_error_of_version_3_and_are_named(
    options: dict[str, Any], error: Any, named: str
) -> None:
    with pytest.raises(error, match=named):
        BackgroundScheduler(**options)


@pytest.mark.parametrize(
    "gconfig",
    [
        {"apscheduler.jobstores": 1, "apscheduler.jobstores.x.type": "memory"},
        {5: 1},
    ],
)
def test_keys_that_make_no_tree_raise_type_error(gconfig: Any) -> None:
    with pytest.raises(TypeError):
        BackgroundScheduler(gconfig)


def test_type_wins_over_class() -> None:
    scheduler = BackgroundScheduler(
        jobstores={"x": {"type": "memory", "class": "no_such_module_x:Y"}}
    )

    assert isinstance(scheduler._jobstores["x"], MemoryJobStore)


def test_keywords_replace_whole_entries() -> None:
    scheduler = BackgroundScheduler(
        {
            "apscheduler.job_defaults.max_instances": 5,
            "apscheduler.timezone": "Asia/Tokyo",
        },
        job_defaults={"coalesce": False},
    )

    assert scheduler._job_defaults["max_instances"] == 1
    assert scheduler._job_defaults["coalesce"] is False
    assert str(scheduler.timezone) == "Asia/Tokyo"


def test_executors_come_before_stores_in_the_order_of_the_configuration() -> None:
    events: list[Any] = []

    class Noting(StubScheduler):
        def _dispatch_event(self, event: Any) -> None:
            events.append((event.code, event.alias))

    Noting(
        jobstores={"b": MemoryJobStore(), "a": MemoryJobStore()},
        executors={"d": DebugExecutor(), "c": DebugExecutor()},
    )

    assert events == [(16, "d"), (16, "c"), (64, "b"), (64, "a")]


# What a configuration does not do


def test_one_dict_configures_many_schedulers() -> None:
    executors = {"default": {"type": "threadpool", "max_workers": 2}}
    stores = {"default": {"class": "apscheduler.jobstores.memory:MemoryJobStore"}}
    gconfig = {"apscheduler.executors": executors, "apscheduler.jobstores": stores}

    for _ in range(2):
        BackgroundScheduler(executors=executors, jobstores=stores)
        BackgroundScheduler(gconfig)

    assert executors == {"default": {"type": "threadpool", "max_workers": 2}}
    assert stores == {
        "default": {"class": "apscheduler.jobstores.memory:MemoryJobStore"}
    }


def test_unknown_options_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    scheduler = BackgroundScheduler(
        {"timezone": "Asia/Tokyo"}, job_default={}, timezone="UTC"
    )

    assert str(scheduler.timezone) == "UTC"
    assert "'job_default'" in caplog.text
    assert "'job_defaults'" in caplog.text
    assert "'apscheduler.timezone'" in caplog.text


def test_unknown_job_defaults_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    BackgroundScheduler(job_defaults={"max_instance": 5})

    assert "'max_instance'" in caplog.text
    assert "'max_instances'" in caplog.text


def test_a_right_configuration_warns_of_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for make in (by_keywords, by_flat_dict, by_flat_keys, later):
        make()
    BackgroundScheduler({"unrelated.thing": 1}, daemon=False)

    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


def test_configuring_again_starts_from_scratch_and_keeps_pending_jobs() -> None:
    scheduler = BackgroundScheduler(
        timezone="Asia/Tokyo", job_defaults={"max_instances": 5}
    )
    scheduler.add_jobstore("memory", "m")
    scheduler.add_executor("debug", "d")
    job = scheduler.add_job(work, "interval", hours=1)

    scheduler.configure(timezone="UTC")

    assert (scheduler._jobstores, scheduler._executors) == ({}, {})
    assert scheduler._job_defaults["max_instances"] == 1
    assert scheduler.get_jobs() == [job]


def test_trigger_arguments_beside_a_trigger_are_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scheduler = BackgroundScheduler(timezone=UTC)

    job: Any = scheduler.add_job(work, CronTrigger(hour=1, timezone=UTC), hour=5)

    assert str(job.trigger) == "cron[hour='1']"
    assert "'hour'" in caplog.text


def test_a_text_as_arguments_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    def three(*letters: str) -> None: ...

    job = BackgroundScheduler().add_job(three, args="abc")

    assert job.args == ("a", "b", "c")
    assert "'abc'" in caplog.text


def test_a_text_as_coalesce_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    scheduler: Any = BackgroundScheduler()

    assert scheduler.add_job(work, coalesce="false").coalesce is True
    assert "'false'" in caplog.text
    assert scheduler.add_job(work, coalesce=None).coalesce is False


def test_arguments_that_a_trigger_does_not_know_raise_type_error() -> None:
    with pytest.raises(TypeError, match="hour"):
        BackgroundScheduler().add_job(work, "interval", hour=1)  # type: ignore[unused-coroutine]  # it is wrong


def test_a_late_value_for_max_instances_surfaces_when_a_job_is_added() -> None:
    scheduler = BackgroundScheduler(job_defaults={"max_instances": None})
    scheduler.start(paused=True)
    try:
        with pytest.raises(TypeError, match="max_instances"):
            scheduler.add_job(work, "interval", hours=1)
    finally:
        scheduler.shutdown()


# Where defaults and subclasses come in


@pytest.fixture
def running() -> Iterator[list[BaseScheduler]]:
    schedulers: list[BaseScheduler] = []
    yield schedulers
    for scheduler in schedulers:
        if scheduler.running:
            scheduler.shutdown()


def test_what_is_not_configured_is_made_at_the_start(running: Any) -> None:
    scheduler = BackgroundScheduler()
    running.append(scheduler)

    scheduler.start(paused=True)

    assert isinstance(scheduler._executors["default"], ThreadPoolExecutor)
    assert scheduler._executors["default"]._pool._max_workers == 10
    assert isinstance(scheduler._jobstores["default"], MemoryJobStore)


def test_what_is_configured_beside_the_default_does_not_replace_it(
    running: Any,
) -> None:
    scheduler = BackgroundScheduler(
        executors={"x": {"type": "debug"}}, jobstores={"y": {"type": "memory"}}
    )
    running.append(scheduler)

    scheduler.start(paused=True)

    assert sorted(scheduler._executors) == ["default", "x"]
    assert sorted(scheduler._jobstores) == ["default", "y"]


def test_subclasses_see_the_nested_configuration() -> None:
    seen: list[dict[str, Any]] = []

    class Special(StubScheduler):
        def _configure(self, config: dict[str, Any]) -> None:
            seen.append(dict(config))
            self.special = config.pop("special", None)
            super()._configure(config)

    scheduler = Special({"apscheduler.special.a": 1}, timezone=UTC)

    assert seen == [{"special": {"a": 1}, "timezone": UTC}]
    assert scheduler.special == {"a": 1}


def test_the_lock_class_is_the_subclasss_choice() -> None:
    made: list[Any] = []

    class Special(StubScheduler):
        def _create_lock(self) -> Any:
            lock = threading.RLock()
            made.append(lock)
            return lock

    scheduler = Special()

    for name in ("_executors_lock", "_jobstores_lock", "_listeners_lock"):
        assert getattr(scheduler, name) in made


def test_classes_can_be_registered_without_packaging() -> None:
    class Mine(DebugExecutor):
        pass

    scheduler: Any = StubScheduler()
    scheduler._executor_classes = {"mine": Mine}

    scheduler.add_executor("mine")

    assert isinstance(scheduler._executors["default"], Mine)


@pytest.mark.parametrize("kind", ["trigger", "executor", "jobstore"])
def test_a_name_that_stands_for_something_else_is_refused_every_time(
    kind: Any,
) -> None:
    class Loadable:
        def load(self) -> type:
            return dict

    scheduler = StubScheduler()
    setattr(scheduler, f"_{kind}_plugins", {"z": Loadable()})
    setattr(scheduler, f"_{kind}_classes", {})

    for _ in range(2):
        with pytest.raises(TypeError, match="'z'"):
            scheduler._create_plugin_instance(kind, "z", {})


def test_executors_know_their_scheduler_and_alias(running: Any) -> None:
    executor: BaseExecutor = DebugExecutor()
    scheduler = BackgroundScheduler(executors={"x": executor})
    running.append(scheduler)
    assert executor._scheduler is None

    scheduler.start(paused=True)

    assert executor._scheduler is scheduler
    assert executor._logger.name == "apscheduler.executors.x"
