"""The protocol by which nodes share jobs, as a model: a state, and all steps that may come next.

What a step does at once is one atomic operation of a store, or something that a node does by itself. Everything that
is read before is part of the state of who has read it, so that others may come in between.

All fires are due. A job has ``max_instances=1``; lost runs of the first job are retried, those of the second marked.
A fire is named by job and number; of the first job, the last fire belongs to the job that is added after a removal.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

# Fires: the first job has two, the other one; one more is that of the first job after it was added again.
FIRES = ((0, 0), (0, 1), (1, 0), (0, 2))
READDED = 3
LAST = (1, 2)  # the place in FIRES of the last fire of each job
RETRIED = (True, False)
MAX_ATTEMPTS = 2

# States of runs.
NONE, RUNNING, READY = "none", "running", "ready"
SUCCEEDED, SKIPPED, LOST = "succeeded", "skipped", "lost"
FINAL = (SUCCEEDED, SKIPPED, LOST)
# What a node is at.
UP, STOPPING, GONE = "up", "stopping", "gone"
# What has become of a claim: it may be started, it was, or the lease has been interrupted since.
CLAIMED, STARTED, VOID = "claimed", "started", "void"
# Leases: good; over by the clock of its owner, who is careful; over for everybody.
GOOD, DOUBTFUL, OVER = "good", "doubtful", "over"


class Violation(Exception):
    """A promise is broken; the argument says which one."""


class Job(NamedTuple):
    """The record of a job.

    :ivar version: which definition it is; together with the next fire it is the token
    :ivar fire: the place of its next fire in ``FIRES``; None if it is paused
    """

    version: int
    fire: int | None


class Run(NamedTuple):
    """The record of a fire.

    :ivar taken: whether it was marked by who takes over: its owner may do nothing about it any more
    :ivar claims: how often it was claimed, where that is part of what is compared
    """

    state: str = NONE
    owner: int | None = None
    attempt: int = 1
    taken: bool = False
    claims: int = 0

    def is_of(self, node: int, attempt: int) -> bool:
        """Return whether a node may go on with an attempt."""
        return self[:4] == (RUNNING, node, attempt, False)


class Item(NamedTuple):
    """An attempt at a fire that a node has claimed."""

    fire: int
    attempt: int
    stage: str = CLAIMED


class Node(NamedTuple):
    """A scheduler.

    :ivar plan: the fire it is about to claim, and the record that it has read: a job, or a ready run
    :ivar seen: the fire of another node whose lease it has read to be over, and its record
    :ivar work: the attempts at fires that it has claimed, and how far it has come with each
    """

    status: str = UP
    lease: str = OVER
    plan: tuple[int, Job | Run] | None = None
    seen: tuple[int, Run] | None = None
    work: tuple[Item, ...] = ()


class State(NamedTuple):
    """Everything.

    :ivar change: what a client is about to write: what, of which job, and the record that it has read
    :ivar starts: of each fire, the attempts that were started
    :ivar removed: whether the first job was removed with its fires
    :ivar left: how often each disturbance may still happen
    """

    jobs: tuple[Job | None, ...]
    runs: tuple[Run, ...]
    nodes: tuple[Node, ...]
    change: tuple[str, int, Job | None] | None = None
    starts: tuple[tuple[int, ...], ...] = ((),) * len(FIRES)
    removed: bool = False
    left: tuple[int, ...] = ()


@dataclass
class Budget:
    """How many disturbances there are at most."""

    lapses: int = 0
    crashes: int = 0
    stops: int = 0
    changes: int = 0


LAPSES, CRASHES, STOPS, CHANGES = range(4)
Step = tuple[str, State]


def with_item(items: tuple[Any, ...], index: int, item: Any) -> tuple[Any, ...]:
    """Return a tuple with one item replaced."""
    return (*items[:index], item, *items[index + 1 :])


class Protocol:
    """The protocol as it is. What its mutants change are methods of their own."""

    def first(self, budget: Budget) -> State:
        """Return the state in which everything begins."""
        return State(
            (Job(0, 0), Job(0, 2)),
            (Run(),) * len(FIRES),
            (Node(), Node()),
            left=(budget.lapses, budget.crashes, budget.stops, budget.changes),
        )

    # What a store compares.

    def is_same_job(self, now: Job | None, read: Job) -> bool:
        """Return whether a claim finds the record that was planned."""
        return now == read

    def is_owner(self, run: Run, node: int, attempt: int) -> bool:
        """Return whether who reports about a run is the one who runs it."""
        return run.is_of(node, attempt)

    def claimed(self, run: Run, node: int, attempt: int) -> Run:
        """Return the record of a run that a node has claimed."""
        return Run(RUNNING, node, attempt)

    def may_start(self, node: Node, item: Item) -> bool:
        """Return whether a node hands what it has claimed to an executor."""
        return node.lease == GOOD and node.status == UP and item.stage == CLAIMED

    def after_lapse(self, node: Node) -> tuple[Item, ...]:
        """Return the work of a node that gets a lease after its last one was over."""
        return tuple(
            item._replace(stage=VOID) if item.stage == CLAIMED else item
            for item in node.work
        )

    def is_for_taking(self, state: State, number: int, run: Run) -> bool:
        """Return whether a node that looks at a run is about to take it over."""
        return (
            run.state == RUNNING
            and run.owner != number
            and self.is_dead(state, run.owner)
        )

    def may_take(self, state: State, run: Run) -> bool:
        """Return whether a run is taken from an owner who was seen to be dead."""
        return run.state == RUNNING and self.is_dead(state, run.owner)

    def take_over(self, state: State, fire: int, read: Run) -> State:
        """Return the state after a run was taken over, if that is still right: the lease is looked at in the same step."""
        return (
            self._take(state, fire) if self.may_take(state, state.runs[fire]) else state
        )

    def is_full(self, state: State, job: int) -> bool:
        """Return whether as many instances are running as the job allows."""
        return any(
            run.state == RUNNING and FIRES[fire][0] == job
            for fire, run in enumerate(state.runs)
        )

    def after_removal(self, job: Job) -> Job:
        """Return the record of a job that is added in place of another one."""
        return Job(job.version + 1, READDED)

    def after_claim(self, job: int, record: Job) -> Job | None:
        """Return what a claim makes of a record."""
        assert record.fire is not None
        if record.fire in (LAST[job], READDED):
            return None
        return record._replace(fire=record.fire + 1)

    def is_dead(self, state: State, owner: int | None) -> bool:
        """Return whether the lease of a node is over, or its process gone."""
        assert owner is not None
        return OVER == state.nodes[owner].lease or state.nodes[owner].status == GONE

    # Steps.

    def steps(self, state: State) -> Iterator[Step]:
        """Return everything that can happen next."""
        for number, node in enumerate(state.nodes):
            if node.status != GONE:
                yield from self._make_pass(state, number, node)
                yield from self._complete_started(state, number, node)
                yield from self._pass_time(state, number, node)
            yield from self._disturb(state, number, node)
        yield from self._change(state)

    def _make_pass(self, state: State, number: int, node: Node) -> Iterator[Step]:
        """Do one thing after the other: finish what was begun, else begin with anything."""
        claimed = next((item for item in node.work if item.stage != STARTED), None)
        if claimed is not None:
            yield self._dispatch(state, number, node, claimed)
        elif node.plan is not None:
            yield f"{number} claims", self._write_claim(state, number, node.plan)
        elif node.seen is not None:
            fire, read = node.seen
            after = self.take_over(_with(state, number, seen=None), fire, read)
            yield f"{number} takes fire {fire}", after
        elif node.status == UP:
            yield from self._look(state, number)

    def _look(self, state: State, number: int) -> Iterator[Step]:
        """Read what is due, which runs are ready, and whose lease is over."""
        for job in state.jobs:
            if job is not None and job.fire is not None:
                plan = (job.fire, job)
                yield f"{number} plans fire {job.fire}", _with(state, number, plan=plan)
        for fire, run in enumerate(state.runs):
            if run.state == READY:
                after = _with(state, number, plan=(fire, run))
                yield f"{number} reads that fire {fire} is ready", after
            elif self.is_for_taking(state, number, run):
                after = _with(state, number, seen=(fire, run))
                yield f"{number} sees that the owner of fire {fire} is dead", after

    def _write_claim(
        self, state: State, number: int, plan: tuple[int, Job | Run]
    ) -> State:
        fire, read = plan
        job = FIRES[fire][0]
        state = _with(state, number, plan=None)
        if isinstance(read, Run):
            if state.runs[fire] != read or self.is_full(state, job):
                return state
            return self._own(state, number, fire, read.attempt)
        record = state.jobs[job]
        if not self.is_same_job(record, read):
            return state
        if record != read:
            raise Violation("a claim carries out what was planned from another record")
        if state.runs[fire] != Run():
            raise Violation("a fire is claimed twice")
        jobs = with_item(state.jobs, job, self.after_claim(job, read))
        state = state._replace(jobs=jobs)
        if self.is_full(state, job):
            return _record(state, fire, Run(SKIPPED))
        return self._own(state, number, fire, 1)

    def _own(self, state: State, number: int, fire: int, attempt: int) -> State:
        """Return the state after a node has claimed a fire; with the claim it has a lease."""
        run = self.claimed(state.runs[fire], number, attempt)
        state = self._grant(_record(state, fire, run), number)
        work = (*state.nodes[number].work, Item(fire, attempt))
        return _with(state, number, lease=GOOD, work=tuple(sorted(work)))

    def _dispatch(self, state: State, number: int, node: Node, item: Item) -> Step:
        """Start what was claimed, or hand it back."""
        fire, attempt, _ = item
        work = tuple(other for other in node.work if other != item)
        if self.may_start(node, item):
            started = tuple(sorted((*work, item._replace(stage=STARTED))))
            after = self._start(state, number, fire, attempt)
            return f"{number} starts fire {fire}", _with(after, number, work=started)
        after = _with(state, number, work=work)
        run = state.runs[fire]
        if self.is_owner(run, number, attempt):
            after = _record(after, fire, run._replace(state=READY, owner=None))
        return f"{number} hands fire {fire} back", after

    def _complete_started(
        self, state: State, number: int, node: Node
    ) -> Iterator[Step]:
        """Write what has become of runs, whatever the pass is at."""
        for item in node.work:
            fire, attempt, stage = item
            if stage != STARTED:
                continue
            work = tuple(other for other in node.work if other != item)
            after = _with(state, number, work=work)
            run = state.runs[fire]
            if self.is_owner(run, number, attempt):
                after = self._complete(after, fire, run, number, attempt)
            yield f"{number} completes fire {fire}", after

    def _complete(
        self, state: State, fire: int, run: Run, number: int, attempt: int
    ) -> State:
        if not run.is_of(number, attempt):
            raise Violation("the outcome of a run is overwritten by who lost it")
        return _record(state, fire, Run(SUCCEEDED, None, attempt))

    def _start(self, state: State, number: int, fire: int, attempt: int) -> State:
        if not state.runs[fire].is_of(number, attempt):
            raise Violation("a run is started that somebody else has taken over")
        started = state.starts[fire]
        if attempt in started:
            raise Violation("a run is started twice")
        if started and not RETRIED[FIRES[fire][0]]:
            raise Violation("a run that is not to be retried is started twice")
        starts = with_item(state.starts, fire, (*started, attempt))
        return state._replace(starts=starts)

    def _take(self, state: State, fire: int) -> State:
        run = state.runs[fire]
        if run.state != RUNNING:
            raise Violation("a run is taken over twice")
        if RETRIED[FIRES[fire][0]] and run.attempt < MAX_ATTEMPTS:
            again = Run(READY, None, run.attempt + 1, claims=run.claims)
            return _record(state, fire, again)
        return _record(state, fire, Run(LOST, None, run.attempt))

    def _pass_time(self, state: State, number: int, node: Node) -> Iterator[Step]:
        """Leases run out, and are renewed while there are runs."""
        if not node.work:
            return
        if node.lease == GOOD and state.left[LAPSES]:
            after = _with(_spend(state, LAPSES), number, lease=DOUBTFUL)
            yield f"the lease of {number} ends", after
        elif node.lease == DOUBTFUL:
            yield f"{number} counts as dead", _with(state, number, lease=OVER)
        if node.lease != GOOD:
            yield f"{number} renews its lease", self._grant(state, number)

    def _grant(self, state: State, number: int) -> State:
        """Return the state after a node got a lease, or more of the one it has."""
        node = state.nodes[number]
        if node.lease == GOOD:
            return state
        return _with(state, number, lease=GOOD, work=self.after_lapse(node))

    def _disturb(self, state: State, number: int, node: Node) -> Iterator[Step]:
        """Nodes die and are shut down; one of them survives."""
        left = state.left
        may_go = all(other.status == UP for other in state.nodes)
        if left[CRASHES] and may_go:
            after = _spend(state, CRASHES)
            nodes = with_item(after.nodes, number, Node(GONE))
            yield f"{number} is killed", after._replace(nodes=nodes)
        if left[STOPS] and may_go:
            after = _with(_spend(state, STOPS), number, status=STOPPING, plan=None)
            yield f"{number} is shut down", _with(after, number, seen=None)
        if node.status == STOPPING and not node.work:
            yield f"{number} ends", _with(state, number, status=GONE)

    # What users do meanwhile, from whatever process.

    def _change(self, state: State) -> Iterator[Step]:
        if state.change is not None:
            yield f"{state.change[0]} is written", self._write_change(state)
            return
        if not state.left[CHANGES]:
            return
        after = _spend(state, CHANGES)
        for number, job in enumerate(state.jobs):
            if job is None:
                continue
            kinds = ["modify", "resume" if job.fire is None else "pause"]
            if number == 0 and not state.removed:
                kinds.append("remove")
            for kind in kinds:
                change = (kind, number, job)
                yield f"{kind} job {number}", after._replace(change=change)

    def _write_change(self, state: State) -> State:
        """Write a change if the record is the one that was read; otherwise read it again."""
        assert state.change is not None
        kind, number, read = state.change
        now = state.jobs[number]
        if kind == "add":
            assert read is not None and now is None
            return _with_job(state, number, self.after_removal(read))
        if now is None:
            return state._replace(change=None)
        if kind == "remove":
            after = _with_job(state, number, None)._replace(removed=True)
            return after._replace(change=("add", number, now))
        if kind == "modify":
            # The run time is not written, and may have moved on meanwhile.
            if read is None or now.version != read.version:
                return state._replace(change=(kind, number, now))
            return _with_job(state, number, now._replace(version=now.version + 1))
        if now != read:
            return state._replace(change=(kind, number, now))
        if kind == "pause":
            return _with_job(state, number, now._replace(fire=None))
        return _with_job(state, number, self._resumed(state, number, now))

    def _resumed(self, state: State, number: int, job: Job) -> Job | None:
        for fire, run in enumerate(state.runs):
            is_ours = FIRES[fire][0] == number and run == Run()
            if is_ours and (fire == READDED) == (number == 0 and state.removed):
                return job._replace(fire=fire)
        return None


class TakesInSteps(Protocol):
    """The protocol of a store that cannot look at a lease and change a run in one step, as MongoDB.

    Who finds the owner of a run dead marks the run, if its record is still the one that was read before; what is marked
    is taken by whoever comes next. A record that was claimed again is another one.
    """

    def claimed(self, run: Run, node: int, attempt: int) -> Run:
        return Run(RUNNING, node, attempt, claims=run.claims + 1)

    def is_for_taking(self, state: State, number: int, run: Run) -> bool:
        return run.taken or super().is_for_taking(state, number, run)

    def is_same_run(self, now: Run, read: Run) -> bool:
        """Return whether who takes over finds the record that was read."""
        return now == read

    def take_over(self, state: State, fire: int, read: Run) -> State:
        now = state.runs[fire]
        if not self.is_same_run(now, read):
            return state
        if now.taken:
            return self._take(state, fire)
        return _record(state, fire, now._replace(taken=True))


def _with(state: State, number: int, **changes: Any) -> State:
    """Return the state with something about a node changed; without work, a lease does not matter."""
    node = state.nodes[number]._replace(**changes)
    if not node.work:
        node = node._replace(lease=OVER)
    return state._replace(nodes=with_item(state.nodes, number, node))


def _with_job(state: State, number: int, job: Job | None) -> State:
    """Return the state after a change was written."""
    return state._replace(jobs=with_item(state.jobs, number, job), change=None)


def _record(state: State, fire: int, run: Run) -> State:
    """Return the state with the record of a fire changed."""
    if state.runs[fire].state in FINAL:
        raise Violation("an outcome is overwritten")
    if run.state in FINAL:  # what has been before does not matter any more
        run = Run(run.state)
        state = state._replace(starts=with_item(state.starts, fire, ()))
    return state._replace(runs=with_item(state.runs, fire, run))


def _spend(state: State, what: int) -> State:
    """Return the state with one disturbance less to come."""
    left = with_item(state.left, what, state.left[what] - 1)
    return state._replace(left=left)
