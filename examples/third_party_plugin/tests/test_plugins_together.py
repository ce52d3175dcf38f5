"""All of them by their names, in one scheduler."""

import pytest


def work():
    pass


@pytest.fixture(params=["jsonfile", "jsonfile-native"])
def apscheduler_config(request, tmp_path):
    return {
        "timezone": "UTC",
        "jobstores": {"default": {"type": request.param, "path": tmp_path / "jobs"}},
        "executors": {"default": {"type": "thread-per-job"}},
    }


def test_a_month_of_weekends(apscheduler_test, monkeypatch, tmp_path):
    monkeypatch.setenv("OFFICE_JOURNAL", str(tmp_path / "journal.txt"))
    apscheduler_test.scheduler.add_job(work, "weekend", id="rest")

    apscheduler_test.clock.advance(weeks=4)

    apscheduler_test.assert_ran("rest", times=8)
    journal = (tmp_path / "journal.txt").read_text().splitlines()
    assert len(journal) == 8
    assert all(line.startswith("rest took ") for line in journal)
