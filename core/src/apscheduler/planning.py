"""What to do about a due job: pure functions of the job and the time, bounded, without I/O."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from apscheduler.runs import FireRange, Plan
from apscheduler.triggers.base import BaseTrigger, TriggerError
from apscheduler.util import convert_to_datetime, is_later

if TYPE_CHECKING:
    from apscheduler.job import Job

# So many run times are handed out in one claim of a job that does not coalesce; the rest follows in later passes.
MAX_RUN_TIMES = 1000

TICK = timedelta(microseconds=1)


def plan(job: "Job", now: datetime) -> Plan:
    """Return which fire times of a due job run, which do not, and what comes next.

    A backlog is never walked through as a whole: it is reported as ranges. Where even finding its end takes long
    (a trigger that can only walk), the plan covers a part, and its next run time is still due.

    :param now: the current time, in UTC
    :raises TriggerError: if the trigger does not advance
    :raises Exception: whatever the trigger raises
    """
    first = job.next_run_time
    assert first is not None, "paused jobs are not due"
    following = next_fire_time(job, first, now)
    if following is None or following > now:
        return _plan_single(job, first, following, now)
    if job.coalesce:
        return _plan_coalesced(job, first, following, now)
    return _plan_all(job, first, following, now)


def next_fire_time(job: "Job", previous: datetime, now: datetime) -> datetime | None:
    """Return the fire time after ``previous``, as an aware datetime that is later.

    :raises TriggerError: if the trigger does not advance
    """
    following: Any = job.trigger.get_next_fire_time(previous, now)
    if following is None:
        return None
    if not isinstance(following, datetime) or following.tzinfo is None:
        # APScheduler 3 takes texts and naive datetimes, too.
        following = convert_to_datetime(following, job._timezone, "next_run_time")
    moment: datetime = following
    if not is_later(moment, previous):
        raise TriggerError(
            f"The trigger of job {job.id!r} ({job.trigger}) does not advance: after {previous} it returned "
            f"{moment}; a trigger must return a later time, or None"
        )
    return moment


def first_fire_time(trigger: BaseTrigger, now: datetime) -> datetime | None:
    """Return the first fire time of a trigger for a job that is added, rescheduled or resumed.

    A trigger whose schedule begins in the past and that knows nothing of ``now`` is walked to its first time from
    ``now`` on; one that fires only once, in the past, still does.
    """
    first = trigger.get_next_fire_time(None, now)
    if trigger.starts_in_the_past() is not True:
        return first
    if first is None or not is_later(now, first):
        return first
    last = trigger.get_last_fire_time(first, now.astimezone(UTC) - TICK)
    return trigger.get_next_fire_time(last, now)


def is_over(trigger: BaseTrigger, first: datetime, now: datetime) -> bool:
    """Return whether the first fire time of a trigger is past, and no other follows."""
    return is_later(now, first) and trigger.get_next_fire_time(first, now) is None


def plan_by_run_times(job: "Job", now: datetime) -> Plan | None:
    """Plan a job that is no ``Job``, by its own list of run times; None if it has none."""
    run_times: Sequence[datetime] = job._get_run_times(now)
    if job.coalesce and run_times:
        run_times = run_times[-1:]
    if not run_times:
        return None
    return Plan(
        run_times,  # type: ignore[arg-type]  # whatever can be sliced
        job.trigger.get_next_fire_time(run_times[-1], now),
    )


def is_missed(job: "Job", run_time: datetime, now: datetime) -> bool:
    """Return whether a run time is later than the grace time of its job allows."""
    grace_seconds = job.misfire_grace_time
    return grace_seconds is not None and now - run_time.astimezone(UTC) > timedelta(
        seconds=grace_seconds
    )


def _plan_single(
    job: "Job", first: datetime, following: datetime | None, now: datetime
) -> Plan:
    if is_missed(job, first, now):
        return Plan([], following, missed=FireRange(first, first, 1))
    return Plan([first], following)


def _plan_coalesced(
    job: "Job", first: datetime, second: datetime, now: datetime
) -> Plan:
    """Run the last of the due fire times in place of all of them."""
    trigger = job.trigger
    last = trigger.get_last_fire_time(second, now)
    following = next_fire_time(job, last, now)
    everything = FireRange(first, last, trigger.count_fire_times(first, last))
    if following is not None and following <= now:
        # The trigger walks and has not come to the end: go on from there in the next pass.
        return Plan([], following, coalesced=everything)
    if is_missed(job, last, now):
        return Plan([], following, missed=everything)
    before = trigger.get_last_fire_time(first, last.astimezone(UTC) - TICK)
    count = None if everything.count is None else everything.count - 1
    return Plan([last], following, coalesced=FireRange(first, before, count))


def _plan_all(job: "Job", first: datetime, second: datetime, now: datetime) -> Plan:
    """Run every due fire time that is within the grace time."""
    trigger = job.trigger
    missed = None
    current: datetime | None = first
    if is_missed(job, first, now):
        deadline = now - timedelta(seconds=job.misfire_grace_time or 0)
        last_missed = trigger.get_last_fire_time(first, deadline - TICK)
        count = trigger.count_fire_times(first, last_missed)
        missed = FireRange(first, last_missed, count)
        current = next_fire_time(job, last_missed, now)
        if current is not None and current < deadline:
            return Plan([], current, missed=missed)
    run_times: list[datetime] = []
    while current is not None and current <= now and len(run_times) < MAX_RUN_TIMES:
        run_times.append(current)
        current = next_fire_time(job, current, now)
    return Plan(run_times, current, missed=missed)
