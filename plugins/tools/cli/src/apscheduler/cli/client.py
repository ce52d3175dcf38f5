"""A scheduler that runs nothing: opens job stores to look at them and to change what is in them."""

import inspect
import os
import pickle
import re
from collections.abc import Callable, Mapping
from typing import Any

from apscheduler.cli.errors import CommandError
from apscheduler.cli.standins import detached
from apscheduler.config import create_scheduler
from apscheduler.environment import EnvironmentText
from apscheduler.events import JobEvent, SchedulerEvent
from apscheduler.executors.base import BaseExecutor
from apscheduler.jobstores.adapter import native_store
from apscheduler.jobstores.contract import NativeJobStore
from apscheduler.jobstores.serializing import SerializingJobStore
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.schedulers.components import _create_serializer
from apscheduler.serializers import PickleSerializer
from apscheduler.store_urls import hide_passwords
from apscheduler.util import maybe_ref

# What a client takes from a configuration; jobs that it declares are the business of who runs it.
KEYS = ("clock", "job_defaults", "jobstores", "source", "start_retry", "timezone")

# The URL of a database in a file.
SQLITE = re.compile(
    r"(?P<scheme>sqlite(?:\+\w+)?:///)(?P<path>(?!:memory:|file:)[^?]+)(?P<options>.*)"
)


class Client(BaseScheduler):
    """Opens the job stores of a configuration. It claims nothing, has no executors and declares no jobs.

    Changes are made as by any other scheduler: compared with what is stored, and told to those that run jobs. The code
    of the jobs need not be here.
    """

    def wakeup(self) -> None:
        """Do nothing: there is no loop."""

    def shutdown(self, wait: bool | float = True) -> None:
        """Close the job stores."""
        super().shutdown(wait)

    def _start_components(self) -> None:
        self._engine.start()
        undo: list[Callable[[], object]] = []
        try:
            for alias, jobstore in list(self._jobstores.items()):
                driver = self._engine.add(alias, jobstore)
                self._start_driver(driver)
                undo.append(driver.close)
        except BaseException:
            for step in reversed(undo):
                step()
            raise

    def _create_configured(self, type_: Any, alias: str, value: Any) -> Any:
        if type_ == "executor":
            return NO_EXECUTOR
        if isinstance(value, Mapping):
            value = self._without_code(dict(value))
        return super()._create_configured(type_, alias, value)

    def _without_code(self, options: dict[str, Any]) -> dict[str, Any]:
        """Have a store read jobs whose code is not here."""
        name, cls = options.get("type"), maybe_ref(options.get("class"))
        if name:
            cls = self._plugin_class("jobstore", name)
        if not (isinstance(cls, type) and issubclass(cls, SerializingJobStore)):
            return options
        parameters = inspect.signature(cls).parameters
        if "serializer" not in parameters:
            return options
        serializer = options.get("serializer")
        if serializer is not None:
            serializer = _create_serializer(serializer)
        else:
            protocol = options.get("pickle_protocol")
            if protocol is None and "pickle_protocol" in parameters:
                protocol = parameters["pickle_protocol"].default
            serializer = PickleSerializer(
                pickle.HIGHEST_PROTOCOL if protocol is None else protocol
            )
        return {**options, "serializer": detached(serializer)}

    def _shutdown_executors(self, wait: bool) -> None:
        """Do nothing: none was started."""

    def _take_note(self, event: SchedulerEvent) -> None:
        # Hook plugins hear what happens to jobs; what they start for a scheduler that runs jobs is not wanted here.
        if isinstance(event, JobEvent):
            super()._take_note(event)


class _NoExecutor(BaseExecutor):
    """Stands for the executors of whoever runs the jobs."""

    def _do_submit_job(self, job: Any, run_times: Any) -> None:
        raise RuntimeError("This scheduler runs no jobs")


NO_EXECUTOR = _NoExecutor()


class AnyExecutor(dict[str, BaseExecutor]):
    """Executors of whoever runs the jobs, where only the job store is known: any may be there."""

    def __contains__(self, alias: object) -> bool:
        return True


def open_client(config: Mapping[str, Any], jobstore: str | None = None) -> Client:
    """Return a client, started; the parameters are those of :func:`create_client`.

    :raises Exception: if a store cannot be opened
    """
    client = create_client(config, jobstore)
    client.start(paused=True)
    return client


def create_client(config: Mapping[str, Any], jobstore: str | None = None) -> Client:
    """Return a client that is not started: its stores are not opened.

    :param config: nested, without prefix
    :param jobstore: alias of the only store to open; None: all
    :raises ConfigurationError: if the configuration cannot be used
    :raises LookupError: if there is no such store
    """
    used = {key: config[key] for key in KEYS if key in config}
    stores = used.get("jobstores") or {}
    if jobstore is not None and isinstance(stores, Mapping):
        if jobstore not in stores:
            known = ", ".join(map(repr, stores)) or "none"
            raise LookupError(f"There is no job store {jobstore!r}; there is {known}")
        used["jobstores"] = {jobstore: stores[jobstore]}
    client = create_scheduler({**used, "scheduler": {"class": Client}})
    assert isinstance(client, Client)
    if "executors" in config or "source" in config:
        aliases = ["default", *(config.get("executors") or ())]
        client._executors = dict.fromkeys(aliases, NO_EXECUTOR)
    else:
        client._executors = AnyExecutor()
    return client


def refuse_memory(client: Client, place: str) -> None:
    """Check that there are jobs to be seen from another process.

    :param place: where the stores are, for people
    :raises CommandError: if there are none
    """
    stores = client._jobstores.values()
    if any(native_store(store).performs_io for store in stores):
        return
    what = (
        "has its jobs in memory"
        if stores
        else "has no job store, so that its jobs are in memory"
    )
    raise CommandError(
        f"{place} {what}: jobs there live and end with the process that runs them, and other processes do not see "
        "them. Configure a job store that keeps them, such as sqlalchemy"
    )


def leave_out_missing(
    scheduler: BaseScheduler, config: Mapping[str, Any], place: str
) -> None:
    """Take stores away of which there is nothing yet: whoever only looks creates none.

    :param scheduler: one that is not started
    :param config: what it was made of, nested and without prefix
    :param place: where the stores are, for people
    :raises CommandError: if none is left
    """
    missing = []
    for alias, store in list(scheduler._jobstores.items()):
        if isinstance(store, NativeJobStore) and not store.exists():
            store.shutdown()
            del scheduler._jobstores[alias]
            missing.append(f"{alias!r}{_describe_address(config, alias)}")
    if not scheduler._jobstores:
        raise CommandError(
            f"There is nothing in {place} yet, of job store {', '.join(missing)}. It is created by 'apscheduler jobs "
            "add', and by whatever runs a configuration that has it; see whether this is the right place"
        )


def _describe_address(config: Mapping[str, Any], alias: str) -> str:
    """Return where a store is, as it may be shown; nothing if it is not configured by a URL."""
    settings = config["jobstores"][alias]
    url = settings.get("url") if isinstance(settings, Mapping) else None
    if not isinstance(url, str):
        return ""
    if isinstance(url, EnvironmentText):  # its value is not to be seen
        return f" ({url.written})"
    sqlite = SQLITE.fullmatch(url)
    if sqlite is not None:
        # Which directory a relative path begins in is what people are mistaken about.
        url = f"{sqlite['scheme']}{os.path.abspath(sqlite['path'])}{sqlite['options']}"
    return f" ({hide_passwords(url)})"
