"""``python -m apscheduler.cli`` is the ``apscheduler`` command."""

from apscheduler.cli.main import main

main()
