"""What holds for programs that have not been patched holds for those that have."""

import subprocess
import sys
from pathlib import Path

from apscheduler.testing.jobs import PATIENCE

PROGRAM = """
from gevent import monkey
monkey.patch_all()
import sys
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


def test_everything_works_where_python_has_been_patched() -> None:
    tests = Path(__file__).with_name("test_gevent_executor.py")
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist"]

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, *options, str(tests)],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
