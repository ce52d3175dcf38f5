import pytest
from office_scheduling.native_store import NativeJsonFileJobStore

from apscheduler.testing.jobs import make_stored_job
from apscheduler.testing.jobstores import NativeJobStoreContract


class TestNativeJsonFileJobStore(NativeJobStoreContract):
    shareable = False  # other processes would overwrite the file

    @pytest.fixture
    def store(self, tmp_path):
        store = NativeJsonFileJobStore(tmp_path / "jobs.json")
        store.start(None, "tested")
        yield store
        store.shutdown()

    def test_jobs_are_there_when_the_file_is_opened_again(self, store):
        store.add_job(make_stored_job("kept"))
        store.shutdown()

        store.start(None, "tested")

        assert [job.id for job in store.get_all_jobs()] == ["kept"]
