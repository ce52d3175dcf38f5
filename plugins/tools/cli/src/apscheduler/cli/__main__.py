"""``python -m apscheduler.cli`` is the ``apscheduler`` command."""

from apscheduler.cli import main

main()
