"""Recurring jobs in PostgreSQL that are due at once."""

import os

import stored
from harness import options

URL = "postgresql+psycopg://postgres@127.0.0.1:5432/test"


def main() -> None:
    url = os.environ.get("APSCHEDULER_BENCH_POSTGRESQL_URL", URL)
    stored.measure(url, 500 if options().quick else 1000).print()


if __name__ == "__main__":
    main()
