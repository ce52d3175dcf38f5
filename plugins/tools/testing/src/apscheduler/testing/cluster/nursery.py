"""Forks nodes: a process that has imported everything makes another in milliseconds.

Reads the settings of a node per line, prints its process id. All nodes end with it, and it ends with its input.
"""

import argparse
import json
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from datetime import timedelta
from typing import Any

children: set[int] = set()


def shorten_leases(seconds: float) -> None:
    """Let nodes be dead after a shorter time than in earnest; before anybody has looked at it."""
    from apscheduler import nodes

    nodes.LEASE_SECONDS, nodes.RENEW_SECONDS = seconds, seconds / 4

    from apscheduler import housekeeping

    housekeeping.LOOK_FOR_THE_DEAD = timedelta(seconds=seconds / 4)


def mend_sleep() -> None:
    """Let ``time.sleep`` work where the clock is wrong: it waits for a time of the real clock, which libfaketime refuses.

    Clients of servers sleep before they try again.
    """

    def sleep(seconds: Any) -> None:
        threading.Event().wait(seconds)

    if "FAKETIME" in os.environ:
        time.sleep = sleep


def reap(*_: object) -> None:
    """Take leave of the dead at once: others look whether their process is there."""
    with suppress(ChildProcessError):
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            children.discard(pid)


def load_store(config: dict[str, Any]) -> None:
    """Import what the store needs, once for all nodes; it connects when it is started."""
    from apscheduler.schedulers.background import BackgroundScheduler

    BackgroundScheduler(timezone="UTC", jobstores={"default": config})


def bear(settings: dict[str, Any]) -> int:
    from apscheduler.testing.cluster.node import Settings, run_node

    pid = os.fork()
    if pid:
        children.add(pid)
        return pid
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    code = 1
    try:
        run_node(Settings(**settings))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lease", type=float)
    lease = parser.parse_args().lease
    if lease is not None:
        shorten_leases(lease)
    mend_sleep()
    import apscheduler.testing.cluster.node  # noqa: F401  # for those who are born

    signal.signal(signal.SIGCHLD, reap)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    loaded: set[str | None] = set()
    for line in sys.stdin:
        settings = json.loads(line)
        if (kind := settings["store"].get("type")) not in loaded:
            load_store(settings["store"])
            loaded.add(kind)
        print(bear(settings), flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for pid in children:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
