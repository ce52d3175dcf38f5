"""``apscheduler run``: a scheduler as the program of a process, with signals and exit codes."""

import asyncio
import multiprocessing
import os
import signal
import threading
from datetime import timedelta
from types import FrameType
from typing import Any

import click

from apscheduler.cli.client import leave_out_missing
from apscheduler.cli.errors import ConfigurationFailure, explained
from apscheduler.cli.reporters import Reporter, create_reporter
from apscheduler.cli.shared import (
    IMPORT_HELP,
    LOG_LEVELS,
    Duration,
    set_up_logging,
)
from apscheduler.cli.sources import Source, file_or_source_options
from apscheduler.config import ConfigurationError, create_scheduler
from apscheduler.events import (
    EVENT_SCHEDULER_SHUTDOWN,
    EVENT_SCHEDULER_STARTED,
)
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.threads import Event

# Stopping that takes longer is worth a word.
EXPLAIN_SECONDS = 0.2

LONG = timedelta(days=3650).total_seconds()

# Schedulers that run on a loop that asyncio provides, and those whose loop belongs to another main program.
ON_ASYNCIO = frozenset(
    {"apscheduler.schedulers.asyncio", "apscheduler.schedulers.tornado"}
)
ELSEWHERE = frozenset(
    f"apscheduler.schedulers.{name}" for name in ("gevent", "qt", "twisted")
)


@click.command(
    help=f"""Run the jobs of CONFIG, an INI or TOML file, or those of a job store, until the process gets SIGINT
    (Ctrl+C) or SIGTERM.

    Runs that are going on are then finished; a second signal aborts them. {IMPORT_HELP}

    At a terminal it shows what comes next, what is running and what has happened lately; elsewhere, and with --plain,
    it writes a line for each happening. With --json each line is a JSON object, and what the jobs print goes to
    standard error.

    The job stores of CONFIG are created if there is nothing of them yet; that of --store must be there.

    \b
    apscheduler run jobs.ini
    apscheduler run jobs.ini --for 30s --plain
    apscheduler run jobs.ini --json
    apscheduler run --store postgresql://localhost/jobs

    Exit codes: 0 stopped as asked, 1 the scheduler could not start or go on, 2 CONFIG or the command line is wrong,
    128 + signal aborted."""
)
@file_or_source_options
@click.option(
    "--for",
    "seconds",
    type=Duration(),
    metavar="DURATION",
    help="Stop after this time: 10s, 5m, 1h30m, 2d.",
)
@click.option("--plain", is_flag=True, help="Write lines, also at a terminal.")
@click.option("--json", "is_json", is_flag=True, help="Write a JSON object per line.")
@click.option(
    "--log-level",
    type=click.Choice(LOG_LEVELS, case_sensitive=False),
    default="warning",
    show_default=True,
    help="Which log records to write to standard error.",
)
def run(
    source: Source, seconds: float | None, plain: bool, is_json: bool, log_level: str
) -> None:
    """Run a configuration."""
    if plain and is_json:
        raise click.UsageError("Give either --plain or --json, not both")
    set_up_logging(log_level)
    source.make_importable()
    try:
        scheduler = create_scheduler(source.config, default_type="blocking")
    except ConfigurationError as exc:
        raise ConfigurationFailure(exc) from exc
    if source.url is not None:  # nothing says what belongs there: a typo, perhaps
        with explained(f"The job store of {source} cannot be opened", source.config):
            leave_out_missing(scheduler, source.config, str(source))
    reporter = create_reporter(scheduler, is_json, plain)
    raise SystemExit(Runner(scheduler, str(source), seconds, reporter).run())


class Runner:
    """Runs one scheduler from start to end.

    :param seconds: how long; None: until there is a signal
    """

    def __init__(
        self,
        scheduler: BaseScheduler,
        config: str,
        seconds: float | None,
        reporter: Reporter,
    ):
        self._scheduler = scheduler
        self._config = config
        self._seconds = seconds
        self._reporter = reporter
        self._stop = Event()  # set by a signal, whatever that interrupts
        self._ended = threading.Event()
        self._signals: list[int] = []
        self._modules = {cls.__module__ for cls in type(scheduler).__mro__}
        self._stopper = threading.Thread(
            target=self._stop_in_time, name="apscheduler stop", daemon=True
        )

    def run(self) -> int:
        """Run the scheduler and return the exit code of the process."""
        if foreign := self._modules & ELSEWHERE:
            name = min(foreign).rpartition(".")[2]
            raise click.ClickException(
                f"The scheduler {name!r} belongs into a program with a loop of its own and cannot be run by this "
                "command; leave out [apscheduler.scheduler], or choose blocking, background or asyncio"
            )
        self._reporter.begin(self._config, self._seconds)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle_signal)
        self._scheduler.add_listener(
            self._take_started, EVENT_SCHEDULER_STARTED | EVENT_SCHEDULER_SHUTDOWN
        )
        try:
            self._drive()
            self._stop.set()
            self._stopper.join()
            self._reporter.summarise()
        except ConfigurationError as exc:
            raise ConfigurationFailure(exc) from exc
        except Exception as exc:
            if self._scheduler._logger.isEnabledFor(10):
                raise
            raise click.ClickException(
                f"The scheduler cannot run: {type(exc).__name__}: {exc}"
            ) from exc
        finally:
            self._reporter.close()
        return 0

    def _drive(self) -> None:
        """Start the scheduler and return when it has been shut down."""
        if self._modules & ON_ASYNCIO:
            asyncio.run(self._drive_on_loop())
            return
        self._scheduler.start()
        self._ended.wait()

    async def _drive_on_loop(self) -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        self._scheduler.add_listener(
            lambda event: loop.call_soon_threadsafe(ended.set),
            EVENT_SCHEDULER_SHUTDOWN,
        )
        self._scheduler.start()
        await ended.wait()

    def _take_started(self, event: Any) -> None:
        if event.code == EVENT_SCHEDULER_STARTED:
            if self._stopper.ident is None:  # else a job has started it again
                self._stopper.start()
        else:
            self._ended.set()
            self._stop.set()

    # Stopping

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals.append(number)
        if len(self._signals) > 1:
            self._reporter.abandon()
            for child in multiprocessing.active_children():
                child.kill()
            os._exit(128 + number)
        self._stop.set()

    def _stop_in_time(self) -> None:
        """Wait for a signal, or for the time to be over, and shut the scheduler down."""
        self._stop.wait(self._seconds)
        if self._ended.is_set():
            return
        explain = threading.Timer(EXPLAIN_SECONDS, self._reporter.explain_stopping)
        explain.start()
        # With True, a scheduler on an event loop would cancel coroutines: there they cannot be waited for.
        self._scheduler.shutdown(LONG if self._modules & ON_ASYNCIO else True)
        explain.cancel()
