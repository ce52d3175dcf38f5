"""The promises about what is kept of runs that have ended."""

from datetime import datetime, timedelta
from functools import partial
from typing import Any

from apscheduler.job import Job
from apscheduler.jobstores.contract import (
    NativeJobStore,
)
from apscheduler.nodes import Identity
from apscheduler.runs import Plan, RunFilter, RunState
from apscheduler.testing.jobs import make_stored_job
from apscheduler.testing.jobstores.basic import (
    SECOND,
    T0,
    JobStoreContract,
)
from apscheduler.testing.jobstores.requests import (
    EVERYTHING,
    claim,
    completions,
    ready_run,
    states,
)


class HistoryContract(JobStoreContract):
    """The history of runs: found, pruned, kept when jobs are removed."""

    def finish_runs(
        self, store: NativeJobStore, job_id: str, count: int, **options: Any
    ) -> None:
        """Have a job run so many times, a second apart."""
        me = Identity()
        store.add_job(make_stored_job(job_id, T0, **options))
        for number in range(count):
            time = T0 + number * SECOND
            plan = partial(_plan, time=time)
            (found,) = claim(store, me, time, plan).claims
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

    def test_runs_are_found_by_identifier_owner_and_attempt(
        self, store: NativeJobStore
    ) -> None:
        self.finish_runs(store, "a", 2)
        store.add_job(make_stored_job("b", T0 + 9 * SECOND))
        me = Identity()
        claim(store, me, T0 + 9 * SECOND)
        latest, _, first = store.get_runs(EVERYTHING, 10)

        def found(**which: Any) -> list[str]:
            return [run.id for run in store.get_runs(RunFilter(**which), 10)]

        assert found(run_id=latest.id) == [latest.id]
        assert found(run_id=first.id) == [first.id]
        assert found(run_id=first.id, job_id="b") == []
        assert found(run_id="unknown") == []
        assert found(node=me.node.id) == [latest.id]
        assert first.id in found(node=first.node)
        assert len(found(attempt=1)) == 3
        assert found(attempt=2) == []

    def test_runs_of_one_time_are_found_in_a_fixed_order(
        self, store: NativeJobStore
    ) -> None:
        me = Identity()
        for number in range(5):
            store.add_job(make_stored_job(f"job-{number}", T0))
        started = claim(store, me).claims
        store.complete(
            [done for each in started[1::2] for done in completions(each, me)]
        )

        pages = [store.get_runs(EVERYTHING, 2, offset) for offset in (0, 2, 4)]

        ids = [run.id for page in pages for run in page]
        assert ids == sorted(ids, reverse=True)
        assert len(set(ids)) == 5

    def test_runs_are_counted(self, store: NativeJobStore) -> None:
        self.finish_runs(store, "a", 3)
        self.finish_runs(store, "b", 2)

        assert store.count_runs(EVERYTHING) == 5
        assert store.count_runs(RunFilter(job_id="a", since=T0 + SECOND)) == 2
        assert store.count_runs(RunFilter(states=frozenset([RunState.LOST]))) == 0

    def test_a_run_names_the_store_it_is_in(self, store: NativeJobStore) -> None:
        self.finish_runs(store, "a", 1)

        assert store.get_runs(EVERYTHING, 1)[0].jobstore == store._alias

    def prune(
        self,
        store: NativeJobStore,
        max_age: timedelta | None,
        max_per_job: int | None,
        now: datetime = T0,
    ) -> int:
        """Prune until there is nothing left to prune, and return how many runs were."""
        pruned = 0
        while count := store.prune_runs(max_age, max_per_job, now):
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
        store.add_ready_run(make_stored_job("b"), ready_run(me, "b"))

        assert self.prune(store, SECOND, 0, now=T0 + timedelta(days=999)) == 0
        assert len(states(store)) == 2

    def test_removing_jobs_leaves_their_runs(self, store: NativeJobStore) -> None:
        me = Identity()
        store.add_job(make_stored_job("a", T0))
        (found,) = claim(store, me).claims

        store.remove_all_jobs()
        store.complete(completions(found, me))

        assert states(store) == [RunState.SUCCEEDED]


def _plan(job: Job, time: datetime) -> Plan:
    return Plan([time], time + SECOND)
