"""The history of runs, as programs ask for it, and how much of it is kept."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from apscheduler.config import create_scheduler
from apscheduler.events import EVENT_JOB_EXECUTED
from apscheduler.jobstores.base import JobLookupError
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.runs import Run, RunState, current_run
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.testing.clock import ManualClock

T0 = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SOON = 30

noted: list[Run | None] = []
gate = threading.Event()


def wait_for_gate() -> None:
    gate.wait(SOON)


def note_run() -> None:
    noted.append(current_run())


def fail() -> None:
    raise ValueError("out of paper")


@pytest.fixture(params=["memory", "sqlalchemy"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The configuration of a job store."""
    if request.param == "memory":
        return {"type": "memory"}
    return {"type": "sqlalchemy", "url": f"sqlite:///{tmp_path}/jobs.sqlite"}


@pytest.fixture
def scheduler(store: dict[str, Any]) -> Iterator[BackgroundScheduler]:
    """A scheduler with one store, started."""
    gate.clear()
    scheduler = BackgroundScheduler(timezone="UTC", jobstores={"default": store})
    scheduler.start()
    yield scheduler
    gate.set()
    if scheduler.running:
        scheduler.shutdown()


def run_and_wait(scheduler: BackgroundScheduler, job_id: str) -> Run:
    """Run a job now, and return what became of it."""
    run = scheduler.wait_for_run(scheduler.run_job(job_id).id, SOON)
    assert run is not None
    return run


def test_a_run_is_found_by_its_identifier(scheduler: BackgroundScheduler) -> None:
    scheduler.add_job(fail, "interval", hours=1, id="report")

    run = run_and_wait(scheduler, "report")

    assert scheduler.get_run(run.id) == run
    assert run.state is RunState.FAILED
    assert run.exception == "ValueError: out of paper"
    assert run.traceback is not None and "in fail" in run.traceback
    assert scheduler.get_run("unknown") is None


def test_a_run_that_goes_on_is_not_waited_for_longer_than_asked(
    scheduler: BackgroundScheduler,
) -> None:
    scheduler.add_job(wait_for_gate, "interval", hours=1, id="slow")
    run = scheduler.run_job("slow")

    with pytest.raises(TimeoutError, match=f"'{run.id}' of job 'slow' has not ended"):
        scheduler.wait_for_run(run.id, 0.05)

    gate.set()
    ended = scheduler.wait_for_run(run.id, SOON)
    assert ended is not None and ended.state is RunState.SUCCEEDED


def test_runs_are_filtered_counted_and_paged_through(
    scheduler: BackgroundScheduler,
) -> None:
    scheduler.add_job(len, "interval", args=[""], hours=1, id="good")
    scheduler.add_job(fail, "interval", hours=1, id="bad")
    good = [run_and_wait(scheduler, "good") for _ in range(3)]
    bad = run_and_wait(scheduler, "bad")

    assert scheduler.get_runs(states="failed") == [bad]
    assert scheduler.count_runs("good") == 3
    assert scheduler.count_runs(node=bad.node, attempt=1) == 4
    assert scheduler.count_runs(attempt=2) == 0
    pages = [scheduler.get_runs("good", limit=1, offset=n) for n in range(4)]
    assert pages == [[good[2]], [good[1]], [good[0]], []]


def test_naive_times_are_in_the_zone_of_the_scheduler(
    scheduler: BackgroundScheduler,
) -> None:
    scheduler.add_job(len, "interval", args=[""], hours=1, id="good")
    run = run_and_wait(scheduler, "good")
    naive = run.scheduled_time.astimezone(UTC).replace(tzinfo=None)

    assert scheduler.get_runs(since=naive) == [run]
    assert scheduler.get_runs(until=naive) == []


@pytest.mark.parametrize("wrong", [{"limit": -1}, {"offset": -1}, {"states": "dead"}])
def test_a_question_without_sense_is_an_error(
    scheduler: BackgroundScheduler, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"-1|'dead'"):
        scheduler.get_runs(**wrong)


def test_a_job_may_keep_no_history(scheduler: BackgroundScheduler) -> None:
    scheduler.add_job(len, "interval", args=[""], hours=1, id="quiet", history=0)
    run = scheduler.run_job("quiet")

    assert scheduler.wait_for_run(run.id, SOON) is None
    assert scheduler.get_runs() == []


class Pruned:
    """A scheduler with a clock of its own, whose job runs every second."""

    def __init__(self, store: dict[str, Any], **options: Any):
        self.clock = ManualClock(T0)
        stores = {"default": store}
        self.scheduler = BackgroundScheduler(
            timezone="UTC", jobstores=stores, clock=self.clock
        )
        self._ended = threading.Semaphore(0)
        self.scheduler.add_listener(
            lambda event: self._ended.release(), EVENT_JOB_EXECUTED
        )
        self.scheduler.start()
        self.scheduler.add_job(
            len, "interval", args=[""], seconds=1, id="often", **options
        )

    def run(self, count: int) -> None:
        """Have the job run so many times."""
        for _ in range(count):
            self.clock.advance(seconds=1)
            assert self._ended.acquire(timeout=SOON)

    def prune(self, **later: float) -> int:
        """Tidy up once, the scheduler being paused, and return how many runs it keeps."""
        scheduler = self.scheduler
        scheduler.pause()
        self.clock.advance(**later)
        driver = scheduler._engine.drivers["default"]
        driver.completions.flush()
        driver.housekeeper.keep(self.clock.now())
        return scheduler.count_runs()


@pytest.fixture
def pruned(store: dict[str, Any]) -> Iterator[Any]:
    """Make a scheduler with a clock of its own."""
    made: list[Pruned] = []

    def make(**options: Any) -> Pruned:
        for name in ("history_days", "history_runs"):
            if name in options:
                store[name] = options.pop(name)
        made.append(Pruned(store, **options))
        return made[-1]

    yield make
    for each in made:
        each.scheduler.shutdown()


@pytest.mark.parametrize(
    ("options", "later", "kept"),
    [
        ({}, {"minutes": 5}, 5),
        ({}, {"days": 8}, 0),
        ({"history_days": 30}, {"days": 8}, 5),
        ({"history_days": None}, {"days": 999}, 5),
        ({"history_runs": 2}, {"minutes": 5}, 2),
        ({"history_runs": 2, "history": 3}, {"minutes": 5}, 3),
        ({"history_runs": None, "history": 3}, {"minutes": 5}, 3),
        ({"history_runs": 0, "history": 3}, {"minutes": 5}, 3),
        ({"history_runs": 0}, {}, 0),
    ],
    ids=str,
)
def test_as_much_history_is_kept_as_store_and_job_say(
    pruned: Any, options: dict[str, Any], later: dict[str, float], kept: int
) -> None:
    found = pruned(**options)
    found.run(5)

    assert found.prune(**later) == kept


def test_a_store_without_history_records_nothing_that_did_not_run(pruned: Any) -> None:
    found = pruned(history_runs=0)

    found.clock.advance(seconds=10)  # nine fire times that the tenth stands for
    assert found._ended.acquire(timeout=SOON)

    assert found.prune() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"history_days": 0}, "'history_days' .* greater than 0.* but is 0; history_r"),
        ({"history_days": "7"}, "'history_days' must be a number of days"),
        ({"history_runs": -1}, "'history_runs' must be a number of runs .* is -1"),
        ({"history_runs": 1.5}, "'history_runs' must be a number of runs"),
        ({"history_runs": True}, "'history_runs' must be a number of runs"),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "make", [MemoryJobStore, partial(SQLAlchemyJobStore, "sqlite://")]
)
def test_limits_of_history_that_make_no_sense_are_refused(
    make: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_a_file_may_say_how_much_history_is_kept(tmp_path: Path) -> None:
    (tmp_path / "scheduler.ini").write_text(
        "[apscheduler.jobstores.default]\ntype = memory\n"
        "history_days = 0.5\nhistory_runs = none\n"
    )
    scheduler = create_scheduler(tmp_path / "scheduler.ini")
    scheduler.start()
    store = scheduler._lookup_jobstore("default")
    scheduler.shutdown()

    assert isinstance(store, MemoryJobStore)
    assert (store.history_days, store.history_runs) == (0.5, None)


def test_the_function_knows_its_run(scheduler: BackgroundScheduler) -> None:
    scheduler.add_job(note_run, "interval", hours=1, id="me")

    run = run_and_wait(scheduler, "me")

    seen = noted.pop()
    assert seen is not None
    assert (seen.id, seen.job_id, seen.attempt) == (run.id, "me", 1)
    assert seen.scheduled_time == run.scheduled_time


class _Rescheduling(MemoryJobStore):
    """A store in which a job is rescheduled by somebody else right after it was read."""

    other: Any = None

    def read_job(self, job_id: str) -> Any:
        stored = super().read_job(job_id)
        other, self.other = self.other, None
        if other is not None:
            other()
        return stored


def test_a_job_that_is_rescheduled_while_it_is_resumed_keeps_its_new_time() -> None:
    store, clock = _Rescheduling(), ManualClock(T0)
    scheduler = BackgroundScheduler(
        timezone="UTC", jobstores={"default": store}, clock=clock
    )
    scheduler.start(paused=True)
    scheduler.add_job(len, "interval", args=[""], hours=1, id="job")
    scheduler.pause_job("job")
    store.other = lambda: scheduler.reschedule_job("job", trigger="interval", hours=9)

    job = scheduler.resume_job("job")
    scheduler.shutdown()

    assert job is not None and job.next_run_time == T0 + timedelta(hours=9)


def test_a_job_that_is_gone_cannot_be_resumed(scheduler: BackgroundScheduler) -> None:
    with pytest.raises(JobLookupError, match="'gone'"):
        scheduler.resume_job("gone")
