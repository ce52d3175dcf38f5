"""Protocols with one mistake each: a check that does not find them would not find ours."""

from model.protocol import (
    READDED,
    READY,
    RUNNING,
    UP,
    Item,
    Job,
    Node,
    Protocol,
    Run,
    State,
    TakesInSteps,
)


class ClaimsBlindly(Protocol):
    """A claim takes the job as it was planned, whatever has become of it."""

    def is_same_job(self, now: Job | None, read: Job) -> bool:
        return True


class ComparesTheTimeOnly(Protocol):
    """The token is the run time: a job that was changed meanwhile looks as if it was not."""

    def is_same_job(self, now: Job | None, read: Job) -> bool:
        return now is not None and now.fire == read.fire


class AddsWithTheOldToken(Protocol):
    """A job that is added after its removal looks like the old one, but is due at another time."""

    def is_same_job(self, now: Job | None, read: Job) -> bool:
        return now is not None and now.version == read.version

    def after_removal(self, job: Job) -> Job:
        return Job(job.version, READDED)


class MovesOnTwice(Protocol):
    """A claim moves the job on beyond the fire that follows."""

    def after_claim(self, job: int, record: Job) -> Job | None:
        return None


class CompletesForOthers(Protocol):
    """An outcome is taken from whoever brings it, as long as the run is going on."""

    def is_owner(self, run: Run, node: int, attempt: int) -> bool:
        return run.state == RUNNING


class IgnoresAttempts(Protocol):
    """An outcome is taken from the owner, be it that of an earlier attempt."""

    def is_owner(self, run: Run, node: int, attempt: int) -> bool:
        return (run.state, run.owner) == (RUNNING, node)


class StartsWithoutLease(Protocol):
    """What was claimed is started, however long that took."""

    def may_start(self, node: Node, item: Item) -> bool:
        return node.status == UP


class ForgetsLapses(Protocol):
    """A lease that is renewed after its end is as good as one that never ended."""

    def after_lapse(self, node: Node) -> tuple[Item, ...]:
        return node.work


class TakesFromTheLiving(Protocol):
    """The lease of an owner is not looked at again when its run is taken."""

    def may_take(self, state: State, run: Run) -> bool:
        return run.state == RUNNING


class TakesTwice(Protocol):
    """A run is taken that somebody else has taken already."""

    def may_take(self, state: State, run: Run) -> bool:
        return run.state in (RUNNING, READY)


class CountsNothing(Protocol):
    """Open runs do not count."""

    def is_full(self, state: State, job: int) -> bool:
        return False


class NeverTakesOver(Protocol):
    """The runs of the dead are left to them."""

    def is_dead(self, state: State, owner: int | None) -> bool:
        return False


class TakesWhatCameBack(TakesInSteps):
    """Whatever runs of an owner are there are taken, once its lease was found to be over."""

    def is_same_run(self, now: Run, read: Run) -> bool:
        return (now.state, now.owner) == (RUNNING, read.owner)


class TakesWhatLooksTheSame(TakesInSteps):
    """A run that its owner has handed back and claimed again looks as before."""

    def claimed(self, run: Run, node: int, attempt: int) -> Run:
        return Run(RUNNING, node, attempt)
