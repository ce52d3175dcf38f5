"""The promises of a job store as APScheduler 3 has them."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from apscheduler.job import Job
from apscheduler.jobstores.base import (
    BaseJobStore,
    ConflictingIdError,
    JobLookupError,
)
from apscheduler.testing import jobs
from apscheduler.testing.contracts import Contract, only_if
from apscheduler.testing.jobs import EverySecond, Greeter, add, fail, make_stored_job

T0 = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TICK = timedelta(microseconds=1)
BERLIN = ZoneInfo("Europe/Berlin")

ATTRIBUTES = (
    *("id", "name", "func", "func_ref", "args", "kwargs", "executor"),
    *("misfire_grace_time", "coalesce", "max_instances", "next_run_time"),
    *("on_lost", "max_attempts", "history"),
)


def ids(found: list[Job]) -> list[str]:
    """Return the identifiers of jobs."""
    return [job.id for job in found]


class JobStoreContract(Contract):
    """Subclasses supply a fixture ``store``: an empty store, started by ``start(None, alias)``.

    :cvar serializes: whether jobs are stored as data; a store that keeps the objects says False, and why
    :cvar shareable: whether several schedulers can use the storage at the same time
    """

    serializes = True
    shareable = True

    def test_looking_up_an_unknown_job_gives_none(self, store: BaseJobStore) -> None:
        assert store.lookup_job("unknown") is None

    def test_a_job_comes_back_with_all_its_attributes(
        self, store: BaseJobStore
    ) -> None:
        job = make_stored_job(
            "full",
            T0.astimezone(BERLIN),
            name="Full",
            args=(1,),
            kwargs={"second": 2},
            executor="other",
            trigger=EverySecond(7),
            misfire_grace_time=30,
            coalesce=False,
            max_instances=4,
            on_lost="retry",
            max_attempts=5,
            history=9,
        )

        store.add_job(job)

        found = store.lookup_job("full")
        assert found is not None
        for name in ATTRIBUTES:
            assert getattr(found, name) == getattr(job, name), name
        assert isinstance(found.trigger, EverySecond)
        assert found.trigger.seconds == 7

    def test_a_job_keeps_the_zone_of_its_run_time(self, store: BaseJobStore) -> None:
        store.add_job(make_stored_job("a", T0.astimezone(BERLIN)))

        found = store.lookup_job("a")

        assert found is not None and found.next_run_time is not None
        assert found.next_run_time.utcoffset() == timedelta(hours=2)

    def test_returned_jobs_know_their_scheduler_and_store(
        self, store: BaseJobStore
    ) -> None:
        store.add_job(make_stored_job("a", T0))

        found = [store.lookup_job("a"), *store.get_all_jobs(), *store.get_due_jobs(T0)]

        assert len(found) == 3
        if self.serializes:
            for job in found:
                assert job is not None
                assert job._scheduler is store._scheduler
                assert job._jobstore_alias == store._alias

    def test_jobs_are_listed_by_run_time_and_paused_jobs_last(
        self, store: BaseJobStore
    ) -> None:
        store.add_job(make_stored_job("paused"))
        store.add_job(make_stored_job("late", T0 + SECOND))
        store.add_job(make_stored_job("early", T0))
        store.add_job(make_stored_job("paused too"))

        listed = ids(store.get_all_jobs())

        assert listed[:2] == ["early", "late"]
        assert sorted(listed[2:]) == ["paused", "paused too"]

    def test_times_one_microsecond_apart_are_kept_apart(
        self, store: BaseJobStore
    ) -> None:
        for id, ticks in (("c", 2), ("a", 0), ("b", 1)):
            store.add_job(make_stored_job(id, T0 + ticks * TICK))

        assert ids(store.get_all_jobs()) == ["a", "b", "c"]
        assert ids(store.get_due_jobs(T0 + TICK)) == ["a", "b"]

    def test_due_jobs_come_earliest_first_without_paused_or_later_ones(
        self, store: BaseJobStore
    ) -> None:
        store.add_job(make_stored_job("paused"))
        store.add_job(make_stored_job("second", T0))
        store.add_job(make_stored_job("later", T0 + TICK))
        store.add_job(make_stored_job("first", T0 - SECOND))

        assert ids(store.get_due_jobs(T0)) == ["first", "second"]

    def test_no_job_is_due_before_its_time(self, store: BaseJobStore) -> None:
        store.add_job(make_stored_job("a", T0))

        assert store.get_due_jobs(T0 - TICK) == []

    def test_run_times_before_1970_are_due(self, store: BaseJobStore) -> None:
        store.add_job(make_stored_job("old", datetime(1961, 4, 12, tzinfo=UTC)))

        assert ids(store.get_due_jobs(T0)) == ["old"]

    def test_the_next_run_time_is_the_earliest_one(self, store: BaseJobStore) -> None:
        store.add_job(make_stored_job("late", T0 + SECOND))
        store.add_job(make_stored_job("early", T0 + TICK))

        found = store.get_next_run_time()

        assert found == T0 + TICK
        assert found is not None and found.tzinfo is not None

    def test_paused_jobs_have_no_part_in_the_next_run_time(
        self, store: BaseJobStore
    ) -> None:
        assert store.get_next_run_time() is None

        store.add_job(make_stored_job("paused"))
        assert store.get_next_run_time() is None

        store.add_job(make_stored_job("active", T0))
        assert store.get_next_run_time() == T0

    def test_adding_an_identifier_twice_is_a_conflict(
        self, store: BaseJobStore
    ) -> None:
        store.add_job(make_stored_job("a", T0, name="first"))

        with pytest.raises(ConflictingIdError, match="'a'"):
            store.add_job(make_stored_job("a", T0, name="second"))

        assert [job.name for job in store.get_all_jobs()] == ["first"]

    @pytest.mark.parametrize(
        ("changed", "expected"),
        [
            pytest.param(T0 + 10 * SECOND, ["b", "c", "a"], id="later"),
            pytest.param(T0 + 1.5 * SECOND, ["b", "a", "c"], id="between"),
            pytest.param(T0, ["a", "b", "c"], id="unchanged"),
            pytest.param(None, ["b", "c", "a"], id="paused"),
        ],
    )
    def test_an_update_puts_the_job_in_its_new_place(
        self, store: BaseJobStore, changed: datetime | None, expected: list[str]
    ) -> None:
        for number, id in enumerate("abc"):
            store.add_job(make_stored_job(id, T0 + number * SECOND))

        store.update_job(make_stored_job("a", changed))

        assert ids(store.get_all_jobs()) == expected
        found = store.lookup_job("a")
        assert found is not None and found.next_run_time == changed
        first = T0 if changed == T0 else T0 + SECOND
        assert store.get_next_run_time() == first

    def test_an_update_can_wake_a_paused_job(self, store: BaseJobStore) -> None:
        store.add_job(make_stored_job("a"))

        store.update_job(make_stored_job("a", T0))

        assert ids(store.get_due_jobs(T0)) == ["a"]
        assert store.get_next_run_time() == T0

    def test_an_update_replaces_everything(self, store: BaseJobStore) -> None:
        store.add_job(make_stored_job("a", T0))

        store.update_job(
            make_stored_job("a", T0, func=fail, args=["no"], max_instances=6)
        )

        found = store.lookup_job("a")
        assert found is not None
        assert (found.func, found.max_instances) == (fail, 6)
        assert list(found.args) == ["no"]

    def test_updating_an_unknown_job_raises_job_lookup_error(
        self, store: BaseJobStore
    ) -> None:
        with pytest.raises(JobLookupError, match="'unknown'"):
            store.update_job(make_stored_job("unknown", T0))

        assert store.get_all_jobs() == []

    def test_a_removed_job_is_gone(self, store: BaseJobStore) -> None:
        store.add_job(make_stored_job("a", T0))
        store.add_job(make_stored_job("b", T0 + SECOND))

        store.remove_job("a")

        assert store.lookup_job("a") is None
        assert ids(store.get_all_jobs()) == ["b"]
        assert store.get_next_run_time() == T0 + SECOND

    def test_removing_an_unknown_job_raises_job_lookup_error(
        self, store: BaseJobStore
    ) -> None:
        with pytest.raises(JobLookupError, match="'unknown'"):
            store.remove_job("unknown")

    def test_all_jobs_can_be_removed_any_number_of_times(
        self, store: BaseJobStore
    ) -> None:
        store.add_job(make_stored_job("a", T0))
        store.add_job(make_stored_job("b"))

        store.remove_all_jobs()
        store.remove_all_jobs()

        assert store.get_all_jobs() == []
        assert store.get_next_run_time() is None
        store.add_job(make_stored_job("a", T0))
        assert ids(store.get_all_jobs()) == ["a"]

    @pytest.mark.parametrize(
        ("func", "expected"),
        [
            pytest.param(Greeter("Hi").greet, "Hi you", id="bound method"),
            pytest.param(
                Greeter.greet_by_class, "Greeter greets you", id="class method"
            ),
            pytest.param(Greeter.greet_plainly, "plainly, you", id="static method"),
            pytest.param(
                "apscheduler.testing.jobs:greeter.greet",
                "Hello you",
                id="bound method as text",
            ),
            pytest.param(
                "apscheduler.testing.jobs:Greeter.greet_by_class",
                "Greeter greets you",
                id="class method as text",
            ),
        ],
    )
    def test_methods_survive_and_still_run(
        self, store: BaseJobStore, func: object, expected: str
    ) -> None:
        store.add_job(make_stored_job("a", T0, func=func, args=("you",)))

        job = store.lookup_job("a")

        assert job is not None
        assert job.func(*job.args, **job.kwargs) == expected

    @only_if(lambda suite: suite.serializes)
    def test_the_state_of_a_caller_is_not_shared(self, store: BaseJobStore) -> None:
        store.add_job(make_stored_job("a", T0, args=[[1], 2]))

        first = store.lookup_job("a")
        assert first is not None
        first.args[0].append("changed")
        first.name = "changed"

        again = store.lookup_job("a")
        assert again is not None
        assert list(again.args) == [[1], 2]
        assert again.name == "add"

    @only_if(lambda suite: suite.serializes)
    def test_a_job_that_cannot_be_restored_is_kept_and_left_out(
        self,
        store: BaseJobStore,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        self.add_vanished_job(store, monkeypatch, T0)
        store.add_job(make_stored_job("b", T0 + SECOND))

        assert ids(store.get_all_jobs()) == ["b"]
        assert ids(store.get_due_jobs(T0 + SECOND)) == ["b"]
        assert store.get_next_run_time() == T0 + SECOND
        reports = [r for r in caplog.records if r.levelname == "ERROR"]
        assert ["'vanished'" in r.getMessage() for r in reports] == [True]
        with pytest.raises(ConflictingIdError):
            store.add_job(make_stored_job("vanished", T0))

    @only_if(lambda suite: suite.serializes)
    def test_a_job_is_back_as_soon_as_it_can_be_restored(
        self, store: BaseJobStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.add_vanished_job(store, monkeypatch, T0)
        assert store.get_all_jobs() == []

        monkeypatch.setattr(jobs, "vanishing", add, raising=False)

        assert ids(store.get_all_jobs()) == ["vanished"]

    @only_if(lambda suite: suite.serializes)
    def test_looking_up_a_job_that_cannot_be_restored_raises(
        self, store: BaseJobStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.add_vanished_job(store, monkeypatch, T0)

        with pytest.raises(LookupError, match="vanishing"):
            store.lookup_job("vanished")

    @only_if(lambda suite: suite.serializes)
    def test_a_job_that_cannot_be_restored_can_be_removed(
        self, store: BaseJobStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.add_vanished_job(store, monkeypatch, T0)

        store.remove_job("vanished")

        assert store.lookup_job("vanished") is None

    @staticmethod
    def add_vanished_job(
        store: BaseJobStore, monkeypatch: pytest.MonkeyPatch, next_run_time: datetime
    ) -> None:
        """Add a job whose function is not there any more; ``jobs.vanishing`` brings it back."""
        monkeypatch.setattr(jobs, "vanishing", add, raising=False)
        reference = "apscheduler.testing.jobs:vanishing"
        store.add_job(make_stored_job("vanished", next_run_time, func=reference))
        monkeypatch.delattr(jobs, "vanishing")
