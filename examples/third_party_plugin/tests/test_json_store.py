import pytest
from office_scheduling.json_store import JsonFileJobStore

from apscheduler.testing.jobstores import JobStoreContract


class TestJsonFileJobStore(JobStoreContract):
    shareable = False  # every store has its own copy of what is in the file

    @pytest.fixture
    def store(self, tmp_path):
        store = JsonFileJobStore(tmp_path / "jobs.json")
        store.start(None, "tested")
        yield store
        store.shutdown()
