"""Passes: what the loop of a scheduler makes whenever something is due, and how long it sleeps in between."""

from collections.abc import Callable
from datetime import datetime
from logging import DEBUG
from threading import TIMEOUT_MAX
from time import monotonic

from apscheduler.schedulers.components import STATE_PAUSED
from apscheduler.schedulers.runs import RunMethods
from apscheduler.util import is_interrupt

# Where one fire time follows the other, passes begin so far apart: a pass with a few jobs costs little more than with one.
PACE_SECONDS = 0.005
# After a longer sleep, what a pass needs is not in the caches of the processor any more, and the first one takes several
# times as long: it is made a moment before the time, where that costs no more than processor time.
NAP_SECONDS = 0.02
EARLY_SECONDS = 0.0005


class PassMethods(RunMethods):
    """What the loops of all schedulers have in common."""

    # Whether the sleep that goes on ends a moment before the time.
    _wakes_early = False

    def _now(self) -> datetime:
        return self._clock.now().astimezone(self.timezone)

    def _make_pass(self) -> float | None:
        """Make one pass, whatever happens, and return how many seconds to sleep; None: until woken."""
        try:
            seconds = self._process_jobs()
        except BaseException as exc:  # a subclass may do more than we know
            if is_interrupt(exc):
                raise
            self._logger.exception("Error processing jobs")
            return self.jobstore_retry_interval
        if seconds is None or seconds <= NAP_SECONDS or self._performs_io():
            self._wakes_early = False
            return seconds
        self._wakes_early = True
        return seconds - EARLY_SECONDS

    def _process_jobs(self) -> float | None:
        """Make one pass over all stores.

        :return: seconds until the next one is due; None: not before the next wakeup
        """
        if self.state == STATE_PAUSED:
            self._logger.debug("Scheduler is paused -- not processing jobs")
            return None
        self._logger.debug("Looking for jobs to run")
        # With the lock: a store that is just being removed must not come back.
        with self._jobstores_lock:
            for alias, jobstore in self._jobstores.items():
                self._engine.add(alias, jobstore)
        started, now = monotonic(), self._clock.now()
        try:
            wakeup = self._engine.process(now)
        except BaseException as exc:  # not a store, nor a job: no reason to stop
            if is_interrupt(exc):
                raise
            self._logger.exception("Error processing jobs")
            return self.jobstore_retry_interval
        if self.state == STATE_PAUSED:
            self._logger.debug("Scheduler is paused; waiting until resume() is called")
            return None
        if wakeup is None:
            self._logger.debug("No jobs; waiting until a job is added")
            return None
        # As instants: within one zone Python subtracts wall clocks.
        seconds = wakeup.timestamp() - self._clock.now().timestamp()
        # Not what this pass has left, which is due, and not what this scheduler got up early for.
        if wakeup > now and not self._wakes_early:
            seconds = max(seconds, PACE_SECONDS - (monotonic() - started))
        wait_seconds = min(max(seconds, 0), TIMEOUT_MAX)
        if self._logger.isEnabledFor(DEBUG):
            self._logger.debug(
                "Next wakeup is due at %s (in %f seconds)",
                wakeup.astimezone(self.timezone),
                wait_seconds,
            )
        return wait_seconds

    def _performs_io(self) -> bool:
        """Return whether a pass may take long."""
        for alias, jobstore in list(self._jobstores.items()):
            if self._engine.add(alias, jobstore).store.performs_io:
                return True
        return False

    def _run_aside(self, func: Callable[[], None]) -> None:
        """Do something that may take a while; a scheduler on an event loop does it beside the loop."""
        func()
