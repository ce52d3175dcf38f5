"""How fires are claimed in documents: what is refused, what is counted, what is left of a job while it runs."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pymongo
import pytest
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect, BulkWriteError

from apscheduler.job import Job
from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
from apscheduler.jobstores.contract import StoredJob
from apscheduler.jobstores.mongodb import MongoDBJobStore
from apscheduler.nodes import Identity
from apscheduler.runs import FireRange, Plan, RunFilter, RunState
from apscheduler.testing.jobs import add, make_stored_job
from apscheduler.testing.jobstores.basic import SECOND, T0, TICK, ids
from apscheduler.testing.jobstores.requests import (
    EVERYTHING,
    LEASE,
    claim,
    claimed_ids,
    completions,
    ready_run,
    run_again,
    run_every_minute,
    run_once,
    states,
)

MINUTE = timedelta(minutes=1)


@pytest.fixture
def store(proxy: Any, mongodb_database_name: str) -> Iterator[MongoDBJobStore]:
    store = MongoDBJobStore(mongodb_database_name, host=proxy.url)
    store.start(None, "mongo")
    yield store
    store.shutdown()


@pytest.fixture
def other(
    mongodb_url: str, mongodb_database_name: str, store: MongoDBJobStore
) -> Iterator[MongoDBJobStore]:
    other = MongoDBJobStore(mongodb_database_name, host=mongodb_url)
    other.start(None, "other")
    yield other
    other.shutdown()


# Round trips.


@pytest.mark.parametrize("number", [1, 150])
def test_a_claim_takes_the_same_number_of_commands_for_one_job_and_for_many(
    store: MongoDBJobStore, proxy: Any, number: int
) -> None:
    me = Identity()
    store.add_jobs([make_stored_job(f"{n:03}", T0) for n in range(number)])
    proxy.commands.clear()

    batch = claim(store, me, limit=200, lease_until=T0 + LEASE)

    assert len(batch.claims) == number
    # What there is, due jobs, lease, claims, what comes next.
    assert proxy.commands == [*["find"] * 3, "update", "update", "find", "find"]
    proxy.commands.clear()
    store.complete([one for found in batch.claims for one in completions(found, me)])
    assert proxy.commands == ["insert", "update"]


def test_an_idle_store_is_only_read(store: MongoDBJobStore, proxy: Any) -> None:
    store.add_job(make_stored_job("a", T0 + SECOND))
    proxy.commands.clear()

    assert claim(store, Identity()).next_run_time == T0 + SECOND
    store.take_over(Identity().node, T0)

    assert set(proxy.commands) == {"find"}


# Others are faster.


def test_of_a_batch_only_what_nobody_else_has_changed_is_claimed(
    store: MongoDBJobStore, other: MongoDBJobStore
) -> None:
    store.add_jobs([make_stored_job(name, T0) for name in "abcd"])

    def plan(job: Job) -> Plan:
        if job.id == "a":
            claim(other, Identity(), limit=1)
        elif job.id == "c":
            other.remove_job("c")
        return run_every_minute(job)

    batch = claim(store, Identity(), plan=plan)

    assert claimed_ids(batch) == ["b", "d"]
    assert batch.next_run_time == T0, "what has become of the others is looked at"
    assert len(states(store)) == 3


def test_a_claim_is_known_to_have_succeeded_when_the_job_was_changed_right_after_it(
    store: MongoDBJobStore, other: MongoDBJobStore, proxy: Any
) -> None:
    store.add_jobs([make_stored_job(name, T0) for name in "ab"])
    bulks: list[Any] = []

    def interfere(command: dict[str, Any]) -> str:
        if command.get("update") == "jobs":
            bulks.append(command)
            other.remove_job("b")  # so that what succeeded must be looked up
        elif bulks and command.get("find") == "jobs":
            other.update_job(make_stored_job("a", T0 + MINUTE, name="changed"))
            proxy.rule = lambda command: "pass"
        return "pass"

    proxy.rule = interfere

    batch = claim(store, Identity())

    assert claimed_ids(batch) == ["a"]
    assert [job.name for job in store.get_all_jobs()] == ["changed"]


def test_ready_runs_and_a_due_fire_of_one_job_are_claimed_together(
    store: MongoDBJobStore,
) -> None:
    me = Identity()
    store.add_job(make_stored_job("a", T0, max_instances=3))
    for second in (1, 2):
        run = ready_run(me, at=T0 - second * SECOND)
        store.add_ready_run(make_stored_job("a", max_instances=3), run)

    batch = claim(store, me)

    assert claimed_ids(batch) == ["a", "a", "a"]
    assert [found.ready for found in batch.claims] == [True, True, False]
    assert not any(found.skipped for found in batch.claims)
    assert states(store) == [RunState.RUNNING] * 3


@pytest.mark.parametrize("moment", ["before the due jobs are read", "after that"])
def test_a_ready_run_that_somebody_has_claimed_meanwhile_is_not_claimed_again(
    store: MongoDBJobStore, other: MongoDBJobStore, proxy: Any, moment: str
) -> None:
    me = Identity()
    store.add_job(make_stored_job("a", T0 - SECOND, max_instances=3))
    store.add_ready_run(make_stored_job("a", max_instances=3), ready_run(me))

    def claim_ready() -> None:
        assert claimed_ids(claim(other, Identity(), plan=lambda job: None)) == ["a"]

    def be_faster(command: dict[str, Any]) -> str:
        if "$lte" in command.get("filter", {}).get("next_run_time", ()):
            claim_ready()
        return "pass"

    def plan(job: Job) -> Plan:
        # Ready runs have been read by now.
        if moment == "after that":
            claim_ready()
        return run_every_minute(job)

    if moment == "before the due jobs are read":
        proxy.rule = be_faster
    batch = claim(store, me, plan=plan)
    proxy.rule = lambda command: "pass"

    assert not any(found.ready for found in batch.claims)
    again = claim(store, me)
    assert claimed_ids(batch) + claimed_ids(again) == ["a"]
    assert states(store) == [RunState.RUNNING] * 2


def test_a_batch_says_that_ready_runs_wait_for_an_instance(
    store: MongoDBJobStore,
) -> None:
    me = Identity()
    store.add_job(make_stored_job("a", T0))
    (running,) = claim(store, me).claims
    store.add_ready_run(make_stored_job("a"), ready_run(me))

    assert claim(store, me).waiting
    freed = claim(store, me, completions=completions(running, me))
    assert (claimed_ids(freed), freed.waiting) == (["a"], False)


def test_a_job_that_3x_has_moved_is_not_claimed_at_its_old_time(
    store: MongoDBJobStore,
) -> None:
    store.add_job(make_stored_job("a", T0))
    moved = {"$set": {"next_run_time": (T0 + MINUTE).timestamp()}}

    def plan(job: Job) -> Plan:
        store.collection.update_one({"_id": "a"}, moved)
        return run_every_minute(job)

    assert claimed_ids(claim(store, Identity(), plan=plan)) == []
    assert store.get_next_run_time() == T0 + MINUTE


def test_a_run_that_was_handed_back_is_not_handed_back_by_another_attempt(
    store: MongoDBJobStore,
) -> None:
    me, dead = Identity(), Identity()
    store.add_job(make_stored_job("a", T0, on_lost="retry"))
    (found,) = claim(store, dead, plan=run_once, lease_until=T0).claims
    store.take_over(me.node, T0 + SECOND)
    (again,) = claim(store, me, T0 + SECOND).claims
    assert again.run_times.attempt == 2

    store.hand_back([found])

    assert states(store) == [RunState.RUNNING]


# The last fire.


@pytest.fixture
def last(store: MongoDBJobStore) -> tuple[Any, Identity]:
    """The claim of the last fire of a job, and who has claimed it."""
    me = Identity()
    store.add_job(make_stored_job("a", T0, name="old", on_lost="retry"))
    (found,) = claim(store, me, plan=run_once, lease_until=T0 + LEASE).claims
    return found, me


def test_a_job_whose_last_fire_runs_is_not_seen(
    store: MongoDBJobStore, last: tuple[Any, Identity]
) -> None:
    assert store.lookup_job("a") is None
    assert store.read_job("a") is None
    assert store.get_all_jobs() == store.get_job_records() == []
    assert store.get_next_run_time() is None
    with pytest.raises(JobLookupError):
        store.update_job(make_stored_job("a"))
    with pytest.raises(JobLookupError):
        store.remove_job("a")
    store.remove_all_jobs()
    assert states(store) == [RunState.RUNNING]


def test_its_document_goes_with_the_run(
    store: MongoDBJobStore, last: tuple[Any, Identity]
) -> None:
    assert store.collection.count_documents({}) == 1

    store.complete(completions(*last))

    assert store.collection.count_documents({}) == 0
    assert states(store) == [RunState.SUCCEEDED]


def test_its_identifier_is_free_for_another_job(
    store: MongoDBJobStore, last: tuple[Any, Identity]
) -> None:
    store.add_job(make_stored_job("a", T0 + SECOND, name="new"))

    with pytest.raises(ConflictingIdError):
        store.add_job(make_stored_job("a"))
    with pytest.raises(ConflictingIdError):
        store.add_jobs([make_stored_job("b"), make_stored_job("a")])
    # The run of the other job counts: they are one to those who look at runs.
    (found,) = claim(store, Identity(), T0 + SECOND).claims
    assert found.skipped
    store.complete(completions(*last))
    assert [job.name for job in store.get_all_jobs()] == ["new"]


def test_it_is_repeated_as_it_was_when_another_job_has_its_identifier(
    store: MongoDBJobStore, last: tuple[Any, Identity]
) -> None:
    store.add_job(make_stored_job("a", name="new"))

    store.take_over(Identity().node, T0 + 2 * LEASE)

    (found,) = claim(store, Identity(), T0 + 2 * LEASE).claims
    assert (found.ready, found.job.name) == (True, "old")


def test_a_job_that_is_removed_while_it_runs_can_still_be_repeated(
    store: MongoDBJobStore,
) -> None:
    dead = Identity()
    store.add_job(make_stored_job("a", T0, on_lost="retry"))
    claim(store, dead, lease_until=T0 + LEASE)

    store.remove_job("a")

    assert store.get_all_jobs() == []
    store.take_over(Identity().node, T0 + 2 * LEASE)
    (found,) = claim(store, Identity(), T0 + 2 * LEASE).claims
    assert found.job.func is add


def test_a_job_that_was_missed_for_the_last_time_leaves_only_that(
    store: MongoDBJobStore,
) -> None:
    for name, history in (("a", None), ("b", 0)):
        store.add_job(make_stored_job(name, T0, history=history))
    plan = Plan([], None, missed=FireRange(T0, T0, 1))

    batch = claim(store, Identity(), plan=lambda job: plan)

    assert [found.is_finished for found in batch.claims] == [True, True]
    assert store.collection.count_documents({}) == 0
    assert [run.job_id for run in store.get_runs(EVERYTHING, 9)] == ["a"]


# Others are faster with a job that has runs, of which the document is changed rather than deleted.


@pytest.fixture
def running(store: MongoDBJobStore) -> StoredJob:
    """The record of a job that has an open run."""
    store.add_job(make_stored_job("a", T0))
    claim(store, Identity())
    stored = store.read_job("a")
    assert stored is not None
    return stored


def at_next_change(proxy: Any, action: Callable[[], object], fate: str) -> None:
    """Do something before the next change of jobs arrives, and let that pass or be cut off."""

    def rule(command: dict[str, Any]) -> str:
        if command.get("update") != "jobs":
            return "pass"
        proxy.rule = lambda command: "pass"
        action()
        return fate

    proxy.rule = rule


@pytest.mark.parametrize("fate", ["pass", "cut before", "cut after"])
def test_a_job_that_moves_on_while_it_is_discarded_is_not_said_to_be_gone(
    store: MongoDBJobStore,
    other: MongoDBJobStore,
    proxy: Any,
    running: StoredJob,
    fate: str,
) -> None:
    at_next_change(proxy, lambda: claim(other, Identity(), T0 + MINUTE), fate)

    assert not store.discard_job(running)

    assert ids(store.get_all_jobs()) == ["a"]


@pytest.mark.parametrize("fate", ["cut before", "cut after"])
def test_a_job_is_discarded_though_an_answer_gets_lost(
    store: MongoDBJobStore, proxy: Any, running: StoredJob, fate: str
) -> None:
    at_next_change(proxy, lambda: None, fate)

    assert store.discard_job(running)

    assert store.get_all_jobs() == []
    assert states(store) == [RunState.RUNNING]


def test_a_copy_that_somebody_else_has_replaced_first_is_not_said_to_be_replaced(
    store: MongoDBJobStore, other: MongoDBJobStore, proxy: Any
) -> None:
    store.add_ready_run(make_stored_job("a"), ready_run(Identity()))
    (state,) = store.read_states()
    at_next_change(proxy, lambda: other.replace_state(state, b"theirs"), "pass")

    assert not store.replace_state(state, b"mine")

    assert [each.data for each in store.read_states()] == [b"theirs"]


# Taken for dead, and back.


@pytest.mark.parametrize("on_lost", ["mark", "retry"])
def test_what_a_node_has_claimed_since_it_is_back_is_not_taken_from_it(
    store: MongoDBJobStore, other: MongoDBJobStore, proxy: Any, on_lost: str
) -> None:
    late, again = Identity(), T0 + SECOND
    store.add_job(make_stored_job("a", T0, on_lost=on_lost))
    (first,) = claim(store, late, lease_until=T0).claims
    claimed: list[Any] = []

    def come_back() -> None:
        other.hand_back([first])
        claimed.extend(claim(other, late, again, lease_until=T0 + LEASE).claims)

    at_next_change(proxy, come_back, "pass")

    assert store.take_over(Identity().node, again) == []

    assert [found.ready for found in claimed] == [True]
    assert states(store) == [RunState.RUNNING]
    other.complete(completions(claimed[0], late))
    assert states(store) == [RunState.SUCCEEDED]


def test_a_node_that_is_back_does_not_touch_what_is_being_taken(
    store: MongoDBJobStore, other: MongoDBJobStore, proxy: Any
) -> None:
    late, again = Identity(), T0 + SECOND
    for name in "ab":
        store.add_job(make_stored_job(name, T0))
    batch = claim(store, late, lease_until=T0)
    ended = completions(batch.claims[0], late)

    changes: list[Any] = []

    def come_back(command: dict[str, Any]) -> str:
        if command.get("update") == "jobs":
            changes.append(command)
            if len(changes) == 2:  # by the first, it is known that they are being taken
                other.renew_lease(late.node, T0 + LEASE)
                other.complete(ended)
                other.hand_back(batch.claims)
        return "pass"

    proxy.rule = come_back

    taken = store.take_over(Identity().node, again)

    assert len(changes) == 2
    assert [run.job_id for run in taken] == ["a", "b"]
    assert states(store) == [RunState.LOST] * 2
    assert claim(other, late, again).claims == []


def test_what_nobody_has_finished_taking_is_taken_though_its_node_is_back(
    store: MongoDBJobStore, other: MongoDBJobStore, proxy: Any
) -> None:
    late, again = Identity(), T0 + SECOND
    store.add_job(make_stored_job("a", T0))
    claim(store, late, lease_until=T0)
    proxy.rule = lambda command: "cut before" if "insert" in command else "pass"
    with pytest.raises(AutoReconnect):
        store.take_over(Identity().node, again)
    other.renew_lease(late.node, T0 + LEASE)

    (taken,) = other.take_over(late.node, again)

    assert (taken.job_id, taken.state, taken.node) == ("a", RunState.LOST, late.node.id)
    assert states(other) == [RunState.LOST]


# Adding.


def test_a_conflict_that_appears_while_many_are_added_takes_back_the_others(
    store: MongoDBJobStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    me = Identity()
    store.add_jobs([make_stored_job("left", T0), make_stored_job("taken")])
    claim(store, me, plan=run_once)
    monkeypatch.setattr(store, "_find_taken", lambda ids: [])  # it was not there then

    with pytest.raises(ConflictingIdError, match="'taken'"):
        store.add_jobs([make_stored_job(name, T0) for name in ("x", "left", "taken")])

    assert ids(store.get_all_jobs()) == ["taken"]
    assert states(store) == [RunState.RUNNING]
    assert store.collection.count_documents({}) == 2


def test_a_job_that_is_too_large_is_refused(store: MongoDBJobStore) -> None:
    with pytest.raises(ValueError, match=r"'big' takes \d+ bytes"):
        store.add_job(make_stored_job("big", args=(b"x" * 16_000_000, 2)))

    assert store.get_all_jobs() == []


# Outcomes.


def test_any_text_can_be_the_outcome(store: MongoDBJobStore) -> None:
    me = Identity()
    store.add_job(make_stored_job("a", T0))
    (found,) = claim(store, me).claims

    store.complete(
        completions(found, me, RunState.FAILED, exception="\ud800", traceback="ä\0")
    )

    (run,) = store.get_runs(EVERYTHING, 1)
    assert (run.exception, run.traceback) == ("\\ud800", "ä\0")


def test_who_was_taken_for_dead_does_not_change_the_record_of_a_later_attempt(
    store: MongoDBJobStore, other: MongoDBJobStore
) -> None:
    slow, me = Identity(), Identity()
    store.add_job(make_stored_job("a", T0, on_lost="retry", max_instances=9))
    (first,) = claim(store, slow, plan=run_again, lease_until=T0).claims
    other.take_over(me.node, T0 + SECOND)
    again = next(c for c in claim(other, me, T0 + SECOND).claims if c.ready)
    late = completions(first, slow, RunState.FAILED)

    store.complete(late)
    during = other.get_runs(RunFilter(states=frozenset([RunState.RUNNING])), 9)
    other.complete(completions(again, me))
    store.complete(late)

    assert again.run_times.run_ids[0] in [run.id for run in during]
    (record,) = [
        run
        for run in other.get_runs(EVERYTHING, 9)
        if run.id == first.run_times.run_ids[0]
    ]
    assert (record.state, record.attempt) == (RunState.SUCCEEDED, 2)


def test_a_run_whose_outcome_was_recorded_just_before_the_crash_is_not_repeated(
    store: MongoDBJobStore, other: MongoDBJobStore, proxy: Any
) -> None:
    dead, me = Identity(), Identity()
    for name, on_lost in (("a", "retry"), ("b", "mark")):
        store.add_job(make_stored_job(name, T0, on_lost=on_lost))
    batch = claim(store, dead, lease_until=T0)
    ended = [one for found in batch.claims for one in completions(found, dead)]
    proxy.rule = lambda command: "cut before" if "update" in command else "pass"

    with pytest.raises(AutoReconnect):
        store.complete(ended)

    assert other.take_over(me.node, T0 + SECOND) == []
    assert states(other) == [RunState.SUCCEEDED] * 2
    assert claim(other, me, T0 + SECOND).claims == []


def test_a_node_that_shows_that_it_is_alive_at_the_last_moment_keeps_its_runs(
    store: MongoDBJobStore, other: MongoDBJobStore, proxy: Any
) -> None:
    late = Identity()
    store.add_job(make_stored_job("a", T0))
    claim(store, late, lease_until=T0)

    def renew(command: dict[str, Any]) -> str:
        if command.get("delete") == "jobs_nodes":
            other.renew_lease(late.node, T0 + LEASE)
        return "pass"

    proxy.rule = renew

    assert store.take_over(Identity().node, T0 + SECOND) == []
    assert states(store) == [RunState.RUNNING]


def test_a_job_with_a_limit_of_its_own_keeps_so_many_runs(
    store: MongoDBJobStore,
) -> None:
    me = Identity()
    for name, history in (("a", 2), ("b", None)):
        store.add_job(make_stored_job(name, T0, history=history))
    for number in range(4):
        batch = claim(store, me, T0 + number * TICK, run_again)
        store.complete([one for c in batch.claims for one in completions(c, me)])

    assert store.prune_runs(None, 3, T0) == 3

    assert len(states(store, "a")) == 2
    assert len(states(store, "b")) == 3


# What subclasses rely on.


def test_a_subclass_can_look_for_jobs_and_make_them_in_a_way_of_its_own(
    mongodb_url: str, mongodb_database_name: str
) -> None:
    class Renaming(MongoDBJobStore):
        def _reconstitute_job(self, job_state: Any) -> Job:
            job = super()._reconstitute_job(job_state)
            job.name = "made by me"
            return job

    store = Renaming(mongodb_database_name, host=mongodb_url)
    store.start(None, "mongo")
    store.add_jobs([make_stored_job("a", T0), make_stored_job("b", T0 + SECOND)])

    found = store._get_jobs({"next_run_time": {"$gt": T0.timestamp()}})

    assert [(job.id, job.name) for job in found] == [("b", "made by me")]
    assert claim(store, Identity()).claims[0].job.name == "made by me"
    store.shutdown()


def test_when_the_server_refuses_some_of_many_none_is_added(
    store: MongoDBJobStore, proxy: Any
) -> None:
    def refuse(command: dict[str, Any]) -> Any:
        if "insert" not in command:
            return "pass"
        documents = command["documents"][:1]
        with pymongo.MongoClient[dict[str, Any]](*proxy.target) as client:
            client[command["$db"]][command["insert"]].insert_many(documents)
        error = {"index": 1, "code": 14031, "errmsg": "Not enough space on the disk"}
        return {"ok": 1.0, "n": 1, "writeErrors": [error]}

    proxy.rule = refuse

    with pytest.raises(BulkWriteError):
        store.add_jobs([make_stored_job("a"), make_stored_job("b")])

    assert store.get_all_jobs() == []


def test_a_job_whose_addition_got_no_answer_and_that_has_run_is_not_added_again(
    store: MongoDBJobStore, other: MongoDBJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    me, insert = Identity(), Collection.insert_one

    def lose_answer(self: Any, document: Any) -> None:
        monkeypatch.undo()
        insert(self, document)
        for found in claim(other, me, plan=run_once).claims:
            other.complete(completions(found, me))
        raise AutoReconnect("cut")

    monkeypatch.setattr(Collection, "insert_one", lose_answer)
    store.add_job(make_stored_job("a", T0))

    assert store.get_all_jobs() == []
    assert states(store) == [RunState.SUCCEEDED]
