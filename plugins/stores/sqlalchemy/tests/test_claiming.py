"""How claims use the database, and what is cached between them."""

import pickle
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import event, update

from apscheduler.job import Job
from apscheduler.jobstores import records, restore
from apscheduler.jobstores.contract import ClaimBatch, ClaimRequest
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore, runs
from apscheduler.nodes import Identity
from apscheduler.runs import Completion, Plan, Run, RunFilter, RunState
from apscheduler.serializers import PickleSerializer
from apscheduler.testing import jobs
from apscheduler.testing.jobs import add, make_stored_job

T0 = datetime(2026, 6, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class CountingSerializer(PickleSerializer):
    """Counts how often states are read."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded = 0

    def loads(self, data: bytes) -> dict[str, Any]:
        self.loaded += 1
        return super().loads(data)


@pytest.fixture
def serializer() -> CountingSerializer:
    return CountingSerializer()


@pytest.fixture
def store(
    tmp_path: Path, serializer: CountingSerializer
) -> Iterator[SQLAlchemyJobStore]:
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    store = SQLAlchemyJobStore(url, serializer=serializer)
    store.start(None, "sql")
    yield store
    store.shutdown()


@pytest.fixture
def statements(store: SQLAlchemyJobStore) -> list[str]:
    """Return the list that statements are noted in from now on."""
    noted: list[str] = []

    @event.listens_for(store.engine, "before_cursor_execute")
    def note(connection: Any, cursor: Any, statement: str, *others: Any) -> None:
        noted.append(statement)

    return noted


def plan_next_minute(job: Job) -> Plan:
    assert job.next_run_time is not None
    return Plan([job.next_run_time], job.next_run_time + MINUTE)


def claim(
    store: SQLAlchemyJobStore,
    me: Identity,
    now: datetime = T0,
    limit: int = 400,
    **options: Any,
) -> ClaimBatch:
    return store.claim(ClaimRequest(now, limit, plan_next_minute, me, **options))


def outcomes(batch: ClaimBatch, me: Identity) -> list[Completion]:
    return [
        Completion(run_id, claim.job.id, me.node.id, 1, RunState.SUCCEEDED, T0)
        for claim in batch.claims
        for run_id in claim.run_times.run_ids
    ]


@pytest.mark.parametrize("count", [1, 30, 300])
def test_a_batch_takes_the_same_statements_whatever_its_size(
    store: SQLAlchemyJobStore, statements: list[str], count: int
) -> None:
    me = Identity()
    store.add_jobs([make_stored_job(f"{n}", T0) for n in range(count)])
    first = claim(store, me, lease_until=T0 + MINUTE)
    statements.clear()

    second = claim(
        store,
        me,
        T0 + MINUTE,
        completions=outcomes(first, me),
        lease_until=T0 + 2 * MINUTE,
    )

    assert len(second.claims) == count
    kinds = [statement.split()[0] for statement in statements]
    assert kinds == [
        "BEGIN",
        "UPDATE",  # completions
        "SELECT",  # ready runs
        "SELECT",  # due jobs
        "SELECT",  # their open claims
        "UPDATE",  # run times
        "INSERT",  # runs
        "UPDATE",  # the lease
        "SELECT",  # what comes next
    ]


def test_an_idle_claim_is_one_query_that_uses_indexes(
    store: SQLAlchemyJobStore, statements: list[str]
) -> None:
    me = Identity()
    store.add_job(make_stored_job("a", T0 + MINUTE))
    store.add_ready_run(
        make_stored_job("b"),
        Run("1", "b", None, RunState.READY, T0 + 2 * MINUTE),
    )
    statements.clear()

    batch = claim(store, me)

    assert batch == ClaimBatch(next_run_time=T0 + MINUTE)
    (query,) = statements
    assert query.startswith("SELECT")
    with store.engine.connect() as connection:
        explained = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}")
        steps = [row[3] for row in explained]
    looks = [step for step in steps if "apscheduler_jobs" in step]
    assert len(looks) == 2
    assert all("USING COVERING INDEX" in step for step in looks), steps


def test_no_query_of_a_claim_reads_or_sorts_a_whole_table(
    store: SQLAlchemyJobStore, asked: list[tuple[str, Any]]
) -> None:
    store.add_jobs([make_stored_job(f"{n}", T0) for n in range(3)])
    claim(store, Identity(), limit=1)

    assert len(asked) == 5
    with store.engine.connect() as connection:
        for statement, parameters in asked[:]:
            rows = connection.exec_driver_sql(
                f"EXPLAIN QUERY PLAN {statement}", parameters
            )
            steps = [row[3] for row in rows]
            assert not [s for s in steps if s.startswith("SCAN apscheduler")], steps
            assert not [s for s in steps if "ORDER BY" in s], steps


def test_a_state_that_has_not_changed_is_read_once(
    store: SQLAlchemyJobStore, serializer: CountingSerializer
) -> None:
    me = Identity()
    store.add_job(make_stored_job("a", T0, max_instances=9))

    for number in range(5):
        assert len(claim(store, me, T0 + number * MINUTE).claims) == 1

    assert serializer.loaded == 1
    store.update_job(make_stored_job("a", T0, args=(5, 6)))
    (found,) = claim(store, me, T0).claims
    assert found.job.args == (5, 6)
    assert serializer.loaded == 2


def test_a_claim_does_not_wait_for_reading_what_was_just_added(
    store: SQLAlchemyJobStore, serializer: CountingSerializer
) -> None:
    store.add_jobs([make_stored_job("a", T0), make_stored_job("b", T0)])
    loaded = serializer.loaded

    assert len(claim(store, Identity()).claims) == 2

    assert serializer.loaded == loaded


@pytest.mark.parametrize("number", [1, runs.MAX_LISTED + 1])
def test_open_claims_are_counted_of_few_jobs_and_of_many(
    store: SQLAlchemyJobStore, number: int
) -> None:
    me = Identity()
    store.add_jobs([make_stored_job(f"{n:03}", T0) for n in range(number)])
    started = claim(store, me).claims
    run_ids = [claimed.run_times.run_ids[0] for claimed in started]
    ended = Completion(run_ids[0], "000", me.node.id, 1, RunState.SUCCEEDED, T0)

    store.complete([ended])
    again = claim(store, me, T0 + MINUTE).claims

    assert [claimed.skipped for claimed in again] == [False] + (number - 1) * [True]


def test_adding_does_not_make_objects_of_the_user(
    store: SQLAlchemyJobStore, serializer: CountingSerializer
) -> None:
    method = jobs.Greeter("Hi").greet
    store.add_job(make_stored_job("a", T0, func=method, args=("you",)))
    store.add_job(
        make_stored_job("b", T0, func="builtins:print", args=(jobs.Greeter("Hi"),))
    )

    assert serializer.loaded == 0


def test_a_job_that_cannot_be_read_back_is_added(store: SQLAlchemyJobStore) -> None:
    def refuse(data: bytes) -> dict[str, Any]:
        raise ValueError("damaged")

    store._restorer._loads = refuse

    store.add_job(make_stored_job("a", T0))

    assert claim(store, Identity()).claims == []
    assert [record.id for record in store.get_job_records()] == ["a"]


@pytest.mark.parametrize("paramstyle", ["qmark", "named"])
def test_statements_suit_every_style_of_parameters(
    tmp_path: Path, paramstyle: str
) -> None:
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    store = SQLAlchemyJobStore(url, engine_options={"paramstyle": paramstyle})
    store.start(None, "sql")
    try:
        store.add_jobs([make_stored_job(f"{n}", T0) for n in range(3)])
        me = Identity()
        ids = [claimed.job.id for claimed in claim(store, me, limit=2).claims]
        ids += [claimed.job.id for claimed in claim(store, me).claims]
        (run,) = store.get_runs(RunFilter(job_id="0"), 10)
        outcome = Completion(run.id, "0", me.node.id, 1, RunState.SUCCEEDED, T0)
        store.complete([outcome])

        assert ids == ["0", "1", "2"]
        (run,) = store.get_runs(RunFilter(job_id="0"), 10)
        assert run.state is RunState.SUCCEEDED
    finally:
        store.shutdown()


@pytest.mark.parametrize(
    ("args", "loaded"),
    [
        pytest.param(([1], {"a": 2}), 1, id="containers"),
        pytest.param((jobs.Greeter("Hi"), "you"), 2, id="objects"),
    ],
)
def test_runs_do_not_share_arguments(
    store: SQLAlchemyJobStore,
    serializer: CountingSerializer,
    args: tuple[Any, ...],
    loaded: int,
) -> None:
    me = Identity()
    store.add_job(
        make_stored_job("a", T0, func="builtins:print", args=args, max_instances=9)
    )

    (first,) = claim(store, me, T0).claims
    (second,) = claim(store, me, T0 + MINUTE).claims

    assert first.job.args[0] is not second.job.args[0]
    assert serializer.loaded == loaded
    first.job.kwargs["sep"] = ""
    (third,) = claim(store, me, T0 + 2 * MINUTE).claims
    assert third.job.kwargs == {}


def test_the_cache_has_an_end(
    store: SQLAlchemyJobStore,
    serializer: CountingSerializer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(restore, "CACHE_SIZE", 10)
    me = Identity()
    store.add_jobs([make_stored_job(f"{n:02}", T0) for n in range(30)])

    claim(store, me)

    assert len(store._restorer._known) == 10


def test_a_claim_does_not_write_the_state(store: SQLAlchemyJobStore) -> None:
    store.add_job(make_stored_job("a", T0))
    before = store.read_job("a")

    claim(store, Identity())

    after = store.read_job("a")
    assert before is not None and after is not None
    assert before.token[0] == after.token[0]
    assert pickle.loads(after.token[0])["next_run_time"] == T0
    assert after.job.next_run_time == T0 + MINUTE


def test_the_column_is_right_where_it_disagrees_with_the_state(
    store: SQLAlchemyJobStore,
) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    store.add_job(make_stored_job("moved", T0.astimezone(berlin)))
    store.add_job(make_stored_job("woken"))
    with store.engine.begin() as connection:
        connection.execute(update(store.jobs_t).values(next_run_time=1.0))

    found = {job.id: job.next_run_time for job in store.get_due_jobs(T0)}
    batch = claim(store, Identity())

    beginning = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert found == {"moved": beginning, "woken": beginning}
    assert str(found["moved"]) == "1970-01-01 01:00:01+01:00"
    assert [list(claim.run_times) for claim in batch.claims] == [[beginning]] * 2


def test_a_job_that_cannot_be_restored_is_tried_again_later(
    store: SQLAlchemyJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "vanishing", add, raising=False)
    reference = "apscheduler.testing.jobs:vanishing"
    store.add_job(make_stored_job("a", T0, func=reference))
    monkeypatch.delattr(jobs, "vanishing")
    me = Identity()
    failed = claim(store, me)
    monkeypatch.setattr(jobs, "vanishing", add, raising=False)

    too_early = claim(store, me)
    monkeypatch.setattr(restore, "_is_early", lambda failure: False)
    repaired = claim(store, me)

    assert failed.claims == too_early.claims == []
    assert failed.next_run_time is not None
    assert timedelta(0) < failed.next_run_time - T0 <= timedelta(seconds=30)
    assert [found.job.id for found in repaired.claims] == ["a"]


def test_damaged_bytes_are_left_alone(
    store: SQLAlchemyJobStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.add_jobs([make_stored_job("bad", T0), make_stored_job("good", T0)])
    with store.engine.begin() as connection:
        is_bad = store.jobs_t.c.id == "bad"
        connection.execute(
            update(store.jobs_t).where(is_bad).values(job_state=b"damaged")
        )

    batch = claim(store, Identity())

    assert [found.job.id for found in batch.claims] == ["good"]
    assert "'bad'" in caplog.text
    (bad, _) = store.get_job_records()
    assert bad.id == "bad"
    assert bad.error is not None and "UnpicklingError" in bad.error


def test_records_do_not_run_what_a_state_asks_for(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return exec, (f"open({str(tmp_path / 'made')!r}, 'w').close()",)

    state = make_stored_job("a", T0).__getstate__() | {"args": [Evil(), {Evil(): 1}]}

    record = records.read_record("a", T0, pickle.dumps(state), PickleSerializer(), None)

    assert (record.name, record.func) == ("add", "apscheduler.testing.jobs:add")
    assert record.error is None
    assert not (tmp_path / "made").exists()


def test_subclasses_may_restore_jobs_in_their_own_way(tmp_path: Path) -> None:
    class Renaming(SQLAlchemyJobStore):
        def _reconstitute_job(self, job_state: bytes) -> Job:
            job = super()._reconstitute_job(job_state)
            job.name = "renamed"
            return job

        def get_named(self, job_id: str) -> list[Job]:
            return self._get_jobs(self.jobs_t.c.id == job_id)

    store = Renaming(f"sqlite:///{tmp_path / 'jobs.db'}")
    store.start(None, "sql")
    store.add_jobs([make_stored_job(id, T0) for id in "ab"])

    assert [job.name for job in store.get_all_jobs()] == ["renamed", "renamed"]
    assert [job.id for job in store.get_named("b")] == ["b"]
    claims = claim(store, Identity()).claims
    assert [found.job.name for found in claims] == ["renamed", "renamed"]
    store.shutdown()


def test_claims_of_many_run_times_that_were_handed_back_start_as_one(
    store: SQLAlchemyJobStore,
) -> None:
    me = Identity()
    store.add_job(make_stored_job("a", T0))
    times = [T0 + timedelta(seconds=n) for n in range(20)]
    request = ClaimRequest(T0 + MINUTE, 1, lambda job: Plan(times, None), me)
    (given_up,) = store.claim(request).claims

    store.hand_back([given_up])

    (again,) = claim(store, Identity(), T0 + MINUTE).claims
    assert list(again.run_times) == times
    assert again.run_times.run_ids == given_up.run_times.run_ids


def test_a_job_may_limit_how_many_of_its_runs_are_kept(
    store: SQLAlchemyJobStore,
) -> None:
    me = Identity()
    store.add_job(make_stored_job("few", T0, history=2, max_instances=99))
    store.add_job(make_stored_job("many", T0, max_instances=99))
    for number in range(5):
        batch = claim(store, me, T0 + number * MINUTE)
        store.complete(outcomes(batch, me))

    pruned = store.prune_runs(None, 4, T0)

    assert pruned == 4
    kept = [len(store.get_runs(RunFilter(id), 99)) for id in ("few", "many")]
    assert kept == [2, 4]


def test_other_connections_may_read_while_a_claim_is_under_way(
    store: SQLAlchemyJobStore,
) -> None:
    store.add_job(make_stored_job("a", T0))
    seen: list[int] = []
    assert store.engine.url.database is not None
    reader = sqlite3.connect(store.engine.url.database)

    def plan(job: Job) -> Plan:
        (count,) = reader.execute("SELECT count(*) FROM apscheduler_jobs").fetchone()
        seen.append(count)
        return Plan([T0], None)

    store.claim(ClaimRequest(T0, 1, plan, Identity()))

    assert seen == [1]
    reader.close()
