"""All interleavings of two nodes keep the promises, and a protocol with a mistake in it does not.

``protocol.py`` says what is in the model, docs/explanation/proofs.md what is not.
"""

import pytest

from model.checker import explore
from model.mutants import (
    AddsWithTheOldToken,
    ClaimsBlindly,
    ComparesTheTimeOnly,
    CompletesForOthers,
    CountsNothing,
    ForgetsLapses,
    IgnoresAttempts,
    MovesOnTwice,
    NeverTakesOver,
    StartsWithoutLease,
    TakesFromTheLiving,
    TakesTwice,
    TakesWhatCameBack,
    TakesWhatLooksTheSame,
)
from model.protocol import Budget, Protocol, TakesInSteps

STALE = "a claim carries out what was planned from another record"
TAKEN = "a run is started that somebody else has taken over"
OVERWRITTEN = "the outcome of a run is overwritten by who lost it"


@pytest.mark.parametrize("protocol", [Protocol, TakesInSteps])
@pytest.mark.parametrize(
    "budget, least",
    [
        (Budget(lapses=1, crashes=1), 10_000),
        (Budget(lapses=1, stops=1), 5_000),
        (Budget(crashes=1, changes=1), 5_000),
        (Budget(changes=2), 10_000),
    ],
    ids=["dead and slow", "shut down and slow", "dead and changed", "changed"],
)
def test_every_interleaving_keeps_the_promises(
    protocol: type[Protocol], budget: Budget, least: int
) -> None:
    report = explore(protocol(), budget)

    assert (report.broken, report.trace) == (None, ())
    assert report.states > least


@pytest.mark.parametrize(
    "mutant, budget, promise",
    [
        (ClaimsBlindly, Budget(), STALE),
        (ComparesTheTimeOnly, Budget(changes=1), STALE),
        (AddsWithTheOldToken, Budget(changes=1), STALE),
        (MovesOnTwice, Budget(), "a fire is passed over"),
        (CompletesForOthers, Budget(lapses=1), OVERWRITTEN),
        (IgnoresAttempts, Budget(lapses=1), OVERWRITTEN),
        (StartsWithoutLease, Budget(lapses=1), TAKEN),
        (ForgetsLapses, Budget(lapses=1), TAKEN),
        (TakesFromTheLiving, Budget(lapses=1), TAKEN),
        (TakesTwice, Budget(lapses=1), "a run is taken over twice"),
        (CountsNothing, Budget(), "more instances are running than the job allows"),
        (NeverTakesOver, Budget(crashes=1), "a fire never gets an outcome"),
        (TakesWhatCameBack, Budget(lapses=1), TAKEN),
        (TakesWhatLooksTheSame, Budget(lapses=1), TAKEN),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_mistake_breaks_a_promise(
    mutant: type[Protocol], budget: Budget, promise: str
) -> None:
    report = explore(mutant(), budget)

    assert report.broken == promise
    assert report.trace, "the steps that lead to it are told"
