"""A lease that was over and is renewed does not make good what was claimed before."""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from apscheduler import housekeeping, leases
from apscheduler.jobstores.contract import ClaimRequest
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.leases import LeaseKeeper
from apscheduler.nodes import LEASE_SECONDS, RENEW_SECONDS, Identity
from apscheduler.runs import Plan, RunState, current_run
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.testing.clock import ManualClock
from apscheduler.testing.jobs import make_stored_job
from apscheduler.threads import Threads


class Stopwatch:
    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class NoThreads(Threads):
    """Keeps what would be done in a thread, to be done when the test wants it."""

    def start(self, target: Callable[[], object], name: str) -> Any:
        return target


@pytest.fixture
def stopwatch(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    stopwatch = Stopwatch()
    monkeypatch.setattr(leases, "monotonic", stopwatch)
    return stopwatch


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 6, 1, 12, tzinfo=UTC))


@pytest.fixture
def lease(stopwatch: Stopwatch, clock: ManualClock) -> LeaseKeeper:
    return LeaseKeeper(
        MemoryJobStore(),
        Identity().node,
        clock.now,
        lambda: True,
        logging.getLogger("apscheduler"),
        NoThreads(),
    )


def grant(lease: LeaseKeeper) -> int:
    return lease.granted(lease.next_expiry())


def test_what_is_claimed_may_be_started_until_the_lease_ends(
    lease: LeaseKeeper, stopwatch: Stopwatch
) -> None:
    term = grant(lease)
    assert lease.is_good(term)

    stopwatch.seconds += LEASE_SECONDS

    assert not lease.is_good(term)


def test_a_lease_that_is_renewed_in_time_is_good_for_what_was_claimed_before(
    lease: LeaseKeeper, stopwatch: Stopwatch
) -> None:
    term = grant(lease)
    stopwatch.seconds += LEASE_SECONDS - 1
    later = grant(lease)
    stopwatch.seconds += 2

    assert lease.is_good(term) and lease.is_good(later)


def test_a_lease_that_is_renewed_too_late_is_only_good_for_what_is_claimed_then(
    lease: LeaseKeeper, stopwatch: Stopwatch
) -> None:
    before = grant(lease)
    stopwatch.seconds += LEASE_SECONDS
    after = grant(lease)

    assert lease.is_good(after)
    assert not lease.is_good(before)


def test_a_claim_whose_answer_comes_after_its_lease_may_not_be_started(
    lease: LeaseKeeper, stopwatch: Stopwatch
) -> None:
    expiry = lease.next_expiry()
    stopwatch.seconds += LEASE_SECONDS
    later = grant(lease)

    assert not lease.is_good(lease.granted(expiry))
    assert lease.is_good(later)


def test_claims_that_follow_one_another_rely_on_the_lease_that_the_first_has_recorded(
    lease: LeaseKeeper, stopwatch: Stopwatch, clock: ManualClock
) -> None:
    first, must_record = lease.next_claim()
    assert must_record
    term = lease.granted(first)

    assert lease.next_claim() == (first, False)
    stopwatch.seconds += RENEW_SECONDS - 1
    clock.advance(seconds=RENEW_SECONDS - 1)
    assert lease.next_claim() == (first, False)
    assert lease.granted(first) == term

    stopwatch.seconds += 1
    later, must_record = lease.next_claim()
    assert must_record and later.held_until > first.held_until


def test_a_lease_is_recorded_again_when_the_clock_was_set_ahead(
    lease: LeaseKeeper, clock: ManualClock
) -> None:
    grant(lease)
    clock.advance(seconds=LEASE_SECONDS)

    assert lease.next_claim() == (lease.next_expiry(), True)


def test_a_lease_that_ends_while_runs_go_on_is_told_of_once(
    lease: LeaseKeeper,
    stopwatch: Stopwatch,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    naps = iter([RENEW_SECONDS, LEASE_SECONDS, RENEW_SECONDS, RENEW_SECONDS])
    answers = iter([0, LEASE_SECONDS, 0, 0])

    def wait(_: float) -> bool:
        nap = next(naps, None)
        stopwatch.seconds += nap or 0
        return nap is None

    def renew(*_: object) -> None:
        stopwatch.seconds += next(answers)

    grant(lease)
    monkeypatch.setattr(lease._stop, "wait", wait)
    monkeypatch.setattr(lease._store, "renew_lease", renew)

    lease._keep()

    assert caplog.text.count("for longer than its lease") == 1


def test_a_lease_that_ends_while_nothing_runs_is_not_worth_a_word(
    lease: LeaseKeeper,
    stopwatch: Stopwatch,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    grant(lease)
    monkeypatch.setattr(lease, "_owns_runs", lambda: False)
    monkeypatch.setattr(lease._stop, "wait", lambda _: False)
    lease._keep()

    stopwatch.seconds += LEASE_SECONDS
    grant(lease)

    assert caplog.text == ""


@pytest.mark.parametrize(("seconds", "is_long"), [(5, False), (30, True)])
def test_leases_that_ended_while_the_store_was_away_can_be_renewed_before_runs_are_taken_over(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    clock: ManualClock,
    seconds: int,
    is_long: bool,
) -> None:
    """While nobody can renew, the lease of a node that lives and goes on looks like that of a dead one."""
    stopwatch = Stopwatch()
    monkeypatch.setattr(housekeeping, "monotonic", stopwatch)
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    scheduler = BackgroundScheduler(
        {"apscheduler.jobstores.default": {"type": "sqlalchemy", "url": url}},
        clock=clock,
    )
    scheduler.start(paused=True)
    driver = scheduler._engine.drivers["default"]
    keeper, store = driver.housekeeper, driver.store
    now = clock.now()
    store.add_job(make_stored_job("a", now))
    store.claim(
        ClaimRequest(now, 1, lambda job: Plan([now], None), Identity(), lease_until=now)
    )

    keeper.begin()
    stopwatch.seconds += seconds
    clock.advance(seconds=seconds)
    keeper.begin()
    if is_long:
        keeper.keep(clock.now())
        assert [run.state for run in scheduler.get_runs()] == [RunState.RUNNING]
    keeper.note_answer()

    told = "Job store 'default' has answered after 30 seconds" in caplog.text
    assert told == is_long

    keeper.keep(now + timedelta(seconds=seconds + 1))
    state = RunState.RUNNING if is_long else RunState.LOST
    assert [run.state for run in scheduler.get_runs()] == [state]
    keeper.keep(now + timedelta(seconds=seconds + 15))
    assert [run.state for run in scheduler.get_runs()] == [RunState.LOST]
    scheduler.shutdown()


started: list[datetime] = []
others_believe_it_dead: Callable[[], None] = lambda: None
all_started = threading.Event()


def note_start() -> None:
    run = current_run()
    assert run is not None
    started.append(run.scheduled_time)
    others_believe_it_dead()
    if len(started) == 3:
        all_started.set()


def test_runs_that_wait_while_the_lease_ends_are_handed_back_and_started_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = BackgroundScheduler(
        {
            "apscheduler.jobstores.default": {
                "type": "sqlalchemy",
                "url": f"sqlite:///{tmp_path / 'jobs.sqlite'}",
            },
            "apscheduler.executors.default": {"type": "threadpool", "max_workers": 1},
        }
    )

    def end_lease() -> None:
        lease = scheduler._engine.drivers["default"].lease
        assert lease is not None
        if len(started) == 1:
            lease.term += 1

    started.clear()
    all_started.clear()
    monkeypatch.setattr(f"{__name__}.others_believe_it_dead", end_lease)
    first = datetime.now(UTC) - timedelta(seconds=10)
    scheduler.start(paused=True)
    scheduler.add_job(
        f"{__name__}:note_start",
        "interval",
        seconds=4,
        start_date=first,
        end_date=first + timedelta(seconds=9),
        next_run_time=first,
        coalesce=False,
        misfire_grace_time=None,
    )

    scheduler.resume()
    assert all_started.wait(30)
    scheduler.shutdown()

    assert sorted(started) == [first + timedelta(seconds=4) * i for i in range(3)]
    assert caplog.text.count("is not started") == 2
    scheduler.start(paused=True)
    runs = scheduler.get_runs()
    scheduler.shutdown()
    assert [run.state for run in runs] == [RunState.SUCCEEDED] * 3
    assert {run.attempt for run in runs} == {1}
