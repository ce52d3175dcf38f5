"""Writing to the server, so that all copies come to know of it."""

from collections.abc import Sequence
from typing import NamedTuple

from apscheduler.jobstores.etcd.following import Follower
from apscheduler.jobstores.etcd.gateway import (
    Answer,
    Part,
    delete,
    delete_prefix,
    either,
    encode,
    end_of,
    is_there,
    nested,
    put,
)
from apscheduler.jobstores.etcd.mirror import Change

# A server takes at most 128 operations and 1.5 MiB at a time; some of both are for what is written with all of them.
GROUP_SIZE = 100
GROUP_BYTES = 1_000_000
# Each transaction inside of another one takes away as many operations as there are beside it.
NESTED_SIZE = 50
# So many groups are on their way to the server at a time, while others are made ready.
SENDERS = 3


class Step(NamedTuple):
    """What is written together if comparisons are true."""

    compare: Sequence[Part]
    changes: Sequence[Change]


class Storage(Follower):
    """Everything below the keys of a store, to be read and to be written."""

    def commit(
        self,
        compare: Sequence[Part],
        changes: Sequence[Change],
        others: Sequence[Part] = (),
        is_news: bool = True,
    ) -> Answer:
        """Write, all or nothing.

        :param others: more operations, whose results are of no interest
        :param is_news: whether others have to look at what is due
        """
        is_watching = self.is_watching
        success = [
            *self._read_ticks(),
            *map(operation, changes),
            *others,
            self._tick(is_news),
            *self._job_tick(changes),
        ]
        answer = self.gateway.transact(either(compare, success))
        if answer.succeeded and is_watching:
            self._wrote(answer, changes)
        return answer

    def remove_jobs(self) -> None:
        """Delete all jobs."""
        jobs = self.keys.jobs
        is_watching = self.is_watching
        # Without any there would be nothing to hear of, for those who wait for the tick.
        some = {**is_there(jobs), "range_end": encode(end_of(jobs))}
        success = [
            *self._read_ticks(),
            delete_prefix(jobs),
            self._tick(is_news=True),
            put(f"{self.keys.job_ticks}0", ""),
        ]
        answer = self.gateway.transact(either([some], success))
        if answer.succeeded and is_watching:
            with self._caught_up:
                self.mirror.remove_jobs(answer.revision)
            self._wrote(answer, [Change(jobs, None)])

    def commit_each(
        self, steps: Sequence[Step], others: Sequence[Part], is_news: bool = False
    ) -> list[bool]:
        """Write each step whose comparisons are true, and return of each whether they were."""
        results: list[bool] = []
        is_watching = self.is_watching
        for start in range(0, len(steps), NESTED_SIZE):
            group = steps[start : start + NESTED_SIZE]
            parts = [
                nested(
                    step.compare,
                    [
                        *map(operation, step.changes),
                        # Each its own: a key can be written only once.
                        *self._job_tick(step.changes, number),
                    ],
                )
                for number, step in enumerate(group)
            ]
            ticks = self._read_ticks()
            success = [*ticks, *parts, *others, self._tick(is_news)]
            answer = self.gateway.transact(either((), success))
            done = [
                bool(part["response_txn"].get("succeeded"))
                for part in answer.parts[len(ticks) : len(ticks) + len(group)]
            ]
            changes = [
                change
                for step, is_done in zip(group, done, strict=True)
                if is_done
                for change in step.changes
            ]
            if is_watching:
                self._wrote(answer, changes)
            results += done
        return results

    def _tick(self, is_news: bool) -> Part:
        kind = "change" if is_news else "claim"
        return put(self.keys.tick, f"{kind} {self._writer}")

    def _job_tick(self, changes: Sequence[Change], number: int = 0) -> list[Part]:
        """Return the tick for jobs if there is one among the changes: whoever waits for it waits for a job, too."""
        if not self._has_jobs(changes):
            return []
        return [put(f"{self.keys.job_ticks}{number}", "")]


def operation(change: Change) -> Part:
    """Return what makes a change."""
    return delete(change.key) if change.value is None else put(change.key, change.value)
