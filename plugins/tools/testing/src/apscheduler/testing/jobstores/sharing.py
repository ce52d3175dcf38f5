"""The promises of a store that several schedulers use."""

import subprocess
import sys
import threading
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest

from apscheduler.jobstores.contract import (
    Claim,
    NativeJobStore,
)
from apscheduler.nodes import Identity
from apscheduler.runs import RunState
from apscheduler.testing.contracts import only_if
from apscheduler.testing.jobs import add, make_stored_job
from apscheduler.testing.jobstores.basic import (
    T0,
    TICK,
    JobStoreContract,
)
from apscheduler.testing.jobstores.requests import (
    EVERYTHING,
    LEASE,
    claim,
    claimed_ids,
    completions,
    run_again,
    run_once,
    states,
)

# How long to wait for what is to happen soon.
SOON = 20


class SharingContract(JobStoreContract):
    """Several schedulers on one storage, and what becomes of the runs of those that die."""

    @pytest.fixture
    def both(
        self, store: NativeJobStore, request: pytest.FixtureRequest
    ) -> tuple[NativeJobStore, NativeJobStore]:
        """Return two stores on the same storage."""
        return store, request.getfixturevalue("other_store")

    def test_can_be_shared_as_declared(self, store: NativeJobStore) -> None:
        assert store.shareable == self.shareable

    @only_if(lambda suite: suite.shareable)
    def test_looking_whether_there_is_anything_creates_nothing(
        self, unopened_store: NativeJobStore
    ) -> None:
        assert not unopened_store.exists()
        assert not unopened_store.exists(), "the first look has created something"

    @only_if(lambda suite: suite.shareable)
    def test_where_there_is_a_job_there_is_something(
        self, store: NativeJobStore, unopened_store: NativeJobStore
    ) -> None:
        store.add_job(make_stored_job("a", T0))

        assert unopened_store.exists()
        unopened_store.start(None, "unopened")
        assert [job.id for job in unopened_store.get_all_jobs()] == ["a"]

    @only_if(lambda suite: suite.shareable)
    def test_other_stores_are_told_of_changes(
        self, both: tuple[NativeJobStore, NativeJobStore]
    ) -> None:
        store, other = both
        told = threading.Event()
        unsubscribe = other.subscribe(told.set)
        assert (unsubscribe is not None) == other.pushes_changes
        if unsubscribe is None:
            return  # whoever wants to know has to look
        try:
            for change in (
                lambda: store.add_job(make_stored_job("a", T0)),
                lambda: store.add_jobs([make_stored_job("b", T0 + TICK)]),
                lambda: store.update_job(make_stored_job("a", T0 - TICK)),
                lambda: store.change_job(store.read_job("a"), {"next_run_time": T0}),  # type: ignore[arg-type]  # it is there
            ):
                told.clear()
                change()
                assert told.wait(SOON)
        finally:
            unsubscribe()

    @only_if(lambda suite: suite.shareable)
    def test_a_fire_is_claimed_through_one_of_two_stores(
        self, both: tuple[NativeJobStore, NativeJobStore]
    ) -> None:
        store, other = both
        store.add_job(make_stored_job("a", T0))

        batches = [claim(other, Identity()), claim(store, Identity())]

        assert [claimed_ids(batch) for batch in batches] == [["a"], []]

    @only_if(lambda suite: suite.shareable)
    def test_instances_are_counted_over_all_schedulers(
        self, both: tuple[NativeJobStore, NativeJobStore]
    ) -> None:
        store, other = both
        store.add_job(make_stored_job("a", T0))
        claim(store, Identity(), plan=run_again)

        (found,) = claim(other, Identity(), T0 + TICK).claims

        assert found.skipped

    @only_if(lambda suite: suite.shareable)
    def test_what_waits_for_a_run_of_another_scheduler_is_left_as_it_is(
        self, both: tuple[NativeJobStore, NativeJobStore]
    ) -> None:
        store, other = both
        me = Identity()
        store.add_job(make_stored_job("a", T0))
        (started,) = claim(store, me, plan=run_again).claims

        batch = claim(
            *(other, Identity(), T0 + TICK),
            plan=run_again,
            waits=lambda job, plan: True,
        )

        assert (batch.claims, batch.waiting) == ([], True)
        assert states(store) == [RunState.RUNNING]
        store.complete(completions(started, me))
        (found,) = claim(other, Identity(), T0 + TICK).claims
        assert list(found.run_times) == [T0 + TICK]

    @only_if(lambda suite: suite.shareable)
    def test_a_change_fails_when_another_store_was_faster(
        self, both: tuple[NativeJobStore, NativeJobStore]
    ) -> None:
        store, other = both
        store.add_job(make_stored_job("a", T0))
        stored = store.read_job("a")
        assert stored is not None
        other.update_job(make_stored_job("a", T0, name="theirs"))

        assert not store.change_job(stored, {"name": "mine"})

        assert [job.name for job in store.get_all_jobs()] == ["theirs"]

    def test_threads_claim_every_fire_exactly_once(
        self, store: NativeJobStore, request: pytest.FixtureRequest
    ) -> None:
        stores = [store, store]
        if store.shareable:
            stores.append(request.getfixturevalue("other_store"))
        store.add_jobs([make_stored_job(f"{n:02}", T0) for n in range(40)])
        claimed: list[tuple[str, datetime]] = []
        barrier = threading.Barrier(len(stores))

        def work(store: NativeJobStore) -> None:
            me = Identity()
            barrier.wait(SOON)
            while True:
                batch = claim(store, me, T0 + 4 * TICK, run_again, limit=7)
                if not batch.claims and not batch.more:
                    return
                outcomes = []
                for found in batch.claims:
                    claimed.extend((found.job.id, time) for time in found.run_times)
                    claimed.extend(
                        (found.job.id, time)
                        for time in found.plan.run_times
                        if found.skipped
                    )
                    outcomes += completions(found, me)
                store.complete(outcomes)

        threads = [threading.Thread(target=work, args=(s,)) for s in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(50)

        expected = {(f"{n:02}", T0 + t * TICK): 1 for n in range(40) for t in range(5)}
        assert Counter(claimed) == expected

    def claimed_by_dead(
        self, store: NativeJobStore, dead: Identity, **options: Any
    ) -> Claim:
        """Have a node claim the last run of a job, whose lease ends 20 seconds later."""
        store.add_job(make_stored_job("a", T0, **options))
        batch = claim(store, dead, plan=run_once, lease_until=T0 + LEASE)
        return batch.claims[0]

    @only_if(lambda suite: suite.shareable)
    def test_runs_of_a_node_whose_lease_is_over_are_lost(
        self, both: tuple[NativeJobStore, NativeJobStore]
    ) -> None:
        store, other = both
        dead, me = Identity(), Identity()
        found = self.claimed_by_dead(store, dead)

        early = other.take_over(me.node, T0 + LEASE)
        taken = other.take_over(me.node, T0 + LEASE + TICK)
        again = other.take_over(me.node, T0 + LEASE + TICK)

        assert (early, again) == ([], [])
        (run,) = taken
        assert (run.id,) == found.run_times.run_ids
        assert (run.job_id, run.state, run.scheduled_time) == ("a", RunState.LOST, T0)
        (stored,) = store.get_runs(EVERYTHING, 10)
        assert (stored.state, stored.finished_at) == (RunState.LOST, T0 + LEASE + TICK)

    @only_if(lambda suite: suite.shareable)
    def test_a_node_that_comes_back_does_not_change_what_was_recorded(
        self, both: tuple[NativeJobStore, NativeJobStore]
    ) -> None:
        store, other = both
        dead, me = Identity(), Identity()
        found = self.claimed_by_dead(store, dead, on_lost="retry")
        other.take_over(me.node, T0 + 2 * LEASE)

        store.complete(completions(found, dead))
        store.hand_back([found])
        assert states(store) == [RunState.READY]
        (retried,) = claim(other, me, T0 + 2 * LEASE).claims
        store.complete(completions(found, dead))
        assert states(store) == [RunState.RUNNING]
        other.complete(completions(retried, me))

        (run,) = store.get_runs(EVERYTHING, 10)
        assert (run.state, run.node, run.attempt) == (
            *(RunState.SUCCEEDED, me.node.id),
            2,
        )

    @only_if(lambda suite: suite.shareable)
    def test_a_lost_run_is_retried_if_its_job_asks_for_that(
        self, both: tuple[NativeJobStore, NativeJobStore]
    ) -> None:
        store, other = both
        now = T0
        owner = Identity()
        first = self.claimed_by_dead(store, owner, on_lost="retry", max_attempts=2)

        now += 2 * LEASE
        (run,) = other.take_over(Identity().node, now)
        assert (run.state, run.attempt, run.available_at) == (RunState.READY, 2, now)
        (retried,) = claim(other, Identity(), now, lease_until=now + LEASE).claims

        assert retried.ready
        assert retried.job.func is add, "the job is gone, its copy is not"
        assert retried.run_times.run_ids == first.run_times.run_ids
        assert retried.run_times.attempt == 2
        (run,) = store.take_over(Identity().node, now + 2 * LEASE)
        assert (run.state, run.attempt) == (RunState.LOST, 2)

    @only_if(lambda suite: suite.shareable)
    def test_a_lost_run_is_retried_though_its_job_has_had_its_last_fire_since(
        self, both: tuple[NativeJobStore, NativeJobStore]
    ) -> None:
        store, other = both
        dead, me, now = Identity(), Identity(), T0 + 2 * LEASE
        store.add_job(make_stored_job("a", T0, on_lost="retry", max_instances=2))
        (first,) = claim(store, dead, plan=run_again, lease_until=T0 + LEASE).claims
        (last,) = claim(other, me, T0 + TICK, run_once, lease_until=now + LEASE).claims
        other.complete(completions(last, me))

        (run,) = other.take_over(me.node, now)
        (retried,) = claim(other, me, now).claims

        assert run.state is RunState.READY
        assert retried.run_times.run_ids == first.run_times.run_ids
        assert retried.job.func is add

    @only_if(lambda suite: suite.shareable)
    def test_a_renewed_lease_keeps_runs_from_being_taken(
        self, both: tuple[NativeJobStore, NativeJobStore]
    ) -> None:
        store, other = both
        alive = Identity()
        self.claimed_by_dead(store, alive)

        store.renew_lease(alive.node, T0 + 3 * LEASE)

        assert other.take_over(Identity().node, T0 + 2 * LEASE) == []
        assert states(store) == [RunState.RUNNING]

    @only_if(lambda suite: suite.shareable)
    def test_a_node_does_not_take_its_own_runs(
        self, both: tuple[NativeJobStore, NativeJobStore]
    ) -> None:
        store, _ = both
        me = Identity()
        self.claimed_by_dead(store, me)

        assert store.take_over(me.node, T0 + 9 * LEASE) == []

    @only_if(lambda suite: suite.shareable)
    def test_a_node_whose_process_is_gone_is_dead_at_once(
        self, both: tuple[NativeJobStore, NativeJobStore]
    ) -> None:
        store, other = both
        dead, alive, me = Identity(), Identity(), Identity()
        if not dead.node.boot:
            pytest.skip("this system does not tell its boots apart")
        program = [sys.executable, "-c", "input()"]
        with subprocess.Popen(program, stdin=subprocess.PIPE) as process:
            dead.node = dead.node._replace(pid=process.pid)
            self.claimed_by_dead(store, dead)
            store.add_job(make_stored_job("b", T0))
            claim(store, alive, lease_until=T0 + LEASE)

            early = other.take_over(me.node, T0)
            process.kill()
        taken = other.take_over(me.node, T0)

        assert early == []
        assert [run.job_id for run in taken] == ["a"]

    @only_if(lambda suite: suite.shareable)
    def test_two_nodes_take_over_a_run_once(
        self, both: tuple[NativeJobStore, NativeJobStore]
    ) -> None:
        names = [f"{n:02}" for n in range(20)]
        both[0].add_jobs([make_stored_job(name, T0) for name in names])
        claim(both[0], Identity(), lease_until=T0)
        taken: list[str] = []
        barrier = threading.Barrier(2)

        def take(store: NativeJobStore) -> None:
            barrier.wait(SOON)
            runs = store.take_over(Identity().node, T0 + LEASE)
            taken.extend(run.job_id for run in runs)

        threads = [threading.Thread(target=take, args=(store,)) for store in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)

        assert sorted(taken) == names

    @only_if(lambda suite: suite.shareable)
    def test_runs_of_a_node_without_a_lease_are_taken_after_the_time_of_one(
        self, both: tuple[NativeJobStore, NativeJobStore]
    ) -> None:
        store, other = both
        store.add_job(make_stored_job("a", T0))
        claim(store, Identity())
        times = (T0, T0 + LEASE - TICK, T0 + LEASE + TICK, T0 + LEASE + 2 * TICK)

        taken = [len(other.take_over(Identity().node, now)) for now in times]

        assert taken == [0, 0, 1, 0]

    @only_if(lambda suite: suite.shareable)
    def test_a_dropped_lease_leaves_nothing_to_take(
        self, both: tuple[NativeJobStore, NativeJobStore]
    ) -> None:
        store, other = both
        me = Identity()
        found = self.claimed_by_dead(store, me)
        store.complete(completions(found, me))

        store.drop_lease(me.node)

        assert other.take_over(Identity().node, T0 + 9 * LEASE) == []
        assert states(store) == [RunState.SUCCEEDED]

    @only_if(lambda suite: suite.shareable)
    def test_leases_are_read_through_any_store_also_those_that_are_over(
        self, both: tuple[NativeJobStore, NativeJobStore]
    ) -> None:
        store, other = both
        dead, alive = Identity(), Identity()
        self.claimed_by_dead(store, dead)
        store.renew_lease(alive.node, T0 + 2 * LEASE)

        leases = {lease.node: lease for lease in other.read_leases()}

        assert {node: lease.expires_at for node, lease in leases.items()} == {
            dead.node: T0 + LEASE,
            alive.node: T0 + 2 * LEASE,
        }
        now = T0 + LEASE
        assert not leases[dead.node].is_over(now)
        assert leases[dead.node].is_over(now + TICK)
        assert not leases[alive.node].is_over(now + TICK)

    def test_there_are_no_leases_of_nodes_that_have_ended_or_were_taken_over_from(
        self, store: NativeJobStore
    ) -> None:
        dead, ended = Identity(), Identity()
        self.claimed_by_dead(store, dead)
        store.renew_lease(ended.node, T0 + LEASE)

        store.drop_lease(ended.node)
        store.take_over(Identity().node, T0 + 2 * LEASE)

        assert store.read_leases() == []

    @only_if(lambda suite: suite.shareable)
    def test_a_lost_run_frees_its_instance(
        self, both: tuple[NativeJobStore, NativeJobStore]
    ) -> None:
        store, other = both
        store.add_job(make_stored_job("a", T0))
        claim(store, Identity(), lease_until=T0 + LEASE)
        now = T0 + timedelta(minutes=1)

        other.take_over(Identity().node, now)

        assert not claim(other, Identity(), now).claims[0].skipped
