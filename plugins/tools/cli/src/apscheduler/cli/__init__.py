"""The ``apscheduler`` command."""

from apscheduler.cli.main import main

__all__ = ("main",)
