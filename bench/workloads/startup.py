"""From the start of the interpreter to the first run of an interval job, in fresh processes."""

import resource
import subprocess
import sys
import time
from pathlib import Path

from harness import Report, options

PROGRAM = Path(__file__).with_name("first_run.py")
EMPTY = "import time; print(time.clock_gettime(time.CLOCK_MONOTONIC))"


def start_program() -> tuple[float, float, float, float]:
    """Start the program and return milliseconds and a number.

    These are the times until everything is imported, until the job runs, and of the processor; and how many modules
    are imported.
    """
    before = _children_time()
    started = time.clock_gettime(time.CLOCK_MONOTONIC)
    output = subprocess.check_output([sys.executable, PROGRAM], text=True)
    used = _children_time() - before
    imported, ran, modules = map(float, output.split())
    return (imported - started) * 1e3, (ran - started) * 1e3, used * 1e3, modules


def start_interpreter() -> float:
    """Return the milliseconds until a program that does nothing has begun."""
    started = time.clock_gettime(time.CLOCK_MONOTONIC)
    output = subprocess.check_output([sys.executable, "-c", EMPTY], text=True)
    return (float(output) - started) * 1e3


def _children_time() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    repeats = 5 if options().quick else 10
    report = Report()
    start_program()
    starts = [start_program() for _ in range(repeats)]
    bare = min(start_interpreter() for _ in range(repeats))
    imported, ran, used, modules = (min(column) for column in zip(*starts, strict=True))
    report.add("until the first run", ran, "ms")
    report.add("until the first run: CPU", used, "ms")
    report.add("until imported", imported, "ms")
    report.add("modules imported", modules, "")
    report.add("for comparison: interpreter alone", bare, "ms")
    report.print()


if __name__ == "__main__":
    main()
