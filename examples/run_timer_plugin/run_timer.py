"""Logs runs that take long. It times the call itself, so in the thread, event loop or process that makes it."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from apscheduler.hooks import hookimpl
from apscheduler.runs import Run

logger = logging.getLogger("run_timer")

# From the environment, because that is the same in the worker processes of a pool.
SLOW_SECONDS = float(os.environ.get("RUN_TIMER_SECONDS", "10"))


@hookimpl
@contextmanager
def apscheduler_wrap_call(run: Run) -> Iterator[None]:
    """Measure a call, whether it succeeds or fails."""
    begin = time.perf_counter()
    try:
        yield
    finally:
        seconds = time.perf_counter() - begin
        if seconds >= SLOW_SECONDS:
            logger.warning(
                "The run of job %r due at %s took %.3f seconds",
                run.job_id,
                run.scheduled_time,
                seconds,
            )
