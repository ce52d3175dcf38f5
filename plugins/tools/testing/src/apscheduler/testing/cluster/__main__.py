"""The command line of the soak: ``python -m apscheduler.testing.cluster --help``."""

import argparse
import logging
import os
import random
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from apscheduler.testing.cluster import report
from apscheduler.testing.cluster.soak import PLACES, Effort, Result, soak


def main() -> int:
    arguments = parse()
    logging.basicConfig(level=logging.ERROR)  # that servers are away is no news
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
    stores = arguments.stores or list(PLACES)
    load = os.getloadavg()[0]
    results: list[Result] = []
    failed: list[str] = []
    for name in stores:
        effort = Effort(
            *(arguments.seconds, seed, arguments.nodes, arguments.scale),
            *(arguments.restarts, arguments.cuts),
        )
        print(f"{name}: {effort.seconds:g} seconds, seed {seed}", flush=True)
        with tempfile.TemporaryDirectory(prefix="apscheduler-soak-") as directory:
            try:
                result = soak(name, Path(directory), effort)
            except (AssertionError, TimeoutError) as error:
                print(f"{name}: {error}", file=sys.stderr)
                failed.append(name)
                continue
        print(f"{name}: {result.kills} kills, {result.fires} fires, all in the books")
        results.append(result)
    page = report.write(
        results,
        failed,
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        nodes=arguments.nodes,
        seconds=arguments.seconds,
        seed=seed,
        machine=f"{os.cpu_count()} cores with a load of {load:.0f} from elsewhere",
    )
    if arguments.report is None:
        print(page)
    else:
        arguments.report.parent.mkdir(parents=True, exist_ok=True)
        arguments.report.write_text(page, encoding="utf-8")
    return 1 if failed else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m apscheduler.testing.cluster",
        description="Kill schedulers at random instants for minutes, then balance the books.",
    )
    parser.add_argument(
        "stores", nargs="*", metavar="STORE", help=f"of {', '.join(PLACES)}; all"
    )
    parser.add_argument("--seconds", type=float, default=60, help="for each store; 60")
    parser.add_argument("--nodes", type=int, default=4, help="at any time; 4")
    parser.add_argument("--scale", type=int, default=1, help="so many times the jobs")
    parser.add_argument("--seed", type=int, help="that of a run before, to repeat it")
    parser.add_argument(
        "--restarts", action="store_true", help="kill the servers twice, too"
    )
    parser.add_argument(
        "--cuts", type=int, default=0, help="cut one of so many requests of nodes"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a page")
    arguments = parser.parse_args()
    for name in arguments.stores:
        if name not in PLACES:
            parser.error(f"{name!r} is no store; there are {', '.join(PLACES)}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
