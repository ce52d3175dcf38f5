"""Stores tell each other of changes at once."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from redis import BlockingConnectionPool, Redis

from apscheduler.events import EVENT_JOB_EXECUTED
from apscheduler.jobstores.redis import PUSHED_POLL_SECONDS, RedisJobStore, listening
from apscheduler.nodes import Identity
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.testing.jobs import PATIENCE, make_stored_job
from apscheduler.testing.jobstores.basic import T0
from apscheduler.testing.jobstores.requests import (
    LEASE,
    claim,
    completions,
    ready_run,
    run_once,
)
from apscheduler.testing.servers import Server

MINUTE = timedelta(minutes=1)
SILENCE_SECONDS = 0.3


@pytest.fixture
def heard(store: RedisJobStore) -> Iterator[threading.Event]:
    """Return the event that is set when the store hears of a change."""
    heard = threading.Event()
    end = store.subscribe(heard.set)
    assert end is not None
    yield heard
    end()


def listeners() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "APScheduler listener"]


def add(store: RedisJobStore) -> None:
    store.add_job(make_stored_job("new", T0))


def update(store: RedisJobStore) -> None:
    store.update_job(make_stored_job("a", T0))


def reschedule(store: RedisJobStore) -> None:
    stored = store.read_job("a")
    assert stored is not None
    assert store.change_job(stored, {"next_run_time": T0})


def add_ready(store: RedisJobStore) -> None:
    store.add_ready_run(make_stored_job("a"), ready_run(Identity()))


def hand_back(store: RedisJobStore) -> None:
    store.hand_back(claim(store, Identity(), T0 + MINUTE).claims)


def take_over(store: RedisJobStore) -> None:
    now = T0 + MINUTE
    claim(store, Identity(), now, plan=run_once, lease_until=now)
    assert store.take_over(Identity().node, now + LEASE)


@pytest.mark.parametrize(
    "change", [add, update, reschedule, add_ready, hand_back, take_over]
)
def test_what_is_to_be_done_sooner_is_heard_at_once(
    store: RedisJobStore,
    other_store: RedisJobStore,
    heard: threading.Event,
    change: Callable[[RedisJobStore], None],
) -> None:
    store.add_job(make_stored_job("a", T0 + MINUTE, on_lost="retry"))

    change(other_store)

    assert heard.wait(PATIENCE)


def rename(store: RedisJobStore) -> None:
    stored = store.read_job("a")
    assert stored is not None
    assert store.change_job(stored, {"name": "new"})


def run(store: RedisJobStore) -> None:
    me = Identity()
    (found,) = claim(store, me, T0 + MINUTE, lease_until=T0 + LEASE).claims
    store.complete(completions(found, me))


def pause(store: RedisJobStore) -> None:
    stored = store.read_job("a")
    assert stored is not None
    assert store.change_job(stored, {"next_run_time": None})


def remove(store: RedisJobStore) -> None:
    store.remove_job("a")


def add_again(store: RedisJobStore) -> None:
    with pytest.raises(KeyError):
        store.add_job(make_stored_job("a", T0))


@pytest.mark.parametrize("change", [rename, run, pause, remove, add_again])
def test_what_gives_nobody_more_to_do_is_not_told(
    store: RedisJobStore,
    other_store: RedisJobStore,
    heard: threading.Event,
    change: Callable[[RedisJobStore], None],
) -> None:
    store.add_job(make_stored_job("a", T0 + MINUTE))

    change(other_store)

    assert not heard.wait(SILENCE_SECONDS)


def test_a_store_does_not_wake_itself(
    store: RedisJobStore, heard: threading.Event
) -> None:
    add(store)

    assert not heard.wait(SILENCE_SECONDS)


def published(store: RedisJobStore) -> int:
    """Return how often something was published on the server."""
    stats: Any = store.redis.info("commandstats")
    return int(stats.get("cmdstat_publish", {}).get("calls", 0))


def test_nothing_is_told_where_nobody_else_listens(own_redis: Server) -> None:
    store, other = (RedisJobStore(url=own_redis.url) for _ in range(2))
    store.start(None, "redis")
    other.start(None, "redis")
    store.subscribe(lambda: None)

    add(store)
    told_to_nobody = published(store)
    other.subscribe(lambda: None)
    store.update_job(make_stored_job("new", T0))

    assert (told_to_nobody, published(store)) == (0, 1)
    store.shutdown()
    other.shutdown()


def test_a_store_that_has_ended_listening_tells_others_again(
    store: RedisJobStore, other_store: RedisJobStore
) -> None:
    heard = threading.Event()
    end = store.subscribe(lambda: None)
    assert end is not None
    end()
    other_store.subscribe(heard.set)

    add(store)

    assert heard.wait(PATIENCE)


def test_many_jobs_are_told_of_once(
    store: RedisJobStore, other_store: RedisJobStore
) -> None:
    calls = threading.Semaphore(0)
    store.subscribe(calls.release)

    other_store.add_jobs([make_stored_job(f"{n}", T0) for n in range(50)])

    assert calls.acquire(timeout=PATIENCE)
    assert not calls.acquire(timeout=SILENCE_SECONDS)


def test_stores_with_other_keys_have_channels_of_their_own(
    make_store: Any, keys: dict[str, Any], heard: threading.Event
) -> None:
    another = make_store(
        **{name: f"{key}-of-others" for name, key in keys.items()},
    )

    add(another)

    assert not heard.wait(SILENCE_SECONDS)


def test_the_thread_ends_when_nobody_wants_to_hear_any_more(
    store: RedisJobStore,
) -> None:
    end = store.subscribe(lambda: None)
    assert end is not None
    assert len(listeners()) == 1
    started = time.monotonic()

    end()
    end()

    assert listeners() == []
    assert time.monotonic() - started < listening.END_SECONDS


def test_the_thread_ends_with_the_store(redis_url: str, keys: dict[str, Any]) -> None:
    store = RedisJobStore(url=redis_url, **keys)
    store.start(None, "redis")
    store.subscribe(lambda: None)

    store.shutdown()

    assert listeners() == []


def test_a_callback_that_fails_is_called_again(
    store: RedisJobStore,
    other_store: RedisJobStore,
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = threading.Semaphore(0)

    def fail() -> None:
        calls.release()
        raise RuntimeError("no")

    end = store.subscribe(fail)
    for number in range(2):
        other_store.add_job(make_stored_job(f"{number}", T0))
        assert calls.acquire(timeout=PATIENCE)
    assert end is not None
    end()

    assert "Error telling the scheduler of a change" in caplog.text


def test_listening_takes_no_connection_from_others(
    make_store: Any, redis_url: str, other_store: RedisJobStore
) -> None:
    pool = BlockingConnectionPool.from_url(redis_url, max_connections=1, timeout=1)
    heard = threading.Event()
    with Redis(connection_pool=pool) as client:
        store = make_store(client=client)
        end = store.subscribe(heard.set)

        add(store)
        update_of_others = make_stored_job("new", T0 - MINUTE)
        other_store.update_job(update_of_others)

        assert heard.wait(PATIENCE)
        assert len(store.get_all_jobs()) == 1
        end()
    pool.disconnect()


def test_a_lost_connection_is_made_again_and_what_was_missed_is_looked_for(
    make_store: Any, other_store: RedisJobStore, redis_prefix: str
) -> None:
    store = make_store(client_name=redis_prefix)
    heard = threading.Event()
    store.subscribe(heard.set)
    clients: Any = other_store.redis.client_list(_type="pubsub")
    mine = [each["id"] for each in clients if each["name"] == redis_prefix]
    assert len(mine) == 1

    other_store.redis.client_kill_filter(_id=mine[0])

    assert heard.wait(PATIENCE), "something may have been missed"
    heard.clear()
    add(other_store)
    assert heard.wait(PATIENCE)


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_a_server_that_comes_back_is_listened_to_again(
    own_redis: Server, how: str
) -> None:
    store, other = (RedisJobStore(url=own_redis.url) for _ in range(2))
    heard = threading.Event()
    for each in (store, other):
        each.start(None, "redis")
    store.subscribe(heard.set)

    if how == "restart":
        own_redis.restart()
    else:
        own_redis.kill()
        own_redis.start()

    assert heard.wait(PATIENCE)
    heard.clear()
    add(other)
    assert heard.wait(PATIENCE)
    store.shutdown()
    other.shutdown()


def test_a_subscription_may_begin_and_end_while_the_server_is_away(
    own_redis: Server,
) -> None:
    store = RedisJobStore(url=own_redis.url)
    store.start(None, "redis")
    own_redis.stop()
    heard = threading.Event()
    end = store.subscribe(heard.set)
    never = store.subscribe(lambda: None)
    assert end is not None and never is not None
    never()

    own_redis.start()

    assert heard.wait(PATIENCE)
    end()
    assert listeners() == []
    store.shutdown()


def test_a_server_that_does_not_answer_any_more_is_given_up(
    own_redis: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "PING_SECONDS", 0.1)
    monkeypatch.setattr(listening, "CONFIRM_SECONDS", 0.1)
    store = RedisJobStore(url=own_redis.url, socket_timeout=1)
    store.start(None, "redis")
    heard = threading.Event()
    store.subscribe(heard.set)
    assert not heard.wait(SILENCE_SECONDS), "silence is answered"

    own_redis.freeze()
    assert not heard.wait(SILENCE_SECONDS * 2)
    own_redis.thaw()

    assert heard.wait(PATIENCE)
    store.shutdown()


def test_an_idle_scheduler_runs_at_once_what_another_adds(make_store: Any) -> None:
    schedulers = [
        BackgroundScheduler(timezone="UTC", jobstores={"default": make_store()})
        for _ in range(2)
    ]
    ran = threading.Event()
    schedulers[0].add_listener(lambda event: ran.set(), EVENT_JOB_EXECUTED)
    schedulers[0].start()
    schedulers[1].start(paused=True)
    before = time.monotonic()

    schedulers[1].add_job("builtins:len", args=[""])

    assert ran.wait(PATIENCE)
    taken = time.monotonic() - before
    assert taken < PUSHED_POLL_SECONDS / 2, "it was not found by looking"
    for scheduler in schedulers:
        scheduler.shutdown()
