"""What a claim costs, what it leaves behind, and that nothing unusual in the store keeps it from going on."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import Redis

from apscheduler.job import Job
from apscheduler.jobstores.redis import RedisJobStore
from apscheduler.nodes import Identity
from apscheduler.runs import Plan, RunFilter, RunState
from apscheduler.testing.jobs import make_stored_job
from apscheduler.testing.jobstores.basic import SECOND, T0, TICK, ids
from apscheduler.testing.jobstores.requests import (
    EVERYTHING,
    LEASE,
    claim,
    claimed_ids,
    completions,
    ready_run,
    run_again,
    run_once,
    states,
)

MINUTE = timedelta(minutes=1)


def names_of_keys(store: RedisJobStore) -> set[str]:
    """Return which keys there are, without what remembers answers."""
    found = store.redis.keys(f"{store.jobs_key}*")
    names = {key.decode().removeprefix(store.jobs_key) for key in found}
    return {name for name in names if not name.startswith(".answer:")}


def commands_of(store: RedisJobStore, act: Callable[[], object]) -> list[str]:
    """Return the commands that the store sends while something is done."""
    sent: list[str] = []
    execute = store.redis.execute_command

    def note(*arguments: Any, **options: Any) -> Any:
        sent.append(arguments[0])
        return execute(*arguments, **options)

    store.redis.execute_command = note
    try:
        act()
    finally:
        del store.redis.execute_command
    return sent


def test_a_claim_is_two_commands_whatever_the_number_of_jobs(
    store: RedisJobStore,
) -> None:
    me = Identity()
    store.add_jobs([make_stored_job(f"{n:03}", T0) for n in range(300)])
    (found, *others) = claim(store, me, limit=150, lease_until=T0 + LEASE).claims
    outcomes = [
        outcome for each in (found, *others) for outcome in completions(each, me)
    ]

    sent = commands_of(
        store, lambda: claim(store, me, limit=150, completions=outcomes, lease_until=T0)
    )

    assert sent == ["EVALSHA", "EVALSHA"]
    assert (
        len(store.get_runs(RunFilter(states=frozenset([RunState.SUCCEEDED])), 999))
        == 150
    )


def test_an_idle_store_is_asked_with_one_command_that_writes_nothing(
    store: RedisJobStore,
) -> None:
    store.add_job(make_stored_job("a", T0 + SECOND))
    before = names_of_keys(store)

    sent = commands_of(store, lambda: claim(store, Identity(), lease_until=T0))

    assert sent == ["EVALSHA"]
    assert names_of_keys(store) == before == {""}


def test_nothing_is_left_of_runs_without_history(store: RedisJobStore) -> None:
    me = Identity()
    store.add_job(make_stored_job("a", T0, history=0, on_lost="retry"))
    plan = Plan([T0, T0 + TICK], None)
    (found,) = claim(
        store, me, T0 + TICK, lambda job: plan, lease_until=T0 + LEASE
    ).claims

    store.complete(completions(found, me, keep=False))
    store.drop_lease(me.node)

    assert names_of_keys(store) == set()


def test_nothing_is_left_of_runs_that_are_pruned(store: RedisJobStore) -> None:
    me = Identity()
    store.add_job(make_stored_job("a", T0, history=1))
    for number in range(3):
        (found,) = claim(store, me, T0 + number * TICK, run_again).claims
        store.complete(completions(found, me))
    store.remove_job("a")

    pruned = [store.prune_runs(SECOND, None, T0 + n * SECOND) for n in (0, 9, 10)]

    assert pruned == [2, 1, 0], "one was to be kept, until it was too old"
    assert names_of_keys(store) == set()


def test_a_job_that_keeps_more_than_others_is_left_alone(store: RedisJobStore) -> None:
    me = Identity()
    store.add_job(make_stored_job("a", T0, history=5))
    for number in range(4):
        (found,) = claim(store, me, T0 + number * TICK, run_again).claims
        store.complete(completions(found, me))

    assert store.prune_runs(None, 2, T0) == 0

    # From the next run on, it keeps as many as others.
    store.update_job(make_stored_job("a", T0))
    (found,) = claim(store, me).claims
    store.complete(completions(found, me))
    assert store.prune_runs(None, 2, T0) == 3


def test_run_times_without_a_job_are_removed_and_reported_once(
    store: RedisJobStore, caplog: pytest.LogCaptureFixture
) -> None:
    stray = {f"stray{n:03}": T0.timestamp() for n in range(700)}
    store.redis.zadd(store.run_times_key, stray)
    store.redis.zadd(store.run_times_key, {b"\xff'": T0.timestamp() - 1})
    store.add_jobs([make_stored_job("wanted", T0), make_stored_job("after", T0 + TICK)])

    assert store.get_next_run_time() == T0
    assert ids(store.get_due_jobs(T0 + TICK)) == ids(store.get_all_jobs())
    batch = claim(store, Identity(), T0 + TICK, limit=2)

    assert claimed_ids(batch) == ["wanted", "after"]
    assert batch.more is False
    assert store.redis.zcard(store.run_times_key) == 2
    claim(store, Identity(), T0 + SECOND)
    assert "'stray699'" in caplog.text
    assert caplog.text.count("'stray000'") == 1


@pytest.mark.parametrize("count", [1, 150])
def test_run_times_without_a_job_hide_no_paused_job(
    store: RedisJobStore, count: int
) -> None:
    store.add_jobs([make_stored_job(f"due{n:03}", T0) for n in range(count)])
    store.add_jobs([make_stored_job(f"paused{n:03}") for n in range(count)])
    stray = {f"a stray {n:03}": T0.timestamp() for n in range(count)}
    store.redis.zadd(store.run_times_key, stray)

    listed = store.get_all_jobs()

    assert [job.id for job in listed] == [
        *(f"due{n:03}" for n in range(count)),
        *(f"paused{n:03}" for n in range(count)),
    ]
    assert [job.next_run_time for job in listed] == [T0] * count + [None] * count


def test_a_run_time_that_was_left_behind_is_not_that_of_a_new_job(
    store: RedisJobStore,
) -> None:
    store.redis.zadd(store.run_times_key, {"a": T0.timestamp()})

    store.add_job(make_stored_job("a"))

    assert store.get_next_run_time() is None


def test_damaged_records_of_ready_runs_are_passed_over(store: RedisJobStore) -> None:
    store.redis.zadd(f"{store.jobs_key}.ready", {"nothing": T0.timestamp() - 1})
    store.add_ready_run(make_stored_job("a"), ready_run(Identity()))

    assert claimed_ids(claim(store, Identity())) == ["a"]


@pytest.mark.parametrize(
    "job_id",
    [
        "größer",
        "not utf-8: \udcff",
        "日本",
        "a b\n",
        "a/b:c{d}",
        'quote"\\',
        "nul\0",
        "🎉",
        "x" * 900,
    ],
)
def test_identifiers_may_be_any_text(store: RedisJobStore, job_id: str) -> None:
    me = Identity()
    store.add_job(make_stored_job(job_id, T0, history=3))

    (found,) = claim(store, me).claims
    store.complete(completions(found, me))

    assert found.job.id == job_id
    assert ids(store.get_all_jobs()) == [job_id]
    (run,) = store.get_runs(RunFilter(job_id), 9)
    assert (run.job_id, run.state) == (job_id, RunState.SUCCEEDED)
    store.remove_job(job_id)
    assert store.lookup_job(job_id) is None


def test_a_job_whose_identifier_is_no_text_elsewhere_can_be_taken_over(
    store: RedisJobStore,
) -> None:
    store.add_job(make_stored_job("\udcff", T0, on_lost="retry"))
    claim(store, Identity(), lease_until=T0)

    (run,) = store.take_over(Identity().node, T0 + SECOND)

    assert (run.job_id, run.state) == ("\udcff", RunState.READY)
    assert claimed_ids(claim(store, Identity(), T0 + SECOND)) == ["\udcff"]


def test_errors_may_be_any_text_and_can_be_pruned(store: RedisJobStore) -> None:
    me = Identity()
    store.add_job(make_stored_job("a", T0))
    (found,) = claim(store, me).claims
    texts = {"exception": "half \ud800 \udcff ü\0", "traceback": '🎉\n"\\'}

    store.complete(completions(found, me, RunState.FAILED, T0, **texts))

    (run,) = store.get_runs(EVERYTHING, 9)
    assert run.exception == "half \\ud800 \\udcff ü\0"
    assert run.traceback == texts["traceback"]
    assert store.prune_runs(SECOND, None, T0 + 2 * SECOND) == 1


def test_jobs_before_1970_are_claimed(store: RedisJobStore) -> None:
    """Their scores are negative; APScheduler 3 never saw them."""
    landing = datetime(1969, 7, 20, 20, 17, 40, 1, tzinfo=UTC)
    store.add_job(make_stored_job("old", landing))

    (found,) = claim(store, Identity(), T0, run_once).claims

    assert list(found.run_times) == [landing]
    assert store.get_runs(EVERYTHING, 9)[0].scheduled_time == landing


def test_times_keep_their_microseconds_on_the_way(store: RedisJobStore) -> None:
    me = Identity()
    odd = datetime(2026, 6, 1, 12, 0, 0, 123457, tzinfo=UTC)
    store.add_job(make_stored_job("a", odd))
    (found,) = claim(store, me, odd).claims
    store.hand_back([found])
    (again,) = claim(store, me, odd).claims
    store.complete(completions(again, me, finished_at=odd + TICK, started_at=odd))

    (run,) = store.get_runs(EVERYTHING, 9)

    assert (run.scheduled_time, run.started_at) == (odd, odd)
    assert run.finished_at == odd + TICK
    assert store.get_next_run_time() == odd + MINUTE


def test_what_is_to_be_started_together_stays_together(store: RedisJobStore) -> None:
    me = Identity()
    store.add_job(make_stored_job("a", T0, coalesce=False))
    times = [T0 + n * TICK for n in range(5)]
    plan = Plan(times, None)
    (found,) = claim(store, me, T0 + SECOND, lambda job: plan).claims

    store.hand_back([found])
    (again,) = claim(store, me, T0 + SECOND, limit=1).claims

    assert list(again.run_times) == times
    store.complete(completions(again, me)[:4])
    store.add_ready_run(make_stored_job("a"), ready_run(me, at=T0))
    waiting = claim(store, me, T0 + SECOND)
    assert (waiting.claims, waiting.waiting) == ([], True)
    store.complete(completions(again, me))
    assert claimed_ids(claim(store, me, T0 + SECOND)) == ["a"]


def test_more_ready_runs_than_a_page_holds_are_claimed(store: RedisJobStore) -> None:
    me = Identity()
    for number in range(30):
        run = ready_run(me, f"{number:02}", T0 + (number // 10) * TICK)
        store.add_ready_run(make_stored_job(run.job_id), run)

    def accepts(job: Job) -> bool:
        return job.id >= "25"

    batch = claim(store, me, T0 + SECOND, limit=3, accepts=accepts)

    assert claimed_ids(batch) == ["25", "26", "27"]
    assert batch.more


def test_many_jobs_are_moved_with_few_commands_each(store: RedisJobStore) -> None:
    """More values than a command in a script can have."""
    me = Identity()
    store.add_jobs([make_stored_job(f"{n:04}", T0) for n in range(4500)])

    batch = claim(store, me, limit=4500, lease_until=T0 + LEASE)
    outcomes = [each for found in batch.claims for each in completions(found, me)]
    store.complete(outcomes)

    assert len(batch.claims) == 4500
    assert store.get_due_jobs(T0) == []
    assert {run.state for run in store.get_runs(EVERYTHING, 9999)} == {
        RunState.SUCCEEDED
    }
    assert names_of_keys(store).isdisjoint({".open", ".running", ".owners", ".parts"})


def test_a_subclass_may_make_its_jobs_in_its_own_way(
    redis_url: str, keys: dict[str, Any]
) -> None:
    class Renaming(RedisJobStore):
        def _reconstitute_job(self, job_state: Any) -> Job:
            job = super()._reconstitute_job(job_state)
            job.name = "renamed"
            return job

    class Choosing(RedisJobStore):
        def _reconstitute_jobs(self, job_states: Any) -> list[Job]:
            return super()._reconstitute_jobs(
                pair for pair in job_states if pair[0] != "hidden"
            )

    renaming, choosing = (
        Renaming(url=redis_url, **keys),
        Choosing(url=redis_url, **keys),
    )
    renaming.start(None, "redis")
    choosing.start(None, "redis")
    renaming.add_jobs([make_stored_job(name, T0) for name in ("seen", "hidden")])
    claim(renaming, Identity(), limit=1)

    (found, _) = renaming.get_all_jobs()
    assert found.name == "renamed"
    (chosen,) = choosing.get_all_jobs()
    assert (chosen.id, chosen.next_run_time) == ("seen", T0)
    assert [c.job.name for c in claim(renaming, Identity()).claims] == ["renamed"]
    renaming.shutdown()
    choosing.shutdown()


def test_jobs_of_any_size_are_listed_and_claimed(store: RedisJobStore) -> None:
    sizes = [20_000, 1, 8_000, 8_191, 8_192, 8_193, 100, 1]
    jobs = [
        make_stored_job(f"{number}", T0, args=(1, "x" * size))
        for number, size in enumerate(sizes)
    ]
    store.add_jobs(jobs)

    listed = [len(job.args[1]) for job in store.get_all_jobs()]
    claimed = [len(each.job.args[1]) for each in claim(store, Identity()).claims]

    assert listed == claimed == sizes


def test_scripts_are_sent_again_when_the_server_has_forgotten_them(
    store: RedisJobStore,
) -> None:
    me = Identity()
    for number in range(3):
        store.redis.script_flush()
        store.add_job(make_stored_job(f"{number}", T0))
        store.redis.script_flush()
        (found,) = claim(store, me).claims
        store.redis.script_flush()
        store.complete(completions(found, me))

    assert states(store) == [RunState.SUCCEEDED] * 3


def test_the_clock_is_that_of_the_server(store: RedisJobStore) -> None:
    client: Redis = store.redis
    seconds: Any = client.time()

    read = store.read_clock()

    assert read is not None
    assert 0 <= read.timestamp() - (seconds[0] + seconds[1] / 1e6) < 20
