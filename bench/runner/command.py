"""The command line."""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from runner import pages, report
from runner.catalogue import WORKLOADS, Workload
from runner.environments import RELEASE, prepare_ours, prepare_released
from runner.measuring import Contestants, Effort, Metric, WorkloadError, measure
from runner.servers import Servers


def main() -> int:
    """Measure what the command line asks for; return 1 if a workload failed, missed aims are no failure."""
    arguments = _parse()
    effort = Effort(arguments.rounds, arguments.quick, arguments.complete)
    try:
        released = None if arguments.alone else prepare_released()
        contestants = Contestants(prepare_ours(), released)
    except subprocess.CalledProcessError as exc:
        print(f"An environment could not be made: {exc}", file=sys.stderr)
        return 1
    machine = report.describe_machine()
    console = Console() if sys.stdout.isatty() else Console(width=120)
    with Servers() as servers:
        results, failures = _measure_all(
            _choose(arguments.names), contestants, effort, console, servers
        )
    if arguments.page is not None:
        pages.write_page(arguments.page, results, machine)
    if arguments.json is not None:
        document = {
            **machine,
            "workloads": {w.name: report.to_json(w, metrics) for w, metrics in results},
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(document, indent=2, ensure_ascii=False)
        arguments.json.write_text(text + "\n", encoding="utf-8")
    return 1 if failures else 0


def _measure_all(
    workloads: Sequence[Workload],
    contestants: Contestants,
    effort: Effort,
    console: Console,
    servers: Servers,
) -> tuple[list[tuple[Workload, list[Metric]]], int]:
    results = []
    failures = 0
    for workload in workloads:
        reasons = [r for kind in workload.servers if (r := servers.provide(kind))]
        if reasons:
            print(f"{workload.name} is left out: {reasons[0]}", file=sys.stderr)
            failures += 1
            continue
        try:
            with Console(stderr=True).status(f"Measuring {workload.name}"):
                metrics = measure(workload, contestants, effort)
        except WorkloadError as exc:
            print(exc, file=sys.stderr)
            failures += 1
            continue
        report.print_table(console, workload, metrics)
        results.append((workload, metrics))
    return results, failures


def _choose(names: Sequence[str]) -> list[Workload]:
    return [w for w in WORKLOADS if not names or w.name in names]


def _parse() -> argparse.Namespace:
    known = [workload.name for workload in WORKLOADS]
    parser = argparse.ArgumentParser(
        prog="bench/run",
        description=f"Measure this checkout and APScheduler {RELEASE} in turns.",
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"what to measure; default: all of {', '.join(known)}",
    )
    parser.add_argument("--quick", action="store_true", help="do less, less exactly")
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="runs of each workload on each side"
    )
    parser.add_argument(
        "--complete",
        action="store_true",
        help=f"also the sizes that take {RELEASE} minutes",
    )
    parser.add_argument(
        "--alone", action="store_true", help="measure this checkout only"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write all values to a file"
    )
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="write a page for the documentation"
    )
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in known:
            parser.error(f"{name!r} is no workload; there are {', '.join(known)}")
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error(f"--rounds must be at least 1, but is {arguments.rounds}")
    return arguments
