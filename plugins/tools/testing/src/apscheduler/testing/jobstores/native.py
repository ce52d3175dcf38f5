"""The promises of a job store with an atomic claim and a record of runs."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from apscheduler.job import Job
from apscheduler.jobstores.base import ConflictingIdError
from apscheduler.jobstores.contract import (
    Claim,
    ClaimBatch,
    ClaimRequest,
    NativeJobStore,
)
from apscheduler.nodes import LEASE_SECONDS, Identity, Node
from apscheduler.runs import Completion, FireRange, Plan, Run, RunFilter, RunState
from apscheduler.testing import jobs
from apscheduler.testing.jobs import add, make_stored_job
from apscheduler.testing.jobstores.basic import (
    SECOND,
    T0,
    TICK,
    JobStoreContract,
    ids,
)

LEASE = timedelta(seconds=LEASE_SECONDS)
EVERYTHING = RunFilter()


def run_once(job: Job) -> Plan:
    """Run the job for the last time."""
    assert job.next_run_time is not None
    return Plan([job.next_run_time], None)


def run_every_minute(job: Job) -> Plan:
    """Run the job, and again a minute later."""
    assert job.next_run_time is not None
    return Plan([job.next_run_time], job.next_run_time + timedelta(minutes=1))


def run_again(job: Job) -> Plan:
    """Run the job, and again a microsecond later, which may be at once."""
    assert job.next_run_time is not None
    return Plan([job.next_run_time], job.next_run_time + TICK)


def claim(
    store: NativeJobStore,
    identity: Identity,
    now: datetime = T0,
    plan: Callable[[Job], Plan | None] = run_every_minute,
    limit: int = 100,
    **options: Any,
) -> ClaimBatch:
    """Claim as a scheduler would."""
    return store.claim(ClaimRequest(now, limit, plan, identity, **options))


def completions(
    found: Claim,
    identity: Identity,
    state: RunState = RunState.SUCCEEDED,
    finished_at: datetime = T0 + SECOND,
    **options: Any,
) -> list[Completion]:
    """Return outcomes for all runs of a claim."""
    return [
        Completion(
            run_id,
            found.job.id,
            identity.node.id,
            found.run_times.attempt,
            state,
            finished_at,
            **options,
        )
        for run_id in found.run_times.run_ids
    ]


def claimed_ids(batch: ClaimBatch) -> list[str]:
    """Return the identifiers of the jobs that were claimed."""
    return [found.job.id for found in batch.claims]


def states(store: NativeJobStore, job_id: str | None = None) -> list[RunState]:
    """Return the states of the runs in the store, latest first."""
    return [run.state for run in store.get_runs(RunFilter(job_id), 1000)]


class NativeJobStoreContract(JobStoreContract):
    """Subclasses supply a fixture ``store``, and if it is shareable ``other_store``: another one on its storage."""

    # Claiming.

    def test_an_idle_store_says_when_it_has_something_to_do(
        self, store: NativeJobStore
    ) -> None:
        assert claim(store, Identity()) == ClaimBatch()

        store.add_job(make_stored_job("a", T0 + 2 * SECOND))
        store.add_job(make_stored_job("b", T0 + SECOND))

        assert claim(store, Identity()) == ClaimBatch(next_run_time=T0 + SECOND)

    def test_a_claim_moves_the_job_on_and_records_the_run(
        self, store: NativeJobStore
    ) -> None:
        me = Identity()
        store.add_job(make_stored_job("a", T0))

        batch = claim(store, me)

        (found,) = batch.claims
        assert found.job.id == "a"
        assert found.job.func is add
        assert found.job.next_run_time == T0 + timedelta(minutes=1)
        assert list(found.run_times) == [T0]
        assert not (found.skipped or found.ready or found.is_finished)
        assert batch.next_run_time == T0 + timedelta(minutes=1)
        stored = store.lookup_job("a")
        assert stored is not None
        assert stored.next_run_time == T0 + timedelta(minutes=1)
        (run,) = store.get_runs(EVERYTHING, 10)
        assert (run.id,) == found.run_times.run_ids
        assert run.claim_id == found.run_times.claim_id
        assert (run.job_id, run.state, run.node, run.attempt) == (
            *("a", RunState.RUNNING),
            *(me.node.id, 1),
        )
        assert run.scheduled_time == T0

    def test_nothing_is_claimed_twice(self, store: NativeJobStore) -> None:
        store.add_job(make_stored_job("a", T0))

        assert claimed_ids(claim(store, Identity())) == ["a"]
        assert claimed_ids(claim(store, Identity())) == []

    def test_nothing_is_claimed_early(self, store: NativeJobStore) -> None:
        store.add_job(make_stored_job("a", T0 + TICK))

        assert claimed_ids(claim(store, Identity(), T0)) == []
        assert claimed_ids(claim(store, Identity(), T0 + TICK)) == ["a"]

    def test_paused_jobs_are_not_claimed(self, store: NativeJobStore) -> None:
        store.add_job(make_stored_job("paused"))

        assert claim(store, Identity()) == ClaimBatch()

    def test_jobs_are_claimed_earliest_first_up_to_the_limit(
        self, store: NativeJobStore
    ) -> None:
        for number, id in enumerate("edcba"):
            store.add_job(make_stored_job(id, T0 - number * SECOND))

        first = claim(store, Identity(), limit=3)
        second = claim(store, Identity(), limit=3)

        assert (claimed_ids(first), first.more) == (["a", "b", "c"], True)
        assert (claimed_ids(second), second.more) == (["d", "e"], False)

    def test_jobs_due_at_the_same_time_are_claimed_by_identifier(
        self, store: NativeJobStore
    ) -> None:
        for id in "bdac":
            store.add_job(make_stored_job(id, T0))

        assert claimed_ids(claim(store, Identity(), limit=2)) == ["a", "b"]
        assert claimed_ids(claim(store, Identity(), limit=2)) == ["c", "d"]

    def test_a_job_without_a_plan_is_left_as_it_is(self, store: NativeJobStore) -> None:
        store.add_job(make_stored_job("a", T0))

        batch = claim(store, Identity(), plan=lambda job: None)

        assert batch.claims == []
        assert batch.more is False
        assert ids(store.get_due_jobs(T0)) == ["a"]
        assert states(store) == []

    def test_jobs_without_a_plan_do_not_keep_later_ones_from_being_claimed(
        self, store: NativeJobStore
    ) -> None:
        unavailable = [make_stored_job(f"a{n:04}", T0) for n in range(1100)]
        wanted = [make_stored_job(f"b{n}", T0 + SECOND) for n in range(3)]
        store.add_jobs([*wanted, *unavailable])

        def plan(job: Job) -> Plan | None:
            return run_every_minute(job) if job.id.startswith("b") else None

        batch = claim(store, Identity(), T0 + SECOND, plan, limit=3)

        assert claimed_ids(batch) == ["b0", "b1", "b2"]

    def test_a_job_whose_schedule_is_over_is_deleted(
        self, store: NativeJobStore
    ) -> None:
        store.add_job(make_stored_job("a", T0))

        batch = claim(store, Identity(), plan=run_once)

        assert batch.claims[0].is_finished
        assert store.lookup_job("a") is None
        assert states(store) == [RunState.RUNNING]

    def test_a_plan_with_nothing_to_run_still_moves_the_job(
        self, store: NativeJobStore
    ) -> None:
        store.add_job(make_stored_job("a", T0))
        missed = FireRange(T0, T0, 1)

        batch = claim(
            store, Identity(), plan=lambda job: Plan([], T0 + SECOND, missed=missed)
        )

        assert list(batch.claims[0].run_times) == []
        assert not batch.claims[0].skipped
        assert batch.next_run_time == T0 + SECOND
        assert states(store) == [RunState.MISSED]

    def test_missed_and_coalesced_fire_times_are_recorded_as_ranges(
        self, store: NativeJobStore
    ) -> None:
        store.add_job(make_stored_job("a", T0 - 9 * SECOND))
        plan = Plan(
            [T0],
            T0 + SECOND,
            missed=FireRange(T0 - 9 * SECOND, T0 - 5 * SECOND, 5),
            coalesced=FireRange(T0 - 4 * SECOND, T0 - SECOND, None),
        )

        claim(store, Identity(), plan=lambda job: plan)

        found = [
            (run.state, run.first_time, run.scheduled_time, run.count, run.finished_at)
            for run in store.get_runs(EVERYTHING, 10)
        ]
        assert found == [
            (RunState.RUNNING, None, T0, 1, None),
            (RunState.COALESCED, T0 - 4 * SECOND, T0 - SECOND, None, T0),
            (RunState.MISSED, T0 - 9 * SECOND, T0 - 5 * SECOND, 5, T0),
        ]

    def test_several_run_times_are_one_claim(self, store: NativeJobStore) -> None:
        me = Identity()
        store.add_job(make_stored_job("a", T0 - SECOND, max_instances=1))
        plan = Plan([T0 - SECOND, T0], T0 + TICK)

        (found,) = claim(store, me, plan=lambda job: plan).claims

        assert list(found.run_times) == [T0 - SECOND, T0]
        assert len(set(found.run_times.run_ids)) == 2
        store.complete(completions(found, me)[:1])
        (late,) = claim(store, me, T0 + SECOND).claims
        assert late.skipped, "one of the two runs is still going on"

    def test_a_store_tells_different_fires_apart(self, store: NativeJobStore) -> None:
        me = Identity()
        store.add_job(make_stored_job("a", T0, max_instances=2))

        first = claim(store, me, plan=run_again).claims[0]
        second = claim(store, me, T0 + TICK, run_again).claims[0]

        assert first.run_times.claim_id != second.run_times.claim_id
        assert not set(first.run_times.run_ids) & set(second.run_times.run_ids)

    # Instances.

    def test_runs_beyond_max_instances_are_skipped_and_recorded(
        self, store: NativeJobStore
    ) -> None:
        me = Identity()
        store.add_job(make_stored_job("a", T0, max_instances=2))
        for number in range(2):
            batch = claim(store, me, T0 + number * TICK, run_again)
            assert not batch.claims[0].skipped

        batch = claim(store, me, T0 + 2 * TICK, run_again)

        (found,) = batch.claims
        assert found.skipped
        assert list(found.run_times) == []
        assert found.job.next_run_time == T0 + 3 * TICK
        assert states(store) == [RunState.SKIPPED, *[RunState.RUNNING] * 2]
        skipped = store.get_runs(RunFilter("a", frozenset([RunState.SKIPPED])), 10)
        assert skipped[0].scheduled_time == T0 + 2 * TICK
        assert skipped[0].finished_at == T0 + 2 * TICK

    def test_a_completion_frees_the_instance_in_the_same_claim(
        self, store: NativeJobStore
    ) -> None:
        me = Identity()
        store.add_job(make_stored_job("a", T0))
        first = claim(store, me, plan=run_again).claims[0]

        second = claim(
            store, me, T0 + TICK, run_again, completions=completions(first, me)
        )

        assert not second.claims[0].skipped
        assert states(store) == [RunState.RUNNING, RunState.SUCCEEDED]

    def test_completions_are_written_when_nothing_may_be_claimed(
        self, store: NativeJobStore
    ) -> None:
        me = Identity()
        store.add_job(make_stored_job("a", T0))
        first = claim(store, me, plan=run_again).claims[0]

        batch = claim(
            store, me, T0 + SECOND, limit=0, completions=completions(first, me)
        )

        assert batch.claims == []
        assert batch.more
        assert states(store) == [RunState.SUCCEEDED]

    # Outcomes.

    def test_an_outcome_is_recorded_with_all_its_details(
        self, store: NativeJobStore
    ) -> None:
        me = Identity()
        store.add_job(make_stored_job("a", T0))
        (found,) = claim(store, me).claims

        store.complete(
            completions(
                found,
                me,
                RunState.FAILED,
                T0 + 3 * SECOND,
                started_at=T0 + SECOND,
                duration=2.0,
                exception="ValueError: no",
                traceback="somewhere",
            )
        )

        (run,) = store.get_runs(EVERYTHING, 10)
        assert run.state is RunState.FAILED
        assert (run.started_at, run.finished_at) == (T0 + SECOND, T0 + 3 * SECOND)
        assert run.duration == 2.0
        assert (run.exception, run.traceback) == ("ValueError: no", "somewhere")
        assert run.scheduled_time == T0

    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({"node": "somebody else"}, id="another node"),
            pytest.param({"attempt": 2}, id="another attempt"),
            pytest.param({"run_id": "unknown"}, id="an unknown run"),
        ],
    )
    def test_outcomes_of_runs_that_are_not_owned_are_ignored(
        self, store: NativeJobStore, changes: dict[str, Any]
    ) -> None:
        me = Identity()
        store.add_job(make_stored_job("a", T0))
        (found,) = claim(store, me).claims
        (right,) = completions(found, me)

        store.complete([replace(right, **changes)])

        assert states(store) == [RunState.RUNNING]

    def test_the_first_outcome_of_a_run_stands(self, store: NativeJobStore) -> None:
        me = Identity()
        store.add_job(make_stored_job("a", T0))
        (found,) = claim(store, me).claims

        store.complete(completions(found, me))
        store.complete(completions(found, me, RunState.FAILED))

        assert states(store) == [RunState.SUCCEEDED]

    def test_a_run_without_history_leaves_nothing_behind(
        self, store: NativeJobStore
    ) -> None:
        me = Identity()
        store.add_job(make_stored_job("a", T0, history=0))
        plan = Plan([T0], T0 + SECOND, missed=FireRange(T0 - SECOND, T0 - SECOND, 1))
        (found,) = claim(store, me, plan=lambda job: plan).claims
        assert states(store) == [RunState.RUNNING]

        store.complete(completions(found, me, keep=False))

        assert states(store) == []
        (again,) = claim(store, me, T0 + SECOND).claims
        assert not again.skipped

    # Ready runs.

    @staticmethod
    def ready_run(
        identity: Identity, job_id: str = "a", at: datetime = T0, **options: Any
    ) -> Run:
        return Run(
            identity.new_id(),
            job_id,
            None,
            RunState.READY,
            at,
            available_at=at,
            **options,
        )

    def test_a_ready_run_is_claimed_as_soon_as_it_is_available(
        self, store: NativeJobStore
    ) -> None:
        me = Identity()
        run = self.ready_run(me)
        store.add_ready_run(make_stored_job("a"), run)

        early = claim(store, me, T0 - SECOND)
        (found,) = claim(store, me, T0).claims

        assert early == ClaimBatch(next_run_time=T0)
        assert found.ready and not found.is_finished
        assert found.run_times.run_ids == (run.id,)
        assert list(found.run_times) == [T0]
        assert found.job.func(*found.job.args) == 3
        assert claim(store, me, T0).claims == []
        (stored,) = store.get_runs(EVERYTHING, 10)
        assert (stored.state, stored.node) == (RunState.RUNNING, me.node.id)
        store.complete(completions(found, me))
        assert states(store) == [RunState.SUCCEEDED]

    def test_a_ready_run_does_not_touch_the_record_of_its_job(
        self, store: NativeJobStore
    ) -> None:
        me = Identity()
        store.add_job(make_stored_job("a", T0 + SECOND))
        store.add_ready_run(make_stored_job("a", T0 + SECOND), self.ready_run(me))

        batch = claim(store, me)

        assert claimed_ids(batch) == ["a"]
        assert batch.next_run_time == T0 + SECOND
        assert store.get_next_run_time() == T0 + SECOND

    def test_ready_runs_wait_while_too_many_instances_are_running(
        self, store: NativeJobStore
    ) -> None:
        me = Identity()
        job = make_stored_job("a", T0)
        store.add_job(job)
        (running,) = claim(store, me).claims
        store.add_ready_run(job, self.ready_run(me))
        store.add_ready_run(make_stored_job("b"), self.ready_run(me, "b", T0 + TICK))

        waiting = claim(store, me, T0 + SECOND)
        freed = claim(store, me, T0 + SECOND, completions=completions(running, me))

        assert claimed_ids(waiting) == ["b"]
        assert claimed_ids(freed) == ["a"]
        assert RunState.SKIPPED not in states(store)

    def test_a_ready_run_that_is_not_accepted_is_left(
        self, store: NativeJobStore
    ) -> None:
        store.add_ready_run(make_stored_job("a"), self.ready_run(Identity()))

        refused = claim(store, Identity(), accepts=lambda job: False)
        accepted = claim(store, Identity())

        assert claimed_ids(refused) == []
        assert claimed_ids(accepted) == ["a"]

    def test_a_ready_run_outlives_its_job(self, store: NativeJobStore) -> None:
        store.add_job(make_stored_job("a", T0 + SECOND))
        store.add_ready_run(make_stored_job("a"), self.ready_run(Identity()))

        store.remove_job("a")

        assert claimed_ids(claim(store, Identity())) == ["a"]

    def test_claims_that_are_handed_back_can_be_claimed_again(
        self, store: NativeJobStore
    ) -> None:
        me, other = Identity(), Identity()
        store.add_job(make_stored_job("a", T0))
        (given_up,) = claim(store, me, plan=run_once).claims

        store.hand_back([given_up])

        assert states(store) == [RunState.READY]
        (again,) = claim(store, other).claims
        assert again.ready
        assert again.job.id == "a"
        assert again.run_times.run_ids == given_up.run_times.run_ids
        assert again.run_times.attempt == given_up.run_times.attempt
        store.complete(completions(given_up, me, RunState.FAILED))
        assert states(store) == [RunState.RUNNING]

    def test_runs_that_have_ended_are_not_handed_back(
        self, store: NativeJobStore
    ) -> None:
        me = Identity()
        store.add_job(make_stored_job("a", T0))
        (found,) = claim(store, me).claims
        store.complete(completions(found, me))

        store.hand_back([found])

        assert states(store) == [RunState.SUCCEEDED]
        assert claim(store, me).claims == []

    # Changes.

    def test_a_change_is_made_to_the_job_and_to_its_record(
        self, store: NativeJobStore
    ) -> None:
        store.add_job(make_stored_job("a", T0))
        stored = store.read_job("a")
        assert stored is not None

        assert store.change_job(stored, {"name": "new", "next_run_time": T0 + SECOND})

        assert stored.job.name == "new"
        found = store.lookup_job("a")
        assert found is not None
        assert (found.name, found.next_run_time) == ("new", T0 + SECOND)
        assert store.get_next_run_time() == T0 + SECOND

    def test_reading_an_unknown_job_gives_none(self, store: NativeJobStore) -> None:
        assert store.read_job("unknown") is None

    def test_an_invalid_change_changes_nothing(self, store: NativeJobStore) -> None:
        store.add_job(make_stored_job("a", T0))
        stored = store.read_job("a")
        assert stored is not None

        with pytest.raises(TypeError, match="max_instances"):
            store.change_job(stored, {"name": "new", "max_instances": 0})

        found = store.lookup_job("a")
        assert found is not None
        assert (stored.job.name, found.name) == ("add", "add")

    def test_a_change_of_the_run_time_fails_when_the_job_was_claimed_meanwhile(
        self, store: NativeJobStore
    ) -> None:
        store.add_job(make_stored_job("a", T0))
        stored = store.read_job("a")
        assert stored is not None
        claim(store, Identity())

        assert not store.change_job(stored, {"next_run_time": T0 + SECOND})

        assert store.get_next_run_time() == T0 + timedelta(minutes=1)

    def test_another_change_does_not_mind_that_the_job_was_claimed_meanwhile(
        self, store: NativeJobStore
    ) -> None:
        store.add_job(make_stored_job("a", T0))
        stored = store.read_job("a")
        assert stored is not None
        claim(store, Identity())

        assert store.change_job(stored, {"name": "new"})

        found = store.lookup_job("a")
        assert found is not None
        assert found.name == "new"
        assert found.next_run_time == T0 + timedelta(minutes=1)

    def test_a_change_fails_when_the_job_was_changed_meanwhile(
        self, store: NativeJobStore
    ) -> None:
        if not self.serializes:
            pytest.skip("all readers have the same object")
        store.add_job(make_stored_job("a", T0))
        first, second = store.read_job("a"), store.read_job("a")
        assert first is not None and second is not None
        assert store.change_job(first, {"name": "first"})

        assert not store.change_job(second, {"max_instances": 7})

        found = store.lookup_job("a")
        assert found is not None
        assert (found.name, found.max_instances) == ("first", 1)

    def test_a_change_fails_when_the_job_is_gone(self, store: NativeJobStore) -> None:
        store.add_job(make_stored_job("a", T0))
        stored = store.read_job("a")
        assert stored is not None
        store.remove_job("a")

        assert not store.change_job(stored, {"name": "new"})
        assert not store.discard_job(stored)

        assert store.get_all_jobs() == []

    def test_a_job_is_discarded_only_if_it_is_still_the_one_read(
        self, store: NativeJobStore
    ) -> None:
        store.add_job(make_stored_job("a", T0))
        stale = store.read_job("a")
        claim(store, Identity())
        fresh = store.read_job("a")
        assert stale is not None and fresh is not None

        assert not store.discard_job(stale)
        assert ids(store.get_all_jobs()) == ["a"]

        assert store.discard_job(fresh)
        assert store.get_all_jobs() == []

    def test_many_jobs_are_added_at_once(self, store: NativeJobStore) -> None:
        store.add_jobs([])
        store.add_jobs([make_stored_job(f"{n:03}", T0) for n in range(700)])

        assert ids(store.get_all_jobs()) == [f"{n:03}" for n in range(700)]

    @pytest.mark.parametrize(
        "added", [pytest.param("bac", id="there"), pytest.param("bcc", id="twice")]
    )
    def test_of_many_jobs_all_or_none_are_added(
        self, store: NativeJobStore, added: str
    ) -> None:
        store.add_job(make_stored_job("a", T0))

        with pytest.raises(ConflictingIdError, match="'a'" if "a" in added else "'c'"):
            store.add_jobs([make_stored_job(id, T0) for id in added])

        assert ids(store.get_all_jobs()) == ["a"]

    # History.

    def finish_runs(
        self, store: NativeJobStore, job_id: str, count: int, **options: Any
    ) -> None:
        """Have a job run so many times, a second apart."""
        me = Identity()
        store.add_job(make_stored_job(job_id, T0, **options))
        for number in range(count):
            time = T0 + number * SECOND
            plan = Plan([time], time + SECOND)
            (found,) = claim(store, me, time, lambda job, plan=plan: plan).claims
            store.complete(completions(found, me, finished_at=time))
        store.remove_job(job_id)

    def test_runs_are_found_latest_first_and_page_by_page(
        self, store: NativeJobStore
    ) -> None:
        self.finish_runs(store, "a", 5)

        times = [run.scheduled_time for run in store.get_runs(EVERYTHING, 2, 1)]

        assert times == [T0 + 3 * SECOND, T0 + 2 * SECOND]

    def test_runs_are_found_by_job_state_and_time(self, store: NativeJobStore) -> None:
        self.finish_runs(store, "a", 3)
        self.finish_runs(store, "b", 2)
        store.add_job(make_stored_job("a", T0 + 9 * SECOND))
        claim(store, Identity(), T0 + 9 * SECOND)

        def seconds(**which: Any) -> list[tuple[str, float]]:
            found = store.get_runs(RunFilter(**which), 100)
            return [
                (run.job_id, (run.scheduled_time - T0).total_seconds()) for run in found
            ]

        assert seconds(job_id="b") == [("b", 1), ("b", 0)]
        assert seconds(states=frozenset([RunState.RUNNING])) == [("a", 9)]
        assert seconds(since=T0 + SECOND, until=T0 + 2 * SECOND, job_id="a") == [
            ("a", 1)
        ]
        assert seconds(job_id="unknown") == []
        assert seconds(states=frozenset()) == []

    def test_a_run_names_the_store_it_is_in(self, store: NativeJobStore) -> None:
        self.finish_runs(store, "a", 1)

        assert store.get_runs(EVERYTHING, 1)[0].jobstore == store._alias

    def prune(self, store: NativeJobStore, *limits: Any, now: datetime = T0) -> int:
        """Prune until there is nothing left to prune, and return how many runs were."""
        pruned = 0
        while count := store.prune_runs(*limits, now):
            pruned += count
        return pruned

    def test_runs_that_are_too_old_are_pruned(self, store: NativeJobStore) -> None:
        self.finish_runs(store, "a", 5)

        pruned = self.prune(store, 2 * SECOND, None, now=T0 + 4 * SECOND)

        assert pruned == 2
        times = [run.scheduled_time for run in store.get_runs(EVERYTHING, 10)]
        assert times == [T0 + n * SECOND for n in (4, 3, 2)]

    def test_the_oldest_of_too_many_runs_of_a_job_are_pruned(
        self, store: NativeJobStore
    ) -> None:
        self.finish_runs(store, "a", 5)
        self.finish_runs(store, "b", 2)

        pruned = self.prune(store, None, 2)

        assert pruned == 3
        found = [
            (run.job_id, run.scheduled_time) for run in store.get_runs(EVERYTHING, 10)
        ]
        assert sorted(found) == [
            *(("a", T0 + 3 * SECOND), ("a", T0 + 4 * SECOND)),
            *(("b", T0), ("b", T0 + SECOND)),
        ]

    def test_without_limits_nothing_is_pruned(self, store: NativeJobStore) -> None:
        self.finish_runs(store, "a", 3)

        assert self.prune(store, None, None, now=T0 + timedelta(days=999)) == 0
        assert len(states(store)) == 3

    def test_open_runs_are_not_pruned(self, store: NativeJobStore) -> None:
        me = Identity()
        store.add_job(make_stored_job("a", T0))
        claim(store, me)
        store.add_ready_run(make_stored_job("b"), self.ready_run(me, "b"))

        assert self.prune(store, SECOND, 0, now=T0 + timedelta(days=999)) == 0
        assert len(states(store)) == 2

    def test_removing_jobs_leaves_their_runs(self, store: NativeJobStore) -> None:
        me = Identity()
        store.add_job(make_stored_job("a", T0))
        (found,) = claim(store, me).claims

        store.remove_all_jobs()
        store.complete(completions(found, me))

        assert states(store) == [RunState.SUCCEEDED]

    # Jobs that cannot be restored.

    def test_a_job_that_cannot_be_restored_is_passed_over_and_reported_once(
        self,
        store: NativeJobStore,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        if not self.serializes:
            pytest.skip("this store keeps the objects")
        self.add_vanished_job(store, monkeypatch, T0)
        store.add_job(make_stored_job("b", T0 + TICK))

        batch = claim(store, Identity(), T0 + TICK)
        claim(store, Identity(), T0 + SECOND)

        assert claimed_ids(batch) == ["b"]
        assert batch.more is False
        reports = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
        assert ["'vanished'" in report for report in reports] == [True]

    def test_a_job_that_was_repaired_is_claimed(
        self, store: NativeJobStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not self.serializes:
            pytest.skip("this store keeps the objects")
        self.add_vanished_job(store, monkeypatch, T0)
        assert claim(store, Identity()).claims == []

        store.update_job(make_stored_job("vanished", T0))

        assert claimed_ids(claim(store, Identity())) == ["vanished"]

    def test_records_list_every_job_without_importing_its_function(
        self, store: NativeJobStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.add_job(make_stored_job("paused", name="Paused"))
        store.add_job(make_stored_job("active", T0 + SECOND))
        listed = ["active", "paused"]
        if self.serializes:
            self.add_vanished_job(store, monkeypatch, T0)
            listed.insert(0, "vanished")

        records = store.get_job_records()

        assert [record.id for record in records] == listed
        assert records[-1].name == "Paused"
        assert records[-1].next_run_time is None
        assert records[-2].next_run_time == T0 + SECOND
        assert records[-1].func == "apscheduler.testing.jobs:add"
        if self.serializes:
            assert records[0].func == "apscheduler.testing.jobs:vanishing"
            assert not hasattr(jobs, "vanishing")
            store.get_all_jobs()
            assert "vanishing" in str(store.get_job_records()[0].error)

    # Several schedulers.

    @pytest.fixture
    def both(
        self, store: NativeJobStore, request: pytest.FixtureRequest
    ) -> tuple[NativeJobStore, NativeJobStore]:
        """Return two stores on the same storage."""
        if not store.shareable:
            pytest.skip("this store cannot be shared")
        return store, request.getfixturevalue("other_store")

    def test_a_fire_is_claimed_through_one_of_two_stores(
        self, both: tuple[NativeJobStore, NativeJobStore]
    ) -> None:
        store, other = both
        store.add_job(make_stored_job("a", T0))

        batches = [claim(other, Identity()), claim(store, Identity())]

        assert [claimed_ids(batch) for batch in batches] == [["a"], []]

    def test_instances_are_counted_over_all_schedulers(
        self, both: tuple[NativeJobStore, NativeJobStore]
    ) -> None:
        store, other = both
        store.add_job(make_stored_job("a", T0))
        claim(store, Identity(), plan=run_again)

        (found,) = claim(other, Identity(), T0 + TICK).claims

        assert found.skipped

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
            barrier.wait(20)
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

    # Nodes.

    def claimed_by_dead(
        self, store: NativeJobStore, dead: Identity, **options: Any
    ) -> Claim:
        """Have a node claim the last run of a job, whose lease ends 20 seconds later."""
        store.add_job(make_stored_job("a", T0, **options))
        batch = claim(store, dead, plan=run_once, lease_until=T0 + LEASE)
        return batch.claims[0]

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

    def test_a_renewed_lease_keeps_runs_from_being_taken(
        self, both: tuple[NativeJobStore, NativeJobStore]
    ) -> None:
        store, other = both
        alive = Identity()
        self.claimed_by_dead(store, alive)

        store.renew_lease(alive.node, T0 + 3 * LEASE)

        assert other.take_over(Identity().node, T0 + 2 * LEASE) == []
        assert states(store) == [RunState.RUNNING]

    def test_a_node_does_not_take_its_own_runs(
        self, both: tuple[NativeJobStore, NativeJobStore]
    ) -> None:
        store, _ = both
        me = Identity()
        self.claimed_by_dead(store, me)

        assert store.take_over(me.node, T0 + 9 * LEASE) == []

    def test_a_node_whose_process_is_gone_is_dead_at_once(
        self,
        both: tuple[NativeJobStore, NativeJobStore],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        store, other = both
        dead, alive = Identity(), Identity()
        self.claimed_by_dead(store, dead)
        store.add_job(make_stored_job("b", T0))
        claim(store, alive, lease_until=T0 + LEASE)
        monkeypatch.setattr(Node, "is_gone", lambda node: node.id == dead.node.id)

        taken = other.take_over(Identity().node, T0)

        assert [run.job_id for run in taken] == ["a"]

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

    def test_a_lost_run_frees_its_instance(
        self, both: tuple[NativeJobStore, NativeJobStore]
    ) -> None:
        store, other = both
        store.add_job(make_stored_job("a", T0))
        claim(store, Identity(), lease_until=T0 + LEASE)
        now = T0 + timedelta(minutes=1)

        other.take_over(Identity().node, now)

        assert not claim(other, Identity(), now).claims[0].skipped
