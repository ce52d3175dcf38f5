from datetime import UTC, datetime

import pytest
from noon_trigger import NoonTrigger

from apscheduler.testing.triggers import TriggerContract


class TestNoonTrigger(TriggerContract):
    @pytest.fixture
    def trigger(self) -> NoonTrigger:
        return NoonTrigger("Europe/Berlin")


def test_noon_is_followed_by_the_next_noon() -> None:
    noon = datetime(2030, 1, 1, 12, tzinfo=UTC)

    assert NoonTrigger().preview(2, noon) == [
        noon,
        datetime(2030, 1, 2, 12, tzinfo=UTC),
    ]
