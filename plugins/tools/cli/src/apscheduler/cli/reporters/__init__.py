"""Telling what a scheduler does: lines for people, a view that changes for those at a terminal, JSON for machines."""

import os

from rich.console import Console

from apscheduler.cli.reporters.base import Reporter
from apscheduler.schedulers.base import BaseScheduler

__all__ = ("Reporter", "create_reporter")


def create_reporter(
    scheduler: BaseScheduler, is_json: bool, is_plain: bool
) -> Reporter:
    """Return what fits those who read it.

    :param is_json: machines do
    :param is_plain: lines are wanted, also at a terminal
    """
    if is_json:
        from apscheduler.cli.reporters.machine import MachineReporter, take_output

        return MachineReporter(scheduler, take_output())
    console = Console()
    is_simple = not console.is_terminal or console.is_dumb_terminal
    if is_plain or is_simple or not hasattr(os, "openpty"):
        from apscheduler.cli.reporters.lines import LineReporter

        return LineReporter(scheduler, console)
    from apscheduler.cli.reporters.live import LiveReporter
    from apscheduler.cli.reporters.terminal import Terminal

    return LiveReporter(scheduler, Terminal())
