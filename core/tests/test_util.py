import copy
import functools
import inspect
import operator
import pickle
import sys
import time
import types
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
import pytz  # type: ignore[import-untyped]  # ships no types

from apscheduler import util
from apscheduler.callables import is_awaitable

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")


class Plant:
    """Something with every kind of method, to refer to."""

    class Leaf:
        @classmethod
        def grow(cls) -> None: ...

    def water(self) -> None: ...

    def take(self, amount: int, unit: str = "l") -> None: ...

    @classmethod
    def sow(cls) -> None: ...

    @staticmethod
    def rain() -> None: ...

    def __call__(self) -> None: ...


class Tree(Plant):
    pass


class AsyncCallable:
    async def __call__(self) -> None: ...


async def coroutine_function() -> None: ...


def function() -> None: ...


@functools.lru_cache
def cached() -> None: ...


@functools.wraps(function)
def impostor() -> None:
    """Claims to be ``function``."""


plant = Plant()
HERE = Plant.__module__


class TestUndefined:
    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_stays_the_same_object_through_pickling(self, protocol: int) -> None:
        dumped = pickle.dumps(util.undefined, protocol)

        assert pickle.loads(dumped) is util.undefined

    def test_stays_the_same_object_through_copying(self) -> None:
        assert copy.copy(util.undefined) is util.undefined
        assert copy.deepcopy({"a": util.undefined})["a"] is util.undefined

    def test_is_false_and_says_what_it_is(self) -> None:
        assert not util.undefined
        assert repr(util.undefined) == str(util.undefined) == "<undefined>"
        assert isinstance(util.undefined, util.UndefinedType)


class TestNumbersAndWords:
    @pytest.mark.parametrize(
        ("text", "expected"), [(None, None), ("12", 12), (7, 7), (" 3 ", 3)]
    )
    def test_asint_keeps_none_and_converts_the_rest(
        self, text: str, expected: Any
    ) -> None:
        assert util.asint(text) == expected

    def test_asint_refuses_words(self) -> None:
        with pytest.raises(ValueError, match="dozen"):
            util.asint("dozen")

    @pytest.mark.parametrize("word", ["true", "YES", " on ", "y", "T", "1"])
    def test_true_words_are_true(self, word: str) -> None:
        assert util.asbool(word) is True

    @pytest.mark.parametrize("word", ["false", "NO", " off\n", "n", "F", "0"])
    def test_false_words_are_false(self, word: str) -> None:
        assert util.asbool(word) is False

    @pytest.mark.parametrize("word", ["", "maybe", "2"])
    def test_other_words_are_refused_by_name(self, word: str) -> None:
        with pytest.raises(ValueError, match=repr(word)):
            util.asbool(word)

    @pytest.mark.parametrize(
        ("value", "expected"), [(None, False), (0, False), ([0], True), (2, True)]
    )
    def test_other_objects_count_by_their_truth(
        self, value: Any, expected: Any
    ) -> None:
        assert util.asbool(value) is expected


class NamelessZone(tzinfo):
    """A zone that can name only given times."""

    def utcoffset(self, dt: Any) -> Any:
        return timedelta(hours=1)

    def dst(self, dt: Any) -> Any:
        return None

    def tzname(self, dt: Any) -> Any:
        return dt.isoformat()


class LocalZone(NamelessZone):
    def tzname(self, dt: Any) -> Any:
        return "local"


class TestZones:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            pytest.param(None, None, id="none"),
            pytest.param("Europe/Berlin", BERLIN, id="name"),
            pytest.param("UTC", UTC, id="utc by name"),
            pytest.param("Etc/UTC", ZoneInfo("Etc/UTC"), id="another name of utc"),
            pytest.param(NEW_YORK, NEW_YORK, id="zone"),
            pytest.param(UTC, UTC, id="utc"),
            pytest.param(pytz.timezone("Europe/Berlin"), BERLIN, id="pytz"),
            pytest.param(pytz.utc, ZoneInfo("UTC"), id="pytz utc"),
            pytest.param(
                pytz.FixedOffset(90), timezone(timedelta(minutes=90)), id="pytz offset"
            ),
            pytest.param(
                pytz.FixedOffset(-90),
                timezone(-timedelta(minutes=90)),
                id="pytz negative offset",
            ),
        ],
    )
    def test_astimezone_finds_the_zone(self, given: Any, expected: Any) -> None:
        found = util.astimezone(given)

        assert found == expected
        assert type(found) is type(expected)

    def test_astimezone_keeps_zones_that_cannot_be_named(self) -> None:
        zone = NamelessZone()

        assert util.astimezone(zone) is zone

    @pytest.mark.parametrize("name", ["Europe/Atlantis", "Europe", "utc+1"])
    def test_astimezone_names_an_unknown_zone(self, name: str) -> None:
        with pytest.raises(ZoneInfoNotFoundError, match=name.replace("+", r"\+")):
            util.astimezone(name)

    def test_astimezone_refuses_a_zone_that_only_says_local(self) -> None:
        with pytest.raises(ValueError, match="cannot be stored"):
            util.astimezone(LocalZone())

    @pytest.mark.parametrize("value", [5, b"UTC", object])
    def test_astimezone_refuses_what_is_no_zone(self, value: Any) -> None:
        with pytest.raises(TypeError, match="time zone must be"):
            util.astimezone(value)

    @pytest.mark.parametrize(
        ("zone", "expected"),
        [(BERLIN, "Europe/Berlin"), (UTC, "datetime.timezone.utc")],
    )
    def test_timezone_repr_prefers_the_name(self, zone: Any, expected: Any) -> None:
        assert util.timezone_repr(zone) == expected

    def test_localize_honours_the_fold(self) -> None:
        first = util.localize(datetime(2026, 10, 25, 2, 30), BERLIN)
        second = util.localize(datetime(2026, 10, 25, 2, 30, fold=1), BERLIN)

        assert first.isoformat() == "2026-10-25T02:30:00+02:00"
        assert second.isoformat() == "2026-10-25T02:30:00+01:00"

    def test_localize_moves_a_skipped_time_forward_by_the_gap(self) -> None:
        time_ = util.localize(datetime(2026, 3, 29, 2, 30), BERLIN)

        assert time_.isoformat() == "2026-03-29T03:30:00+02:00"

    def test_localize_lets_pytz_do_it_its_way(self) -> None:
        zone = pytz.timezone("Europe/Berlin")

        time_ = util.localize(datetime(2026, 7, 1), zone)

        assert time_ == zone.localize(datetime(2026, 7, 1))
        assert time_.isoformat() == "2026-07-01T00:00:00+02:00"

    def test_normalize_keeps_the_instant(self) -> None:
        skipped = datetime(2026, 3, 29, 2, 30, tzinfo=BERLIN)

        assert util.normalize(skipped).isoformat() == "2026-03-29T03:30:00+02:00"
        assert util.normalize(skipped).astimezone(UTC) == skipped.astimezone(UTC)

    @pytest.mark.parametrize(
        "edge",
        [
            datetime(9999, 12, 31, 23, 59, 59, tzinfo=NEW_YORK),
            datetime(1, 1, 1, tzinfo=BERLIN),
        ],
    )
    def test_normalize_knows_the_ends_of_time(self, edge: Any) -> None:
        assert util.normalize(edge) == edge


class TestDates:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (date(2022, 11, 30), "2022-11-30T00:00:00+01:00"),
            (datetime(2022, 4, 30, 12), "2022-04-30T12:00:00+02:00"),
            (datetime(2022, 4, 30, 12, tzinfo=UTC), "2022-04-30T12:00:00+00:00"),
            (datetime(2026, 10, 25, 2, 30, fold=1), "2026-10-25T02:30:00+01:00"),
            ("2022-4-30", "2022-04-30T00:00:00+02:00"),
            ("2022-4-30 08:00:00", "2022-04-30T08:00:00+02:00"),
            ("2022-04-30T8:1:2", "2022-04-30T08:01:02+02:00"),
            ("2022-04-30 08:00:00.5", "2022-04-30T08:00:00.500000+02:00"),
            ("2022-04-30 08:00:00.000005", "2022-04-30T08:00:00.000005+02:00"),
            ("2022-04-30 08:00:00.012", "2022-04-30T08:00:00.012000+02:00"),
            ("2022-04-30 08:00:00Z", "2022-04-30T08:00:00+00:00"),
            ("2022-04-30T08:00:00.25+05:45", "2022-04-30T08:00:00.250000+05:45"),
            ("2022-04-30 08:00:00-05:30", "2022-04-30T08:00:00-05:30"),
            ("2026-03-29 02:30:00", "2026-03-29T03:30:00+02:00"),
            ("2026-10-25 02:30:00", "2026-10-25T02:30:00+02:00"),
        ],
    )
    def test_dates_are_read_in_the_zone(self, given: Any, expected: Any) -> None:
        assert util.convert_to_datetime(given, BERLIN, "x").isoformat() == expected

    def test_none_stays_none(self) -> None:
        assert util.convert_to_datetime(None, None, "x") is None

    def test_aware_input_is_returned_unchanged(self) -> None:
        given = datetime(2026, 1, 1, tzinfo=NEW_YORK)

        assert util.convert_to_datetime(given, BERLIN, "x") is given

    def test_the_zone_may_be_given_by_name(self) -> None:
        time_ = util.convert_to_datetime("2026-01-01", "America/New_York", "x")

        assert time_.tzinfo == NEW_YORK

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "tomorrow",
            "26-01-01",
            "2026-01-01 10:00",
            "2026-01-01Z",
            "2026-01-01+01:00",
            "2026-01-01  10:00:00",
            "2026-01-01 10:00:00 +01:00",
            "2026-01-01 10:00:00.1234567",
            "2026-01-01 10:00:00+0100",
            "2026-02-30",
            "2026-13-01",
            "2026-01-01 24:00:00",
            "2026-01-01 10:00:00+25:00",
            "2026-01-01 10:00:00+01:75",
            "٢٠٢٦-01-01",
        ],
    )
    def test_other_strings_are_refused_by_name(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"run_date .*") as caught:
            util.convert_to_datetime(text, UTC, "run_date")

        assert repr(text) in str(caught.value)

    @pytest.mark.parametrize("value", [5, 1.5, b"2026-01-01", object()])
    def test_other_types_are_refused_with_the_argument_name(self, value: Any) -> None:
        with pytest.raises(TypeError, match="run_date"):
            util.convert_to_datetime(value, UTC, "run_date")

    @pytest.mark.parametrize("value", ["2026-01-01", datetime(2026, 1, 1)])
    def test_naive_input_needs_a_zone(self, value: Any) -> None:
        with pytest.raises(ValueError, match=r"run_date .* no time zone"):
            util.convert_to_datetime(value, None, "run_date")

    def test_asdate_reads_only_iso_strings(self) -> None:
        assert util.asdate("2026-01-02") == date(2026, 1, 2)
        assert util.asdate(date(2026, 1, 2)) == date(2026, 1, 2)
        with pytest.raises(ValueError, match="2026-1-2"):
            util.asdate("2026-1-2")

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (None, None),
            (datetime(2026, 1, 1, tzinfo=UTC), 1767225600.0),
            (datetime(2026, 1, 1), 1767225600.0),
            (datetime(2026, 1, 1, 0, 0, 0, 250000, BERLIN), 1767222000.25),
            (datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC), -1.0),
        ],
    )
    def test_timestamps_lead_there_and_back(self, given: Any, expected: Any) -> None:
        timestamp = util.datetime_to_utc_timestamp(given)
        back = util.utc_timestamp_to_datetime(timestamp)

        assert timestamp == expected
        assert back is None if given is None else back.tzinfo is UTC
        assert util.datetime_to_utc_timestamp(back) == expected

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("2026-01-01T00:00:00+01:00", "2026-01-01T00:00:00+01:00"),
            ("2026-01-01T00:00:00.000001+01:00", "2026-01-01T00:00:01+01:00"),
            ("2026-03-29T01:59:59.5+01:00", "2026-03-29T03:00:00+02:00"),
            ("2026-10-25T02:59:59.5+02:00", "2026-10-25T02:00:00+01:00"),
            ("2026-10-25T02:59:59.5+01:00", "2026-10-25T03:00:00+01:00"),
        ],
    )
    def test_datetime_ceil_rounds_up_across_clock_changes(
        self, given: Any, expected: Any
    ) -> None:
        value = datetime.fromisoformat(given).astimezone(BERLIN)

        assert util.datetime_ceil(value).isoformat() == expected

    def test_elapsed_time_is_added_across_clock_changes(self) -> None:
        before = datetime(2026, 3, 28, 12, tzinfo=BERLIN)
        day = timedelta(days=1)

        assert util.datetime_utc_add(before, day).hour == 13
        assert util.datetime_utc_add(datetime(2026, 3, 28, 12), day).hour == 12
        assert util.timedelta_seconds(day) == 86400.0

    def test_elapsed_time_is_added_in_zones_of_every_library(self) -> None:
        dateutil = pytest.importorskip("dateutil.tz")
        instant = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)

        for zone in (
            BERLIN,
            pytz.timezone("Europe/Berlin"),
            dateutil.gettz(str(BERLIN)),
        ):
            later = util.datetime_utc_add(instant.astimezone(zone), timedelta(hours=1))

            assert later.isoformat() == "2026-10-25T02:30:00+01:00"
            assert later.astimezone(UTC) == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)

    def test_instants_come_one_after_another_also_where_the_clock_is_set_back(
        self,
    ) -> None:
        before = datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN)
        after = datetime(2026, 10, 25, 2, 10, fold=1, tzinfo=BERLIN)

        assert util.is_later(after, before)
        assert not util.is_later(before, after)
        assert not util.is_later(before, before)
        assert util.is_later(after, before.astimezone(UTC))
        assert util.is_later(after.astimezone(UTC), before.astimezone(UTC))

    def test_datetime_repr_shows_the_zone(self) -> None:
        summer = datetime(2026, 6, 1, 12, tzinfo=BERLIN)

        assert util.datetime_repr(summer) == "2026-06-01 12:00:00 CEST"
        assert util.datetime_repr(None) == "None"


REFERENCES = [
    pytest.param(function, f"{HERE}:function", id="function"),
    pytest.param(cached, f"{HERE}:cached", id="cached function"),
    pytest.param(Plant, f"{HERE}:Plant", id="class"),
    pytest.param(Plant.sow, f"{HERE}:Plant.sow", id="class method"),
    pytest.param(Plant.rain, f"{HERE}:Plant.rain", id="static method"),
    pytest.param(Plant.water, f"{HERE}:Plant.water", id="function of a class"),
    pytest.param(plant.water, f"{HERE}:Plant.water", id="bound method"),
    pytest.param(Tree().water, f"{HERE}:Tree.water", id="inherited bound method"),
    pytest.param(Tree.sow, f"{HERE}:Tree.sow", id="inherited class method"),
    pytest.param(Plant.Leaf.grow, f"{HERE}:Plant.Leaf.grow", id="nested"),
    pytest.param(len, "builtins:len", id="built-in function"),
    pytest.param(time.time, "time:time", id="function of an extension"),
    pytest.param(str.upper, "builtins:str.upper", id="method of a built-in class"),
    pytest.param(dict.fromkeys, "builtins:dict.fromkeys", id="built-in class method"),
]


class TestReferences:
    @pytest.fixture(autouse=True)
    def importable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # The test runner may keep this module under a name that cannot be imported.
        monkeypatch.setitem(sys.modules, HERE, sys.modules[HERE])
        parent, _, name = HERE.rpartition(".")
        if parent in sys.modules:
            monkeypatch.setattr(
                sys.modules[parent], name, sys.modules[HERE], raising=False
            )

    @pytest.mark.parametrize(("func", "ref"), REFERENCES)
    def test_a_callable_has_a_reference_that_leads_back(
        self, func: Any, ref: Any
    ) -> None:
        assert util.obj_to_ref(func) == ref
        assert util.resolves_back(func, ref)

    @pytest.mark.parametrize(
        ("func", "ref"),
        [
            pytest.param(plant, f"{HERE}:Plant", id="callable instance"),
            pytest.param(impostor, f"{HERE}:function", id="wrapper"),
            pytest.param(
                operator.itemgetter(1), "operator:itemgetter", id="foreign instance"
            ),
            pytest.param("x".upper, "None:str.upper", id="built-in method"),
        ],
    )
    def test_a_misleading_reference_is_recognised(self, func: Any, ref: Any) -> None:
        assert util.obj_to_ref(func) == ref
        assert not util.resolves_back(func, ref)

    def test_a_reference_to_a_method_of_an_instance_leads_back(self) -> None:
        assert util.resolves_back(plant.water, f"{HERE}:plant.water")
        assert not util.resolves_back(Plant().water, f"{HERE}:plant.water")
        assert not util.resolves_back(Tree.sow, f"{HERE}:Plant.sow")

    @pytest.mark.parametrize(
        ("func", "word"),
        [
            (functools.partial(function), "partial"),
            (lambda: None, "lambda"),
            (lambda: lambda: None, "lambda"),
        ],
    )
    def test_no_reference_for_nameless_callables(self, func: Any, word: str) -> None:
        with pytest.raises(ValueError, match=f"reference to a {word}"):
            util.obj_to_ref(func)

    def test_no_reference_for_nested_functions(self) -> None:
        def inner() -> None: ...

        with pytest.raises(ValueError, match="reference to a nested function"):
            util.obj_to_ref(inner)

    def test_no_reference_for_what_cannot_be_called(self) -> None:
        with pytest.raises(TypeError, match="not callable"):
            util.obj_to_ref("text")

    def test_references_lead_to_objects(self) -> None:
        assert util.ref_to_obj("sys:stdout.write") == sys.stdout.write
        assert util.ref_to_obj(f"{HERE}:Plant.Leaf") is Plant.Leaf
        assert util.maybe_ref("time:time") is time.time
        assert util.maybe_ref(5) == 5

    @pytest.mark.parametrize(
        ("ref", "error"),
        [
            (5, TypeError),
            ("time.time", ValueError),
            ("", ValueError),
            (":time", ValueError),
            (".time:time", ValueError),
            ("no_such_module_anywhere:x", LookupError),
            ("time:no_such_function", LookupError),
            ("time:", LookupError),
        ],
    )
    def test_bad_references_are_refused_by_name(self, ref: Any, error: Any) -> None:
        with pytest.raises(error) as caught:
            util.ref_to_obj(ref)

        assert repr(ref) in str(caught.value)

    def test_the_import_error_is_the_cause_of_the_lookup_error(self) -> None:
        with pytest.raises(LookupError) as caught:
            util.ref_to_obj("no_such_module_anywhere:x")

        assert isinstance(caught.value.__cause__, ImportError)

    def test_other_errors_during_import_pass_through(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "module_with_a_fault.py").write_text("1 / 0")
        monkeypatch.syspath_prepend(tmp_path)

        with pytest.raises(ZeroDivisionError):
            util.ref_to_obj("module_with_a_fault:x")


class TestCallableNames:
    @pytest.mark.parametrize(
        ("func", "expected"),
        [
            (function, "function"),
            (len, "len"),
            (Plant, "Plant"),
            (Plant.Leaf, "Plant.Leaf"),
            (Plant.water, "Plant.water"),
            (Tree().water, "Tree.water"),
            (Tree.sow, "Tree.sow"),
            (plant, "Plant"),
            (functools.partial(function), "partial"),
            (lambda: None, "TestCallableNames.<lambda>"),
        ],
    )
    def test_names_are_qualified(self, func: Any, expected: Any) -> None:
        assert util.get_callable_name(func) == expected

    def test_what_cannot_be_called_has_no_name(self) -> None:
        with pytest.raises(TypeError, match="'text' is not callable"):
            util.get_callable_name("text")

    @pytest.mark.parametrize(
        "func",
        [
            coroutine_function,
            AsyncMock(),
            AsyncCallable(),
            functools.partial(functools.partial(coroutine_function)),
            functools.partial(AsyncCallable()),
        ],
    )
    def test_coroutine_functions_are_recognised(self, func: Any) -> None:
        assert util.iscoroutinefunction_partial(func)

    @pytest.mark.parametrize(
        "func", [function, AsyncCallable, plant, functools.partial(function), "text"]
    )
    def test_other_callables_are_not_coroutine_functions(self, func: Any) -> None:
        assert not util.iscoroutinefunction_partial(func)


@types.coroutine
def old_coroutine_function() -> Iterator[None]:
    yield


class Promise:
    def __await__(self) -> Iterator[None]:
        yield


def test_what_can_be_awaited_is_recognised() -> None:
    coroutine = coroutine_function()
    is_recognised = is_awaitable(coroutine)
    coroutine.close()

    assert is_recognised
    assert is_awaitable(old_coroutine_function())
    assert is_awaitable(Promise())


@pytest.mark.parametrize("value", [None, 1, Promise, iter(()), (n for n in range(1))])
def test_what_cannot_be_awaited_is_recognised(value: object) -> None:
    assert not is_awaitable(value)


def positional_only(a: Any, b: Any, /) -> Any: ...
def positional_or_keyword(a: Any, b: Any = 2) -> Any: ...
def keyword_only(*, a: Any, b: Any = 2) -> Any: ...
def anything(*args: Any, **kwargs: Any) -> Any: ...
def free_keywords(a: Any, /, **kwargs: Any) -> Any: ...
def many(a: Any, *rest: Any) -> Any: ...
def half_optional(a: Any, b: Any = 2, *, c: Any = 3) -> Any: ...


@functools.wraps(positional_only)
def wrapper(*args: Any, **kwargs: Any) -> Any: ...


class TestArguments:
    @pytest.mark.parametrize(
        ("func", "args", "kwargs"),
        [
            (positional_only, (1, 2), {}),
            (positional_or_keyword, (1,), {}),
            (positional_or_keyword, (1,), {"b": 3}),
            (positional_or_keyword, (), {"a": 1, "b": 3}),
            (keyword_only, (), {"a": 1}),
            (anything, (1, 2, 3), {"x": 1}),
            (free_keywords, (1,), {"a": 2}),
            (many, (1, 2, 3), {}),
            (wrapper, (), {"any": 1}),
            (plant.water, (), {}),
            (Plant.water, (plant,), {}),
            (Plant, (), {}),
            (dict.fromkeys, ([1],), {}),
            (max, (1, 2, 3), {}),
        ],
    )
    def test_arguments_that_fit_are_accepted(
        self, func: Any, args: Any, kwargs: Any
    ) -> None:
        util.check_callable_args(func, args, kwargs)

    @pytest.mark.parametrize("count", range(4))
    @pytest.mark.parametrize(
        "func",
        [
            positional_only,
            positional_or_keyword,
            keyword_only,
            anything,
            many,
            half_optional,
            plant.take,
            Plant.take,
        ],
        ids=lambda func: func.__qualname__,
    )
    def test_what_is_accepted_is_what_a_call_accepts(
        self, func: Any, count: int
    ) -> None:
        args = (plant, 1, 2, 3)[:count]
        try:
            func(*args)
        except TypeError:
            fits = False
        else:
            fits = True

        with nullcontext() if fits else pytest.raises(ValueError):
            util.check_callable_args(func, args, {})

    def test_a_signature_that_a_function_claims_counts(self) -> None:
        def func() -> None: ...

        func.__signature__ = inspect.signature(positional_only)  # type: ignore[attr-defined]  # as decorators do

        util.check_callable_args(func, (1, 2), {})
        with pytest.raises(ValueError, match="required arguments"):
            util.check_callable_args(func, (), {})

    @pytest.mark.parametrize(
        ("func", "args", "kwargs", "message"),
        [
            (positional_or_keyword, (1,), {"a": 1}, r"both args and kwargs: a$"),
            (positional_only, (1,), {"b": 1}, r"positional-only .* kwargs: b$"),
            (positional_only, (1, 2), {"b": 1}, r"positional-only .* kwargs: b$"),
            (free_keywords, (), {"a": 1}, r"positional-only .* kwargs: a$"),
            (positional_only, (), {}, r"required arguments .*: a, b$"),
            (positional_or_keyword, (), {"b": 1}, r"required arguments .*: a$"),
            (keyword_only, (), {"b": 1}, r"required keyword-only .*: a$"),
            (positional_or_keyword, (1, 2, 3), {}, r"takes 2 .* args has 3$"),
            (positional_or_keyword, (1,), {"c": 1}, r"keyword arguments: c$"),
            (Plant.water, (), {}, r"required arguments .*: self$"),
            (plant.water, (1,), {}, r"takes 0 .* args has 1$"),
        ],
    )
    def test_arguments_that_do_not_fit_are_named(
        self, func: Any, args: Any, kwargs: Any, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            util.check_callable_args(func, args, kwargs)

    @pytest.mark.parametrize(
        ("func", "args", "kwargs", "first"),
        [
            (positional_or_keyword, (1, 2, 3), {"a": 1, "c": 1}, "both"),
            (positional_only, (), {"a": 1, "c": 1}, "positional-only"),
            (keyword_only, (1,), {"c": 1}, "keyword-only"),
            (positional_or_keyword, (1, 2, 3), {"c": 1}, "takes 2"),
        ],
    )
    def test_the_first_problem_is_reported(
        self, func: Any, args: Any, kwargs: Any, first: str
    ) -> None:
        with pytest.raises(ValueError, match=first):
            util.check_callable_args(func, args, kwargs)
