"""Seeing what happens to the runs of a store, from outside."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from apscheduler.cli.client import Client
from apscheduler.runs import Run, RunState

OPEN = tuple(state for state in RunState if not state.is_final)

# How many of the latest runs are looked at each time, and at most when all of them are new.
LOOKED_AT, MAX_LOOKED_AT = 200, 12_800
REMEMBERED = 2 * MAX_LOOKED_AT

# Runs that ended so long before the first look are no news when they come into view, since others were forgotten.
# The clocks of those who ran them may be wrong by less.
OLD = timedelta(minutes=1)

wait: Callable[[float], None] = time.sleep


class Watch:
    """Sees what is new among the runs of a store by looking at it again and again.

    :param filters: which runs, as for ``get_runs``, but for their states
    :param states: which states to tell of; empty: all
    """

    def __init__(
        self, client: Client, filters: Mapping[str, Any], states: Sequence[str]
    ):
        self.client = client
        self._filters = filters
        self._states = states
        self._seen: dict[str, tuple[RunState, int]] = {}  # longest unseen first
        self._open: set[str] = set()
        self._oldest = client._now() - OLD

    def follow(self, limit: int, interval: float) -> Iterator[Run]:
        """Give the latest runs, then each one whenever it changes, without end.

        :param limit: how many of the latest
        :param interval: how often to look, in seconds
        """
        yield from self.latest(limit)
        while True:
            wait(interval)
            yield from self.news()

    def latest(self, limit: int) -> list[Run]:
        """Take everything that there is as known; return the latest of it, in the order of time."""
        for run in self._look():
            self._is_news(run)
        found = self.client.get_runs(
            **self._filters, states=self._states or None, limit=limit
        )
        for run in found:  # some may have begun or ended since the look
            self._is_news(run)
            if not run.state.is_final:
                self._open.add(run.id)
        return found[::-1]

    def news(self) -> list[Run]:
        """Return the runs that are new or in another state than before, in the order of time."""
        found = [run for run in self._look() if self._is_news(run)]
        return [run for run in found if not self._states or run.state in self._states]

    def _look(self) -> list[Run]:
        current = {run.id: run for run in [*self._read_latest(), *self._read_open()]}
        for run_id in self._open - current.keys():
            run = self.client.get_run(run_id)
            if run is not None:  # else nobody keeps it
                current[run_id] = run
        self._open = {run.id for run in current.values() if not run.state.is_final}
        return sorted(current.values(), key=lambda run: (moment(run), run.id))

    def _read_latest(self) -> list[Run]:
        limit = LOOKED_AT
        while True:
            found = self.client.get_runs(**self._filters, limit=limit)
            if len(found) < limit or limit >= MAX_LOOKED_AT:
                return found
            if found[-1].id in self._seen or moment(found[-1]) < self._oldest:
                return found
            limit *= 4

    def _read_open(self) -> list[Run]:
        """Return what goes on, however long ago it was scheduled; read last, so that nothing is older than before."""
        return self.client.get_runs(**self._filters, states=OPEN, limit=MAX_LOOKED_AT)

    def _is_news(self, run: Run) -> bool:
        """Return whether nothing was known of a run, or something else, and take note of it."""
        stands, known = (run.state, run.attempt), self._seen.pop(run.id, None)
        self._seen[run.id] = stands
        while len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        if known is None and run.state.is_final:
            return moment(run) >= self._oldest
        return stands != known


def moment(run: Run) -> datetime:
    """Return when a run came to stand where it stands."""
    return run.finished_at or run.started_at or run.available_at or run.scheduled_time
