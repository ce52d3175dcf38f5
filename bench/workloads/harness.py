"""What all workloads share. They run as scripts, so their directory is on the path."""

import argparse
import itertools
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from apscheduler.schedulers.background import BackgroundScheduler

WAIT_SECONDS = 300.0

# What APScheduler 3 does not: record runs, share stores, add many jobs at once.
KEEPS_RUNS = hasattr(BackgroundScheduler, "get_runs")


@dataclass(frozen=True)
class Options:
    """How much to do."""

    quick: bool
    # Leave out the sizes at which APScheduler 3.11.3 takes minutes.
    reduced: bool


def options() -> Options:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="do less")
    parser.add_argument("--reduced", action="store_true", help="leave out big sizes")
    arguments = parser.parse_args()
    return Options(arguments.quick, arguments.reduced)


@dataclass
class Report:
    """The values that a workload has measured, all of them better when smaller."""

    values: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, value: float, unit: str) -> None:
        self.values[name] = {"value": value, "unit": unit}

    def print(self) -> None:
        """Print them as the one line that the runner reads."""
        print(json.dumps(self.values), flush=True)


class Countdown:
    """A job function that does nothing but count, and the moment of its last call."""

    def __init__(self, number: int):
        self._number = number
        self._calls = itertools.count(1)
        self._done = threading.Event()
        self.ended_at = 0.0

    def tick(self) -> None:
        if next(self._calls) == self._number:
            self.ended_at = time.perf_counter()
            self._done.set()

    def wait(self) -> None:
        """Wait for the last call.

        :raises TimeoutError: if it does not come
        """
        if not self._done.wait(WAIT_SECONDS):
            raise TimeoutError(
                f"Of {self._number} calls only {next(self._calls) - 1} came"
            )


class TimedScheduler(BackgroundScheduler):  # type: ignore[misc,unused-ignore]  # 3.11.3 is not typed
    """Notes how long its passes take."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.longest_pass = 0.0

    def _process_jobs(self) -> Any:
        started = time.perf_counter()
        try:
            return super()._process_jobs()
        finally:
            taken = time.perf_counter() - started
            self.longest_pass = max(self.longest_pass, taken)


def utc_now() -> datetime:
    return datetime.now(UTC)


def microseconds_each(action: Callable[[], object], number: int) -> float:
    """Return how long one of ``number`` things takes that ``action`` does."""
    started = time.perf_counter()
    action()
    return (time.perf_counter() - started) / number * 1e6
