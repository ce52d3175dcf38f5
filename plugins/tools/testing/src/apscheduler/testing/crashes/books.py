"""The books: what was started, what is recorded, what is left; and that they agree."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from apscheduler.jobstores.contract import NativeJobStore
from apscheduler.runs import Run, RunFilter, RunState
from apscheduler.testing.jobstores.basic import SECOND, T0

# Jobs with on_lost="retry" have identifiers that begin with this.
RETRIED = "retried"
# Runs of jobs whose identifiers begin with this leave no record.
UNRECORDED = "unrecorded"

HAS_RUN = (RunState.SUCCEEDED, RunState.FAILED)
MAY_HAVE_RUN = (*HAS_RUN, RunState.LOST)


class Start(NamedTuple):
    """A line that a run has written when it began."""

    run_id: str
    attempt: int
    second: float
    job_id: str


class Books:
    """What a store and the log of a scenario say after everything has come to its end.

    Times are seconds since the beginning.

    :param is_intact: whether nobody has died
    :ivar jobs: the next run times of the jobs in the store, None for paused ones
    """

    def __init__(self, store: NativeJobStore, log: Path, is_intact: bool):
        self.is_intact = is_intact
        self.runs = store.get_runs(RunFilter(), 10_000)
        self.jobs = {
            job.id: job.next_run_time and (job.next_run_time - T0) / SECOND
            for job in store.get_all_jobs()
        }
        self.starts = list(_read_starts(log))

    def fires(self, job_id: str) -> list[float]:
        """Return the fire times of a job that are recorded, in order, with each time of a range."""
        return sorted(
            second
            for run in self.runs
            if run.job_id == job_id
            for second in _seconds(run)
        )

    def states(self, job_id: str) -> list[RunState]:
        """Return how the runs of a job ended, by their times."""
        runs = [run for run in self.runs if run.job_id == job_id]
        runs.sort(key=lambda run: run.scheduled_time)
        return [run.state for run in runs]

    def started(self, job_id: str) -> list[float]:
        """Return the fire times of which a job was started, in order."""
        return sorted(start.second for start in self.starts if start.job_id == job_id)

    def check(self) -> None:
        """Make sure of what holds whatever has happened.

        :raises AssertionError: if it does not
        """
        for job_id in {run.job_id for run in self.runs}:
            repeated = {
                fire: count
                for fire, count in Counter(self.fires(job_id)).items()
                if count > 1
            }
            assert not repeated, f"fires of {job_id!r} are recorded twice: {repeated}"
        attempts = Counter((start.run_id, start.attempt) for start in self.starts)
        repeated_starts = [start for start, count in attempts.items() if count > 1]
        assert not repeated_starts, f"started twice: {repeated_starts}"
        recorded = {run.id for run in self.runs}
        for start in self.starts:
            is_known = start.run_id in recorded or start.job_id.startswith(UNRECORDED)
            assert is_known, f"started, and not recorded: {start}"
        for run in self.runs:
            self._check_run(run)

    def _check_run(self, run: Run) -> None:
        starts = [start.attempt for start in self.starts if start.run_id == run.id]
        assert run.state.is_final, f"still open: {run}"
        if run.state in HAS_RUN:
            assert run.attempt in starts, f"recorded as run, but never started: {run}"
        if run.state not in MAY_HAVE_RUN:
            assert not starts, f"recorded as not run, but started: {run}"
        if run.job_id.startswith(RETRIED):
            assert run.state is not RunState.LOST, f"lost instead of retried: {run}"
            assert starts or run.state not in MAY_HAVE_RUN, f"never started: {run}"
        else:
            assert len(starts) <= 1, f"started {len(starts)} times: {run}"
        if self.is_intact:
            assert run.state is not RunState.LOST, f"lost though nobody died: {run}"


def _seconds(run: Run) -> Iterator[float]:
    last = (run.scheduled_time - T0) / SECOND
    if run.first_time is None:
        yield last
        return
    second = (run.first_time - T0) / SECOND
    while second <= last:
        yield second
        second += 1


def _read_starts(log: Path) -> Iterator[Start]:
    if log.exists():
        for line in log.read_text().splitlines():
            run_id, attempt, timestamp, job_id = line.split(maxsplit=3)
            second = float(timestamp) - T0.timestamp()
            yield Start(run_id, int(attempt), second, job_id)
