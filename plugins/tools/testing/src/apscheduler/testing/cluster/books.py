"""The books of a cluster: what the store has recorded, what really happened, and what should have."""

import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from apscheduler.runs import Run, RunState
from apscheduler.testing.cluster.ledger import Entry

STARTED = (RunState.SUCCEEDED, RunState.FAILED)
NOT_STARTED = (RunState.MISSED, RunState.COALESCED, RunState.SKIPPED)

#: Times are kept as floats by some stores.
CLOSE = 0.001

FOREVER = float("inf")


@dataclass
class Books:
    """Everything there is to balance.

    :ivar expected: job → the fire times that it had
    :ivar limits: job → how many of its instances may run at once
    :ivar attempts: how often a run may start, of jobs whose lost runs are retried
    :ivar is_calm: whether the store has always answered, so that what it said of a change is what happened
    """

    entries: Sequence[Entry]
    runs: Sequence[Run]
    expected: Mapping[str, Sequence[float]]
    limits: Mapping[str, int]
    attempts: int = 3
    is_calm: bool = True
    of_job: dict[str, list[Run]] = field(init=False)
    _by_kind: dict[str, list[Entry]] = field(init=False)

    def __post_init__(self) -> None:
        self.of_job, self._by_kind = defaultdict(list), defaultdict(list)
        for run in self.runs:
            self.of_job[run.job_id].append(run)
        for entry in self.entries:
            self._by_kind[entry["what"]].append(entry)

    def balance(self) -> None:
        """Compare.

        :raises AssertionError: with what is wrong, and the whole story of the first job with which it is
        """
        wrong = list(self.complaints())
        if not wrong:
            return
        job_id = wrong[0].partition(":")[0]
        lines = [*wrong[:20], f"({len(wrong)} complaints)", *self.story(job_id)]
        raise AssertionError("\n".join(lines))

    def complaints(self) -> Iterator[str]:
        """Tell what is wrong, each beginning with the job."""
        for job_id, times in self.expected.items():
            yield from self._check_fires(job_id, times)
        yield from self._check_starts()
        yield from self._check_records()
        yield from self._check_single_jobs()
        for job_id, limit in self.limits.items():
            yield from self._check_instances(job_id, limit)

    def _check_fires(self, job_id: str, times: Sequence[float]) -> Iterator[str]:
        """Each fire time that there was is recorded once, and no other."""
        covered: Counter[float] = Counter()
        for run in self.of_job[job_id]:
            found = covered_by(run, times)
            if not found or (run.count is not None and run.count != len(found)):
                yield f"{job_id}: {len(found)} known fire times are those of {run}"
            covered.update(found)
        for time in times:
            if covered[time] != 1:
                yield f"{job_id}: the fire of {time} is recorded {covered[time]} times"

    def _check_starts(self) -> Iterator[str]:
        """Nothing starts twice but what is to be retried, and that not too often."""
        known = {run.id: run for run in self.runs}
        starts: Counter[tuple[str, int]] = Counter()
        fires: Counter[tuple[str, float]] = Counter()
        for entry in self._all("start"):
            job_id, run_id = entry["job"], entry["run"]
            if run_id not in known:
                yield f"{job_id}: run {run_id} started and is not recorded"
            starts[run_id, entry["attempt"]] += 1
            if entry["attempt"] > (self.attempts if is_retried(job_id) else 1):
                yield f"{job_id}: run {run_id} has started too often"
            if starts[run_id, entry["attempt"]] > 1:
                yield f"{job_id}: run {run_id} started twice"
            if entry["attempt"] == 1 and job_id != "manual":
                fires[job_id, entry["fire"]] += 1
                if fires[job_id, entry["fire"]] > 1:
                    yield f"{job_id}: its fire of {entry['fire']} started twice"

    def _check_records(self) -> Iterator[str]:
        """What is recorded is what happened."""
        started = {entry["run"] for entry in self._all("start")}
        ended = {entry["run"] for entry in self._all("end")}
        recorded = {run.id for run in self.runs}
        for run in self.runs:
            if not run.state.is_final:
                yield f"{run.job_id}: left open: {run}"
            if run.state in STARTED and run.id not in started & ended:
                yield f"{run.job_id}: has not been running: {run}"
            if run.state in NOT_STARTED and run.id in started:
                yield f"{run.job_id}: has been running: {run}"
        for entry in self._all("ordered"):
            if entry["run"] not in recorded:
                yield f"manual: run {entry['run']} was ordered and is not recorded"

    def _check_single_jobs(self) -> Iterator[str]:
        """What was added has run once, unless it was removed before."""
        added, asked_to_go, removed = map(self._jobs, ("added", "removing", "removed"))
        certain = added - asked_to_go
        for entry in self._all("adding"):
            job_id = entry["job"]
            number = len(self.of_job[job_id])
            least = 1 if job_id in certain else 0
            most = 0 if job_id in removed and self.is_calm else 1
            if not least <= number <= most:
                yield f"{job_id}: ran {number} times"

    def _check_instances(self, job_id: str, limit: int) -> Iterator[str]:
        """No more of a job run at once than may; what belongs to the dead does not run."""
        moves: list[tuple[float, int]] = []
        for begin, end in self._spans(job_id):
            moves += [(begin, 1), (end, -1)]
        running = 0
        for time, step in sorted(moves):
            running += step
            if running > limit:
                yield f"{job_id}: {running} instances are running at {time}"

    def _spans(self, job_id: str) -> Iterator[tuple[float, float]]:
        """Return from when to when the function was running, where somebody lived to tell; or until it was frozen."""
        runs = {run.id for run in self.of_job[job_id]}
        ends = {
            (e["run"], e["pid"]): e["at"] for e in self._all("end") if e["run"] in runs
        }
        taken = {run.id: run.attempt for run in self.of_job[job_id]}
        lost = {r.id for r in self.of_job[job_id] if r.state is RunState.LOST}
        for entry in self._all("start"):
            if entry["job"] != job_id:
                continue
            begin, run_id = entry["at"], entry["run"]
            blows = list(self._blows(entry["pid"]))
            was_taken = run_id in lost or taken.get(run_id) != entry["attempt"]
            if was_taken and any(blow < begin for blow in blows):
                continue  # frozen after the last look at the lease, and taken over meanwhile
            stops = [blow for blow in blows if blow >= begin]
            yield begin, min([ends.get((run_id, entry["pid"]), FOREVER), *stops])

    def _blows(self, pid: int) -> Iterator[float]:
        for entry in (*self._all("killed"), *self._all("frozen")):
            if entry["victim"] == pid:
                yield entry["at"]

    def _all(self, what: str) -> list[Entry]:
        return self._by_kind[what]

    def _jobs(self, what: str) -> set[str]:
        return {entry["job"] for entry in self._all(what)}

    def story(self, job_id: str) -> Iterable[str]:
        """Tell everything that is known of a job."""
        runs = {run.id for run in self.of_job[job_id]}
        for entry in self.entries:
            concerns = entry.get("job") == job_id or entry.get("run") in runs
            if concerns or entry["what"] in ("born", "killed", "frozen", "thawed"):
                yield str(entry)
        yield from map(str, self.of_job[job_id])


def covered_by(run: Run, times: Sequence[float]) -> Sequence[float]:
    """Return the fire times that a record stands for."""
    first = (run.first_time or run.scheduled_time).timestamp()
    begin = bisect.bisect_left(times, first - CLOSE)
    end = bisect.bisect_right(times, run.scheduled_time.timestamp() + CLOSE)
    return times[begin:end]


def is_retried(job_id: str) -> bool:
    return job_id.startswith("retried")
