import pytest
from office_scheduling.trigger import WeekendTrigger

from apscheduler.testing.triggers import TriggerContract


class TestWeekendTrigger(TriggerContract):
    @pytest.fixture
    def trigger(self):
        return WeekendTrigger()


def test_it_runs_on_both_days_of_a_weekend(apscheduler_test):
    apscheduler_test.scheduler.add_job(print, WeekendTrigger(), id="rest")

    apscheduler_test.clock.advance(days=7)

    apscheduler_test.assert_ran("rest", times=2)
