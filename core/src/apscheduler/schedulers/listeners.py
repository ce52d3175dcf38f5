"""Who hears of what happens in a scheduler: its listeners, and hook plugins."""

import logging
from abc import ABCMeta
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from apscheduler.events import (
    EVENT_ALL,
    EVENT_ALL_JOBS_REMOVED,
    EVENT_JOB_ADDED,
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_LOST,
    EVENT_JOB_MISSED,
    EVENT_JOB_MODIFIED,
    EVENT_JOB_REMOVED,
    EVENT_JOB_UNAVAILABLE,
    EVENT_JOBSTORE_FAILED,
    EVENT_JOBSTORE_RECOVERED,
    EVENT_SCHEDULER_PAUSED,
    EVENT_SCHEDULER_RESUMED,
    EVENT_SCHEDULER_SHUTDOWN,
    EVENT_SCHEDULER_STARTED,
    JobEvent,
    JobExecutionEvent,
    JobRangeEvent,
    JobstoreFailureEvent,
    JobUnavailableEvent,
    SchedulerEvent,
)
from apscheduler.hooked import get_hooks

if TYPE_CHECKING:
    from apscheduler.engine import Engine

OUTCOMES = EVENT_JOB_EXECUTED | EVENT_JOB_ERROR | EVENT_JOB_MISSED | EVENT_JOB_LOST

# Which hook is called with an event besides those of runs.
EVENT_HOOKS = {
    EVENT_ALL_JOBS_REMOVED: "apscheduler_all_jobs_removed",
    EVENT_JOB_ADDED: "apscheduler_job_added",
    EVENT_JOB_MODIFIED: "apscheduler_job_modified",
    EVENT_JOB_REMOVED: "apscheduler_job_removed",
    EVENT_JOB_UNAVAILABLE: "apscheduler_job_unavailable",
    EVENT_JOBSTORE_FAILED: "apscheduler_jobstore_failed",
    EVENT_JOBSTORE_RECOVERED: "apscheduler_jobstore_recovered",
    EVENT_SCHEDULER_PAUSED: "apscheduler_scheduler_paused",
    EVENT_SCHEDULER_RESUMED: "apscheduler_scheduler_resumed",
    EVENT_SCHEDULER_SHUTDOWN: "apscheduler_scheduler_shutdown",
    EVENT_SCHEDULER_STARTED: "apscheduler_scheduler_started",
}


class EventSource(metaclass=ABCMeta):
    """Tells of events. The part of :class:`BaseScheduler` that everything else in it uses."""

    _logger: logging.Logger
    _engine: "Engine"
    _listeners: list[tuple[Callable[[Any], object], int]]
    _listeners_lock: Any
    # Events that listeners have not been told of completely.
    _being_told: list[SchedulerEvent]
    # Whether a subclass looks at every event.
    _hears_all = True

    def add_listener(
        self, callback: Callable[[Any], object], mask: int = EVENT_ALL
    ) -> None:
        """Have ``callback`` called with every event whose code is in ``mask``.

        Listeners run in the thread where something happens, and should be quick.

        :param mask: event codes, combined with ``|``
        """
        with self._listeners_lock:
            self._listeners.append((callback, mask))

    def remove_listener(self, callback: Callable[[Any], object]) -> None:
        """Stop calling ``callback``; nothing happens if it is not registered."""
        with self._listeners_lock:
            self._listeners = [
                entry for entry in self._listeners if entry[0] != callback
            ]

    def _dispatch_event(self, event: SchedulerEvent) -> None:
        """Tell the engine, hooks and listeners; whatever a listener raises is logged."""
        if not self._listeners:
            self._take_note(event)
            return
        # First, so that an outcome is either still awaited or still being told of.
        self._being_told.append(event)
        try:
            self._take_note(event)
            self._notify_listeners(event)
        finally:
            self._being_told.remove(event)

    def _take_note(self, event: SchedulerEvent) -> None:
        code = event.code
        if code & OUTCOMES and isinstance(event, JobExecutionEvent):
            if type(event) is not JobRangeEvent:
                self._engine.note_outcome(event)
        elif code in EVENT_HOOKS:
            self._notify_hooks(event)

    def _notify_listeners(self, event: SchedulerEvent) -> None:
        with self._listeners_lock:
            listeners = tuple(self._listeners)
        for callback, mask in listeners:
            try:
                if event.code & mask:
                    callback(event)
            except BaseException:
                self._logger.exception("Error notifying listener")

    @property
    def _is_telling(self) -> bool:
        """Whether listeners are still being told of something."""
        return bool(self._being_told)

    def _is_heard(self, code: int) -> bool:
        # Subclasses that look at every event in _dispatch_event hear all of them.
        if self._listeners or self._hears_all:
            return True
        name = EVENT_HOOKS.get(code)
        return name is not None and get_hooks().has(name)

    def _notify_hooks(self, event: SchedulerEvent) -> None:
        name, hooks = EVENT_HOOKS[event.code], get_hooks()
        if not hooks.has(name):
            return
        arguments: dict[str, Any] = {"scheduler": self, "jobstore": event.alias}
        if isinstance(event, JobEvent):
            arguments |= {"job_id": event.job_id, "jobstore": event.jobstore}
        if isinstance(event, (JobUnavailableEvent, JobstoreFailureEvent)):
            arguments["exception"] = event.exception
        hooks.notify(name, **arguments)
