"""A lease that was over and is renewed does not make good what was claimed before."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from apscheduler import leases
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.leases import LeaseKeeper
from apscheduler.nodes import LEASE_SECONDS, Identity
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
def lease(stopwatch: Stopwatch) -> LeaseKeeper:
    return LeaseKeeper(
        MemoryJobStore(),
        Identity().node,
        lambda: datetime.now(UTC),
        lambda: True,
        logging.getLogger("apscheduler"),
        NoThreads(),
    )


def grant(lease: LeaseKeeper) -> int:
    return lease.granted(lease.next_expiry()[1])


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
    _, held_until = lease.next_expiry()
    stopwatch.seconds += LEASE_SECONDS
    later = grant(lease)

    assert not lease.is_good(lease.granted(held_until))
    assert lease.is_good(later)
