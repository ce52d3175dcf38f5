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
IN_BOTH_WORLDS = ["scheduler", "threads", "stores", "waiting"]


def test_everything_works_where_python_has_been_patched() -> None:
    here = Path(__file__).parent
    tests = [str(here / f"test_gevent_{name}.py") for name in IN_BOTH_WORLDS]
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist"]

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, *options, *tests],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
