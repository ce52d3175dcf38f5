"""Recurring jobs in an SQLite file that are due at once."""

import tempfile
from pathlib import Path

import stored
from harness import options


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="apscheduler-bench-") as directory:
        url = f"sqlite:///{Path(directory, 'jobs.sqlite')}"
        stored.measure(url, 500 if options().quick else 1000).print()


if __name__ == "__main__":
    main()
