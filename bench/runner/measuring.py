"""Runs the workloads in processes of their own, in turns, and puts together what they print."""

import json
import os
import signal
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.catalogue import Workload

TIMEOUT_SECONDS = 900


class WorkloadError(Exception):
    """A workload failed."""

    def __init__(self, program: Path, interpreter: Path, reason: str):
        super().__init__(f"{program.name} failed with {interpreter}:\n{reason}")


@dataclass
class Metric:
    """One thing that was measured in every round; the smaller the better."""

    name: str
    unit: str
    ours: list[float] = field(default_factory=list)
    released: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """How many times faster than the release this project is, round by round."""
        pairs = zip(self.ours, self.released, strict=False)
        return [released / ours for ours, released in pairs if ours]

    @property
    def ratio(self) -> float | None:
        """The same of the medians; None where only one of the two was measured."""
        if not self.ours or not self.released:
            return None
        ours = statistics.median(self.ours)
        return statistics.median(self.released) / ours if ours else None


@dataclass(frozen=True)
class Contestants:
    """The interpreters of the two environments; without the second only this project is measured."""

    ours: Path
    released: Path | None


@dataclass(frozen=True)
class Effort:
    """How much to measure."""

    rounds: int | None
    quick: bool
    # Also what takes the release minutes.
    complete: bool


def measure(
    workload: Workload, contestants: Contestants, effort: Effort
) -> list[Metric]:
    """Run a workload for some rounds; who begins changes from round to round.

    :raises WorkloadError: if it fails
    """
    metrics: dict[str, Metric] = {}
    rounds = effort.rounds or (2 if effort.quick else workload.rounds)
    for number in range(rounds):
        turns = [(contestants.ours, True)]
        if contestants.released is not None:
            turns.append((contestants.released, False))
        for interpreter, is_ours in turns[:: -1 if number % 2 else 1]:
            options = ["--quick"] if effort.quick else []
            if not is_ours and not effort.complete:
                options.append("--reduced")
            values = run_program(interpreter, workload.program, options)
            for name, measured in values.items():
                metric = metrics.setdefault(name, Metric(name, measured["unit"]))
                (metric.ours if is_ours else metric.released).append(measured["value"])
    return list(metrics.values())


def run_program(
    interpreter: Path, program: Path, options: Sequence[str]
) -> dict[str, Any]:
    """Return what one run of a workload prints.

    :raises WorkloadError: if it fails
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    process = subprocess.Popen(
        [interpreter, program, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        reason = f"not done after {TIMEOUT_SECONDS} seconds"
        raise WorkloadError(program, interpreter, reason) from None
    finally:
        if process.poll() is None:  # with the processes that it has started
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode:
        raise WorkloadError(program, interpreter, errors)
    values: dict[str, Any] = json.loads(output)
    return values
