"""The promises about runs: outcomes, and runs that do not come from a trigger."""

from typing import Any

import pytest

from apscheduler.jobstores.contract import (
    ClaimBatch,
    NativeJobStore,
)
from apscheduler.nodes import Identity
from apscheduler.records import replace
from apscheduler.runs import FireRange, Plan, RunState
from apscheduler.testing.jobs import make_stored_job
from apscheduler.testing.jobstores.basic import (
    SECOND,
    T0,
    TICK,
    JobStoreContract,
)
from apscheduler.testing.jobstores.requests import (
    EVERYTHING,
    claim,
    claimed_ids,
    completions,
    ready_run,
    run_once,
    states,
)


class RunContract(JobStoreContract):
    """Runs: how they end, wait and are handed back."""

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

    def test_a_ready_run_is_claimed_as_soon_as_it_is_available(
        self, store: NativeJobStore
    ) -> None:
        me = Identity()
        run = ready_run(me)
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
        store.add_ready_run(make_stored_job("a", T0 + SECOND), ready_run(me))

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
        store.add_ready_run(job, ready_run(me))
        store.add_ready_run(make_stored_job("b"), ready_run(me, "b", T0 + TICK))

        waiting = claim(store, me, T0 + SECOND)
        freed = claim(store, me, T0 + SECOND, completions=completions(running, me))

        assert claimed_ids(waiting) == ["b"]
        assert claimed_ids(freed) == ["a"]
        assert RunState.SKIPPED not in states(store)

    def test_a_ready_run_that_is_not_accepted_is_left(
        self, store: NativeJobStore
    ) -> None:
        store.add_ready_run(make_stored_job("a"), ready_run(Identity()))

        refused = claim(store, Identity(), accepts=lambda job: False)
        accepted = claim(store, Identity())

        assert claimed_ids(refused) == []
        assert claimed_ids(accepted) == ["a"]

    def test_a_ready_run_outlives_its_job(self, store: NativeJobStore) -> None:
        store.add_job(make_stored_job("a", T0 + SECOND))
        store.add_ready_run(make_stored_job("a"), ready_run(Identity()))

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
