"""With an allow-list, stored bytes can make data and nothing else; these are the ways that were tried around it."""

import copyreg
import io
import os
import pickle
import subprocess
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import partial
from operator import attrgetter, methodcaller
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest

from apscheduler.serializers import PickleSerializer
from apscheduler.serializers.allowing import AllowList, NotAllowedError
from apscheduler.serializers.unpickling import RestrictedUnpickler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.util import ref_to_obj

ALLOWED = AllowList(["tasks:*", "tasks:os.getpid"])
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

TASKS = '''
"""Somebody's tasks, which import what tasks import."""

import os
import subprocess
from enum import Enum
from functools import partial

calls = []


def work(*args):
    calls.append(args)


class Order:
    def __init__(self, number):
        self.number = number

    @classmethod
    def load(cls, number):
        calls.append(number)
        return cls(number)

    def ship(self):
        pass


class Slotted:
    __slots__ = ("number",)


class Colour(Enum):
    RED = "red"


class Registry:
    """Not callable, but in the module."""


registry = Registry()
shell = partial(os.system)
'''


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a module that the allow-list is about."""
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tasks", raising=False)
    import tasks  # type: ignore[import-not-found]

    yield tasks
    sys.modules.pop("tasks", None)


def load(data: bytes) -> Any:
    return RestrictedUnpickler(data, ALLOWED).load()


class Call:
    """Is pickled as a call."""

    def __init__(self, func: Any, *args: Any):
        self.call = (func, args)

    def __call__(self) -> None:
        """Pickle wants that of what is to be called."""

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_data_of_all_usual_kinds_comes_back(protocol: int) -> None:
    values = [
        *(None, True, 5, 2**70, 1.5, 2j, "text", b"bytes", bytearray(b"more")),
        *([1], (1, 2), {1: 2}, {1, 2}, frozenset((1,)), range(3), slice(1, 2)),
        *(OrderedDict(a=1), Counter("aab"), deque([1]), defaultdict(list, a=[1])),
        *(Decimal("1.5"), Fraction(1, 3), uuid4(), PurePosixPath("/a/b")),
        *(date(2030, 1, 1), time(1, 2), timedelta(1, 2, 3), datetime(2030, 1, 1)),
        *(datetime.now(UTC), datetime.now(ZoneInfo("Europe/Berlin"))),
        datetime.now(timezone(timedelta(hours=2))),
    ]

    assert load(pickle.dumps(values, protocol)) == values


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_objects_of_allowed_classes_come_back(tasks: Any, protocol: int) -> None:
    order = tasks.Order(7)
    order.colour = tasks.Colour.RED
    order.callback = tasks.work
    data = pickle.dumps([order, order], protocol)

    one, other = load(data)

    assert one is other
    assert (one.number, one.colour, one.callback) == (7, tasks.Colour.RED, tasks.work)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_objects_with_slots_come_back(tasks: Any, protocol: int) -> None:
    slotted = tasks.Slotted()
    slotted.number = 5

    assert load(pickle.dumps(slotted, protocol)).number == 5


def test_zones_of_pytz_come_back() -> None:
    pytz = pytest.importorskip("pytz")
    berlin = pytz.timezone("Europe/Berlin").localize(datetime(2030, 7, 1))
    values = [berlin, pytz.utc, pytz.FixedOffset(90), pytz.timezone("Asia/Tokyo")]

    assert load(pickle.dumps(values)) == values


def test_zones_of_dateutil_come_back() -> None:
    tz = pytest.importorskip("dateutil.tz")
    zones = [tz.tzutc(), tz.gettz("Europe/Berlin"), tz.tzoffset("X", 3600)]
    values = [datetime(2030, 7, 1, tzinfo=zone) for zone in (*zones, tz.tzlocal())]

    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert load(pickle.dumps(values, protocol)) == values


def test_parts_of_zones_of_pytz_cannot_be_changed() -> None:
    pytz = pytest.importorskip("pytz")
    zone = pytz.timezone("Europe/Berlin")
    data = pickle.dumps(zone)[:-1] + pickle.dumps({"zone": "evil"}, 2)[2:-1] + b"b."

    with pytest.raises(NotAllowedError, match="must not be changed"):
        load(data)

    assert zone.zone == "Europe/Berlin"


# What must not happen: a file "hit" is what every attack leaves behind when it succeeds.


def _attacks(path: str) -> dict[str, Any]:
    command = f"touch {path}"
    return {
        "os.system": Call(os.system, command),
        "subprocess": Call(subprocess.call, ["touch", path]),
        "eval": Call(eval, f"open({path!r}, 'w')"),
        "exec": Call(exec, f"open({path!r}, 'w')"),
        "open": Call(open, path, "w"),
        "import": Call(__import__, "trap"),
        "getattr": Call(Call(getattr, os, "system"), command),
        "getattr on a known class": Call(getattr, datetime, "now"),
        "attrgetter": Call(attrgetter("system"), os),
        "methodcaller": Call(methodcaller("write_text", ""), Path(path)),
        "partial": Call(partial(os.system, command)),
        "map": Call(list, Call(map, os.system, [command])),
        "type": Call(type, "Evil", (), {}),
        "reference": Call(ref_to_obj, "trap:x"),
        "codecs": Call(__import__("codecs").encode, "a", "zlib_codec"),
        "nested loads": Call(pickle.loads, pickle.dumps(Call(os.system, command))),
        "in a set": {Call(os.system, command)},
        "as a key": {Call(os.system, command): 1},
        "default factory": Call(defaultdict, partial(os.system, command)),
    }


def dumps(value: Any, protocol: int) -> bytes:
    """Pickle, with modules by their names, which pickle itself refuses."""

    class Pickler(pickle.Pickler):
        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, type(os)):
                return __import__, (obj.__name__,)
            return NotImplemented

    file = io.BytesIO()
    Pickler(file, protocol).dump(value)
    return file.getvalue()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", _attacks("x"))
def test_nothing_is_called_but_allowed_classes(
    tasks: Any, tmp_path: Path, name: str, protocol: int
) -> None:
    hit = tmp_path / "hit"
    data = dumps(_attacks(str(hit))[name], protocol)

    with pytest.raises((NotAllowedError, pickle.UnpicklingError)):
        load(data)

    assert not hit.exists()
    assert "trap" not in sys.modules


STACK_GLOBAL = pickle.PROTO + b"\x04"


def text(value: str) -> bytes:
    return pickle.SHORT_BINUNICODE + bytes([len(value)]) + value.encode()


def name_of(module: str, name: str) -> bytes:
    return text(module) + text(name) + pickle.STACK_GLOBAL


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("tasks", "os.system"),
        ("tasks", "subprocess.Popen"),
        ("tasks", "work.__globals__"),
        ("tasks", "work.__call__"),
        ("tasks", "Order.__init__.__globals__"),
        ("tasks", "Order.__class__"),
        ("tasks", "Order.__subclasses__"),
        ("tasks", "Order.__base__"),
        ("tasks", "Enum"),
        ("tasks", "partial"),
        ("tasks", "shell"),
        ("tasks", "shell.func"),
        ("tasks", "registry"),
        ("tasks", "__loader__.load_module"),
        ("tasks", "__builtins__.eval"),
        ("tasks.os", "system"),
        ("tasks ", "work"),
        ("Tasks", "work"),
        ("", "work"),
        ("tasks", ""),
        ("datetime", "sys.modules"),
        ("datetime", "datetime.now"),
        ("builtins", "getattr.__class__"),
        ("builtins", "eval"),
        ("apscheduler.triggers.base", "convert_to_datetime"),
        ("apscheduler.triggers.base", "random.SystemRandom"),
        ("apscheduler.triggers.base", "set_state"),
        ("apscheduler.triggers", "pkgutil"),
        ("apscheduler.triggers.base", "BaseTrigger.__subclasses__"),
        ("apscheduler.util", "ref_to_obj"),
        ("apscheduler.callables", "ref_to_obj"),
        ("pytz", "open_resource"),
        ("pytz_evil", "_p"),
        ("trap", "anything"),
        ("posix", "system"),
        ("copyreg", "add_extension"),
    ],
)
def test_names_lead_nowhere_but_to_what_is_meant(
    tasks: Any, module: str, name: str
) -> None:
    with pytest.raises((NotAllowedError, LookupError, AttributeError)):
        load(STACK_GLOBAL + name_of(module, name) + b".")

    assert "trap" not in sys.modules


def test_what_is_listed_by_its_full_name_may_come_from_elsewhere(tasks: Any) -> None:
    assert load(STACK_GLOBAL + name_of("tasks", "os.getpid") + b".") is os.getpid


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_allowed_function_is_referred_to_but_not_called(
    tasks: Any, protocol: int
) -> None:
    with pytest.raises(NotAllowedError, match="only classes are called"):
        load(pickle.dumps(Call(tasks.work, 1), protocol))

    assert tasks.calls == []


def test_a_method_of_an_allowed_class_is_not_called(tasks: Any) -> None:
    load_order = name_of("tasks", "Order.load")
    with pytest.raises(NotAllowedError):
        load(STACK_GLOBAL + load_order + b"K\x07\x85R.")

    assert tasks.calls == []


def test_old_instructions_that_make_instances_call_nothing_either(
    tasks: Any, tmp_path: Path
) -> None:
    hit = tmp_path / "hit"
    command = f"S'touch {hit}'\n".encode()
    inst, obj = b"(" + command + b"iposix\nsystem\n.", b"(cposix\nsystem\n" + command
    for data in (
        inst,
        obj + b"o.",
        b"(" + b"ctasks\nwork\nI1\no.",
        b"(itasks\nwork\n.",
    ):
        with pytest.raises(NotAllowedError):
            load(data)

    assert not hit.exists()
    assert tasks.calls == []


SET_WORK = text("work") + b"N" + b"s"  # {"work": None}


@pytest.mark.parametrize("name", ["Order", "work", "Colour", "Slotted"])
@pytest.mark.parametrize(
    "state", [b"}" + SET_WORK, b"N}" + SET_WORK + b"\x86"], ids=["dict", "slots"]
)
def test_classes_and_functions_are_not_changed(
    tasks: Any, name: str, state: bytes
) -> None:
    with pytest.raises(NotAllowedError, match="must not be changed"):
        load(STACK_GLOBAL + name_of("tasks", name) + state + b"b.")

    assert not hasattr(getattr(tasks, name), "work")


@pytest.mark.parametrize(
    "change",
    [
        *(
            b"K\x01a.",
            b"(K\x01K\x02e.",
            b"K\x01K\x02s.",
            b"(K\x01K\x02u.",
            b"(K\x01\x90.",
        ),
    ],
    ids=["append", "appends", "setitem", "setitems", "additems"],
)
def test_nothing_is_put_into_what_was_there_before(tasks: Any, change: bytes) -> None:
    with pytest.raises(NotAllowedError, match="must not be changed"):
        load(STACK_GLOBAL + name_of("tasks", "Order") + change)


def test_members_of_enumerations_are_not_changed(tasks: Any) -> None:
    red = name_of("tasks", "Colour") + text("red") + b"\x85R"
    with pytest.raises(NotAllowedError, match="must not be changed"):
        load(STACK_GLOBAL + red + b"}" + text("_value_") + b"K\x01sb.")

    assert tasks.Colour.RED.value == "red"


def test_the_memo_does_not_make_things_changeable(tasks: Any) -> None:
    kept = name_of("tasks", "Order") + pickle.MEMOIZE + b"0" + b"h\x00"
    with pytest.raises(NotAllowedError, match="must not be changed"):
        load(STACK_GLOBAL + kept + b"N}" + SET_WORK + b"\x86b.")


def test_extension_codes_lead_nowhere_also_when_they_are_known(tasks: Any) -> None:
    copyreg.add_extension("os", "system", 200)
    try:
        data = pickle.dumps(os.system, 2)
        assert pickle.EXT1 in data or b"system" in data
        pickle.loads(b"\x80\x02\x82\xc8.")  # now it is in the cache of the extensions
        with pytest.raises(NotAllowedError, match="extension code 200"):
            load(b"\x80\x02\x82\xc8.")
    finally:
        copyreg.remove_extension("os", "system", 200)
        copyreg.clear_extension_cache()


@pytest.mark.parametrize("data", [b"Pevil\n.", b"\x80\x02" + b"K\x01Q."])
def test_persistent_identifiers_mean_nothing(data: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError):
        load(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"R.",
        b"\x80\x04b.",
        b"\x80\x63.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
        b"h\x05.",
        b"\x80\x05\x97.",
        os.urandom(0) + b"\xff\xfe\xfd",
    ],
)
def test_damaged_bytes_raise_an_ordinary_exception(data: bytes) -> None:
    with pytest.raises(Exception):  # noqa: B017  # whichever: it is caught by whoever restores jobs
        load(data)


def test_data_within_data_is_made_and_nothing_else() -> None:
    nested: list[Any] = []
    for _ in range(50):  # as text it would have 2**50 items
        nested = [nested, nested]

    depth = load(pickle.dumps(nested))
    while depth:
        assert depth[0] is depth[1]
        depth = depth[0]


# States.


class Tick(BaseTrigger):
    """A trigger that is no installed plugin."""

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> None:
        return None


def state_of(func: str = "tasks:work", *args: Any, trigger: Any = None) -> Any:
    return {"id": "a", "func": func, "trigger": trigger, "args": args, "kwargs": {}}


@pytest.fixture
def serializer() -> PickleSerializer:
    return PickleSerializer(allowed_callables=["tasks:*"])


def test_an_allowed_job_is_stored_and_loaded(
    tasks: Any, serializer: PickleSerializer
) -> None:
    state = state_of("tasks:work", 1, {"a": [tasks.Colour.RED]})

    assert serializer.loads(serializer.dumps(state)) == state
    record = {"next_run_time": 5.0, "job_state": state}
    assert serializer.loads(serializer.dumps(record)) == record


@pytest.mark.parametrize(
    "func",
    ["os:system", "trap:x", "tasks:os.system", "tasks:nothing", "tasks", ":", ""],
)
def test_a_job_with_another_function_is_not_loaded(
    tasks: Any, serializer: PickleSerializer, func: str
) -> None:
    for document in (state_of(func), {"job_state": state_of(func)}):
        with pytest.raises((NotAllowedError, LookupError)):
            serializer.loads(pickle.dumps(document))

    assert "trap" not in sys.modules


@pytest.mark.parametrize("func", ["os:system", "trap:x"])
def test_a_job_with_another_function_is_not_stored(
    tasks: Any, serializer: PickleSerializer, func: str
) -> None:
    with pytest.raises(NotAllowedError, match=r"Job 'a' cannot be stored: .*allowed_"):
        serializer.dumps(state_of(func))


@pytest.mark.parametrize(
    "argument",
    [os.system, partial(int), Tick(), attrgetter("a"), Tick, [{"a": (Tick(),)}]],
    ids=["function", "partial", "object", "getter", "class", "inside"],
)
def test_a_job_with_another_class_in_its_arguments_is_not_stored(
    tasks: Any, serializer: PickleSerializer, argument: Any
) -> None:
    with pytest.raises(NotAllowedError, match="Job 'a' cannot be stored"):
        serializer.dumps(state_of("tasks:work", argument))


def test_a_method_in_the_arguments_is_not_stored(
    tasks: Any, serializer: PickleSerializer
) -> None:
    with pytest.raises(NotAllowedError, match="method"):
        serializer.dumps(state_of("tasks:work", tasks.Order(1).ship))


def test_a_trigger_that_is_neither_installed_nor_allowed_is_refused(
    tasks: Any, serializer: PickleSerializer
) -> None:
    with pytest.raises(NotAllowedError, match="Tick"):
        serializer.dumps(state_of(trigger=Tick()))
    with pytest.raises(NotAllowedError, match="Tick"):
        serializer.loads(pickle.dumps(state_of(trigger=Tick())))

    generous = PickleSerializer(
        allowed_callables=["tasks:*", f"{Tick.__module__}:Tick"]
    )
    restored = generous.loads(generous.dumps(state_of(trigger=Tick())))
    assert isinstance(restored["trigger"], Tick)


def test_everything_that_is_stored_can_be_loaded(
    tasks: Any, serializer: PickleSerializer
) -> None:
    arguments = (
        *(UUID(int=5), Decimal(1), datetime.now(ZoneInfo("Asia/Tokyo")), Path("/a")),
        *(tasks.Order, tasks.work, tasks.Colour.RED, deque([1]), bytearray(b"a")),
    )
    for protocol in PROTOCOLS:
        each = PickleSerializer(protocol, allowed_callables=["tasks:*"])
        state = state_of("tasks:work", *arguments)
        assert each.loads(each.dumps(state)) == state


# Patterns.


@pytest.mark.parametrize(
    ("pattern", "reference", "is_permitted"),
    [
        ("a.b:c", "a.b:c", True),
        ("a.b:c", "a.b:cd", False),
        ("a.b:c", "a.b:c.d", False),
        ("a.b:c", "a:b.c", False),
        ("a.b:c", "aXb:c", False),
        ("a.b:*", "a.b:c", True),
        ("a.b:*", "a.b:c.d", True),
        ("a.b:*", "a.bc:d", False),
        ("a.b:*", "a.b.c:d", False),
        ("a.b:C.*", "a.b:C.d", True),
        ("a.b:C.*", "a.b:Cd", False),
        ("a.*:*", "a.b:c", True),
        ("a.*:*", "a.b.c:d", True),
        ("a.*:*", "a:c", False),
        ("a.*:*", "ab.c:d", False),
        ("a.*:run", "a.b:run", True),
        ("a.*:run", "a.b:walk", False),
    ],
)
def test_patterns_permit_what_they_say(
    pattern: str, reference: str, is_permitted: bool
) -> None:
    assert AllowList([pattern]).permits(*reference.split(":")) is is_permitted


@pytest.mark.parametrize(
    "pattern", ["*", "*:*", "a", "a:", ":a", "a:b*", "a*:b", "a.*.b:c", "a b:c", "", 5]
)
def test_other_patterns_are_refused(pattern: Any) -> None:
    with pytest.raises(ValueError, match="is not a pattern of allowed callables"):
        AllowList([pattern])


def test_a_single_text_is_no_list() -> None:
    with pytest.raises(TypeError, match="must be a list"):
        PickleSerializer(allowed_callables="tasks:*")


class Weekday(Enum):
    MONDAY = 1


def test_an_enumeration_is_listed_like_any_class() -> None:
    serializer = PickleSerializer(
        allowed_callables=["tasks:work", f"{__name__}:Weekday", "builtins:print"]
    )
    state = state_of("builtins:print", Weekday.MONDAY)

    assert serializer.loads(serializer.dumps(state)) == state
