"""Recurring jobs in MariaDB that are due at once."""

import os

import stored
from harness import options

URL = "mysql+pymysql://root@127.0.0.1:3306/test"


def main() -> None:
    url = os.environ.get("APSCHEDULER_BENCH_MYSQL_URL", URL)
    stored.measure(url, 500 if options().quick else 1000).print()


if __name__ == "__main__":
    main()
