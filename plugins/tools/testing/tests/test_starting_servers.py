"""What happens when a server cannot start, or meets another one."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from apscheduler.testing.servers import DidNotStart, NotInstalled, Server
from apscheduler.testing.servers.machine import (
    find_program,
    free_port,
    unprivileged_user,
)


@pytest.fixture
def unstarted() -> Iterator[Callable[[type[Server]], Server]]:
    made: list[Server] = []

    def make(kind: type[Server]) -> Server:
        made.append(kind())
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_two_servers_of_a_kind_know_nothing_of_each_other(own_redis: Server) -> None:
    with type(own_redis)() as other:
        assert other.port != own_redis.port
        assert other.directory != own_redis.directory
        assert other.pid != own_redis.pid


def test_a_running_server_is_not_started_again(own_redis: Server) -> None:
    with pytest.raises(RuntimeError, match=r"is running; stop\(\) it first"):
        own_redis.start()


class Broken(Server):
    """Ends at once."""

    kind = "broken"
    standard_port = 1
    standard_urls = ()
    url = "unused"
    answers = False

    @classmethod
    def probe(cls, url: str) -> str:
        raise AssertionError

    def command(self, directory: Path) -> list[str]:
        return [find_program("sh"), "-c", "echo the disk is full; exit 3"]

    def is_ready(self) -> bool:
        return False


class Silent(Broken):
    """Never answers."""

    start_seconds = 0.2

    def command(self, directory: Path) -> list[str]:
        return [find_program("sleep"), "600"]


class Absent(Broken):
    """Its program is not there."""

    def command(self, directory: Path) -> list[str]:
        return [find_program("no-such-server", "no-such-daemon")]


class Unprepared(Broken):
    """What prepares it fails."""

    def prepare(self, directory: Path) -> None:
        self.run(find_program("sh"), "-c", "echo no space left; exit 4")


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        (Broken, DidNotStart, r"Broken ended while .*\nthe disk is full"),
        (Silent, DidNotStart, r"Silent did not answer within 0\.2 s"),
        (Absent, NotInstalled, "no-such-server or no-such-daemon is not installed"),
        (Unprepared, RuntimeError, "sh failed with 4:\nno space left"),
    ],
)
def test_a_server_that_cannot_start_says_why_and_leaves_nothing(
    kind: type[Server],
    error: type[Exception],
    message: str,
    unstarted: Callable[[type[Server]], Server],
) -> None:
    server = unstarted(kind)

    with pytest.raises(error, match=message):
        server.start()

    assert server.directory is None
    assert not server.is_running


def test_a_port_that_somebody_takes_first_is_replaced_by_another(
    monkeypatch: pytest.MonkeyPatch, own_redis: Server
) -> None:
    free = free_port()
    ports = iter([own_redis.port, free])
    monkeypatch.setattr(
        "apscheduler.testing.servers.processes.free_port", lambda: next(ports)
    )

    with type(own_redis)() as second:
        assert second.port == free
        assert second.is_ready()


def test_only_root_gives_up_its_rights() -> None:
    options = unprivileged_user()

    assert ("user" in options) == (os.geteuid() == 0)
