"""The promises of claiming: every fire once, in order, no more instances than allowed."""

from datetime import timedelta

from apscheduler.job import Job
from apscheduler.jobstores.contract import (
    ClaimBatch,
    NativeJobStore,
)
from apscheduler.nodes import Identity
from apscheduler.runs import FireRange, Plan, RunFilter, RunState
from apscheduler.testing.jobs import add, make_stored_job
from apscheduler.testing.jobstores.basic import (
    SECOND,
    T0,
    TICK,
    JobStoreContract,
    ids,
)
from apscheduler.testing.jobstores.requests import (
    EVERYTHING,
    claim,
    claimed_ids,
    completions,
    run_again,
    run_every_minute,
    run_once,
    states,
)


class ClaimContract(JobStoreContract):
    """Claims: which jobs, in which order, and what becomes of them."""

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

    def test_jobs_may_have_any_identifier(self, store: NativeJobStore) -> None:
        unusual = ['say "no"', "back\\slash", "a,{b}", "NULL", "ä€", "it's %s :x"]
        for job_id in unusual:
            store.add_job(make_stored_job(job_id, T0))

        me = Identity()
        batch = claim(store, me)
        for found in batch.claims:
            store.complete(completions(found, me))

        assert sorted(claimed_ids(batch)) == sorted(unusual)
        runs = store.get_runs(EVERYTHING, 10)
        assert sorted(run.job_id for run in runs) == sorted(unusual)
        assert {run.state for run in runs} == {RunState.SUCCEEDED}

    def test_nothing_is_claimed_twice(self, store: NativeJobStore) -> None:
        store.add_job(make_stored_job("a", T0))

        assert claimed_ids(claim(store, Identity())) == ["a"]
        assert claimed_ids(claim(store, Identity())) == []

    def test_one_claim_takes_a_job_once_even_if_more_of_it_is_due(
        self, store: NativeJobStore
    ) -> None:
        store.add_job(make_stored_job("a", T0 - 10 * SECOND, max_instances=5))

        def plan(job: Job) -> Plan:
            assert job.next_run_time is not None
            return Plan([job.next_run_time], job.next_run_time + SECOND)

        assert claimed_ids(claim(store, Identity(), plan=plan)) == ["a"]
        assert claimed_ids(claim(store, Identity(), plan=plan)) == ["a"]
        assert ids(store.get_due_jobs(T0)) == ["a"]

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
