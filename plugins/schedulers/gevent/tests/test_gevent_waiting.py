"""Run unpatched by pytest itself, and patched in a process of its own by ``test_gevent_scheduler_patched.py``."""

import time
from typing import Any

import gevent
import pytest
from gevent import monkey

from apscheduler.schedulers.gevent.waiting import (
    AnyLock,
    HubEvent,
    NativeEvent,
    call_on_hub,
    create_event,
    destroy_hub,
)
from apscheduler.testing.jobs import PATIENCE

hog = monkey.get_original("time", "sleep")


@pytest.fixture
def lock() -> AnyLock:
    return AnyLock()


# Locks.


def test_greenlets_of_many_hubs_and_threads_exclude_one_another(
    lock: AnyLock, beside: Any, until: Any
) -> None:
    inside: list[object] = []
    total = []

    def use() -> None:
        for number in range(100):
            with lock, lock:
                assert inside == []
                inside.append(number)
                gevent.sleep(0 if number % 7 else 0.0001)
                total.append(inside.pop())

    def use_without_hub() -> None:
        for number in range(100):
            with lock:
                assert inside == []
                inside.append(number)
                hog(0 if number % 7 else 0.0001)
                total.append(inside.pop())

    def use_with_hub() -> None:
        gevent.joinall([gevent.spawn(use) for _ in range(3)], raise_error=True)
        destroy_hub()

    calls = [beside.begin(func) for func in (use_with_hub, use_without_hub) * 2]
    gevent.joinall([gevent.spawn(use) for _ in range(3)], raise_error=True)
    until(lambda: all(call.has_ended for call in calls))

    assert [call.result for call in calls] == 4 * [None]
    assert len(total) == 100 * (3 + 3 + 1 + 3 + 1)


def test_main_greenlet_of_an_idle_hub_can_wait_for_a_thread(
    lock: AnyLock, beside: Any, until: Any
) -> None:
    """The locks of gevent raise LoopExit here."""
    has_begun = []

    def program() -> str:
        gevent.sleep(0)  # makes the hub
        has_begun.append(True)
        with lock:
            destroy_hub()
            return "got it"

    with lock:
        call = beside.begin(program)
        until(lambda: has_begun)
        gevent.sleep(0.01)
        assert not call.has_ended
    until(lambda: call.has_ended)

    assert call.result == "got it"


def test_who_waits_is_served_in_the_order_of_arrival(lock: AnyLock) -> None:
    served: list[int] = []

    def use(number: int) -> None:
        with lock:
            served.append(number)

    with lock:
        greenlets = []
        for number in range(5):
            greenlets.append(gevent.spawn(use, number))
            gevent.idle()
    gevent.joinall(greenlets, raise_error=True)

    assert served == [0, 1, 2, 3, 4]


def test_lock_is_waited_for_no_longer_than_asked(lock: AnyLock, beside: Any) -> None:
    with lock:
        assert not gevent.spawn(lock.acquire, timeout=0.001).get()
        assert not gevent.spawn(lock.acquire, blocking=False).get()
        assert not beside(lock.acquire, True, 0.001)

    assert lock.acquire(timeout=PATIENCE)
    lock.release()


def test_greenlet_that_is_killed_while_it_waits_does_not_get_the_lock(
    lock: AnyLock,
) -> None:
    with lock:
        greenlet = gevent.spawn(lock.acquire)
        gevent.idle()
        greenlet.kill()

    assert gevent.spawn(lock.acquire, timeout=PATIENCE).get()


def test_greenlet_that_is_killed_when_its_turn_has_come_hands_the_lock_on(
    lock: AnyLock,
) -> None:
    with lock:
        greenlet = gevent.spawn(lock.acquire)
        gevent.idle()
        greenlet.kill(
            block=False
        )  # will be carried out after the lock has been handed on

    assert lock.acquire(timeout=PATIENCE)
    lock.release()


def test_lock_of_somebody_else_cannot_be_released(lock: AnyLock) -> None:
    with (
        lock,
        pytest.raises(RuntimeError, match="somebody else"),
    ):
        gevent.spawn(lock.release).get()


# Events.


def test_event_suits_the_thread_that_makes_it(beside: Any) -> None:
    assert isinstance(create_event(), HubEvent)
    assert isinstance(beside(create_event), NativeEvent)


@pytest.mark.parametrize("make", [HubEvent, NativeEvent])
def test_events_behave_like_those_of_threads(make: Any) -> None:
    event = make()
    assert not event.wait(0.001)
    for _ in "ab":
        event.set()
        event.set()
        assert event.wait()
        assert event.wait(0)
        event.clear()
        event.clear()
        assert not event.wait(0)


def test_event_of_a_hub_can_be_set_from_any_thread(in_each_thread: Any) -> None:
    event = HubEvent()

    call = in_each_thread.begin(event.set)

    assert event.wait(PATIENCE)
    in_each_thread._until(lambda: call.has_ended)


def test_event_of_a_hub_that_is_gone_can_be_set(beside: Any) -> None:
    def program() -> HubEvent:
        event = HubEvent()
        destroy_hub()
        return event

    beside(program).set()


# Calls.


def test_call_on_a_hub_is_made_in_a_greenlet_there(in_each_thread: Any) -> None:
    hub = gevent.get_hub()

    greenlet = in_each_thread(call_on_hub, hub, gevent.getcurrent)

    assert isinstance(greenlet, gevent.Greenlet)
    assert greenlet.parent is hub


def test_exception_of_a_call_comes_back(in_each_thread: Any) -> None:
    def fail() -> None:
        raise ValueError("no paper")

    with pytest.raises(ValueError, match="no paper"):
        in_each_thread(call_on_hub, gevent.get_hub(), fail)


def test_waiting_does_not_hold_up_greenlets(lock: AnyLock, beside: Any) -> None:
    held, ticks = [], 0

    def hold() -> None:
        with lock:
            held.append(True)
            while ticks < 20:
                hog(0.001)

    beside.begin(hold)
    while not held:
        gevent.sleep(0.001)

    def tick() -> None:
        nonlocal ticks
        for _ in range(20):
            gevent.sleep(0.001)
            ticks += 1

    ticking = gevent.spawn(tick)
    deadline = time.monotonic() + PATIENCE
    assert lock.acquire(timeout=PATIENCE)  # or both wait for one another
    lock.release()

    assert time.monotonic() < deadline
    ticking.join()
