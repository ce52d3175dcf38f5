"""Run the double: ``python -m apscheduler.testing.servers.mongo_double --port 27017 --journal FILE``."""

import argparse
from pathlib import Path

from apscheduler.testing.servers.mongo_double.commands import Database
from apscheduler.testing.servers.mongo_double.wire import WireServer

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--port", type=int, required=True)
parser.add_argument(
    "--journal",
    type=Path,
    required=True,
    help="where writes are kept, for the next start",
)
options = parser.parse_args()
database = Database(options.journal)
with WireServer(("127.0.0.1", options.port), database.run) as server:
    server.serve_forever()
