"""Explores all interleavings of a protocol, and says which promise is broken by which sequence of steps."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from model.protocol import (
    FINAL,
    FIRES,
    NONE,
    READDED,
    RUNNING,
    Budget,
    Protocol,
    Run,
    State,
    Violation,
)


@dataclass
class Report:
    """What an exploration has found.

    :ivar states: how many states there are
    :ivar broken: the promise that is broken, None if none is
    :ivar trace: the steps that lead to that, as few as possible
    """

    states: int
    broken: str | None = None
    trace: tuple[str, ...] = ()


def explore(protocol: Protocol, budget: Budget) -> Report:
    """Go through every state that can be reached, and stop at the first broken promise."""
    first = canonical(protocol.first(budget))
    came_from: dict[State, tuple[State, str] | None] = {first: None}
    before: dict[State, list[State]] = {}
    settled = []
    queue = deque([first])
    while queue:
        state = queue.popleft()
        if is_settled(state):
            settled.append(state)
        try:
            check(state)
            for step, following in protocol.steps(state):
                following = canonical(following)
                before.setdefault(following, []).append(state)
                if following not in came_from:
                    came_from[following] = state, step
                    queue.append(following)
        except Violation as broken:
            trace = tuple(_trace(came_from, state))
            return Report(len(came_from), str(broken), trace)
    stuck = _unsettled(came_from, before, settled)
    if stuck is not None:
        trace = tuple(_trace(came_from, stuck))
        return Report(len(came_from), "a fire never gets an outcome", trace)
    return Report(len(came_from))


def check(state: State) -> None:
    """Look at what must be true in every state.

    :raises Violation: if it is not
    """
    for number in range(len(state.jobs)):
        running = [
            fire
            for fire, run in enumerate(state.runs)
            if run.state == RUNNING and FIRES[fire][0] == number
        ]
        if len(running) > 1:
            raise Violation("more instances are running than the job allows")
    for fire, run in enumerate(state.runs):
        if run.state == NONE and _is_passed_over(state, fire):
            raise Violation("a fire is passed over")


def _is_passed_over(state: State, fire: int) -> bool:
    """Return whether a job has moved on beyond a fire of which nothing is recorded."""
    number, _ = FIRES[fire]
    job = state.jobs[number]
    if fire == READDED:
        is_pending = state.change is not None and state.change[0] == "add"
        return state.removed and job is None and not is_pending
    if number == 0 and state.removed:
        return False  # it was removed with its job
    return job is None or (job.fire is not None and job.fire > fire)


def is_settled(state: State) -> bool:
    """Return whether all that is to happen has happened, and is recorded."""
    return (
        all(not node.work and node.plan is None for node in state.nodes)
        and state.change is None
        and all(job is None or job.fire is None for job in state.jobs)
        and all(run.state in (NONE, *FINAL) for run in state.runs)
    )


def canonical(state: State) -> State:
    """Return which of two states stands for both: nodes are alike, so that it does not matter which is which."""
    swapped = state._replace(
        nodes=tuple(
            node
            if node.seen is None
            else node._replace(seen=(node.seen[0], _swapped(node.seen[1])))
            for node in state.nodes[::-1]
        ),
        runs=tuple(map(_swapped, state.runs)),
    )
    # Any order will do, as long as it is always the same one.
    return min(state, swapped, key=hash)


def _swapped(run: Run) -> Run:
    return run if run.owner is None else run._replace(owner=1 - run.owner)


def _unsettled(
    came_from: dict[State, tuple[State, str] | None],
    before: dict[State, list[State]],
    settled: list[State],
) -> State | None:
    """Return a state from which everything can never come to its end, if there is one."""
    can_settle = set(settled)
    queue = deque(settled)
    while queue:
        for state in before.get(queue.popleft(), ()):
            if state not in can_settle:
                can_settle.add(state)
                queue.append(state)
    return next((state for state in came_from if state not in can_settle), None)


def _trace(
    came_from: dict[State, tuple[State, str] | None], state: State
) -> Iterator[str]:
    steps = []
    origin = came_from[state]
    while origin is not None:
        state, step = origin
        steps.append(step)
        origin = came_from[state]
    return reversed(steps)
