"""More of what a process is doing when it is killed: it changes and adds jobs, takes over, tidies up, opens a store."""

from apscheduler import planning
from apscheduler.jobstores.contract import ClaimRequest
from apscheduler.nodes import Identity
from apscheduler.runs import RunState
from apscheduler.testing.crashes.books import Books
from apscheduler.testing.crashes.scenarios import LATER, RETRY, Scenario
from apscheduler.testing.crashes.schedulers import Node, Seconds, note
from apscheduler.testing.jobs import make_stored_job
from apscheduler.testing.jobstores.basic import SECOND, T0
from apscheduler.testing.jobstores.requests import LEASE


class Changes(Scenario):
    """Jobs are modified, paused, resumed, rescheduled and removed between passes."""

    def prepare(self, node: Node) -> None:
        for job_id in ("modified", "paused", "rescheduled", "removed", "resumed"):
            node.add(job_id, [0, 3])
        node.make_pass(0)

    def act(self, node: Node) -> None:
        node.modify_job("modified", name="other", max_instances=2)
        node.pause_job("paused")
        node.pause_job("resumed")
        node.reschedule_job(
            "rescheduled", trigger=Seconds(T0 + LATER * SECOND, T0 + LATER * SECOND)
        )
        node.remove_job("removed")
        node.make_pass(1)
        node.resume_job("resumed")
        node.make_pass(2)
        node.write_outcomes()

    def check(self, books: Books) -> None:
        everything = [0, 1, 2, 3]
        assert books.fires("modified") == everything
        left = {"paused": None, "rescheduled": LATER}
        for job_id in ("paused", "rescheduled", "removed"):
            is_changed = books.fires(job_id) == [0]
            assert is_changed or books.fires(job_id) == everything, job_id
            if not is_changed:
                left.pop(job_id, None)
        # A job that is paused while nobody resumes it stays.
        if books.fires("resumed") == [0]:
            left["resumed"] = None
        else:
            # What it has left out is from the time when it was paused.
            assert books.fires("resumed") == everything
        assert books.jobs == left
        if books.is_intact:
            assert left == {"paused": None, "rescheduled": LATER}


class Additions(Scenario):
    """Jobs are added: new ones, several together, in place of others, after their removal."""

    def prepare(self, node: Node) -> None:
        node.add("moved", [0, 3])
        node.add("replaced", [LATER])
        self.declare(node)
        node.make_pass(0)

    def declare(self, node: Node) -> None:
        """Add a job as every start of a program does."""
        trigger = Seconds(T0 + LATER * SECOND, T0 + LATER * SECOND)
        node.add_job(note, trigger, [node.log], id="declared", replace_existing=True)

    def act(self, node: Node) -> None:
        self.declare(node)
        node.add("replaced", [LATER + 1], replace_existing=True)
        node.remove_job("moved")
        node.add("moved", [2, 3])
        node.add("new", [2])
        trigger = Seconds(T0, T0 + 2 * SECOND)
        node.driver.store.add_jobs(
            [
                make_stored_job(job_id, T0, func=note, args=[node.log], trigger=trigger)
                for job_id in ("one", "two")
            ]
        )
        node.make_pass(2)
        node.write_outcomes()

    def resume(self, node: Node) -> None:
        self.declare(node)

    def check(self, books: Books) -> None:
        # It may be neither there nor here any more, but what it did is.
        assert books.fires("moved") in ([0], [0, 2, 3], [0, 1, 2, 3])
        assert books.fires("new") in ([], [2])
        assert books.fires("one") == books.fires("two")
        assert books.fires("one") in ([], [0, 1, 2])
        replaced = books.jobs.pop("replaced")
        assert replaced in (LATER, LATER + 1)
        assert books.jobs == {"declared": LATER}
        if books.is_intact:
            assert books.fires("moved") == [0, 2, 3]
            assert replaced == LATER + 1


class TakeOver(Scenario):
    """The runs of a scheduler that has died are taken over, by one that dies in the middle of that."""

    has_dead = True

    def prepare(self, node: Node) -> None:
        node.add("orphan")
        node.add("orphan again", [0, 3])
        node.add("retried orphan", **RETRY)
        node.add("retried again", [0, 3], **RETRY)
        node.add("retried together", [0, 2], coalesce=False, **RETRY)
        now = T0 + 2 * SECOND
        request = ClaimRequest(
            now, 100, lambda job: planning.plan(job, now), Identity()
        )
        request.lease_until = T0 - SECOND
        assert len(node.driver.store.claim(request).claims) == 5

    def act(self, node: Node) -> None:
        node.make_pass(3)
        node.write_outcomes()

    def check(self, books: Books) -> None:
        assert books.states("orphan") == [RunState.LOST]
        assert books.states("retried orphan") == [RunState.SUCCEEDED]
        assert books.fires("retried together") == [0, 1, 2]
        for job_id in ("orphan again", "retried again"):
            assert books.fires(job_id) == [0, 1, 2, 3], job_id
        assert books.jobs == {}


class Tidying(Scenario):
    """Runs that ended long ago are forgotten, and a lease is renewed and dropped."""

    def prepare(self, node: Node) -> None:
        node.add("unrecorded often", [0, 3], coalesce=False)
        node.add("unrecorded once")
        node.add("slow", [4], executor="holding")
        for second in range(4):
            node.make_pass(second)
        node.write_outcomes()

    def act(self, node: Node) -> None:
        store, me = node.driver.store, node._engine.identity.node
        store.prune_runs(None, 2, T0 + 4 * SECOND)
        node.make_pass(4)
        store.renew_lease(me, T0 + 2 * LEASE)
        node.holding.let_go()
        node.write_outcomes()
        store.drop_lease(me)

    def check(self, books: Books) -> None:
        assert books.fires("unrecorded often") in ([0, 1, 2, 3], [1, 2, 3], [2, 3])
        assert books.fires("unrecorded once") == [0]
        assert books.fires("slow") == [4]
        assert books.jobs == {}


class Opening(Scenario):
    """A store is opened at a place where there is nothing yet."""

    opens = True

    def act(self, node: Node) -> None:
        node.start()
        node.add("later", [LATER])
        node.add("last")
        node.make_pass(0)
        node.shutdown()

    def check(self, books: Books) -> None:
        assert books.fires("last") in ([], [0])
        assert books.jobs in ({}, {"later": LATER})
        if books.is_intact:
            assert books.fires("last") == [0]
            assert books.jobs == {"later": LATER}
