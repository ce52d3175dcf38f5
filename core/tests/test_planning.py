"""What the planner makes of a due job: which fire times run, which do not, what comes next."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from apscheduler import planning
from apscheduler.planning import first_fire_time, is_over, plan
from apscheduler.runs import FireRange, Plan
from apscheduler.triggers.base import WALK_LIMIT, BaseTrigger, TriggerError

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2030, 1, 1, tzinfo=UTC)
S = timedelta(seconds=1)


class Walking(BaseTrigger):
    """Fires every so often, up to an end, and knows no shortcut."""

    def __init__(self, step: timedelta = S, end: datetime | None = None):
        self.step, self.end, self.calls = step, end, 0

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        self.calls += 1
        if previous_fire_time is None:
            return now
        zone = previous_fire_time.tzinfo
        following = (previous_fire_time.astimezone(UTC) + self.step).astimezone(zone)
        return None if self.end and following > self.end else following


class Jumping(Walking):
    """The same, with shortcuts."""

    def get_last_fire_time(self, first: datetime, now: datetime) -> datetime:
        steps = (now.astimezone(UTC) - first.astimezone(UTC)) // self.step
        return (first.astimezone(UTC) + steps * self.step).astimezone(first.tzinfo)

    def count_fire_times(self, first: datetime, last: datetime) -> int:
        return (last - first) // self.step + 1


class Answers(BaseTrigger):
    """Gives these answers, whatever it is asked."""

    def __init__(self, *answers: Any):
        self.answers = list(answers)

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> Any:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def make_job(
    trigger: BaseTrigger,
    next_run_time: datetime = START,
    coalesce: bool = True,
    grace: int | None = None,
) -> Any:
    return SimpleNamespace(
        id="j",
        trigger=trigger,
        next_run_time=next_run_time,
        coalesce=coalesce,
        misfire_grace_time=grace,
        _timezone=UTC,
    )


both_triggers = pytest.mark.parametrize("kind", [Walking, Jumping])


@both_triggers
@pytest.mark.parametrize("coalesce", [True, False])
def test_a_job_that_is_due_once_runs_once(kind: Any, coalesce: bool) -> None:
    job = make_job(kind(), coalesce=coalesce)

    assert plan(job, START) == Plan([START], START + S)


def test_a_schedule_that_is_over_has_no_next_run_time() -> None:
    assert plan(make_job(Walking(end=START)), START) == Plan([START], None)


# Coalescing


@both_triggers
def test_the_last_due_time_runs_and_the_others_are_reported_as_one_range(
    kind: Any,
) -> None:
    result = plan(make_job(kind()), START + 10.5 * S)

    assert result == Plan(
        [START + 10 * S],
        START + 11 * S,
        coalesced=FireRange(START, START + 9 * S, 10),
    )


@both_triggers
def test_of_two_due_times_the_first_is_coalesced(kind: Any) -> None:
    result = plan(make_job(kind()), START + S)

    assert result == Plan([START + S], START + 2 * S, None, FireRange(START, START, 1))


@both_triggers
def test_with_coalescing_only_the_last_time_can_be_too_late(kind: Any) -> None:
    result = plan(make_job(kind(10 * S), grace=3), START + 22 * S)

    assert result.run_times == [START + 20 * S]
    assert result.missed is None
    assert result.coalesced == FireRange(START, START + 10 * S, 2)


@both_triggers
def test_when_the_last_time_is_too_late_all_are_missed(kind: Any) -> None:
    result = plan(make_job(kind(10 * S), grace=1), START + 22 * S)

    assert result == Plan(
        [], START + 30 * S, missed=FireRange(START, START + 20 * S, 3)
    )


def test_a_backlog_that_ends_the_schedule_runs_its_last_time() -> None:
    result = plan(make_job(Walking(end=START + 5 * S)), START + 100 * S)

    assert result.run_times == [START + 5 * S]
    assert result.next_run_time is None
    assert result.coalesced == FireRange(START, START + 4 * S, 5)


# Grace time


@pytest.mark.parametrize("coalesce", [True, False])
@pytest.mark.parametrize(
    ("late", "runs"),
    [
        (5 * S, True),
        (5 * S + timedelta(microseconds=1), False),
        (4.9 * S, True),
    ],
    ids=["exactly", "just over", "just under"],
)
def test_late_by_exactly_the_grace_time_still_runs(
    coalesce: bool, late: timedelta, runs: bool
) -> None:
    result = plan(make_job(Walking(3600 * S), START, coalesce, grace=5), START + late)

    assert result.run_times == ([START] if runs else [])
    assert result.missed == (None if runs else FireRange(START, START, 1))
    assert result.next_run_time == START + 3600 * S


def test_without_grace_time_any_lateness_is_accepted() -> None:
    result = plan(make_job(Walking(timedelta(days=800))), START + timedelta(days=700))

    assert result.run_times == [START]


@both_triggers
def test_without_coalescing_times_beyond_the_grace_time_are_one_range(
    kind: Any,
) -> None:
    result = plan(make_job(kind(), coalesce=False, grace=3), START + 10 * S)

    assert result == Plan(
        [START + n * S for n in (7, 8, 9, 10)],
        START + 11 * S,
        missed=FireRange(START, START + 6 * S, 7),
    )


@both_triggers
def test_without_coalescing_every_time_within_the_grace_time_runs(kind: Any) -> None:
    result = plan(make_job(kind(), coalesce=False), START + 4 * S)

    assert result == Plan([START + n * S for n in range(5)], START + 5 * S)


def test_a_schedule_whose_end_is_beyond_the_grace_time_is_missed_altogether() -> None:
    job = make_job(Walking(end=START + 5 * S), coalesce=False, grace=3)

    result = plan(job, START + 100 * S)

    assert result == Plan([], None, missed=FireRange(START, START + 5 * S, 6))


# Bounds


@pytest.mark.parametrize("coalesce", [True, False])
@pytest.mark.parametrize("grace", [None, 60])
def test_thirty_days_of_a_one_second_job_cost_few_calls_with_a_trigger_that_jumps(
    coalesce: bool, grace: int | None
) -> None:
    trigger = Jumping()

    result = plan(make_job(trigger, START, coalesce, grace), START + timedelta(days=30))

    assert trigger.calls <= planning.MAX_RUN_TIMES + 5
    assert len(result.run_times) <= planning.MAX_RUN_TIMES


@pytest.mark.parametrize("coalesce", [True, False])
@pytest.mark.parametrize("grace", [None, 60])
def test_a_walking_trigger_is_cut_and_goes_on_where_it_stopped(
    coalesce: bool, grace: int | None
) -> None:
    trigger = Walking()
    now = START + timedelta(seconds=3 * WALK_LIMIT)
    job = make_job(trigger, START, coalesce, grace)
    ranges: list[FireRange] = []
    runs: list[datetime] = []

    while job.next_run_time <= now and len(ranges) < 100:
        before = trigger.calls
        result = plan(job, now)
        assert trigger.calls - before <= 4 * WALK_LIMIT
        ranges += filter(None, (result.missed, result.coalesced))
        runs += result.run_times
        job.next_run_time = result.next_run_time

    # Every fire time is in exactly one range, or runs.
    assert len(ranges) > 1 or not (coalesce or grace)
    expected = START
    for fires in ranges:
        assert fires.first == expected
        expected = fires.last + S
    assert runs == [expected + n * S for n in range(len(runs))]
    assert runs[-1] == now


@pytest.mark.parametrize("grace", [None, 60])
def test_the_last_part_of_a_long_walk_runs_the_last_due_time(grace: int | None) -> None:
    now = START + timedelta(seconds=2 * WALK_LIMIT + 7)
    job = make_job(Walking(), grace=grace)
    runs: list[datetime] = []

    while job.next_run_time <= now:
        result = plan(job, now)
        runs += result.run_times
        job.next_run_time = result.next_run_time

    assert runs == [now]


def test_a_long_backlog_without_coalescing_comes_in_parts() -> None:
    limit = planning.MAX_RUN_TIMES
    now = START + timedelta(seconds=2 * limit)
    job = make_job(Jumping(), coalesce=False)
    runs: list[datetime] = []

    while job.next_run_time <= now:
        result = plan(job, now)
        assert len(result.run_times) <= limit
        runs += result.run_times
        job.next_run_time = result.next_run_time

    assert runs == [START + n * S for n in range(2 * limit + 1)]


# Triggers that misbehave


@pytest.mark.parametrize("coalesce", [True, False])
@pytest.mark.parametrize(
    "answers",
    [(START,), (START - S,), (START + S, START + S), (START + S, START)],
    ids=["the same", "earlier", "the same, later on", "earlier, later on"],
)
def test_a_trigger_that_does_not_advance_is_refused(
    coalesce: bool, answers: Any
) -> None:
    with pytest.raises(TriggerError, match="does not advance"):
        plan(make_job(Answers(*answers), coalesce=coalesce), START + 100 * S)


@pytest.mark.parametrize("coalesce", [True, False])
def test_what_a_trigger_raises_passes_through(coalesce: bool) -> None:
    job = make_job(Answers(START + S, ZeroDivisionError()), coalesce=coalesce)

    with pytest.raises(ZeroDivisionError):
        plan(job, START + 100 * S)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("2030-01-01 01:00:00", datetime(2030, 1, 1, 1, tzinfo=UTC)),
        (datetime(2030, 1, 1, 1), datetime(2030, 1, 1, 1, tzinfo=UTC)),
    ],
    ids=["text", "naive"],
)
def test_texts_and_naive_times_are_read_in_the_zone_of_the_scheduler(
    answer: Any, expected: datetime
) -> None:
    result = plan(make_job(Answers(answer)), START)

    assert result.next_run_time == expected
    assert result.next_run_time.tzinfo is not None


# Clock changes

BACK = datetime(2026, 10, 25, tzinfo=BERLIN)


@both_triggers
@pytest.mark.parametrize("coalesce", [True, False])
def test_the_hour_that_comes_twice_is_told_apart(kind: Any, coalesce: bool) -> None:
    first = BACK.replace(hour=2, minute=50)
    now = BACK.replace(hour=2, minute=15, fold=1)

    result = plan(
        make_job(kind(timedelta(minutes=10)), first, coalesce), now.astimezone(UTC)
    )

    instants = [time.astimezone(UTC) for time in result.run_times]
    expected = [datetime(2026, 10, 25, 0, 50, tzinfo=UTC)]
    while expected[-1] < datetime(2026, 10, 25, 1, 10, tzinfo=UTC):
        expected.append(expected[-1] + timedelta(minutes=10))
    assert instants == (expected[-1:] if coalesce else expected)
    assert result.next_run_time is not None
    assert result.next_run_time.astimezone(UTC) == datetime(
        2026, 10, 25, 1, 20, tzinfo=UTC
    )


def test_a_fire_time_in_the_second_pass_is_not_due_in_the_first() -> None:
    first = BACK.replace(hour=2, minute=30)
    second = BACK.replace(hour=2, minute=20, fold=1)

    result = plan(
        make_job(Answers(second, None), first),
        BACK.replace(hour=2, minute=40).astimezone(UTC),
    )

    assert result.run_times == [first]
    assert result.next_run_time is second


# The first fire time


class FromStart(Walking):
    """Begins where it was told to, whatever the time is."""

    def starts_in_the_past(self) -> bool:
        return True

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        if previous_fire_time is None:
            return START
        return super().get_next_fire_time(previous_fire_time, now)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (START - 5 * S, START),
        (START, START),
        (START + 0.5 * S, START + S),
        (START + S, START + S),
        (START + 100.1 * S, START + 101 * S),
    ],
)
def test_a_schedule_that_begins_in_the_past_is_joined_at_its_next_time(
    now: datetime, expected: datetime
) -> None:
    assert first_fire_time(FromStart(), now) == expected


def test_other_triggers_are_asked_once() -> None:
    assert first_fire_time(Answers(START - S), START) == START - S
    assert first_fire_time(Answers(None), START) is None


def test_a_date_in_the_second_pass_of_a_repeated_hour_is_not_over_in_the_first() -> (
    None
):
    first = datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN)
    trigger = Answers(None)

    assert not is_over(trigger, first, first.replace(fold=0, minute=50))
    assert is_over(trigger, first.replace(fold=0), first.replace(minute=10))
