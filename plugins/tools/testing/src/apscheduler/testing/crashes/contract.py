"""The promises of a store about processes that die, as a test class."""

import inspect
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from apscheduler.testing.crashes.forking import SCENARIOS, Findings, Order
from apscheduler.testing.crashes.points import Reach, watch_sockets

Examine = Callable[[Order], Findings]


class CrashContract:
    """A process is killed between every two calls of a store, and every two requests to its server.

    Each time, another process then takes over and makes passes until everything is over. Every fire time must be
    recorded once, nothing started more often than its job allows, no run left open and no job missing.

    Subclasses supply a fixture ``jobstore``: the configuration of the store, at a place where there is nothing.

    :cvar places: which options of the configuration say where the jobs are kept; a process that opens an empty store
        gets a place of its own, whose name begins with the one that was given
    :cvar is_tidy: whether a place is like new after everything was removed; else each process gets a place of its own
    :cvar watch: has a function called before each request of the client that may change something; None if that
        cannot be done, so that only whole calls are told apart
    """

    places: ClassVar[tuple[str, ...]]
    is_tidy: ClassVar[bool] = True
    watch: ClassVar["staticmethod[[Reach], None] | None"] = staticmethod(watch_sockets)

    @pytest.fixture(scope="class")
    @classmethod
    def examine(cls) -> Iterator[Examine]:
        """Return what has a scenario examined, in a process from which others are forked quickly."""
        program = "from apscheduler.testing.crashes.forking import serve; serve()"
        with subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            requests, answers = process.stdin, process.stdout
            assert requests is not None and answers is not None

            def examine(order: Order) -> Findings:
                pickle.dump(order, requests)
                requests.flush()
                findings: Findings = pickle.load(answers)
                return findings

            try:
                yield examine
            finally:
                process.kill()  # it is done, unless a test has given up

    @pytest.mark.parametrize("scenario", SCENARIOS)
    def test_a_process_may_die_anywhere(
        self,
        scenario: str,
        examine: Examine,
        jobstore: dict[str, Any],
        tmp_path: Path,
    ) -> None:
        watch = type(self).watch
        place = None
        if watch is not None:
            place = (inspect.getfile(watch), watch.__name__)
        where = self.places, self.is_tidy
        findings = examine(Order(scenario, jobstore, *where, place, str(tmp_path)))

        if findings.failures:
            pytest.fail("\n".join(findings.failures), pytrace=False)
        assert len(findings.points) > 1
