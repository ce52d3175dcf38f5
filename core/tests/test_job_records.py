"""Views of stored jobs, which import none of their functions."""

import pickle
import sys
from datetime import UTC, datetime

import pytest

from apscheduler.jobstores.records import read_record
from apscheduler.serializers import PickleSerializer
from apscheduler.triggers.base import BaseTrigger

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class TickTrigger(BaseTrigger):
    """A trigger of somebody else, which a view does not import."""

    def __init__(self) -> None:
        self.zone = UTC

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        return None


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_jobs_of_every_pickle_protocol_can_be_viewed(protocol: int) -> None:
    state = {
        "version": 1,
        "id": "a",
        "func": "nowhere:gone",
        "name": "gone",
        "trigger": TickTrigger(),
        "args": (b"\xff", {1, 2}, NOON),
        "kwargs": {},
    }
    data = pickle.dumps(state, protocol)

    record = read_record("a", NOON, data, PickleSerializer(), None)

    assert (record.name, record.func) == ("gone", "nowhere:gone")
    assert record.trigger == "TickTrigger"
    assert record.next_run_time == NOON


def test_viewing_a_job_runs_nothing_that_is_in_its_bytes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[object, ...]:
            return print, ("run", sys.platform)

    state = {"name": "a", "func": "b:c", "trigger": None, "args": (Malicious(),)}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps(state, protocol)
        read_record("a", NOON, data, PickleSerializer(), None)

    assert capsys.readouterr().out == ""
