"""Schedulers: the loop that claims due jobs and hands them to executors."""

import pkgutil

# Plugins add their modules to this package from their own directories.
__path__ = pkgutil.extend_path(__path__, __name__)


class SchedulerAlreadyRunningError(Exception):
    """The scheduler is running, and what was asked for needs one that is not."""

    def __str__(self) -> str:
        return "Scheduler is already running"


class SchedulerNotRunningError(Exception):
    """The scheduler is not running, and what was asked for needs one that is."""

    def __str__(self) -> str:
        return "Scheduler is not running"
