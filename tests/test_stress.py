"""Many threads, many jobs, full executors and slow stores: nothing lost, nothing twice, nobody held up."""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apscheduler import engine as engine_module
from apscheduler.events import (
    EVENT_ALL,
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_MAX_INSTANCES,
    JobExecutionEvent,
)
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.job import Job
from apscheduler.jobstores.base import JobLookupError
from apscheduler.jobstores.contract import ClaimBatch, ClaimRequest
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.triggers.interval import IntervalTrigger
from schedulers import scheduler_maker

SOON = 20
THREADS = 6


class Tally:
    """Counts calls by name, and lets a test wait for some number of them."""

    def __init__(self) -> None:
        self.counts: Counter[Any] = Counter()
        self.most_at_once: Counter[Any] = Counter()
        self._running: Counter[Any] = Counter()
        self._changed = threading.Condition()

    def __call__(self, name: Any, hold: threading.Event | None = None) -> None:
        with self._changed:
            self._running[name] += 1
            self.most_at_once[name] = max(self.most_at_once[name], self._running[name])
        if hold is not None:
            hold.wait(SOON)
        with self._changed:
            self._running[name] -= 1
            self.counts[name] += 1
            self._changed.notify_all()

    def wait_for(self, total: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.counts.total() >= total, SOON), (
                f"{self.counts.total()} of {total} calls"
            )


@pytest.fixture
def tally() -> Tally:
    return Tally()


@pytest.fixture
def make() -> Iterator[Any]:
    with scheduler_maker() as make:
        yield make


@pytest.fixture
def together() -> Iterator[Any]:
    """Run a function in several threads at once, and raise what any of them raises."""
    errors: list[BaseException] = []

    def together(func: Any, count: int = THREADS) -> list[threading.Thread]:
        barrier = threading.Barrier(count)

        def call(number: int) -> None:
            try:
                barrier.wait(SOON)
                func(number)
            except BaseException as exc:  # told below
                errors.append(exc)

        threads = [
            threading.Thread(target=call, args=(number,), daemon=True)
            for number in range(count)
        ]
        for thread in threads:
            thread.start()
        return threads

    def finish(threads: list[threading.Thread]) -> None:
        for thread in threads:
            thread.join(SOON)
            assert not thread.is_alive()

    together.finish = finish  # type: ignore[attr-defined]  # belongs to it
    yield together
    if errors:
        raise errors[0]


def test_one_shot_jobs_added_by_many_threads_run_exactly_once(
    make: Any, tally: Tally, together: Any
) -> None:
    scheduler = make()
    scheduler.start()

    def add(number: int) -> None:
        for index in range(100):
            scheduler.add_job(tally, args=[(number, index)])

    together.finish(together(add))
    tally.wait_for(THREADS * 100)
    scheduler.shutdown()

    assert len(tally.counts) == THREADS * 100
    assert set(tally.counts.values()) == {1}


def test_jobs_added_while_the_scheduler_starts_are_not_lost(
    make: Any, tally: Tally, together: Any
) -> None:
    scheduler = make()
    begun = threading.Event()

    def add(number: int) -> None:
        for index in range(100):
            scheduler.add_job(tally, args=[(number, index)])
            if index == 10:
                begun.set()

    threads = together(add, 3)
    begun.wait(SOON)
    scheduler.start()
    together.finish(threads)
    tally.wait_for(300)
    scheduler.shutdown()

    assert set(tally.counts.values()) == {1}
    assert scheduler._pending_jobs == []


def test_jobs_changed_from_all_sides_never_raise_and_never_run_one_fire_twice(
    make: Any, tally: Tally, together: Any
) -> None:
    scheduler = make(job_defaults={"max_instances": 2})
    fires: Counter[Any] = Counter()
    failures: list[Any] = []
    lock = threading.Lock()

    def listen(event: Any) -> None:
        with lock:
            if event.code == EVENT_JOB_ERROR:
                failures.append(event)
            elif event.code == EVENT_JOB_EXECUTED:
                fires[event.job_id, event.run_id] += 1

    scheduler.add_listener(listen, EVENT_ALL)
    scheduler.start()

    def change(number: int) -> None:
        choose = random.Random(number)
        for index in range(60):
            own, any_id = f"{number}-{index}", f"{choose.randrange(THREADS)}-{index}"
            scheduler.add_job(tally, "interval", seconds=0.01, id=own, args=[own])
            for method, kwargs in (
                ("pause_job", {}),
                ("modify_job", {"name": "n"}),
                ("resume_job", {}),
                ("reschedule_job", {"trigger": "interval", "seconds": 0.02}),
                ("get_job", {}),
            ):
                job_id = choose.choice([own, any_id])
                try:
                    getattr(scheduler, method)(job_id, **kwargs)
                except JobLookupError:
                    assert job_id != own
            scheduler.get_jobs()
            if index % 2:
                scheduler.remove_job(own)

    together.finish(together(change))
    assert len(scheduler.get_jobs()) == THREADS * 30
    ran = tally.counts.total()
    tally.wait_for(ran + 50)
    scheduler.remove_all_jobs()
    scheduler.shutdown()

    assert failures == []
    assert set(fires.values()) == {1}
    assert scheduler._executors["default"]._instances == {}


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_instances_run_than_a_job_allows(
    make: Any, tally: Tally, limit: int
) -> None:
    scheduler = make()
    hold, skipped = threading.Event(), threading.Event()
    scheduler.add_listener(lambda event: skipped.set(), EVENT_JOB_MAX_INSTANCES)
    scheduler.start()

    scheduler.add_job(
        tally, "interval", seconds=0.005, args=["a", hold], max_instances=limit
    )
    assert skipped.wait(SOON)
    hold.set()
    tally.wait_for(limit + 5)
    scheduler.shutdown()

    assert tally.most_at_once["a"] == limit


def test_a_backlog_in_parts_runs_every_fire_exactly_once(make: Any) -> None:
    scheduler = make()
    start = datetime.now(UTC) - timedelta(seconds=4999.5)
    times: list[datetime] = []
    complete = threading.Event()

    def listen(event: JobExecutionEvent) -> None:
        times.append(event.scheduled_run_time)
        if len(times) == 5000:
            complete.set()

    scheduler.add_listener(listen, EVENT_JOB_EXECUTED)
    scheduler.start(paused=True)
    scheduler.add_job(
        int,
        IntervalTrigger(
            seconds=1,
            start_date=start,
            end_date=start + timedelta(seconds=4999),
            timezone=UTC,
        ),
        coalesce=False,
        next_run_time=start,
    )
    scheduler.resume()
    assert complete.wait(SOON)
    scheduler.shutdown()

    assert times == [start + timedelta(seconds=n) for n in range(5000)]


def test_jobs_wait_in_the_store_while_the_executor_is_full(
    make: Any, tally: Tally
) -> None:
    scheduler = make(executors={"default": ThreadPoolExecutor(2)})
    hold = threading.Event()
    scheduler.start(paused=True)
    for number in range(50):
        scheduler.add_job(tally, args=[number, hold], id=str(number))
    scheduler.resume()
    scheduler.add_job(int)
    while len(scheduler.get_jobs()) > 49:
        threading.Event().wait(0.005)

    assert len(scheduler.get_jobs()) >= 48
    hold.set()
    tally.wait_for(50)

    assert set(tally.counts.values()) == {1}


def test_full_executors_do_not_starve_jobs_of_free_ones(
    make: Any, tally: Tally
) -> None:
    scheduler = make(
        executors={"default": ThreadPoolExecutor(1), "free": ThreadPoolExecutor(1)}
    )
    hold, ran = threading.Event(), threading.Event()
    scheduler.start(paused=True)
    for number in range(1000):
        scheduler.add_job(tally, args=[number, hold])
    scheduler.add_job(ran.set, executor="free")
    scheduler.resume()

    assert ran.wait(SOON)
    hold.set()
    tally.wait_for(1000)


def test_a_slot_that_becomes_free_while_the_loop_looks_is_not_overlooked(
    make: Any, tally: Tally
) -> None:
    class Late(ThreadPoolExecutor):
        """Looks at its slots, and tells what it saw when that is no longer so."""

        ended = threading.Event()

        def capacity(self) -> int | None:
            seen = super().capacity()
            if seen == 0:
                hold.set()
                self.ended.wait(SOON)
            return seen

    hold = threading.Event()
    executor = Late(1)
    scheduler = make(executors={"default": executor})
    scheduler.add_listener(lambda event: executor.ended.set(), EVENT_JOB_EXECUTED)
    scheduler.start(paused=True)
    scheduler.add_job(tally, args=["first", hold])
    scheduler.add_job(tally, args=["second"])
    scheduler.resume()

    tally.wait_for(2)


def test_a_listener_may_use_the_scheduler_for_every_event(
    make: Any, tally: Tally, together: Any
) -> None:
    scheduler = make()
    scheduler.start()

    def listen(event: Any) -> None:
        scheduler.get_jobs()
        job_id = getattr(event, "job_id", None)
        if (
            job_id
            and not job_id.startswith("child")
            and event.code == EVENT_JOB_EXECUTED
        ):
            scheduler.add_job(
                tally, args=[f"child of {job_id}"], id=f"child of {job_id}"
            )

    scheduler.add_listener(listen)

    def add(number: int) -> None:
        for index in range(30):
            name = f"{number}-{index}"
            scheduler.add_job(tally, args=[name], id=name)

    together.finish(together(add))
    tally.wait_for(2 * THREADS * 30)
    scheduler.shutdown()

    assert set(tally.counts.values()) == {1}


class SlowStore(MemoryJobStore):
    """A store whose claims take as long as the test likes."""

    performs_io = True

    def __init__(self) -> None:
        super().__init__()
        self.go, self.entered = threading.Event(), threading.Event()

    def claim(self, request: ClaimRequest) -> ClaimBatch:
        self.entered.set()
        self.go.wait(SOON)
        return super().claim(request)


def test_a_slow_store_does_not_hold_up_the_others(make: Any, tally: Tally) -> None:
    slow = SlowStore()
    scheduler = make(jobstores={"slow": slow, "quick": MemoryJobStore()})
    scheduler.start()
    assert slow.entered.wait(SOON)

    for number in range(5):
        scheduler.add_job(tally, args=[number], jobstore="quick")
    tally.wait_for(5)
    scheduler.add_job(tally, args=["slow"], jobstore="slow")
    slow.go.set()
    tally.wait_for(6)

    assert tally.counts["slow"] == 1


def test_a_pass_waits_for_a_slow_store_only_so_long(
    make: Any, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "PATIENCE_SECONDS", 0.01)
    slow = SlowStore()
    scheduler = make(jobstores={"slow": slow, "quick": MemoryJobStore()})
    scheduler.start()
    assert slow.entered.wait(SOON)

    scheduler.add_job(tally, "interval", seconds=0.02, args=["quick"], jobstore="quick")
    tally.wait_for(10)
    slow.go.set()


def test_stores_come_and_go_while_jobs_run(
    make: Any, tally: Tally, together: Any
) -> None:
    scheduler = make()
    scheduler.start()
    scheduler.add_job(tally, "interval", seconds=0.005, args=["steady"])

    def come_and_go(number: int) -> None:
        for _ in range(20):
            alias = f"store {number}"
            scheduler.add_jobstore("memory", alias)
            scheduler.add_job(
                tally, "interval", seconds=0.005, args=[alias], jobstore=alias
            )
            scheduler.remove_jobstore(alias)

    together.finish(together(come_and_go, 3))
    before = tally.counts["steady"]
    assert list(scheduler._engine.drivers) == ["default"]
    tally.wait_for(tally.counts.total() + 3)

    assert tally.counts["steady"] > before


def test_restarting_under_load_loses_no_thread(make: Any, tally: Tally) -> None:
    scheduler = make()
    for round_ in range(5):
        scheduler.start()
        jobs = [
            scheduler.add_job(tally, "interval", seconds=0.005, args=[round_])
            for _ in range(5)
        ]
        tally.wait_for(tally.counts.total() + 5)
        scheduler.shutdown()
        ran = tally.counts.total()
        assert isinstance(jobs[0], Job)

        assert scheduler._thread is None
        assert tally.counts.total() == ran


def test_many_starts_at_once_start_one_scheduler(
    make: Any, tally: Tally, together: Any
) -> None:
    from apscheduler.schedulers import SchedulerAlreadyRunningError

    scheduler = make()
    refused: list[int] = []

    def start(number: int) -> None:
        try:
            scheduler.start()
        except SchedulerAlreadyRunningError:
            refused.append(number)

    together.finish(together(start))
    scheduler.add_job(tally, args=["a"])
    tally.wait_for(1)

    assert len(refused) == THREADS - 1
    names = [thread.name for thread in threading.enumerate()]
    assert scheduler._thread is not None
    assert names.count("APScheduler") >= 1
    scheduler.shutdown()
    assert tally.counts["a"] == 1


def test_a_part_is_not_skipped_because_the_one_before_is_just_being_recorded(
    make: Any,
) -> None:
    class Lingering(MemoryJobStore):
        """Takes note of an outcome only after another pass has been made, if one is made soon."""

        claimed = threading.Event()

        def claim(self, request: ClaimRequest) -> ClaimBatch:
            batch = super().claim(request)
            self.claimed.set()
            return batch

        def complete(self, completions: Any) -> None:
            if completions[0].run_id == last_of_part:
                self.claimed.clear()
                scheduler.wakeup()
                self.claimed.wait(0.05)
            super().complete(completions)

    scheduler = make(jobstores={"default": Lingering()})
    last_of_part = ""
    start = datetime.now(UTC) - timedelta(seconds=2999.5)
    skipped: list[Any] = []
    complete = threading.Event()
    ran = []

    def listen(event: Any) -> None:
        ran.append(event)
        if len(ran) + 1000 * len(skipped) >= 3000:
            complete.set()

    class Noting(ThreadPoolExecutor):
        def _do_submit_job(self, job: Job, run_times: Any) -> None:
            nonlocal last_of_part
            last_of_part = run_times.run_ids[-1]
            super()._do_submit_job(job, run_times)

    scheduler.add_executor(Noting(1))
    scheduler.add_listener(skipped.append, EVENT_JOB_MAX_INSTANCES)
    scheduler.add_listener(listen, EVENT_JOB_EXECUTED)
    scheduler.start(paused=True)
    scheduler.add_job(
        int,
        "interval",
        seconds=1,
        start_date=start,
        end_date=start + timedelta(seconds=2999),
        coalesce=False,
        next_run_time=start,
    )
    scheduler.resume()
    assert complete.wait(SOON)

    assert skipped == []
    assert len(ran) == 3000
