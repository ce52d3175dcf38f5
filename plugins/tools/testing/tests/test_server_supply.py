"""Which server of a kind the tests use: one that is named, one that is running, or a private one."""

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from apscheduler.testing.servers import Redis, Server
from apscheduler.testing.servers.supply import (
    RemoteSupply,
    SharedSupply,
    Supply,
    Unavailable,
    WrongServer,
    is_required,
    start_private,
)

URL = "APSCHEDULER_TEST_REDIS_URL"
WAYS = "APSCHEDULER_TEST_SERVERS"


@pytest.fixture
def supplies() -> Iterator[list[Supply]]:
    made: list[Supply] = []
    yield made
    for supply in made:
        supply.close()


def make_supply(
    supplies: list[Supply],
    environment: Mapping[str, str] | None = None,
    running: Server | None = None,
) -> Supply:
    """Return a supply for which only this server of its kind is running on the machine."""
    port = running.port if running else 1  # on which nobody listens

    class Redises(Redis):
        standard_port = port
        standard_urls = (f"redis://127.0.0.1:{port}/0",)

    supplies.append(Supply(environment or {}, {"redis": Redises}))
    return supplies[-1]


def test_a_named_server_comes_first(supplies: list[Supply], own_redis: Server) -> None:
    with Redis() as running:
        supply = make_supply(supplies, {URL: own_redis.url}, running)

        assert supply.url("redis") == own_redis.url
        assert supply.used["redis"].endswith(f"({URL})")


def test_a_running_server_comes_before_a_private_one(
    supplies: list[Supply], own_redis: Server
) -> None:
    supply = make_supply(supplies, running=own_redis)

    assert supply.url("redis") == own_redis.url
    assert supply.used["redis"].endswith("(already running)")


def test_without_any_other_a_private_server_is_started_once_and_closed_in_the_end(
    supplies: list[Supply], own_redis: Server
) -> None:
    supply = make_supply(supplies)

    url = supply.url("redis")

    assert supply.url("redis") == url
    assert Redis.probe(url)
    assert supply.used["redis"].endswith("(private)")
    supply.close()
    with pytest.raises(Exception, match="refused"):
        Redis.probe(url)


def test_a_running_server_can_be_left_alone(
    supplies: list[Supply], own_redis: Server
) -> None:
    supply = make_supply(supplies, {WAYS: "env, private"}, own_redis)

    assert supply.url("redis") != own_redis.url


def test_a_named_server_can_be_passed_over(
    supplies: list[Supply], own_redis: Server
) -> None:
    supply = make_supply(supplies, {WAYS: "private", URL: own_redis.url})

    assert supply.url("redis") != own_redis.url


def test_something_else_on_the_standard_port_is_passed_over(
    supplies: list[Supply], own_redis: Server, own_etcd: Server
) -> None:
    supply = make_supply(supplies, running=own_etcd)

    assert Redis.probe(supply.url("redis"))


def test_a_named_server_that_does_not_answer_is_an_error_without_the_password(
    supplies: list[Supply], own_redis: Server
) -> None:
    wrong = f"redis://user:secret@127.0.0.1:{own_redis.port}/0"
    supply = make_supply(supplies, {URL: wrong}, own_redis)

    with pytest.raises(WrongServer) as caught:
        supply.url("redis")

    assert str(caught.value) == (
        f"{URL} is 'redis://***@127.0.0.1:{own_redis.port}/0', but no redis server answers there "
        "(AuthenticationError). Correct it, or unset it to use another server"
    )
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:se/cr@et@127.0.0.1:1/0", "redis://***@127.0.0.1:1/0"),
        ("redis://127.0.0.1:1/0?password=secret", "redis://127.0.0.1:1/0?***"),
        ("user:secret@127.0.0.1:1", "***@127.0.0.1:1"),
        ("127.0.0.1:1", "127.0.0.1:1"),
    ],
)
def test_every_form_of_a_wrong_address_is_shown_without_its_password(
    url: str, shown: str, supplies: list[Supply]
) -> None:
    supply = make_supply(supplies, {URL: url})

    with pytest.raises(WrongServer) as caught:
        supply.url("redis")

    assert f"{URL} is {shown!r}, but" in str(caught.value)


def test_a_way_that_does_not_exist_is_an_error(supplies: list[Supply]) -> None:
    supply = make_supply(supplies, {WAYS: "env,docker"})

    with pytest.raises(
        WrongServer,
        match="is 'env,docker', but 'docker' is none of the ways to get a server: env, running, private",
    ):
        supply.url("redis")


def test_what_is_not_allowed_is_said(supplies: list[Supply]) -> None:
    supply = make_supply(supplies, {WAYS: "env,running"})

    with pytest.raises(
        Unavailable, match=f"{WAYS} allows no private redis server.* env, running"
    ):
        supply.url("redis")


def test_a_missing_client_is_a_reason_and_not_an_error(
    supplies: list[Supply], own_redis: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    supply = make_supply(supplies, running=own_redis)

    with pytest.raises(
        Unavailable, match="client library 'redis' is not installed: pip install apsch"
    ):
        supply.url("redis")


def test_a_missing_program_is_a_reason_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("apscheduler.testing.servers.machine.OTHER_DIRECTORIES", [])
    made: list[Path] = []
    make = tempfile.mkdtemp

    def note(**options: Any) -> str:
        made.append(Path(make(**options)))
        return str(made[-1])

    monkeypatch.setattr(tempfile, "mkdtemp", note)

    with pytest.raises(
        Unavailable,
        match=f"redis-server or valkey-server is not installed; install it, or set {URL}",
    ):
        start_private(Redis, ("private",), URL)

    assert [path.exists() for path in made] == [False]


@pytest.mark.parametrize(
    ("environment", "required"),
    [
        ({}, False),
        ({"CI": "true"}, True),
        ({"CI": "1"}, True),
        ({"CI": "false"}, False),
        ({"APSCHEDULER_TEST_REQUIRE": "etcd, redis"}, True),
        ({"APSCHEDULER_TEST_REQUIRE": "etcd"}, False),
    ],
)
def test_a_server_is_required_in_continuous_integration_and_where_it_is_named(
    environment: dict[str, str], required: bool
) -> None:
    assert is_required("redis", environment) is required


def test_another_process_gets_the_same_servers_and_the_same_reasons(
    supplies: list[Supply], own_redis: Server
) -> None:
    cases: list[tuple[dict[str, str], type[Exception] | None]] = [
        ({URL: own_redis.url}, None),
        ({WAYS: "env"}, Unavailable),
        ({WAYS: "none"}, WrongServer),
    ]
    for environment, error in cases:
        shared = SharedSupply(make_supply(supplies, environment))
        remote = RemoteSupply(shared.address)
        try:
            if error is None:
                assert remote.url("redis") == own_redis.url
            else:
                with pytest.raises(error, match=WAYS):
                    remote.url("redis")
        finally:
            shared.close()


def test_a_stranger_without_the_secret_gets_no_answer(
    supplies: list[Supply], own_redis: Server
) -> None:
    shared = SharedSupply(make_supply(supplies, running=own_redis))
    try:
        port, secret = shared.address
        with pytest.raises(Exception, match="digest"):
            RemoteSupply((port, os.urandom(16))).url("redis")

        assert RemoteSupply((port, secret)).url("redis") == own_redis.url
    finally:
        shared.close()
