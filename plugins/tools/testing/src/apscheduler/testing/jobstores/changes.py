"""The promises about changing jobs that others may change, too."""

from datetime import timedelta

import pytest

from apscheduler.jobstores.base import ConflictingIdError
from apscheduler.jobstores.contract import (
    NativeJobStore,
)
from apscheduler.nodes import Identity
from apscheduler.testing import jobs
from apscheduler.testing.contracts import only_if
from apscheduler.testing.jobs import make_stored_job
from apscheduler.testing.jobstores.basic import (
    SECOND,
    T0,
    TICK,
    JobStoreContract,
    ids,
)
from apscheduler.testing.jobstores.requests import (
    claim,
    claimed_ids,
)


class ChangeContract(JobStoreContract):
    """Changes compare; many jobs are added at once; what cannot be restored is left alone."""

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

    @only_if(lambda suite: suite.serializes)
    def test_a_change_fails_when_the_job_was_changed_meanwhile(
        self, store: NativeJobStore
    ) -> None:
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

    @only_if(lambda suite: suite.serializes)
    def test_a_job_that_cannot_be_restored_is_passed_over_and_reported_once(
        self,
        store: NativeJobStore,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        self.add_vanished_job(store, monkeypatch, T0)
        store.add_job(make_stored_job("b", T0 + TICK))

        batch = claim(store, Identity(), T0 + TICK)
        claim(store, Identity(), T0 + SECOND)

        assert claimed_ids(batch) == ["b"]
        assert batch.more is False
        reports = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
        assert ["'vanished'" in report for report in reports] == [True]

    @only_if(lambda suite: suite.serializes)
    def test_a_job_that_was_repaired_is_claimed(
        self, store: NativeJobStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
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

    def test_records_tell_which_configuration_declares_a_job(
        self, store: NativeJobStore
    ) -> None:
        declared = make_stored_job("declared", T0)
        declared._origin = "somewhere"
        store.add_jobs([declared, make_stored_job("added", T0)])

        origins = {record.id: record.origin for record in store.get_job_records()}
        assert origins == {"declared": "somewhere", "added": None}
