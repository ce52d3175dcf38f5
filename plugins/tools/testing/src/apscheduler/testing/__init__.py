"""A pytest plugin for those who test their jobs; contract suites and helpers for those who write components."""

import pytest

# The contracts are not test modules by name; their assertions should explain themselves all the same.
pytest.register_assert_rewrite(
    "apscheduler.testing.cluster.contract",
    "apscheduler.testing.executors",
    "apscheduler.testing.jobstores",
    "apscheduler.testing.schedulers",
    "apscheduler.testing.triggers",
)
