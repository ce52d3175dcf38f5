"""The promises of ``Job``: attributes, validation, references, stored state, text forms."""

import pickle
import sys
import types
import weakref
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from unittest.mock import MagicMock
from zoneinfo import ZoneInfo

import pytest

from apscheduler.job import Job
from apscheduler.triggers.base import BaseTrigger, TriggerError

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2030, 1, 1, tzinfo=UTC)
MODULE = __name__


class Every(BaseTrigger):
    """Fires again and again, a fixed time after the last fire."""

    def __init__(self, step: timedelta = timedelta(minutes=1)):
        self.step = step

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime:
        if previous_fire_time is None:
            return now
        zone = previous_fire_time.tzinfo
        return (previous_fire_time.astimezone(UTC) + self.step).astimezone(zone)

    def __str__(self) -> str:
        return "every"


def work(*args: Any, **kwargs: Any) -> None:
    """Do nothing, with whatever arguments."""


def other(a: int, b: int = 2) -> None:
    """Do nothing, with one or two arguments."""


class Worker:
    """Something whose methods can be jobs."""

    class Inner:
        @classmethod
        def make(cls) -> None: ...

    def __init__(self, name: str = "w"):
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Worker) and self.name == other.name

    __hash__ = None  # type: ignore[assignment]  # equality suffices here

    def method(self, *args: Any) -> None: ...

    @classmethod
    def cm(cls) -> None: ...

    @staticmethod
    def sm() -> None: ...


class SubWorker(Worker):
    """Inherits the methods."""


class CallableThing:
    """An instance that is a function."""

    def __call__(self) -> None: ...


worker = Worker()


@pytest.fixture
def scheduler() -> Any:
    return MagicMock(timezone=UTC)


@pytest.fixture
def make(scheduler: Any) -> Any:
    def make(**options: Any) -> Job:
        given = {
            "id": "j",
            "func": work,
            "args": (),
            "kwargs": {},
            "trigger": Every(),
            "executor": "default",
            **options,
        }
        return Job(scheduler, **given)

    return make


@pytest.fixture
def full(make: Any) -> Any:
    def full(**options: Any) -> Job:
        job: Job = make(
            **{
                "misfire_grace_time": 5,
                "coalesce": False,
                "max_instances": 2,
                "next_run_time": START,
                **options,
            }
        )
        return job

    return full


# Attributes


@pytest.mark.parametrize("no_id", [None, ""])
def test_a_job_without_an_id_gets_32_random_hex_digits(make: Any, no_id: Any) -> None:
    first, second = make(id=no_id).id, make(id=no_id).id

    assert len(first) == 32
    assert int(first, 16) >= 0
    assert first != second


@pytest.mark.parametrize(
    "name", ["misfire_grace_time", "coalesce", "max_instances", "next_run_time"]
)
def test_what_defaults_fill_in_does_not_exist_on_a_pending_job(
    make: Any, name: str
) -> None:
    assert not hasattr(make(), name)
    with pytest.raises(AttributeError):
        getattr(make(), name)


def test_what_was_given_exists_on_a_pending_job(full: Any) -> None:
    job = full()

    assert job.pending
    assert (job.misfire_grace_time, job.coalesce, job.max_instances) == (5, False, 2)
    assert job.next_run_time == START


def test_a_job_is_pending_until_it_has_a_store(make: Any) -> None:
    job = make()
    assert job.pending

    job._jobstore_alias = "default"

    assert not job.pending


def test_no_other_attributes_can_be_set(make: Any) -> None:
    with pytest.raises(AttributeError):
        make().colour = "red"


def test_settable_names_are_slots() -> None:
    expected = {
        "_scheduler",
        "_jobstore_alias",
        "id",
        "trigger",
        "executor",
        "func",
        "func_ref",
        "args",
        "kwargs",
        "name",
        "misfire_grace_time",
        "coalesce",
        "max_instances",
        "next_run_time",
        "__weakref__",
    }

    assert expected <= set(Job.__slots__)
    assert not hasattr(Job.__new__(Job), "__dict__")


def test_jobs_can_be_referred_to_weakly(make: Any) -> None:
    job = make()

    assert weakref.ref(job)() is job


def test_jobs_with_equal_ids_are_equal_and_unhashable(make: Any) -> None:
    assert make(id="a") == make(id="a", func=other, args=[1])
    assert make(id="a") != make(id="b")
    assert make().__eq__("j") is NotImplemented
    with pytest.raises(TypeError, match="unhashable"):
        hash(make())


def test_text_forms(full: Any, make: Any) -> None:
    berlin = datetime(2030, 1, 1, tzinfo=BERLIN)

    assert repr(make(name="n")) == "<Job (id=j name=n)>"
    assert (
        str(full(name="n", next_run_time=berlin))
        == "n (trigger: every, next run at: 2030-01-01 00:00:00 CET)"
    )
    assert str(full(name="n", next_run_time=None)) == "n (trigger: every, paused)"
    assert str(make(name="n")) == "n (trigger: every, pending)"


# Methods


@pytest.mark.parametrize(
    ("call", "method", "args", "kwargs"),
    [
        (lambda j: j.modify(name="x"), "modify_job", ("j", "s"), {"name": "x"}),
        (
            lambda j: j.reschedule("interval", hours=1),
            "reschedule_job",
            ("j", "s", "interval"),
            {"hours": 1},
        ),
        (lambda j: j.pause(), "pause_job", ("j", "s"), {}),
        (lambda j: j.resume(), "resume_job", ("j", "s"), {}),
        (lambda j: j.remove(), "remove_job", ("j", "s"), {}),
    ],
    ids=["modify", "reschedule", "pause", "resume", "remove"],
)
def test_methods_delegate_to_the_scheduler(
    make: Any, scheduler: Any, call: Any, method: str, args: Any, kwargs: Any
) -> None:
    job = make()
    job._jobstore_alias = "s"
    getattr(scheduler, method).return_value = None

    result = call(job)

    getattr(scheduler, method).assert_called_once_with(*args, **kwargs)
    assert result is (None if method == "remove_job" else job)


# Validation


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("id", 5, TypeError),
        ("id", "new", ValueError),
        ("func", "nocolon", ValueError),
        ("func", "no_such_module_here:f", LookupError),
        ("func", f"{MODULE}:nothing", LookupError),
        ("func", 5, TypeError),
        ("args", "abc", TypeError),
        ("args", 5, TypeError),
        ("kwargs", "abc", TypeError),
        ("kwargs", 5, TypeError),
        ("kwargs", [("a", 1)], TypeError),
        ("name", "", TypeError),
        ("name", None, TypeError),
        ("name", 5, TypeError),
        ("misfire_grace_time", 0, TypeError),
        ("misfire_grace_time", -1, TypeError),
        ("misfire_grace_time", 1.5, TypeError),
        ("misfire_grace_time", "5", TypeError),
        ("max_instances", 0, TypeError),
        ("max_instances", -1, TypeError),
        ("max_instances", None, TypeError),
        ("max_instances", "1", TypeError),
        ("max_instances", 1.0, TypeError),
        ("trigger", "interval", TypeError),
        ("trigger", object(), TypeError),
        ("executor", 5, TypeError),
        ("executor", None, TypeError),
        ("next_run_time", 5, TypeError),
        ("next_run_time", "nonsense", ValueError),
        ("func_ref", "a:b", AttributeError),
        ("pending", True, AttributeError),
        ("jobstore", "x", AttributeError),
        ("on_lost", "explode", ValueError),
        ("max_attempts", 0, TypeError),
        ("history", -1, TypeError),
    ],
)
def test_wrong_values_are_refused_and_change_nothing(
    full: Any, name: str, value: Any, error: type[Exception]
) -> None:
    job = full(name="before")
    state = job.__getstate__()

    with pytest.raises(error):
        job._modify(name="after", **{name: value}) if name != "name" else job._modify(
            name=value
        )

    assert job.__getstate__() == state


def test_unknown_names_are_listed(full: Any) -> None:
    with pytest.raises(AttributeError, match="colour, taste"):
        full()._modify(taste=1, colour=2, name="n")


def test_the_class_of_a_wrong_trigger_is_named(full: Any) -> None:
    with pytest.raises(TypeError, match="got Worker instead"):
        full()._modify(trigger=Worker())


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("misfire_grace_time", None, None),
        ("misfire_grace_time", True, True),
        ("coalesce", "false", True),
        ("coalesce", 0, False),
        ("coalesce", None, False),
        ("executor", "no such executor", "no such executor"),
        ("args", [1, 2], [1, 2]),
        ("next_run_time", None, None),
        ("next_run_time", "2030-02-03 04:05:06", datetime(2030, 2, 3, 4, 5, 6, 0, UTC)),
        ("next_run_time", datetime(2030, 2, 3), datetime(2030, 2, 3, tzinfo=UTC)),
    ],
)
def test_accepted_values(full: Any, name: str, value: Any, expected: Any) -> None:
    job = full()

    job._modify(**{name: value})

    assert getattr(job, name) == expected


def test_dates_are_read_in_the_zone_of_the_scheduler(scheduler: Any, full: Any) -> None:
    scheduler.timezone = BERLIN

    job = full(next_run_time="2030-07-01 12:00:00")

    assert job.next_run_time.isoformat() == "2030-07-01T12:00:00+02:00"


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({"func": other, "args": (1,), "kwargs": {}}, True),
        ({"func": other, "args": (1, 2, 3), "kwargs": {}}, False),
        ({"func": other, "args": (), "kwargs": {"b": 1}}, False),
        ({"func": other, "args": (1,), "kwargs": {"a": 1}}, False),
        ({"func": other, "args": (1,), "kwargs": {"c": 1}}, False),
        ({"func": other}, False),
        ({"args": (1, 2, 3)}, True),
    ],
)
def test_function_and_arguments_must_fit_together(
    full: Any, changes: dict[str, Any], fits: bool
) -> None:
    job = full()

    if fits:
        job._modify(**changes)
    else:
        with pytest.raises(ValueError, match="cannot be called"):
            job._modify(**changes)


def test_arguments_alone_are_checked_against_the_present_function(full: Any) -> None:
    job = full(func=other, args=(1,))

    with pytest.raises(ValueError, match="cannot be called"):
        job._modify(args=(1, 2, 3))

    assert job.args == (1,)


# Names


@pytest.mark.parametrize(
    ("func", "name"),
    [
        (work, "work"),
        (len, "len"),
        (Worker, "Worker"),
        (worker.method, "Worker.method"),
        (SubWorker().method, "SubWorker.method"),
        (SubWorker.cm, "SubWorker.cm"),
        (Worker.sm, "Worker.sm"),
        (partial(work), "partial"),
        (CallableThing(), "CallableThing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_jobs_are_named_after_what_they_call(make: Any, func: Any, name: str) -> None:
    assert make(func=func, args=([],) if func is len else ()).name == name


def test_the_name_stays_when_the_function_changes(full: Any) -> None:
    job = full()

    job._modify(func=other, args=(1,))

    assert (job.name, job.func) == ("work", other)


# References


@pytest.mark.parametrize(
    ("func", "path"),
    [
        (work, "work"),
        (Worker, "Worker"),
        (Worker.cm, "Worker.cm"),
        (Worker.sm, "Worker.sm"),
        (Worker.method, "Worker.method"),
        (worker.method, "Worker.method"),
        (Worker.Inner.make, "Worker.Inner.make"),
        (SubWorker.cm, "SubWorker.cm"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_can_be_found_by_name_has_a_reference(
    make: Any, func: Any, path: str
) -> None:
    args = (worker,) if func is Worker.method else ()

    assert make(func=func, args=args).func_ref == f"{MODULE}:{path}"


@pytest.mark.parametrize(
    "func",
    [lambda: None, partial(work), CallableThing(), "x".upper],
    ids=["lambda", "partial", "callable instance", "method of a built-in object"],
)
def test_what_cannot_be_found_by_name_is_accepted_but_not_serialised(
    full: Any, func: Any
) -> None:
    job = full(func=func)

    assert job.func_ref is None
    with pytest.raises(ValueError, match="textual reference"):
        job.__getstate__()


def test_nested_functions_have_no_reference(make: Any) -> None:
    def nested() -> None: ...

    assert make(func=nested).func_ref is None


SOURCE = """
jobs = []

def job(func):
    jobs.append(make(func=func).func_ref)
    return func

@job
def decorated(): ...

class Owner:
    @job
    def method(self=None): ...
"""


def define(name: str, make: Any, monkeypatch: pytest.MonkeyPatch, source: str) -> Any:
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    vars(module)["make"] = make
    exec(compile(source, f"{name}.py", "exec"), vars(module))  # noqa: S102  # our own text
    return module


def test_a_function_that_is_just_being_decorated_has_a_reference(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = define("being_defined", make, monkeypatch, SOURCE)

    assert module.jobs == ["being_defined:decorated", "being_defined:Owner.method"]


def test_a_function_that_takes_the_place_of_an_earlier_one_has_a_reference(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = SOURCE + "\n@job\ndef decorated(): ..."

    module = define("taking_its_place", make, monkeypatch, again)

    assert module.jobs[-1] == "taking_its_place:decorated"


def test_a_decorated_function_has_a_reference_also_when_its_module_is_loaded_again(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = define("loaded_again", make, monkeypatch, SOURCE)

    exec(compile(SOURCE, "loaded_again.py", "exec"), vars(module))  # noqa: S102  # our own text

    assert module.jobs[0] == "loaded_again:decorated"


@pytest.mark.parametrize(
    "source",
    [
        "def f(): return 1\nfirst = f\ndef f(): return 2\nref = make(func=first).func_ref",
        (
            "import functools\ndef f(): return 1\nfirst = f\n"
            "@functools.wraps(first)\ndef f(): return first()\n"
            "ref = make(func=first).func_ref"
        ),
        (
            "import functools\ndef f(): return 1\nfirst = f\n"
            "f = functools.cache(f)\nref = make(func=first).func_ref"
        ),
    ],
    ids=["another function", "a wrapper", "a cache"],
)
def test_a_function_whose_name_leads_to_something_else_has_no_reference(
    make: Any, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    assert define("elsewhere", make, monkeypatch, source).ref is None


def test_a_reference_is_kept_as_it_was_given(full: Any) -> None:
    job = full(func="sys:stdout.write", args=["x"])

    assert job.func_ref == "sys:stdout.write"
    assert job.func == sys.stdout.write


@pytest.mark.parametrize("ref", ["sys:stdout.write", f"{MODULE}:worker.method"])
def test_a_reference_survives_a_change_of_the_arguments(full: Any, ref: str) -> None:
    job = full(func=ref, args=["x"])

    job._modify(args=["y"])

    assert job.func_ref == ref
    assert job.__getstate__()["args"] == ["y"]


# Stored state

STATE_KEYS = {
    "version",
    "id",
    "func",
    "trigger",
    "executor",
    "args",
    "kwargs",
    "name",
    "misfire_grace_time",
    "coalesce",
    "max_instances",
    "next_run_time",
}


def test_the_state_has_the_layout_of_version_1(full: Any) -> None:
    trigger = Every()

    state = full(trigger=trigger, args=(1,), kwargs={"a": 2}).__getstate__()

    assert state == {
        "version": 1,
        "id": "j",
        "func": f"{MODULE}:work",
        "trigger": trigger,
        "executor": "default",
        "args": (1,),
        "kwargs": {"a": 2},
        "name": "work",
        "misfire_grace_time": 5,
        "coalesce": False,
        "max_instances": 2,
        "next_run_time": START,
    }


@pytest.mark.parametrize(
    ("option", "default", "value"),
    [("on_lost", "mark", "retry"), ("max_attempts", 3, 5), ("history", None, 10)],
)
def test_new_options_are_in_the_state_only_when_they_are_not_the_default(
    full: Any, option: str, default: Any, value: Any
) -> None:
    assert set(full(**{option: default}).__getstate__()) == STATE_KEYS
    assert full(**{option: value}).__getstate__()[option] == value


def test_a_pending_job_without_its_defaults_has_no_state(make: Any) -> None:
    with pytest.raises(AttributeError):
        make().__getstate__()


@pytest.mark.parametrize(
    ("func", "stored", "args"),
    [
        (worker.method, "Worker.method", (worker, 1)),
        (f"{MODULE}:worker.method", "worker.method", (1,)),
    ],
    ids=["bound to an instance", "given as text"],
)
def test_a_bound_method_is_stored_with_its_instance_unless_given_as_text(
    full: Any, func: Any, stored: str, args: Any
) -> None:
    state = full(func=func, args=(1,)).__getstate__()

    assert state["func"] == f"{MODULE}:{stored}"
    assert tuple(state["args"]) == args


def test_a_class_method_keeps_its_arguments(full: Any) -> None:
    state = full(func=SubWorker.cm).__getstate__()

    assert (state["func"], state["args"]) == (f"{MODULE}:SubWorker.cm", ())


@pytest.mark.parametrize(
    "func",
    [work, worker.method, Worker.cm, SubWorker.cm, f"{MODULE}:worker.method"],
    ids=["function", "method", "classmethod", "inherited classmethod", "text"],
)
def test_a_restored_job_makes_the_same_call(full: Any, func: Any) -> None:
    state = pickle.loads(pickle.dumps(full(func=func).__getstate__()))
    job = Job.__new__(Job)

    job.__setstate__(state)

    assert job.func(*job.args, **job.kwargs) is None
    assert job.__getstate__() == {**state, "trigger": job.trigger}
    assert (job._scheduler, job._jobstore_alias) == (None, None)


def test_neither_scheduler_nor_store_is_in_the_state(full: Any) -> None:
    job = full()
    job._jobstore_alias = "default"

    assert "default" not in [
        value for key, value in job.__getstate__().items() if key != "executor"
    ]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"version": 2}, ValueError),
        ({"func": f"{MODULE}:gone"}, LookupError),
        ({"func": "no_such_module_here:gone"}, LookupError),
        ({"func": "nocolon"}, ValueError),
    ],
)
def test_states_that_cannot_be_restored(
    full: Any, changes: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        Job.__new__(Job).__setstate__({**full().__getstate__(), **changes})


@pytest.mark.parametrize("key", sorted(STATE_KEYS - {"version"}))
def test_a_missing_key_raises_key_error(full: Any, key: str) -> None:
    state = full().__getstate__()
    del state[key]

    with pytest.raises(KeyError):
        Job.__new__(Job).__setstate__(state)


def test_a_missing_version_counts_as_1_and_unknown_keys_are_ignored(full: Any) -> None:
    state = {**full().__getstate__(), "jobstore": "x", "scheduler": "y"}
    del state["version"]
    job = Job.__new__(Job)

    job.__setstate__(state)

    assert job.id == "j"


# Run times


def test_run_times_go_from_the_next_one_to_now_inclusive(full: Any) -> None:
    job = full()
    minute = timedelta(minutes=1)

    assert job._get_run_times(START - timedelta(microseconds=1)) == []
    assert job._get_run_times(START) == [START]
    assert job._get_run_times(START + 2 * minute) == [
        START,
        START + minute,
        START + 2 * minute,
    ]


def test_a_paused_job_has_no_run_times(full: Any) -> None:
    assert full(next_run_time=None)._get_run_times(START) == []


def test_run_times_are_compared_as_instants_when_clocks_go_back(full: Any) -> None:
    # 02:30 comes twice; at the second 02:10 the first 02:30 is 40 minutes ago.
    job = full(
        next_run_time=datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN),
        trigger=Every(timedelta(hours=1)),
    )

    run_times = job._get_run_times(datetime(2026, 10, 25, 2, 10, tzinfo=BERLIN, fold=1))

    assert [time.astimezone(UTC).isoformat() for time in run_times] == [
        "2026-10-25T00:30:00+00:00"
    ]


@pytest.mark.parametrize("step", [timedelta(0), timedelta(seconds=-1)])
def test_a_trigger_that_does_not_advance_is_refused(full: Any, step: timedelta) -> None:
    with pytest.raises(TriggerError, match="does not advance"):
        full(trigger=Every(step))._get_run_times(START)
