"""Answers get lost, and the client asks again by itself: nothing is done twice."""

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from redis.backoff import NoBackoff
from redis.exceptions import (
    ConnectionError,
    ResponseError,
)
from redis.retry import Retry

from apscheduler.events import (
    EVENT_JOB_EXECUTED,
)
from apscheduler.jobstores.redis import RedisJobStore
from apscheduler.jobstores.redis.claim_scripts import LOOK, MOVE
from apscheduler.jobstores.redis.job_scripts import ADD, CHANGE, REMOVE
from apscheduler.jobstores.redis.run_scripts import (
    ADD_READY,
    COMPLETE,
    HAND_BACK,
    TAKE,
)
from apscheduler.jobstores.redis.scripts import Script
from apscheduler.nodes import Identity
from apscheduler.runs import RunState
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.testing.jobs import PATIENCE, make_stored_job
from apscheduler.testing.jobstores.basic import T0, TICK, ids
from apscheduler.testing.jobstores.requests import (
    LEASE,
    claim,
    claimed_ids,
    completions,
    ready_run,
    run_again,
    run_once,
    states,
)

AT_ONCE = Retry(NoBackoff(), 0)
AGAIN: dict[str, Any] = {
    "retry": Retry(NoBackoff(), 3),
    "retry_on_error": [ConnectionError],
}


@pytest.fixture
def through_proxy(make_store: Any, proxy: Any) -> RedisJobStore:
    """Return a store whose client asks again where it gets no answer."""
    store: RedisJobStore = make_store(url=proxy.url, **AGAIN)
    return store


def lose_answers(
    proxy: Any, store: RedisJobStore, script: Script, times: int = 1
) -> None:
    """Have a script carried out so many times without an answer."""
    store.redis.script_load(script.text)
    proxy.lose_answers(script.digest, times)


def test_a_claim_whose_answer_is_lost_is_made_once(
    through_proxy: RedisJobStore, proxy: Any
) -> None:
    me = Identity()
    through_proxy.add_jobs([make_stored_job(f"{n}", T0) for n in range(3)])
    lose_answers(proxy, through_proxy, MOVE, times=2)

    batch = claim(through_proxy, me, lease_until=T0 + LEASE)

    assert proxy.lost == 2
    assert claimed_ids(batch) == ["0", "1", "2"]
    assert states(through_proxy) == [RunState.RUNNING] * 3
    assert claim(through_proxy, me).claims == []


def test_outcomes_whose_answer_is_lost_are_recorded_once(
    through_proxy: RedisJobStore, proxy: Any
) -> None:
    me = Identity()
    through_proxy.add_job(make_stored_job("a", T0, max_instances=2))
    (first,) = claim(through_proxy, me, plan=run_again).claims
    (second,) = claim(through_proxy, me, T0 + TICK, run_again).claims

    lose_answers(proxy, through_proxy, COMPLETE)
    through_proxy.complete(completions(first, me))
    lose_answers(proxy, through_proxy, LOOK)
    batch = claim(through_proxy, me, T0 + 2 * TICK, completions=completions(second, me))

    assert proxy.lost == 2
    assert len(batch.claims) == 1
    assert sorted(states(through_proxy)) == [
        RunState.RUNNING,
        *[RunState.SUCCEEDED] * 2,
    ]


def test_a_run_whose_handing_back_is_not_answered_is_not_taken_from_who_claims_it(
    through_proxy: RedisJobStore, other_store: RedisJobStore, proxy: Any
) -> None:
    """Asked again, the server must not hand back what somebody has claimed by then: it would run twice."""
    through_proxy.add_job(make_stored_job("a", T0))
    (found,) = claim(through_proxy, Identity(), plan=run_once).claims
    claimed: list[Any] = []
    proxy.on_loss = lambda: claimed.extend(claim(other_store, Identity()).claims)
    lose_answers(proxy, through_proxy, HAND_BACK)

    through_proxy.hand_back([found])

    assert len(claimed) == 1
    assert states(other_store) == [RunState.RUNNING]


@pytest.mark.parametrize(
    ("script", "act"),
    [
        pytest.param(
            ADD, lambda store: store.add_job(make_stored_job("new", T0)), id="add"
        ),
        pytest.param(
            CHANGE,
            lambda store: store.change_job(store.read_job("a"), {"name": "new"}),
            id="change",
        ),
        pytest.param(REMOVE, lambda store: store.remove_job("a"), id="remove"),
        pytest.param(
            REMOVE, lambda store: store.discard_job(store.read_job("a")), id="discard"
        ),
        pytest.param(
            ADD_READY,
            lambda store: store.add_ready_run(
                make_stored_job("a"), ready_run(Identity())
            ),
            id="add a ready run",
        ),
    ],
)
def test_a_change_whose_answer_is_lost_is_made_once_and_is_no_error(
    through_proxy: RedisJobStore,
    proxy: Any,
    script: Script,
    act: Callable[[RedisJobStore], Any],
) -> None:
    through_proxy.add_job(make_stored_job("a", T0))
    lose_answers(proxy, through_proxy, script)

    assert act(through_proxy) in (None, True)

    assert proxy.lost == 1


def test_runs_whose_taking_over_is_not_answered_are_reported(
    through_proxy: RedisJobStore, proxy: Any
) -> None:
    through_proxy.add_job(make_stored_job("a", T0))
    claim(through_proxy, Identity(), plan=run_once, lease_until=T0 + LEASE)
    lose_answers(proxy, through_proxy, TAKE)

    taken = through_proxy.take_over(Identity().node, T0 + 2 * LEASE)

    assert [run.state for run in taken] == [RunState.LOST]


def test_a_command_that_comes_too_late_is_not_carried_out(
    store: RedisJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sender has given up, and has gone on with something else."""
    store.add_job(make_stored_job("a", T0))
    monkeypatch.setattr(store._runner, "_numbers", itertools.count(0))

    with pytest.raises(ResponseError, match="STALE"):
        store.add_job(make_stored_job("late", T0))

    assert ids(store.get_all_jobs()) == ["a"]


@pytest.mark.parametrize("once", [False, True], ids=["recurring", "once"])
def test_a_scheduler_runs_every_fire_once_though_answers_are_lost(
    make_store: Any, proxy: Any, once: bool
) -> None:
    store = make_store(url=proxy.url, retry=AT_ONCE)
    scheduler = BackgroundScheduler(
        timezone=UTC, jobstores={"default": store}, jobstore_retry_interval=0.05
    )
    fires: list[datetime] = []
    done = threading.Event()

    def note(event: Any) -> None:
        fires.append(event.scheduled_run_time)
        if len(fires) >= (1 if once else 10):
            done.set()

    scheduler.add_listener(note, EVENT_JOB_EXECUTED)
    scheduler.start()
    lose_answers(proxy, store, LOOK if once else MOVE, times=3)
    if once:
        scheduler.add_job("builtins:len", args=[""], id="tick")
    else:
        scheduler.add_job(
            "builtins:len", "interval", args=[""], seconds=0.05, id="tick"
        )

    assert done.wait(PATIENCE)
    scheduler.shutdown()
    assert proxy.lost == 3
    assert max(Counter(fires).values()) == 1
    open_runs = {RunState.RUNNING, RunState.READY}.intersection(states(store))
    assert open_runs == set()
