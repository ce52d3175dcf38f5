"""The clock of a scheduler follows that of the server that its jobs are kept on."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apscheduler import timekeeping
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.timekeeping import COMPARE_SECONDS, ServerClock

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
LOGGER = logging.getLogger("apscheduler.scheduler")


class World:
    """True time, what the machine's clock is ahead of it, and what the server's is."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.machine = self.server = timedelta(0)
        self.latency = 0.0

    @property
    def true_time(self) -> datetime:
        return NOON + timedelta(seconds=self.passed)

    def machine_time(self) -> datetime:
        return self.true_time + self.machine


class ServerStore(MemoryJobStore):
    def __init__(self, world: World):
        super().__init__()
        self.world = world
        self.asked = 0

    def read_clock(self) -> datetime:
        self.asked += 1
        self.world.passed += self.world.latency / 2
        time = self.world.true_time + self.world.server
        self.world.passed += self.world.latency / 2
        return time


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(timekeeping, "monotonic", lambda: world.passed)
    return world


@pytest.fixture
def clock(world: World) -> ServerClock:
    return ServerClock(world.machine_time)


@pytest.fixture
def store(world: World) -> ServerStore:
    return ServerStore(world)


@pytest.fixture
def follow(clock: ServerClock, store: ServerStore) -> Callable[[], bool]:
    return lambda: clock.follow(store, "default", LOGGER)


def test_it_is_the_clock_of_the_machine_until_there_is_a_server(
    clock: ServerClock, world: World
) -> None:
    world.machine = timedelta(minutes=5)

    assert not clock.follow(MemoryJobStore(), "memory", LOGGER)

    assert clock.now() == NOON + timedelta(minutes=5)
    assert clock.offset() == timedelta(0)


def test_a_server_that_does_not_tell_the_time_is_asked_once(clock: ServerClock) -> None:
    class SilentStore(MemoryJobStore):
        asked = 0

        def read_clock(self) -> None:
            self.asked += 1

    store = SilentStore()
    for _ in range(3):
        assert not clock.follow(store, "silent", LOGGER)
    assert store.asked == 1

    clock.stop_following(store)  # it may be another server when it is started again
    clock.follow(store, "silent", LOGGER)

    assert store.asked == 2


def test_time_that_passes_while_the_clock_is_read_is_no_offset(
    world: World, store: ServerStore
) -> None:
    def read() -> datetime:
        world.passed += 0.001
        return world.machine_time()

    clock = ServerClock(read)
    clock.follow(store, "default", LOGGER)

    assert clock.offset() == timedelta(0)


@pytest.mark.parametrize("minutes", [5, -5])
def test_a_machine_whose_clock_is_wrong_lives_by_that_of_the_server(
    clock: ServerClock, world: World, follow: Any, minutes: int
) -> None:
    world.machine = timedelta(minutes=minutes)

    assert follow()

    assert clock.now() == NOON
    assert clock.offset() == timedelta(minutes=-minutes)
    world.passed += 10
    assert clock.now() == NOON + timedelta(seconds=10)


def test_clocks_that_agree_closely_are_left_as_they_are(
    clock: ServerClock, world: World, follow: Any
) -> None:
    world.machine = timedelta(milliseconds=80)

    follow()

    assert clock.offset() == timedelta(0)


def test_what_the_way_to_the_server_takes_is_no_difference(
    clock: ServerClock, world: World, follow: Any
) -> None:
    world.latency = 4.0

    follow()

    assert clock.offset() == timedelta(0)
    world.machine = timedelta(minutes=5)
    follow()
    assert clock.now() == world.true_time


def test_the_server_is_asked_now_and_then(
    world: World, store: ServerStore, follow: Any
) -> None:
    assert [follow(), follow()] == [True, False]
    world.passed += COMPARE_SECONDS - 1
    assert not follow()
    world.passed += 1
    assert follow()
    assert store.asked == 2


def test_a_clock_that_is_set_changes_nothing_and_has_the_server_asked(
    clock: ServerClock, world: World, store: ServerStore, follow: Any
) -> None:
    follow()
    world.passed += 5
    world.machine = timedelta(hours=-1)

    assert clock.now() == NOON + timedelta(seconds=5)
    assert clock.offset() == timedelta(hours=1)
    assert follow()
    assert clock.now() == NOON + timedelta(seconds=5)
    assert store.asked == 2


def test_a_server_whose_clock_is_set_is_followed(
    clock: ServerClock, world: World, follow: Any
) -> None:
    follow()
    world.server = timedelta(minutes=2)
    world.passed += COMPARE_SECONDS

    follow()

    assert clock.now() == world.true_time + timedelta(minutes=2)
    world.server = timedelta(0)
    world.passed += COMPARE_SECONDS
    follow()
    assert clock.now() == world.true_time
    assert clock.offset() == timedelta(0)


def test_a_correction_does_not_tremble(
    clock: ServerClock, world: World, follow: Any
) -> None:
    world.machine = timedelta(seconds=-10)
    follow()
    world.machine += timedelta(milliseconds=30)
    world.passed += COMPARE_SECONDS

    follow()

    assert clock.offset() == timedelta(seconds=10)


def test_one_server_is_followed_until_its_store_is_closed(
    clock: ServerClock, world: World, store: ServerStore, follow: Any
) -> None:
    other = ServerStore(world)
    follow()
    assert not clock.follow(other, "other", LOGGER)
    clock.stop_following(other)
    world.machine = timedelta(minutes=5)
    assert clock.now() == NOON

    clock.stop_following(store)

    assert clock.now() == NOON + timedelta(minutes=5)
    assert clock.follow(other, "other", LOGGER)


def test_a_large_difference_is_reported_once_and_its_end_too(
    world: World, follow: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for minutes in (5, 5, 0, 0, -5):
        world.machine = timedelta(minutes=minutes)
        world.passed += COMPARE_SECONDS
        follow()

    behind, again, ahead = [
        "300.0 seconds ahead of that of the server of job store 'default'",
        "agrees with that of the server of job store 'default' again",
        "300.0 seconds behind that of the server of job store 'default'",
    ]
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 3
    assert behind in messages[0]
    assert again in messages[1]
    assert ahead in messages[2]


def test_a_server_that_cannot_be_asked_leaves_the_clock_as_it_is(
    clock: ServerClock,
    world: World,
    store: ServerStore,
    follow: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world.machine = timedelta(minutes=5)
    follow()

    def fail() -> datetime:
        raise ConnectionError("gone")

    monkeypatch.setattr(store, "read_clock", fail)
    world.passed += COMPARE_SECONDS

    with pytest.raises(ConnectionError):
        follow()

    assert clock.now() == world.true_time
