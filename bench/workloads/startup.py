"""From the start of the interpreter to the first run of an interval job, in fresh processes."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from harness import Report, options

PROGRAM = Path(__file__).with_name("first_run.py")


def start_program() -> tuple[float, float, float]:
    """Return the milliseconds until the import is done and until the job runs, and how many modules that takes."""
    started = time.clock_gettime(time.CLOCK_MONOTONIC)
    output = subprocess.check_output([sys.executable, PROGRAM], text=True)
    imported, ran, modules = map(float, output.split())
    return (imported - started) * 1e3, (ran - started) * 1e3, modules


def start_interpreter() -> float:
    """Return the milliseconds until a program that does nothing has begun."""
    started = time.clock_gettime(time.CLOCK_MONOTONIC)
    code = "import time; print(time.clock_gettime(time.CLOCK_MONOTONIC))"
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    return (float(output) - started) * 1e3


def main() -> None:
    repeats = 5 if options().quick else 15
    report = Report()
    start_program()
    starts = [start_program() for _ in range(repeats)]
    bare = statistics.median(start_interpreter() for _ in range(repeats))
    imported, ran, modules = (statistics.median(c) for c in zip(*starts, strict=True))
    report.add("until the first run", ran, "ms")
    report.add("until imported", imported, "ms")
    report.add("bare interpreter", bare, "ms")
    report.add("until the first run, less bare", ran - bare, "ms")
    report.add("modules imported", modules, "")
    report.print()


if __name__ == "__main__":
    main()
