"""The promises of a store about the bytes that it keeps: they go through its serializer, wherever they are."""

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from apscheduler.jobstores.serializing import SerializingJobStore, StoredState
from apscheduler.nodes import Identity
from apscheduler.resigning import Resigned, resign
from apscheduler.runs import RunState
from apscheduler.serializers import PickleSerializer, Serializer
from apscheduler.serializers.json import JsonSerializer
from apscheduler.serializers.signed import SignedSerializer
from apscheduler.testing.jobs import make_stored_job
from apscheduler.testing.jobstores.basic import SECOND, T0, ids
from apscheduler.testing.jobstores.requests import (
    LEASE,
    claim,
    claimed_ids,
    ready_run,
    states,
)

MakeStore = Callable[[Serializer], SerializingJobStore]

KEY, OLD_KEY = "a-key-that-is-only-for-tests", "another-key-that-is-for-tests"
LISTED = ["apscheduler.testing.jobs:*"]

SERIALIZERS: dict[str, Callable[[], Serializer]] = {
    "pickle with a list": lambda: PickleSerializer(allowed_callables=LISTED),
    "signed": lambda: SignedSerializer(KEY),
    "signed with a list": lambda: SignedSerializer(KEY, allowed_callables=LISTED),
    "json": lambda: JsonSerializer(allowed_callables=LISTED),
    "signed json": lambda: SignedSerializer(
        KEY, format="json", allowed_callables=LISTED
    ),
}


class Attack:
    """Is pickled as a call that leaves a trace."""

    successes = 0

    def __reduce__(self) -> Any:
        return _succeed, ()


def _succeed() -> None:
    Attack.successes += 1


def fill(store: SerializingJobStore) -> None:
    """Have a store keep bytes wherever it does: a job, a run that waits, and one that is to be repeated if it is lost."""
    me = Identity()
    store.add_job(make_stored_job("retried", T0, on_lost="retry"))
    store.renew_lease(me.node, T0 + LEASE)
    assert claimed_ids(claim(store, me)) == ["retried"]
    store.add_job(make_stored_job("job", T0 + 60 * SECOND))
    store.add_ready_run(make_stored_job("gone"), ready_run(me, "gone"))


def outcomes(found: list[Resigned]) -> dict[str, set[str]]:
    """Return what was done, and about which jobs."""
    words: dict[str, set[str]] = {}
    for each in found:
        word = "current" if each.was_current else "failed" if each.error else "written"
        words.setdefault(word, set()).add(each.job_id)
    return words


class SecuredStoreContract:
    """Subclasses supply a fixture ``make_secured``: given a serializer, it returns a started store on one storage.

    Stores that it has returned before need not be of use any more.
    """

    @pytest.mark.parametrize("name", SERIALIZERS)
    def test_jobs_and_runs_work_with_every_serializer(
        self, make_secured: MakeStore, name: str
    ) -> None:
        store, me = make_secured(SERIALIZERS[name]()), Identity()
        store.add_jobs([make_stored_job(id, T0, args=(1, 2)) for id in ("a", "b")])
        store.add_ready_run(make_stored_job("c"), ready_run(me, "c"))

        assert ids(store.get_all_jobs()) == ["a", "b"]
        stored = store.read_job("a")
        assert stored is not None
        assert store.change_job(stored, {"name": "changed"})
        batch = claim(store, me)
        assert sorted(claimed_ids(batch)) == ["a", "b", "c"]
        store.hand_back(batch.claims)
        assert sorted(claimed_ids(claim(store, me))) == ["a", "b", "c"]
        (record, _) = store.get_job_records()
        assert (record.name, record.error) == ("changed", None)

    def test_what_is_not_signed_is_left_alone_wherever_it_is(
        self, make_secured: MakeStore
    ) -> None:
        fill(make_secured(PickleSerializer()))
        store = make_secured(SignedSerializer(KEY))

        taken = store.take_over(Identity().node, T0 + 2 * LEASE)
        batch = claim(store, Identity(), T0 + 2 * LEASE)

        assert [run.job_id for run in taken] == ["retried"]
        assert claimed_ids(batch) == []
        assert store.get_all_jobs() == store.get_due_jobs(T0 + 2 * LEASE) == []
        assert store.get_next_run_time() is None
        records = {record.id: record for record in store.get_job_records()}
        assert set(records) == {"job", "retried"}
        assert all("not signed" in str(each.error) for each in records.values())
        assert states(store) == [RunState.READY, RunState.READY]

    @pytest.mark.parametrize("name", SERIALIZERS)
    def test_bytes_that_somebody_has_put_there_are_not_run(
        self, make_secured: MakeStore, name: str
    ) -> None:
        Attack.successes = 0
        store = make_secured(SERIALIZERS[name]())
        fill(store)
        evil = pickle.dumps(
            {"next_run_time": 1.0, "job_state": Attack(), "id": Attack()}
        )
        for state in list(store.read_states()):
            assert store.replace_state(state, evil)

        store = make_secured(SERIALIZERS[name]())
        store.take_over(Identity().node, T0 + 2 * LEASE)

        assert claimed_ids(claim(store, Identity(), T0 + 2 * LEASE)) == []
        assert store.get_all_jobs() == store.get_due_jobs(T0 + 2 * LEASE) == []
        assert all(record.error for record in store.get_job_records())
        assert {state.data for state in store.read_states()} == {evil}
        assert outcomes(list(resign(store, [PickleSerializer()]))).keys() == {"failed"}
        assert Attack.successes == 0

    def test_a_signed_state_does_not_become_that_of_another_job(
        self, make_secured: MakeStore
    ) -> None:
        store = make_secured(SignedSerializer(KEY))
        store.add_job(make_stored_job("evil", T0 + 90 * SECOND))
        fill(store)
        found = list(store.read_states())
        (evil,) = [state.data for state in found if state.job_id == "evil"]
        for state in found:
            assert store.replace_state(state, evil)

        store = make_secured(SignedSerializer(KEY))
        now = T0 + 70 * SECOND
        store.take_over(Identity().node, now)

        assert claimed_ids(claim(store, Identity(), now)) == []
        assert ids(store.get_all_jobs()) == ["evil"]
        records = store.get_job_records()
        assert [r.id for r in records if r.error is None] == ["evil"]

    def test_bytes_are_replaced_only_if_they_are_still_those_that_were_read(
        self, make_secured: MakeStore
    ) -> None:
        store = make_secured(PickleSerializer())
        fill(store)

        for state in list(store.read_states()):
            assert not store.replace_state(state._replace(data=b"other"), b"new")
            gone = StoredState("nothing", state.run_id, state.data, state.place)
            if state.run_id is None and state.place is None:
                assert not store.replace_state(gone, b"new")
            assert store.replace_state(state, state.data + b"\0")
            assert not store.replace_state(state, b"new")

        assert all(state.data.endswith(b".\0") for state in store.read_states())

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (PickleSerializer, lambda: SignedSerializer(KEY)),
            (PickleSerializer, SERIALIZERS["signed json"]),
            (lambda: SignedSerializer(OLD_KEY), PickleSerializer),
            (
                lambda: SignedSerializer(OLD_KEY),
                lambda: SignedSerializer(KEY, old_keys=[OLD_KEY]),
            ),
            (lambda: PickleSerializer(2), SERIALIZERS["json"]),
            (SERIALIZERS["json"], SERIALIZERS["signed json"]),
        ],
        ids=[
            *(
                "sign",
                "sign and JSON",
                "no longer sign",
                "new key",
                "JSON",
                "sign JSON",
            ),
        ],
    )
    def test_another_serializer_can_be_used_after_writing_everything_anew(
        self,
        make_secured: MakeStore,
        before: Callable[[], Serializer],
        after: Callable[[], Serializer],
    ) -> None:
        everything = {"job", "retried", "gone"}
        fill(make_secured(before()))
        store = make_secured(after())
        sources = [before()]

        tried = outcomes(list(resign(store, sources, dry_run=True)))
        first = outcomes(list(resign(store, sources)))
        again = outcomes(list(resign(store, sources)))

        assert tried == first == {"written": everything}
        assert again == {"current": everything}
        store = make_secured(after())
        store.take_over(Identity().node, T0 + 2 * LEASE)
        batch = claim(store, Identity(), T0 + 2 * LEASE + 60 * SECOND)
        assert set(claimed_ids(batch)) == everything
        assert ids(store.get_all_jobs())

    def test_what_is_not_known_is_not_signed(self, make_secured: MakeStore) -> None:
        fill(make_secured(PickleSerializer()))
        store = make_secured(SignedSerializer(KEY))
        before = sorted(state.data for state in store.read_states())

        found = list(resign(store, [SignedSerializer(OLD_KEY)]))

        assert outcomes(found) == {"failed": {"job", "retried", "gone"}}
        assert all("not signed" in str(each.error) for each in found)
        assert sorted(state.data for state in store.read_states()) == before

    def test_what_is_claimed_meanwhile_is_written_anew_all_the_same(
        self, make_secured: MakeStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store, signing = (
            make_secured(serializer)
            for serializer in (PickleSerializer(), SignedSerializer(KEY))
        )
        store.add_jobs([make_stored_job(id, T0, on_lost="retry") for id in "abc"])
        read_states = signing.read_states

        def read_while_others_claim() -> Iterator[StoredState]:
            found = list(read_states())
            claim(store, Identity())  # nothing when it is called again
            return iter(found)

        monkeypatch.setattr(signing, "read_states", read_while_others_claim)
        found = list(resign(signing, [PickleSerializer()]))

        assert outcomes(found) == {"written": {"a", "b", "c"}}
        times = {job.next_run_time for job in signing.get_all_jobs()}
        assert times == {T0 + 60 * SECOND}
