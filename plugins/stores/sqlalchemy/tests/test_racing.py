"""Claims at the same moment: one of them starts a run, the others leave it and come back soon.

The plan for a job is asked for while the claim holds its locks: another claim in there is one at the same moment.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Connection, create_engine, text

from apscheduler.job import Job
from apscheduler.jobstores.base import ConflictingIdError
from apscheduler.jobstores.contract import ClaimBatch
from apscheduler.jobstores.sqlalchemy import (
    LONGEST_LOCK_PAUSE_SECONDS,
    SQLAlchemyJobStore,
)
from apscheduler.nodes import Identity
from apscheduler.runs import Completion, Plan, RunState
from apscheduler.testing.jobs import PATIENCE, make_stored_job
from apscheduler.testing.jobstores.basic import SECOND, T0
from apscheduler.testing.jobstores.requests import (
    EVERYTHING,
    LEASE,
    claim,
    claimed_ids,
    completions,
    ready_run,
    run_every_minute,
    run_once,
    states,
)

MINUTE = timedelta(minutes=1)
SERVERS = ["postgresql_database_url", "mysql_database_url"]


@pytest.fixture(params=SERVERS)
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def other(url: str, store: SQLAlchemyJobStore) -> Iterator[SQLAlchemyJobStore]:
    other = SQLAlchemyJobStore(url)
    other.start(None, "other")
    yield other
    other.shutdown()


class Meanwhile:
    """Does something the first time it is asked about a job, while the claim that asks holds its locks."""

    def __init__(self, action: Callable[[], Any]):
        self.action = action
        self.found: list[Any] = []

    def plan(self, job: Job) -> Plan:
        self.accepts(job)
        return run_every_minute(job)

    def accepts(self, job: Job) -> bool:
        if not self.found:
            self.found.append(self.action())
        return True


def claim_while(
    store: SQLAlchemyJobStore, action: Callable[[], Any], **options: Any
) -> tuple[ClaimBatch, Any]:
    """Return what a claim finds, and what happens in the midst of it."""
    meanwhile = Meanwhile(action)
    batch = claim(
        store, Identity(), plan=meanwhile.plan, accepts=meanwhile.accepts, **options
    )
    (found,) = meanwhile.found
    return batch, found


def test_what_another_claim_holds_is_left_and_looked_at_again_soon(
    store: SQLAlchemyJobStore, other: SQLAlchemyJobStore
) -> None:
    store.add_job(make_stored_job("a", T0))

    batch, late = claim_while(store, lambda: claim(other, Identity()))

    assert claimed_ids(batch) == ["a"]
    assert claimed_ids(late) == []
    assert not late.more
    assert T0 < late.next_run_time <= T0 + timedelta(seconds=0.1)
    # There is nothing to be seen of it later.
    assert claim(other, Identity()).next_run_time == T0 + MINUTE


def test_who_finds_nothing_but_locks_does_not_spin(
    store: SQLAlchemyJobStore, other: SQLAlchemyJobStore
) -> None:
    store.add_job(make_stored_job("a", T0))

    def look_often() -> list[float]:
        batches = [claim(other, Identity()) for _ in range(8)]
        times = [batch.next_run_time or T0 for batch in batches]
        return [(time - T0).total_seconds() for time in times]

    _, pauses = claim_while(store, look_often)

    assert pauses[0] < 0.1
    assert pauses[-1] >= LONGEST_LOCK_PAUSE_SECONDS / 2
    assert sum(pauses) > 1


def test_the_jobs_that_others_do_not_hold_are_claimed(
    store: SQLAlchemyJobStore, other: SQLAlchemyJobStore
) -> None:
    store.add_jobs([make_stored_job(f"{n}", T0 + n * SECOND) for n in range(9)])
    now = T0 + 9 * SECOND

    batch, theirs = claim_while(
        store, lambda: claim(other, Identity(), now), now=now, limit=3
    )

    assert claimed_ids(batch) == ["0", "1", "2"]
    # The first claim has seen one more than it may take.
    assert claimed_ids(theirs) == ["4", "5", "6", "7", "8"]
    assert theirs.next_run_time < now + SECOND
    assert claimed_ids(claim(other, Identity(), now)) == ["3"]


def test_all_pages_of_a_claim_leave_out_what_is_held(
    store: SQLAlchemyJobStore,
    other: SQLAlchemyJobStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("apscheduler.jobstores.claiming.PAGE_SIZE", 3)
    store.add_jobs([make_stored_job(f"{n:02}", T0) for n in range(20)])

    batch, theirs = claim_while(store, lambda: claim(other, Identity()), limit=2)

    assert claimed_ids(batch) == ["00", "01"]
    assert claimed_ids(theirs) == [f"{n:02}" for n in range(3, 20)]


def test_a_ready_run_of_a_job_that_is_being_claimed_waits(
    store: SQLAlchemyJobStore, other: SQLAlchemyJobStore
) -> None:
    job = make_stored_job("a", T0)
    store.add_job(job)
    store.add_ready_run(job, ready_run(Identity(), at=T0 + SECOND))
    now = T0 + 2 * SECOND

    # The first to be asked about is the due job, as it has waited longer.
    batch, theirs = claim_while(store, lambda: claim(other, Identity(), now), now=now)

    assert (claimed_ids(batch), batch.claims[0].ready) == (["a"], False)
    assert claimed_ids(theirs) == []
    assert theirs.next_run_time < now + SECOND
    assert states(store).count(RunState.RUNNING) == 1


def test_a_job_is_not_claimed_while_its_ready_run_is(
    store: SQLAlchemyJobStore, other: SQLAlchemyJobStore
) -> None:
    job = make_stored_job("a", T0 + SECOND)
    store.add_job(job)
    store.add_ready_run(job, ready_run(Identity(), at=T0))
    now = T0 + 2 * SECOND

    batch, theirs = claim_while(
        store, lambda: claim(other, Identity(), now), now=now, limit=1
    )

    assert [found.ready for found in batch.claims] == [True]
    assert claimed_ids(theirs) == []
    assert theirs.next_run_time < now + SECOND
    (skipped,) = claim(other, Identity(), now).claims
    assert skipped.skipped


@pytest.mark.parametrize("limit", [1, 9])
def test_two_ready_runs_of_a_job_that_is_gone_start_one_after_the_other(
    store: SQLAlchemyJobStore, other: SQLAlchemyJobStore, limit: int
) -> None:
    job = make_stored_job("a")
    for second in range(4):
        store.add_ready_run(job, ready_run(Identity(), at=T0 + second * SECOND))
    now = T0 + MINUTE

    batch, theirs = claim_while(
        store, lambda: claim(other, Identity(), now), now=now, limit=limit
    )

    assert (claimed_ids(batch), claimed_ids(theirs)) == (["a"], [])
    after = claim(other, Identity(), now)
    assert (claimed_ids(after), after.waiting) == ([], True)
    assert states(store).count(RunState.RUNNING) == 1


def test_a_job_that_is_added_again_waits_for_the_claim_of_its_ready_run(
    store: SQLAlchemyJobStore, other: SQLAlchemyJobStore
) -> None:
    store.add_ready_run(make_stored_job("a"), ready_run(Identity()))

    def add_and_claim() -> ClaimBatch:
        other.add_job(make_stored_job("a", T0))
        return claim(other, Identity())

    batch, theirs = claim_while(store, add_and_claim)

    assert (claimed_ids(batch), claimed_ids(theirs)) == (["a"], [])
    assert states(store) == [RunState.RUNNING]
    (found,) = claim(other, Identity()).claims
    assert found.skipped


def test_a_ready_run_that_comes_while_its_job_is_claimed_waits(
    store: SQLAlchemyJobStore, other: SQLAlchemyJobStore
) -> None:
    job = make_stored_job("a", T0)
    store.add_job(job)

    def add_and_claim() -> ClaimBatch:
        other.add_ready_run(job, ready_run(Identity()))
        return claim(other, Identity())

    batch, theirs = claim_while(store, add_and_claim)

    assert (claimed_ids(batch), claimed_ids(theirs)) == (["a"], [])
    assert claim(other, Identity()).waiting


def test_many_instances_are_counted_while_all_claim_at_once(
    url: str, store: SQLAlchemyJobStore, other: SQLAlchemyJobStore
) -> None:
    """Due and ready runs of few jobs, claimed and completed by four threads: never more at a time than allowed."""
    allowed = {"one": 1, "two": 2}
    for name, number in allowed.items():
        job = make_stored_job(name, T0, max_instances=number)
        store.add_job(job)
        for second in range(15):
            at = T0 + second * SECOND
            store.add_ready_run(job, ready_run(Identity(), name, at))
    store.add_job(make_stored_job("three", T0, max_instances=3))
    now, lock = T0 + 30 * SECOND, threading.Lock()
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()
    failures: list[BaseException] = []

    def plan(job: Job) -> Plan:
        assert job.next_run_time is not None
        return Plan([job.next_run_time], job.next_run_time + SECOND)

    def work(store: SQLAlchemyJobStore) -> None:
        me = Identity()
        for _ in range(25):
            batch = claim(store, me, now, plan, limit=2)
            started = [found for found in batch.claims if found.run_times]
            with lock:
                for found in started:
                    running[found.job.id] += 1
                    most[found.job.id] = max(most[found.job.id], running[found.job.id])
            outcomes: list[Completion] = []
            for found in started:
                outcomes += completions(found, me)
            with lock:  # before it can be seen by others
                running.subtract(found.job.id for found in started)
            store.complete(outcomes)

    def guard(store: SQLAlchemyJobStore) -> None:
        try:
            work(store)
        except BaseException as exc:
            failures.append(exc)

    threads = [
        threading.Thread(target=guard, args=(each,)) for each in (store, other) * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)

    assert not failures
    assert all(most[name] <= number for name, number in allowed.items()), most
    assert most["three"] <= 3
    runs = store.get_runs(EVERYTHING, 1000)
    assert RunState.RUNNING not in {run.state for run in runs}
    assert len({run.id for run in runs}) == len(runs)


def in_thread(action: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    results: list[Any] = []

    def work() -> None:
        try:
            results.append(action())
        except Exception as exc:
            results.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, results


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"name": "new"}, True, id="without the run time"),
        pytest.param({"next_run_time": T0 + SECOND}, False, id="with the run time"),
    ],
)
def test_a_change_waits_for_a_claim_and_does_not_undo_it(
    store: SQLAlchemyJobStore,
    other: SQLAlchemyJobStore,
    changes: dict[str, Any],
    expected: bool,
) -> None:
    store.add_job(make_stored_job("a", T0))
    stored = other.read_job("a")
    assert stored is not None
    waiting: list[tuple[threading.Thread, list[Any]]] = []

    def change() -> None:
        waiting.append(in_thread(lambda: other.change_job(stored, changes)))
        waiting[0][0].join(0.1)
        assert not waiting[0][1], "it has not waited"

    claim_while(store, change)
    thread, results = waiting[0]
    thread.join(PATIENCE)

    assert results == [expected]
    after = store.lookup_job("a")
    assert after is not None
    assert after.next_run_time == T0 + MINUTE


def test_a_job_that_is_removed_while_it_is_claimed_is_gone(
    store: SQLAlchemyJobStore, other: SQLAlchemyJobStore
) -> None:
    store.add_job(make_stored_job("a", T0))
    waiting: list[tuple[threading.Thread, list[Any]]] = []

    batch, _ = claim_while(
        store, lambda: waiting.append(in_thread(lambda: other.remove_job("a")))
    )
    waiting[0][0].join(PATIENCE)

    assert claimed_ids(batch) == ["a"]
    assert waiting[0][1] == [None]
    assert store.get_all_jobs() == []


def test_dead_nodes_are_taken_over_by_one_of_many(
    store: SQLAlchemyJobStore, other: SQLAlchemyJobStore
) -> None:
    for number in range(20):
        store.add_job(
            make_stored_job(f"{number}", T0, on_lost=["mark", "retry"][number % 2])
        )
        claim(store, Identity(), plan=run_once, lease_until=T0 + LEASE)
    barrier = threading.Barrier(4)

    def take_over(store: SQLAlchemyJobStore) -> list[str]:
        barrier.wait(PATIENCE)
        return [run.id for run in store.take_over(Identity().node, T0 + 2 * LEASE)]

    threads = [
        in_thread(lambda each=each: take_over(each))  # type: ignore[misc]
        for each in (store, other) * 2
    ]
    for thread, _ in threads:
        thread.join(PATIENCE)

    taken = [run_id for _, (run_ids,) in threads for run_id in run_ids]
    assert len(taken) == len(set(taken)) == 20
    assert Counter(states(store)) == {RunState.LOST: 10, RunState.READY: 10}


def test_a_lease_that_is_renewed_in_time_is_not_taken_over(
    store: SQLAlchemyJobStore, other: SQLAlchemyJobStore
) -> None:
    alive = Identity()
    store.add_job(make_stored_job("a", T0))
    claim(store, alive, plan=run_once, lease_until=T0 + LEASE)
    now = T0 + 2 * LEASE
    nodes = other._storage.nodes
    suspected = nodes.find_dead

    def find_and_renew(*args: Any) -> list[str]:
        found = suspected(*args)
        store.renew_lease(alive.node, now + LEASE)
        return found

    nodes.find_dead = find_and_renew  # type: ignore[method-assign, assignment]
    try:
        assert other.take_over(Identity().node, now) == []
    finally:
        del nodes.find_dead

    assert states(store) == [RunState.RUNNING]


def test_of_two_who_add_the_same_jobs_one_succeeds(
    store: SQLAlchemyJobStore, other: SQLAlchemyJobStore
) -> None:
    forwards = [f"{n:03}" for n in range(200)]
    barrier = threading.Barrier(2)

    def add(store: SQLAlchemyJobStore, ids: list[str]) -> str:
        jobs = [make_stored_job(job_id, T0) for job_id in ids]
        barrier.wait(PATIENCE)
        try:
            store.add_jobs(jobs)
        except ConflictingIdError:
            return "conflict"
        return "added"

    first = in_thread(lambda: add(store, forwards))
    second = in_thread(lambda: add(other, forwards[::-1]))
    for thread, _ in (first, second):
        thread.join(PATIENCE)

    assert sorted(first[1] + second[1]) == ["added", "conflict"]
    assert len(store.get_all_jobs()) == 200


def test_a_transaction_that_ends_in_a_deadlock_is_repeated(
    url: str, store: SQLAlchemyJobStore
) -> None:
    me = Identity()
    store.add_jobs([make_stored_job(job_id, T0) for job_id in "ab"])
    outcomes = sorted(
        (o for found in claim(store, me).claims for o in completions(found, me)),
        key=lambda outcome: outcome.run_id,
    )
    lock = text("UPDATE apscheduler_jobs_runs SET duration = 1 WHERE id = :id")
    engine = create_engine(url)
    with engine.begin() as connection:
        # Whoever has written more is spared.
        for number in range(20):
            insert = text(
                "INSERT INTO apscheduler_jobs_nodes VALUES (:id, '', '', 0, 1e12)"
            )
            connection.execute(insert, {"id": f"{number}"})
        connection.execute(lock, {"id": outcomes[1].run_id})
        thread, results = in_thread(lambda: store.complete(outcomes))
        thread.join(0.2)
        connection.execute(lock, {"id": outcomes[0].run_id})
    thread.join(PATIENCE)
    engine.dispose()

    assert results == [None]
    assert states(store) == 2 * [RunState.SUCCEEDED]


def isolation_of(connection: Connection) -> str:
    raw: Any = connection.connection.driver_connection
    if raw.autocommit is True or getattr(raw, "get_autocommit", bool)():
        return "AUTOCOMMIT"
    return connection.get_isolation_level()


forgets_autocommit = pytest.mark.skipif(
    tuple(map(int, sqlalchemy.__version__.split(".")[:3])) < (2, 0, 20),
    reason="this release of SQLAlchemy does not restore it by itself",
)


@pytest.mark.parametrize(
    "level",
    [
        "REPEATABLE READ",
        "SERIALIZABLE",
        pytest.param("AUTOCOMMIT", marks=forgets_autocommit),
    ],
)
@pytest.mark.parametrize("is_own", [True, False])
def test_the_isolation_of_an_engine_does_not_matter(
    url: str, store: SQLAlchemyJobStore, level: str, is_own: bool
) -> None:
    engine = create_engine(url, isolation_level=level)
    with engine.connect() as connection:
        seen_before = isolation_of(connection)
    if is_own:
        strict = SQLAlchemyJobStore(url, engine_options={"isolation_level": level})
    else:
        strict = SQLAlchemyJobStore(engine=engine)
    strict.start(None, "strict")
    job = make_stored_job("a", T0, max_instances=1)
    strict.add_job(job)

    # The first statement of a claim would be the moment at which others are seen.
    batch, theirs = claim_while(strict, lambda: claim(store, Identity()))
    with strict._database.write(strict.jobs_t) as connection:
        count = strict._storage.runs.count_open
        before = count(connection, ["a"])
        store.complete(
            [
                Completion(run.id, "a", run.node, 1, RunState.SUCCEEDED, T0)  # type: ignore[arg-type]
                for run in store.get_runs(EVERYTHING, 9)
            ]
        )
        after = count(connection, ["a"])
    strict.get_all_jobs()
    with strict.engine.connect() as connection:
        seen_after = isolation_of(connection)
    strict.shutdown()
    strict.engine.dispose()
    engine.dispose()

    assert (claimed_ids(batch), claimed_ids(theirs)) == (["a"], [])
    assert (before.claims, after.claims) == ({"a": 1}, {})
    assert seen_after == seen_before
