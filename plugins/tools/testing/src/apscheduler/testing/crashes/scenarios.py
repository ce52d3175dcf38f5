"""What a process is doing when it is killed, and what must be true when somebody else has come and finished it."""

from abc import ABC, abstractmethod
from typing import Any, NoReturn
from unittest.mock import patch

from apscheduler.jobstores.contract import ClaimRequest
from apscheduler.runs import RunState
from apscheduler.testing.crashes.books import Books
from apscheduler.testing.crashes.schedulers import Node
from apscheduler.testing.jobstores.basic import SECOND

SUCCEEDED, SKIPPED = RunState.SUCCEEDED, RunState.SKIPPED
RETRY: dict[str, Any] = {"on_lost": "retry"}
LATER = 3600


class Scenario(ABC):
    """What happens in three processes, one after the other.

    The first prepares, then acts until it is killed. The second makes passes until everything is over, ten seconds
    later and more. Then ``check`` looks at the books, beside what is always checked.

    :cvar has_dead: whether somebody has died in the beginning, so that runs are lost though nobody is killed
    :cvar opens: whether ``act`` is what starts the scheduler, so that there is nothing to prepare
    """

    has_dead = opens = False

    def prepare(self, node: Node) -> None:  # noqa: B027  # most have something, not all
        """Set the scene; nobody is killed here."""

    @abstractmethod
    def act(self, node: Node) -> None:
        """Do what may be interrupted anywhere."""

    def resume(self, node: Node) -> None:  # noqa: B027  # few programs do anything
        """Do what the program does when it is started again."""

    @abstractmethod
    def check(self, books: Books) -> None:
        """Make sure that nothing is missing and nothing left over."""


class Passes(Scenario):
    """Jobs fire, again and again and for the last time."""

    def prepare(self, node: Node) -> None:
        node.add("again", [0, 2])
        node.add("retried again", [0, 2], **RETRY)
        node.add("last")
        node.add("retried last", **RETRY)
        node.add("failing", [1], args=(node.log, True))
        node.add("unrecorded", [0, 1], history=0)
        node.add("later", [LATER])

    def act(self, node: Node) -> None:
        for second in range(3):
            node.make_pass(second)
        node.write_outcomes()

    def check(self, books: Books) -> None:
        assert books.fires("again") == books.fires("retried again") == [0, 1, 2]
        assert books.fires("last") == books.fires("retried last") == [0]
        assert books.fires("failing") == [1]
        assert set(books.states("failing")) <= {RunState.FAILED, RunState.LOST}
        started = books.started("unrecorded")
        assert set(started) <= {0, 1} and len(started) == len(set(started))
        assert books.jobs == {"later": LATER}


class LateRuns(Scenario):
    """Fire times have passed: they are coalesced, missed, or run all together."""

    def prepare(self, node: Node) -> None:
        node.add("coalesced", [0, 3])
        node.add("retried coalesced", [0, 6], **RETRY)
        node.add("missed", [0, 3], misfire_grace_time=1)
        node.add("all", [0, 3], coalesce=False)
        node.add("retried all", [0, 3], coalesce=False, **RETRY)
        node.add("some", [0, 3], coalesce=False, misfire_grace_time=1)
        node.add("given up", misfire_grace_time=1)

    def act(self, node: Node) -> None:
        node.make_pass(5)
        node.write_outcomes()

    def check(self, books: Books) -> None:
        for job_id in ("coalesced", "missed", "all", "retried all", "some"):
            fires = books.fires(job_id)
            assert fires == [0, 1, 2, 3], f"{job_id}: {fires}, {books.jobs}"
        assert books.fires("retried coalesced") == [0, 1, 2, 3, 4, 5, 6]
        assert books.states("given up") == [RunState.MISSED]
        assert set(books.states("missed")) == {RunState.MISSED}
        assert books.jobs == {}


class Instances(Scenario):
    """A run takes so long that the next ones are skipped, and a ready run waits."""

    def prepare(self, node: Node) -> None:
        node.add("slow", [0, 3], executor="holding")
        node.add("retried slow", [0, 3], executor="holding", **RETRY)
        node.make_pass(0)
        node.manual_clock.advance(0.5 * SECOND)

    def act(self, node: Node) -> None:
        node.run_job("slow")
        node.make_pass(1)
        node.holding.let_go()
        node.make_pass(1.5)
        node.holding.let_go()
        node.make_pass(2)
        node.holding.let_go()
        node.write_outcomes()

    def check(self, books: Books) -> None:
        # The program that asks for a run may die before it has.
        assert books.fires("slow") in ([0, 0.5, 1, 2, 3], [0, 1, 2, 3])
        assert books.fires("retried slow") == [0, 1, 2, 3]
        assert books.jobs == {}
        if books.is_intact:
            assert books.states("slow")[:3] == [SUCCEEDED, SUCCEEDED, SKIPPED]


class ReadyRuns(Scenario):
    """Jobs are run now, also one that is removed, paused, or has its last fire at the same time."""

    def prepare(self, node: Node) -> None:
        node.add("later", [LATER])
        node.add("retried later", [LATER], **RETRY)
        node.add("paused", next_run_time=None)
        node.add("last", [1], max_instances=3)
        node.add("removed", [LATER])
        node.manual_clock.advance(0.5 * SECOND)

    def act(self, node: Node) -> None:
        for job_id in ("later", "retried later", "paused", "last", "removed"):
            node.run_job(job_id)
        node.remove_job("removed")
        node.make_pass(1)
        node.write_outcomes()

    def check(self, books: Books) -> None:
        for job_id in ("later", "retried later", "paused", "removed"):
            assert books.fires(job_id) in ([], [0.5]), job_id
        assert books.fires("last") in ([1], [0.5, 1])
        jobs = {"later": LATER, "retried later": LATER, "paused": None}
        assert books.jobs in (jobs, {**jobs, "removed": LATER})
        if books.is_intact:
            assert books.fires("removed") == [0.5]
            assert "removed" not in books.jobs


class Stopping(Scenario):
    """A scheduler is shut down before everything that it has claimed has begun."""

    def prepare(self, node: Node) -> None:
        node.add("done")
        node.add("held", executor="holding")
        node.add("held again", [0, 2], executor="holding")
        node.add("held together", [0, 2], executor="holding", coalesce=False)
        node.add("retried held", executor="holding", **RETRY)

    def act(self, node: Node) -> None:
        node.make_pass(2)
        node.shutdown()

    def check(self, books: Books) -> None:
        for job_id in ("done", "held", "retried held"):
            assert books.fires(job_id) == [0], job_id
        for job_id in ("held again", "held together"):
            assert books.fires(job_id) == [0, 1, 2], job_id
        assert books.jobs == {}


class Refusals(Scenario):
    """The lease is over when a claim comes back: what was claimed is handed back, and claimed again."""

    def prepare(self, node: Node) -> None:
        node.add("again", [0, 2])
        node.add("last")
        node.add("together", [0, 2], coalesce=False)
        node.add("retried last", **RETRY)

    def act(self, node: Node) -> None:
        lease = node.driver.lease
        assert lease is not None
        with patch.object(lease, "is_good", return_value=False):
            node.make_pass(2)
        node.make_pass(2)
        node.write_outcomes()

    def check(self, books: Books) -> None:
        assert books.fires("again") == books.fires("together") == [0, 1, 2]
        assert books.fires("last") == books.fires("retried last") == [0]
        assert books.jobs == {}


class LostAnswers(Scenario):
    """A claim is carried out, but its answer gets lost, so that nothing of it was started."""

    def prepare(self, node: Node) -> None:
        node.add("again", [0, 2])
        node.add("last")
        node.add("together", [0, 2], coalesce=False)
        node.add("retried last", **RETRY)
        node.jobstore_retry_interval = 0.5

    def act(self, node: Node) -> None:
        store = node.driver.store
        claim = store.claim

        def lose_answer(request: ClaimRequest) -> NoReturn:
            claim(request)
            raise ConnectionError

        # The second claim is about what the first has left, and was handed back.
        for second in (2, 3):
            with patch.object(store, "claim", lose_answer):
                node.make_pass(second)
        node.make_pass(4)
        node.write_outcomes()

    def check(self, books: Books) -> None:
        assert books.fires("again") == books.fires("together") == [0, 1, 2]
        assert books.fires("last") == books.fires("retried last") == [0]
        assert books.jobs == {}
