"""Claims compare what they have read, and know which jobs they have got."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from etcd3gw.exceptions import ConnectionFailedError

from apscheduler.job import Job
from apscheduler.jobstores.base import ConflictingIdError
from apscheduler.jobstores.etcd import EtcdJobStore, claims
from apscheduler.jobstores.etcd.ended import Ended
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
    run_once,
    states,
)

MINUTE = timedelta(minutes=1)


def keys_beside(store: EtcdJobStore) -> set[str]:
    """Return the kinds of keys there are beside those of jobs, except for ticks."""
    found = store.client.get_prefix(f"~runs{store.path}")
    names = {
        data["key"].decode().removeprefix(f"~runs{store.path}/") for _, data in found
    }
    kinds = {name.removeprefix("live/").partition("/")[0] for name in names}
    return kinds - {"tick", "job-tick", "started"}


def requests_of(store: EtcdJobStore, act: Callable[[], object]) -> list[str]:
    """Return the paths of the requests that are sent while something is done."""
    sent: list[str] = []
    post = store._gateway.post

    def note(path: str, body: Any) -> Any:
        sent.append(path)
        return post(path, body)

    store._gateway.post = note  # type: ignore[method-assign]  # taken back below
    try:
        act()
    finally:
        del store._gateway.post
    return sent


def interrupt(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Have something happen between reading and writing of the next claim."""
    write = claims.EtcdClaimPass.write
    is_done = threading.Event()

    def interrupted(self: Any, steps: Any) -> Any:
        if not is_done.is_set():
            is_done.set()
            act()
        return write(self, steps)

    monkeypatch.setattr(claims.EtcdClaimPass, "write", interrupted)


def test_a_claim_is_one_transaction_for_every_hundred_jobs(store: EtcdJobStore) -> None:
    me = Identity()
    store.add_jobs([make_stored_job(f"{n:03}", T0) for n in range(500)])
    batch = claim(store, me, limit=100, lease_until=T0 + LEASE)
    outcomes = [each for found in batch.claims for each in completions(found, me)]

    sent = requests_of(
        store, lambda: claim(store, me, limit=300, completions=outcomes, lease_until=T0)
    )

    assert sent == ["/kv/txn"] * 5, "outcomes, what is new, three hundreds"
    succeeded = RunFilter(states=frozenset([RunState.SUCCEEDED]))
    assert len(store.get_runs(succeeded, 999)) == 100


def test_an_idle_store_is_asked_once_and_written_nothing_to(
    store: EtcdJobStore,
) -> None:
    store.add_job(make_stored_job("a", T0 + SECOND))
    claim(store, Identity())

    sent = requests_of(store, lambda: claim(store, Identity(), lease_until=T0))

    assert sent == ["/kv/txn"]
    assert keys_beside(store) == set()


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
        pytest.param(lambda store: claim(store, Identity(), limit=1), id="claimed"),
    ],
)
def test_a_job_that_is_changed_while_it_is_planned_is_not_claimed_but_others_are(
    store: EtcdJobStore,
    other_store: EtcdJobStore,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[EtcdJobStore], object],
) -> None:
    names = ["a", *(f"b{n:03}" for n in range(90))]
    store.add_jobs([make_stored_job(name, T0) for name in names])
    interrupt(monkeypatch, lambda: change(other_store))

    batch = claim(store, Identity(), limit=200)

    assert claimed_ids(batch) == names[1:]
    assert batch.next_run_time == T0, "it is looked at again at once"
    running = RunFilter(states=frozenset([RunState.RUNNING]))
    assert {run.job_id for run in store.get_runs(running, 999)} >= set(names[1:])


def test_a_copy_that_is_wrong_is_read_anew(store: EtcdJobStore) -> None:
    store.add_job(make_stored_job("a", T0))
    claim(store, Identity(), T0 - SECOND)
    mirror = store._storage.mirror
    mirror.jobs["a"] = mirror.jobs["a"]._replace(revision=1)
    mirror._revisions[f"{store.path}/a"] = 1

    assert claimed_ids(claim(store, Identity())) == []
    assert claimed_ids(claim(store, Identity())) == ["a"]


def test_instances_that_others_start_meanwhile_are_counted(
    store: EtcdJobStore, other_store: EtcdJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add_job(make_stored_job("a", T0))
    other_store.add_ready_run(make_stored_job("a"), ready_run(Identity()))
    interrupt(
        monkeypatch, lambda: claim(other_store, Identity(), accepts=lambda job: False)
    )

    refused = claim(store, Identity(), plan=lambda job: None)

    assert claimed_ids(refused) == []
    waiting = claim(store, Identity(), plan=lambda job: None)
    assert (waiting.claims, waiting.waiting) == ([], True)
    assert states(store).count(RunState.RUNNING) == 1


def test_of_two_runs_that_wait_one_is_started_where_only_one_may_go_on(
    store: EtcdJobStore, other_store: EtcdJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = Identity()
    for _ in range(2):
        store.add_ready_run(make_stored_job("a"), ready_run(me))
    taken: list[Any] = []
    interrupt(
        monkeypatch,
        lambda: taken.extend(claim(other_store, Identity(), limit=1).claims),
    )

    batch = claim(store, me)

    assert (len(taken), batch.claims) == (1, [])
    assert sorted(states(store)) == [RunState.READY, RunState.RUNNING]


def test_a_job_that_is_due_and_waits_is_claimed_twice_at_once(
    store: EtcdJobStore,
) -> None:
    me = Identity()
    job = make_stored_job("a", T0, max_instances=3)
    store.add_job(job)
    for _ in range(2):
        store.add_ready_run(job, ready_run(me))

    batch = claim(store, me)

    assert claimed_ids(batch) == ["a", "a", "a"]
    assert states(store) == [RunState.RUNNING] * 3


def test_an_answer_that_gets_lost_does_not_make_a_job_run_twice(
    make_store: Any, proxy: Any, store: EtcdJobStore
) -> None:
    me = Identity()
    cut_off = make_store(host="127.0.0.1", port=proxy.port)
    store.add_job(make_stored_job("a", T0))
    proxy.lose_answers(f"{store.path}/a")

    with pytest.raises(ConnectionFailedError) as caught:
        claim(cut_off, me, lease_until=T0 + LEASE)

    assert proxy.lost == 1
    assert cut_off.is_unreachable(caught.value)
    assert claim(cut_off, me).claims == []
    (run,) = cut_off.get_runs(EVERYTHING, 9)
    assert (run.state, run.node) == (RunState.RUNNING, me.node.id)
    assert cut_off.get_next_run_time() == T0 + MINUTE


def test_outcomes_whose_answer_gets_lost_are_recorded_once(
    make_store: Any, proxy: Any, store: EtcdJobStore
) -> None:
    me = Identity()
    cut_off = make_store(host="127.0.0.1", port=proxy.port)
    store.add_job(make_stored_job("a", T0))
    (found,) = claim(cut_off, me).claims
    proxy.lose_answers(f"~runs{store.path}/ended/")

    with pytest.raises(ConnectionFailedError):
        cut_off.complete(completions(found, me))
    cut_off.complete(completions(found, me, RunState.FAILED))

    assert proxy.lost == 1
    assert states(store) == [RunState.SUCCEEDED]


def test_nothing_is_left_of_runs_without_history(store: EtcdJobStore) -> None:
    me = Identity()
    store.add_job(make_stored_job("a", T0, history=0, on_lost="retry"))
    plan = Plan([T0, T0 + TICK], None)
    (found,) = claim(
        store, me, T0 + TICK, lambda job: plan, lease_until=T0 + LEASE
    ).claims
    assert keys_beside(store) == {"open", "node"}

    store.complete(completions(found, me, keep=False))
    store.drop_lease(me.node)

    assert keys_beside(store) == set()
    assert store.client.get_prefix(f"{store.path}/") == []


def run_every_second(job: Job) -> Plan:
    assert job.next_run_time is not None
    return Plan([job.next_run_time], job.next_run_time + SECOND)


def finish_runs(store: EtcdJobStore, count: int, **options: Any) -> None:
    """Have a job run so many times, a second apart."""
    me = Identity()
    store.add_job(make_stored_job("a", T0, **options))
    for number in range(count):
        time = T0 + number * SECOND
        (found,) = claim(store, me, time, run_every_second).claims
        store.complete(completions(found, me, finished_at=time))


def test_a_job_may_keep_more_or_less_than_others(store: EtcdJobStore) -> None:
    finish_runs(store, 4, history=5)
    assert store.prune_runs(None, 2, T0) == 0

    # From the next run on, it keeps fewer.
    store.update_job(make_stored_job("a", T0 + MINUTE, history=1))
    me = Identity()
    (found,) = claim(store, me, T0 + MINUTE).claims
    store.complete(completions(found, me))

    assert sum(iter(lambda: store.prune_runs(None, 2, T0), 0)) == 4
    assert len(states(store)) == 1


def test_finished_runs_are_put_together(store: EtcdJobStore) -> None:
    finish_runs(store, 45)
    before = store.get_runs(EVERYTHING, 100)

    for _ in range(3):
        assert store.prune_runs(None, None, T0) == 0

    assert store.get_runs(EVERYTHING, 100) == before
    prefix = f"~runs{store.path}/ended/"
    assert len(list(store._gateway.read_prefix(prefix, keys_only=True))) == 7
    assert store.prune_runs(None, 10, T0) == 35
    assert store.get_runs(EVERYTHING, 100) == before[:10]


def test_runs_are_found_in_order_however_they_were_written(store: EtcdJobStore) -> None:
    me = Identity()
    times = [T0 + (n * 7 % 30) * SECOND for n in range(30)]
    found = []
    for number, time in enumerate(times):
        store.add_job(make_stored_job(f"{number:02}", time))
        found += claim(store, me, time, run_once).claims
    for start in (
        20,
        0,
        10,
    ):  # each time the latest of some, and the earliest of others
        outcomes = [
            o for each in found[start : start + 10] for o in completions(each, me)
        ]
        store.complete(outcomes)

    expected = sorted(times, reverse=True)
    for limit, offset in ((1, 0), (5, 3), (30, 0), (7, 28)):
        runs = store.get_runs(EVERYTHING, limit, offset)
        assert [run.scheduled_time for run in runs] == expected[offset : offset + limit]
    since, until = T0 + 5 * SECOND, T0 + 9 * SECOND
    runs = store.get_runs(RunFilter(since=since, until=until), 99)
    assert [run.scheduled_time for run in runs] == [
        T0 + n * SECOND for n in (8, 7, 6, 5)
    ]


def test_an_open_run_that_ends_while_runs_are_listed_is_listed_once(
    store: EtcdJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = Identity()
    store.add_job(make_stored_job("a", T0))
    (found,) = claim(store, me).claims
    find = Ended.find

    def end_first(self: Any, *arguments: Any) -> Any:
        store.complete(completions(found, me))
        return find(self, *arguments)

    monkeypatch.setattr(Ended, "find", end_first)

    assert states(store) == [RunState.SUCCEEDED]


@pytest.mark.parametrize(
    "job_id",
    [
        "größer",
        "日本",
        "a b\n",
        "a/b:c{d}",
        'quote"\\',
        "nul\0",
        "🎉",
        "x" * 900,
        "~",
    ],
)
def test_identifiers_may_be_any_text(store: EtcdJobStore, job_id: str) -> None:
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


def test_jobs_before_1970_are_claimed(store: EtcdJobStore) -> None:
    landing = datetime(1969, 7, 20, 20, 17, 40, 1, tzinfo=UTC)
    store.add_job(make_stored_job("old", landing))

    (found,) = claim(store, Identity(), T0, run_once).claims

    assert list(found.run_times) == [landing]
    assert store.get_runs(EVERYTHING, 9)[0].scheduled_time == landing


def test_what_is_to_be_started_together_stays_together(store: EtcdJobStore) -> None:
    me = Identity()
    store.add_job(make_stored_job("a", T0, coalesce=False))
    times = [T0 + n * TICK for n in range(300)]
    plan = Plan(times, None)
    (found,) = claim(store, me, T0 + SECOND, lambda job: plan).claims

    store.hand_back([found])
    (again,) = claim(store, me, T0 + SECOND, limit=1).claims

    assert list(again.run_times) == times
    store.complete(completions(again, me)[:299])
    store.add_ready_run(make_stored_job("a"), ready_run(me, at=T0))
    waiting = claim(store, me, T0 + SECOND)
    assert (waiting.claims, waiting.waiting) == ([], True)
    store.complete(completions(again, me))
    assert claimed_ids(claim(store, me, T0 + SECOND)) == ["a"]


def test_a_job_that_cannot_be_written_any_more_holds_up_nobody(
    store: EtcdJobStore,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dump = store._dump

    def fail(job: Job) -> bytes:
        if job.id == "bad":
            raise TypeError("no")
        return dump(job)

    store.add_jobs([make_stored_job("bad", T0), make_stored_job("good", T0)])
    monkeypatch.setattr(store, "_dump", fail)

    first, second = claim(store, Identity()), claim(store, Identity())

    assert (claimed_ids(first), claimed_ids(second)) == (["good"], [])
    assert caplog.text.count("Unable to restore job 'bad'") == 1
    assert second.next_run_time is not None and second.next_run_time > T0, "no spinning"
    assert ids(store.get_due_jobs(T0)) == ["bad"]


def test_a_damaged_record_is_reported_once_and_listed_with_its_error(
    store: EtcdJobStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.add_job(make_stored_job("good", T0))
    store.client.put(f"{store.path}/bad", b"no pickle")

    batch = claim(store, Identity())

    assert claimed_ids(batch) == ["good"]
    assert claim(store, Identity()).claims == []
    assert ids(store.get_all_jobs()) == ["good"]
    assert caplog.text.count("Unable to restore job 'bad'") == 1
    records = {record.id: record.error for record in store.get_job_records()}
    assert records["good"] is None and records["bad"] is not None
    store.remove_job("bad")


def test_two_writers_cannot_add_the_same_jobs(
    store: EtcdJobStore, other_store: EtcdJobStore
) -> None:
    """All of one or all of the other, also where they take several transactions."""
    outcomes: list[str] = []
    for round_ in range(5):
        barrier = threading.Barrier(2)

        def add(adder: EtcdJobStore, name: str, round_: int, barrier: Any) -> None:
            jobs = [
                make_stored_job(f"{round_}-{n:03}", T0, name=name) for n in range(150)
            ]
            barrier.wait(20)
            try:
                adder.add_jobs(jobs)
                outcomes.append(name)
            except ConflictingIdError:
                pass

        threads = [
            threading.Thread(target=add, args=(*arguments, round_, barrier))
            for arguments in ((store, "mine"), (other_store, "theirs"))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(50)
        jobs = [job for job in store.get_all_jobs() if job.id.startswith(f"{round_}-")]
        assert len({job.name for job in jobs}) <= 1, "a mixture"
        assert len(jobs) in (0, 150)


def test_a_job_that_is_too_large_is_refused(store: EtcdJobStore) -> None:
    text = "x" * 400_000

    with pytest.raises(ValueError, match=r"'big' takes 1\d* bytes.*smaller arguments"):
        store.add_job(make_stored_job("big", T0, args=(text * 3, 1)))
    with pytest.raises(ValueError, match="'retried' takes 4"):
        store.add_job(make_stored_job("retried", T0, args=(text, 1), on_lost="retry"))

    store.add_jobs(
        [make_stored_job(f"{n}", T0, args=(text + "a", n)) for n in range(6)]
    )
    assert len(claim(store, Identity()).claims) == 6, "in several transactions"


def test_the_errors_of_many_runs_are_cut_to_what_fits(store: EtcdJobStore) -> None:
    me = Identity()
    store.add_jobs([make_stored_job(f"{n:03}", T0) for n in range(300)])
    batch = claim(store, me, limit=300)
    text = "".join(chr(33 + n * n * 7919 % 90) for n in range(50_000))

    store.complete(
        [
            outcome
            for found in batch.claims
            for outcome in completions(
                found, me, RunState.FAILED, exception="no", traceback=text
            )
        ]
    )

    runs = store.get_runs(EVERYTHING, 999)
    assert {run.state for run in runs} == {RunState.FAILED} and len(runs) == 300
    assert runs[0].traceback is not None and text.endswith(runs[0].traceback)


def test_a_lease_that_ends_later_is_kept(
    store: EtcdJobStore, other_store: EtcdJobStore
) -> None:
    """A claim and the renewal by another thread may come in any order."""
    me = Identity()
    store.add_job(make_stored_job("a", T0))
    store.renew_lease(me.node, T0 + 2 * LEASE)

    claim(store, me, lease_until=T0 + LEASE)
    store.renew_lease(me.node, T0)

    assert other_store.take_over(Identity().node, T0 + LEASE + SECOND) == []
    assert len(other_store.take_over(Identity().node, T0 + 2 * LEASE + SECOND)) == 1


def test_stores_whose_paths_begin_alike_do_not_see_each_other(
    make_store: Any, etcd_path: str
) -> None:
    first, second = (
        make_store(path=f"{etcd_path}/a"),
        make_store(path=f"{etcd_path}/a2"),
    )
    second.add_job(make_stored_job("z", T0))
    first.add_job(make_stored_job("a", T0))

    assert ids(first.get_all_jobs()) == ["a"]
    first.remove_all_jobs()
    assert ids(second.get_all_jobs()) == ["z"]
    assert claimed_ids(claim(second, Identity())) == ["z"]
    assert states(first) == []


def test_a_subclass_may_make_its_jobs_in_its_own_way(
    address: dict[str, Any], etcd_path: str
) -> None:
    class Renaming(EtcdJobStore):
        def _reconstitute_job(self, job_state: Any) -> Job:
            assert isinstance(job_state, dict)
            job = super()._reconstitute_job(job_state)
            job.name = "renamed"
            return job

    store = Renaming(etcd_path, **address)
    store.start(None, "etcd")
    store.add_job(make_stored_job("a", T0))

    assert [job.name for job in store.get_all_jobs()] == ["renamed"]
    assert [found.job.name for found in claim(store, Identity()).claims] == ["renamed"]
    store.shutdown()


def test_a_listing_without_a_watch_is_in_order(
    make_store: Any, store: EtcdJobStore
) -> None:
    store.add_jobs([make_stored_job(id, T0 + n * SECOND) for n, id in enumerate("cab")])
    store.add_job(make_stored_job("0"))
    listing = make_store()
    assert not listing._storage.is_watching

    assert ids(listing.get_all_jobs()) == ["c", "a", "b", "0"]
    assert not listing._storage.is_watching
    claim(listing, Identity(), T0 - SECOND)
    assert listing._storage.is_watching
    assert ids(listing.get_all_jobs()) == ["c", "a", "b", "0"]


def test_a_store_knows_the_leases_that_were_written_through_it(
    store: EtcdJobStore,
) -> None:
    """Of a scheduler that had it before."""
    store.add_job(make_stored_job("a", T0))
    claim(store, Identity(), lease_until=T0 + LEASE)

    early, late = (
        store.take_over(Identity().node, T0 + LEASE + time) for time in (-TICK, TICK)
    )

    assert (len(early), len(late)) == (0, 1)


def test_damaged_keys_beside_the_jobs_are_passed_over(
    store: EtcdJobStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.add_job(make_stored_job("a", T0))
    for name in ("open/node/1", "ready/1", "node/1"):
        store.client.put(f"~runs{store.path}/live/{name}", b"\xffdamaged")

    assert claimed_ids(claim(store, Identity(), lease_until=T0)) == ["a"]
    store.take_over(Identity().node, T0)
    assert caplog.text.count("is damaged") == 3


def test_a_job_whose_schedule_ends_while_a_run_of_it_waits_runs_twice(
    store: EtcdJobStore,
) -> None:
    job = make_stored_job("a", T0, max_instances=2)
    store.add_job(job)
    store.add_ready_run(job, ready_run(Identity()))

    assert claimed_ids(claim(store, Identity(), plan=run_once)) == ["a", "a"]
    assert store.get_all_jobs() == []
