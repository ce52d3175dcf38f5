import pytest
from office_scheduling.executor import ThreadPerJobExecutor

from apscheduler.testing.executors import ExecutorContract


class TestThreadPerJobExecutor(ExecutorContract):
    @pytest.fixture
    def executor(self):
        return ThreadPerJobExecutor()
