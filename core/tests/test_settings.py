"""From configuration dicts to nested settings."""

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from apscheduler.settings import (
    DEFAULT_JOB_DEFAULTS,
    KNOWN_KEYS,
    describe_unknown,
    describe_unprefixed,
    job_defaults,
    nest,
)

logger = logging.getLogger("test.settings")


@pytest.mark.parametrize(
    ("config", "prefix", "expected"),
    [
        ({}, "apscheduler.", {}),
        ({"apscheduler.a": 1}, "apscheduler.", {"a": 1}),
        ({"apscheduler.a.b.c": 1}, "apscheduler.", {"a": {"b": {"c": 1}}}),
        (
            {"apscheduler.a.b": 1, "apscheduler.a.c": 2},
            "apscheduler.",
            {"a": {"b": 1, "c": 2}},
        ),
        ({"other": 1, "apschedulerx": 2, "apscheduler.a": 3}, "apscheduler.", {"a": 3}),
        ({"a.b": 1, "c": 2}, "", {"a": {"b": 1}, "c": 2}),
        ({"a.b": 1}, None, {"a": {"b": 1}}),
        ({"myapp.x.a": 1, "myapp.y": 2}, "myapp.x.", {"a": 1}),
        ({"a": {"b": 1}, "a.c": 2}, "", {"a": {"b": 1, "c": 2}}),
        ({"a.c": 2, "a": {"b": 1}}, "", {"a": {"b": 1, "c": 2}}),
        (
            {"a.d.x": 1, "a": {"d": {"y": 2}}},
            "",
            {"a": {"d": {"x": 1, "y": 2}}},
        ),
        (
            {"a": {"d": {"y": 2}}, "a.d.x": 1},
            "",
            {"a": {"d": {"x": 1, "y": 2}}},
        ),
    ],
)
def test_keys_with_the_prefix_are_nested_at_their_dots(
    config: Mapping[str, Any], prefix: str | None, expected: dict[str, Any]
) -> None:
    assert nest(config, prefix) == expected


@pytest.mark.parametrize(
    "config",
    [
        {"a": 1, "a.b": 2},
        {"a.b": 2, "a": 1},
        {"a.b": 1, "a.b.c": 2},
        {1: 2},
        {"a": None, "a.b": 1},
    ],
)
def test_a_value_where_a_branch_is_needed_raises_type_error(config: Any) -> None:
    with pytest.raises(TypeError):
        nest(config, "")


def test_the_callers_dicts_are_never_changed() -> None:
    inner = {"type": "memory", "options": {"x": 1}}
    config = {"a": {"default": inner}, "a.default.y": 2}

    nested = nest(config, "")
    nested["a"]["default"].pop("type")
    nested["a"]["default"]["options"]["x"] = 5

    assert inner == {"type": "memory", "options": {"x": 1}}


def test_any_mapping_can_be_a_configuration() -> None:
    assert nest(MappingProxyType({"apscheduler.a": 1}), "apscheduler.") == {"a": 1}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, {}),
        ({"misfire_grace_time": "5"}, {"misfire_grace_time": 5}),
        ({"misfire_grace_time": None}, {"misfire_grace_time": None}),
        ({"misfire_grace_time": "none"}, {"misfire_grace_time": None}),
        ({"coalesce": "false"}, {"coalesce": False}),
        ({"coalesce": " YES "}, {"coalesce": True}),
        ({"coalesce": 0}, {"coalesce": False}),
        ({"max_instances": "3"}, {"max_instances": 3}),
        ({"max_instances": None}, {"max_instances": None}),
        ({"max_instances": -5}, {"max_instances": -5}),
        (
            {"on_lost": "retry", "max_attempts": "5"},
            {"on_lost": "retry", "max_attempts": 5},
        ),
    ],
)
def test_job_defaults_are_converted(
    config: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert job_defaults(config, logger) == {**DEFAULT_JOB_DEFAULTS, **expected}


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"misfire_grace_time": "soon"}, "misfire_grace_time"),
        ({"max_instances": "many"}, "max_instances"),
        ({"coalesce": "perhaps"}, "coalesce"),
    ],
)
def test_a_default_that_cannot_be_converted_is_named(
    config: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        job_defaults(config, logger)


def test_unknown_job_defaults_are_named_with_the_nearest_known(
    caplog: pytest.LogCaptureFixture,
) -> None:
    job_defaults({"colaesce": True}, logger)

    assert "'colaesce'" in caplog.text
    assert "'coalesce'" in caplog.text


def test_unknown_keys_are_described_with_the_nearest_known() -> None:
    (message,) = describe_unknown(["job_default", "timezone"], KNOWN_KEYS, "key")

    assert "'job_default'" in message
    assert "'job_defaults'" in message


UNPREFIXED = [
    (
        {"jobstores": {}},
        "write 'apscheduler.jobstores', or give the keyword argument jobstores=...",
    ),
    (
        {"jobstores.default.type": "memory"},
        "write 'apscheduler.jobstores.default.type'",
    ),
    (
        {"apscheduler": {"timezone": "UTC"}},
        "write 'apscheduler.timezone' and so on, or give what is below it with prefix=None",
    ),
]


@pytest.mark.parametrize("config, remedy", UNPREFIXED)
def test_keys_that_lack_the_prefix_are_described(
    config: dict[str, Any], remedy: str
) -> None:
    (message,) = describe_unprefixed(config, "apscheduler.", KNOWN_KEYS)

    (key,) = config
    assert message.startswith(f"The configuration key {key!r} is ignored, as it is by")
    assert message.endswith(remedy)
    assert describe_unprefixed(config, "", KNOWN_KEYS) == []


def test_keys_that_may_be_meant_for_somebody_else_are_not_described() -> None:
    config = {"unrelated": 1, "apscheduler": {"unrelated": 2}, "apscheduler.logger": 3}

    assert describe_unprefixed(config, "apscheduler.", KNOWN_KEYS) == []
