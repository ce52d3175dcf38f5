"""Between reading and writing, somebody else may change anything: what was planned then is not done."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from apscheduler.job import Job
from apscheduler.jobstores.base import ConflictingIdError
from apscheduler.jobstores.redis import RedisJobStore, claims, scripts
from apscheduler.jobstores.redis.run_scripts import COMPLETE, TAKE
from apscheduler.nodes import Identity
from apscheduler.runs import Plan, RunState
from apscheduler.testing.jobs import make_stored_job
from apscheduler.testing.jobstores.basic import SECOND, T0, TICK
from apscheduler.testing.jobstores.requests import (
    EVERYTHING,
    claim,
    claimed_ids,
    completions,
    ready_run,
    run_again,
    run_every_minute,
    run_once,
    states,
)


def interrupt(
    store: RedisJobStore, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]
) -> None:
    """Have something happen between reading and writing of the next claim."""
    write = claims.RedisClaimPass.write
    is_done = threading.Event()

    def interrupted(self: Any, steps: Any) -> Any:
        if not is_done.is_set():
            is_done.set()
            act()
        return write(self, steps)

    monkeypatch.setattr(claims.RedisClaimPass, "write", interrupted)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            lambda store: store.update_job(make_stored_job("a", T0, name="new")),
            id="its state",
        ),
        pytest.param(
            lambda store: store.update_job(make_stored_job("a", T0 - TICK)),
            id="its time",
        ),
        pytest.param(lambda store: store.update_job(make_stored_job("a")), id="paused"),
        pytest.param(lambda store: store.remove_job("a"), id="removed"),
    ],
)
def test_a_job_that_is_changed_while_it_is_planned_is_not_claimed(
    store: RedisJobStore,
    other_store: RedisJobStore,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[RedisJobStore], object],
) -> None:
    store.add_jobs([make_stored_job("a", T0), make_stored_job("b", T0)])
    interrupt(store, monkeypatch, lambda: change(other_store))

    batch = claim(store, Identity())

    assert claimed_ids(batch) == ["b"]
    assert batch.next_run_time == T0, "it is looked at again at once"
    assert [run.job_id for run in store.get_runs(EVERYTHING, 9)] == ["b"]


def test_instances_that_others_start_meanwhile_are_counted(
    store: RedisJobStore, other_store: RedisJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add_job(make_stored_job("a", T0))
    other_store.add_ready_run(make_stored_job("a"), ready_run(Identity()))
    interrupt(
        store,
        monkeypatch,
        lambda: claim(other_store, Identity(), plan=lambda job: None),
    )

    refused = claim(store, Identity(), accepts=lambda job: False)

    assert claimed_ids(refused) == []
    (found,) = claim(store, Identity()).claims
    assert found.skipped


def test_instances_that_end_meanwhile_are_not_counted(
    store: RedisJobStore, other_store: RedisJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = Identity()
    store.add_job(make_stored_job("a", T0))
    (running,) = claim(store, me, plan=run_again).claims
    interrupt(
        store, monkeypatch, lambda: other_store.complete(completions(running, me))
    )

    assert claimed_ids(claim(store, me, T0 + TICK)) == [], "it was to be skipped"
    (found,) = claim(store, me, T0 + TICK).claims
    assert not found.skipped


def test_a_ready_run_is_started_by_one_of_two(
    store: RedisJobStore, other_store: RedisJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_stored_job("a", max_instances=5)
    store.add_ready_run(job, ready_run(Identity()))
    taken: list[Any] = []
    interrupt(
        store,
        monkeypatch,
        lambda: taken.extend(claim(other_store, Identity()).claims),
    )

    batch = claim(store, Identity())

    assert (len(taken), batch.claims) == (1, [])
    assert states(store) == [RunState.RUNNING]


def test_a_ready_run_waits_for_an_instance_that_another_starts_meanwhile(
    store: RedisJobStore, other_store: RedisJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add_job(make_stored_job("a", T0 + SECOND))
    store.add_ready_run(make_stored_job("a"), ready_run(Identity()))
    interrupt(
        store,
        monkeypatch,
        lambda: claim(other_store, Identity(), T0 + SECOND, accepts=lambda job: False),
    )

    batch = claim(store, Identity())

    assert batch.claims == []
    assert sorted(states(store)) == [RunState.READY, RunState.RUNNING]


def test_an_outcome_that_is_reported_twice_at_once_frees_one_instance(
    store: RedisJobStore,
) -> None:
    me = Identity()
    store.add_job(make_stored_job("a", T0, max_instances=2))
    (first,) = claim(store, me, T0, run_again).claims
    claim(store, me, T0 + TICK, run_again)

    store.complete([*completions(first, me), *completions(first, me)])

    later = [claim(store, me, T0 + n * TICK, run_again).claims[0] for n in (2, 3)]
    assert [found.skipped for found in later] == [False, True]


def test_who_comes_back_does_not_hand_back_what_another_has_started_again(
    store: RedisJobStore, other_store: RedisJobStore
) -> None:
    store.add_job(make_stored_job("a", T0, on_lost="retry"))
    (found,) = claim(store, Identity(), plan=run_once, lease_until=T0).claims
    other_store.take_over(Identity().node, T0 + SECOND)
    (again,) = claim(other_store, Identity(), T0 + SECOND).claims
    assert again.run_times.run_ids == found.run_times.run_ids

    store.hand_back([found])

    assert states(store) == [RunState.RUNNING]


def test_a_run_that_ends_while_it_is_taken_over_has_ended(
    store: RedisJobStore, other_store: RedisJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = Identity()
    store.add_job(make_stored_job("a", T0))
    (found,) = claim(store, owner, plan=run_once, lease_until=T0).claims
    run_script = other_store._runner.run

    def end_first(script: Any, given: Any = None, *blobs: bytes) -> Any:
        if script is TAKE:
            store.complete(completions(found, owner))
        return run_script(script, given, *blobs)

    monkeypatch.setattr(other_store._runner, "run", end_first)

    assert other_store.take_over(Identity().node, T0 + SECOND) == []
    assert states(store) == [RunState.SUCCEEDED]


def test_an_open_run_that_ends_while_runs_are_listed_is_listed_once(
    store: RedisJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = Identity()
    store.add_job(make_stored_job("a", T0))
    (found,) = claim(store, me).claims
    run_script = scripts.Runner.run

    def end_first(self: Any, script: Any, given: Any = None, *blobs: bytes) -> Any:
        answer = run_script(self, script, given, *blobs)
        if script is not COMPLETE:
            store.complete(completions(found, me))
        return answer

    monkeypatch.setattr(scripts.Runner, "run", end_first)

    assert states(store) == [RunState.SUCCEEDED]


def test_two_writers_cannot_add_the_same_job(
    store: RedisJobStore, other_store: RedisJobStore
) -> None:
    """In APScheduler 3 the one whose check came too early replaced the job of the other."""
    barrier = threading.Barrier(2)
    outcomes: list[str] = []

    def add(adder: RedisJobStore, name: str) -> None:
        for number in range(50):
            barrier.wait(20)
            try:
                adder.add_job(make_stored_job(f"{number}", T0, name=name))
                outcomes.append("added")
            except ConflictingIdError:
                outcomes.append("conflict")

    threads = [
        threading.Thread(target=add, args=arguments)
        for arguments in ((store, "mine"), (other_store, "theirs"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)

    assert outcomes.count("added") == outcomes.count("conflict") == 50


def test_a_page_goes_on_where_the_last_one_ended_though_that_is_gone(
    store: RedisJobStore, other_store: RedisJobStore
) -> None:
    store.add_jobs([make_stored_job(f"{n:02}", T0 + n * TICK) for n in range(20)])
    removed: list[str] = []

    def plan(job: Job) -> Plan | None:
        if not removed:
            removed.extend(("00", "02", "03"))
            for job_id in removed:
                other_store.remove_job(job_id)
        return run_every_minute(job) if job.id >= "10" else None

    batch = claim(store, Identity(), T0 + SECOND, plan, limit=2)

    assert claimed_ids(batch) == ["10", "11"]
