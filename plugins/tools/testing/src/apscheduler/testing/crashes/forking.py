"""The process from which the actors of a scenario are forked, one after the other: without threads, and with all
modules loaded, so that a death takes milliseconds.
"""

import importlib.util
import logging
import os
import pickle
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from apscheduler.jobstores.contract import NativeJobStore
from apscheduler.testing.crashes import schedulers
from apscheduler.testing.crashes.books import Books
from apscheduler.testing.crashes.changes import (
    Additions,
    Changes,
    Opening,
    TakeOver,
    Tidying,
)
from apscheduler.testing.crashes.points import FaultPoints, Watch
from apscheduler.testing.crashes.scenarios import (
    Instances,
    LateRuns,
    LostAnswers,
    Passes,
    ReadyRuns,
    Refusals,
    Scenario,
    Stopping,
)
from apscheduler.testing.crashes.schedulers import Node
from apscheduler.testing.jobs import PATIENCE
from apscheduler.testing.jobstores.basic import SECOND, T0
from apscheduler.testing.jobstores.requests import LEASE

SCENARIOS: dict[str, type[Scenario]] = {
    scenario.__name__: scenario
    for scenario in (
        *(Passes, LateRuns, Instances, ReadyRuns, Stopping, Refusals, LostAnswers),
        *(Changes, Additions, TakeOver, Tidying, Opening),
    )
}

# When the passes of the survivor are made. The owner of a claim that wrote no lease is given one, which has to end.
LEASE_SECONDS = LEASE / SECOND
SURVIVAL = (10, 10, 16, 20 + LEASE_SECONDS, 40 + LEASE_SECONDS)


@dataclass
class Order:
    """What is to be examined.

    :ivar scenario: name of the scenario
    :ivar jobstore: configuration of the store
    :ivar places: the options of it that say where the jobs are
    :ivar is_tidy: whether a place can be used again after it was emptied
    :ivar watch: file and name of the function that watches the client of the store, if there is one
    :ivar directory: where logs are written
    """

    scenario: str
    jobstore: dict[str, Any]
    places: tuple[str, ...]
    is_tidy: bool
    watch: tuple[str, str] | None
    directory: str


@dataclass
class Findings:
    """What came of it.

    :ivar points: what came after each fault point
    :ivar failures: what was wrong after a death at which point
    """

    points: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Examination:
    """Carries out a scenario once for each of its fault points, and once to the end."""

    def __init__(self, order: Order):
        self._order = order
        self._scenario = SCENARIOS[order.scenario]()
        if order.watch is not None:
            watch_client(*order.watch)

    def carry_out(self) -> Findings:
        """Return what was found."""
        findings = Findings()
        # Here, so that whatever is loaded, compiled and cached by then is there in all that are forked.
        try:
            self._act("all", None)
            wait_for_threads()
        except Exception:
            findings.failures.append(f"with nobody killed: {traceback.format_exc()}")
            return findings
        self._survive("all", True, "with nobody killed", findings)
        for number in count():
            place = f"{number}"
            code, answer = in_child(lambda: self._act(place, number))  # noqa: B023  # called at once
            if code == 0:  # it has come to the end: there are no more points
                findings.points = answer
                self._survive(place, True, "again with nobody killed", findings)
                break
            where = f"killed at fault point {number}"
            if code != -signal.SIGKILL:
                findings.failures.append(f"not {where}: {answer}")
                break
            self._survive(place, False, where, findings)
        if findings.failures:
            named = (f"{n} before {name!r}" for n, name in enumerate(findings.points))
            findings.failures.append(f"Fault points: {', '.join(named)}")
        return findings

    def _survive(
        self, place: str, is_intact: bool, where: str, findings: Findings
    ) -> None:
        code, answer = in_child(lambda: self._finish(place, is_intact))
        if code != 0:
            findings.failures.append(f"{where}: {answer}")

    def _make_node(self, place: str, now: Any = T0) -> Node:
        configuration = dict(self._order.jobstore)
        if self._scenario.opens or not self._order.is_tidy:
            for name in self._order.places:
                configuration[name] = f"{configuration[name]}_{place}"
        return Node(configuration, str(self._log(place)), now)

    def _log(self, place: str) -> Path:
        return Path(self._order.directory, f"{self._order.scenario}-{place}.log")

    def _act(self, place: str, fatal: int | None) -> list[str]:
        """Carry out the scenario, and return the points that were passed."""
        points = schedulers.points = FaultPoints(fatal, self._order.watch is not None)
        node = self._make_node(place)
        points.watch_calls(node.driver.store)
        if not self._scenario.opens:
            node.start()
            self._scenario.prepare(node)
        points.arm()
        self._scenario.act(node)
        points.reach("the end")
        points.disarm()
        if node.running:
            node.shutdown()
        return points.passed

    def _finish(self, place: str, is_intact: bool) -> None:
        complaints: list[str] = []
        logger = logging.getLogger("apscheduler")
        logger.addHandler(_Listener(complaints))
        node = self._make_node(place, T0 + SURVIVAL[0] * SECOND)
        node.start()
        self._scenario.resume(node)
        for second in SURVIVAL:
            node.make_pass(second)
            node.holding.let_go()
        node.write_outcomes()
        store = node.driver.store
        is_clean = is_intact and not self._scenario.has_dead
        books = Books(store, self._log(place), is_clean)
        left = store.take_over(node._engine.identity.node, T0 + 99 * LEASE)
        _clear(store)
        node.shutdown()
        books.check()
        books.is_intact = is_intact
        assert not complaints, complaints
        self._scenario.check(books)
        assert left == []
        assert not complaints, complaints


class _Listener(logging.Handler):
    """Hears of errors that a scheduler contains."""

    def __init__(self, complaints: list[str]):
        super().__init__(logging.WARNING)
        self._complaints = complaints

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg.startswith("Error"):
            self._complaints.append(self.format(record))


def _clear(store: NativeJobStore) -> None:
    """Make room for the next processes."""
    store.remove_all_jobs()
    while store.prune_runs(None, 0, T0 + 99 * LEASE):
        pass


def wait_for_threads() -> None:
    """Wait until the threads have ended that a client had, since they would be missing in a fork."""
    deadline = time.monotonic() + PATIENCE
    while threading.active_count() > 1:
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.001)


def in_child(action: Callable[[], Any]) -> tuple[int, Any]:
    """Carry out an action in a forked process.

    :return: its exit code, negative if it was killed; and what the action returned, or the traceback
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code, answer = 1, None
        try:
            answer = action()
            code = 0
        except BaseException:
            answer = traceback.format_exc()
        finally:
            with open(writer, "wb") as pipe:
                pickle.dump(answer, pipe)
            os._exit(code)
    os.close(writer)
    with open(reader, "rb") as pipe:
        data = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, pickle.loads(data) if data else None


@cache
def watch_client(path: str, name: str) -> None:
    """Have the function with this name watch the client, in this process and all that are forked."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    watch: Watch = getattr(module, name)
    watch(lambda request: schedulers.points.reach_request(request))


def serve() -> None:
    """Read orders and write findings until there are no more."""
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever else is printed
    logging.getLogger("apscheduler").addHandler(logging.NullHandler())
    logging.getLogger("apscheduler").propagate = False
    random.seed(0)  # when schedulers look for the dead, and what is old
    while True:
        try:
            order = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        with open(answers, "wb", closefd=False) as pipe:
            pickle.dump(Examination(order).carry_out(), pipe)
