"""Hooks: what plugins can be told about or wrap, by pluggy, in the entry-point group ``apscheduler``.

Observers are called in the process of the scheduler; ``apscheduler_wrap_call`` where the function of the job runs.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import pluggy

from apscheduler.installed import entry_points_of

if TYPE_CHECKING:
    from apscheduler.runs import Run
    from apscheduler.schedulers.base import BaseScheduler

PROJECT = "apscheduler"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

logger = logging.getLogger("apscheduler.hooks")


class Specifications:
    """Every hook there is. An implementation may take any subset of the arguments."""

    @hookspec
    def apscheduler_configure(
        self, scheduler: "BaseScheduler", config: dict[str, Any]
    ) -> None:
        """Change the configuration of a scheduler, nested and without prefix, before it is applied."""

    @hookspec
    def apscheduler_scheduler_starting(self, scheduler: "BaseScheduler") -> None:
        """Act before a scheduler starts its executors and stores."""

    @hookspec
    def apscheduler_scheduler_started(self, scheduler: "BaseScheduler") -> None:
        """Act after a scheduler has started."""

    @hookspec
    def apscheduler_scheduler_shutdown(self, scheduler: "BaseScheduler") -> None:
        """Act after a scheduler has shut down."""

    @hookspec
    def apscheduler_scheduler_paused(self, scheduler: "BaseScheduler") -> None:
        """Act after a scheduler was told to process no more jobs for now."""

    @hookspec
    def apscheduler_scheduler_resumed(self, scheduler: "BaseScheduler") -> None:
        """Act after a paused scheduler was told to go on."""

    @hookspec
    def apscheduler_jobstore_failed(
        self, scheduler: "BaseScheduler", jobstore: str, exception: BaseException
    ) -> None:
        """Act after a store has failed that had worked before, or while it does not answer."""

    @hookspec
    def apscheduler_jobstore_recovered(
        self, scheduler: "BaseScheduler", jobstore: str
    ) -> None:
        """Act after a store that had failed works again."""

    @hookspec
    def apscheduler_job_added(
        self, scheduler: "BaseScheduler", job_id: str, jobstore: str
    ) -> None:
        """Act after a job was written to a store."""

    @hookspec
    def apscheduler_job_modified(
        self, scheduler: "BaseScheduler", job_id: str, jobstore: str | None
    ) -> None:
        """Act after a job was changed."""

    @hookspec
    def apscheduler_job_removed(
        self, scheduler: "BaseScheduler", job_id: str, jobstore: str | None
    ) -> None:
        """Act after a job was removed, also when its schedule was over."""

    @hookspec
    def apscheduler_all_jobs_removed(
        self, scheduler: "BaseScheduler", jobstore: str | None
    ) -> None:
        """Act after all jobs of a store, or of all stores, were removed at once."""

    @hookspec
    def apscheduler_job_unavailable(
        self,
        scheduler: "BaseScheduler",
        job_id: str,
        jobstore: str | None,
        exception: BaseException,
    ) -> None:
        """Act after a due job turned out to be one that this scheduler cannot run at present."""

    @hookspec
    def apscheduler_run_starting(self, scheduler: "BaseScheduler", run: "Run") -> None:
        """Act when a run was claimed and is about to be handed to its executor."""

    @hookspec
    def apscheduler_run_finished(self, scheduler: "BaseScheduler", run: "Run") -> None:
        """Act after a run has succeeded."""

    @hookspec
    def apscheduler_run_failed(
        self, scheduler: "BaseScheduler", run: "Run", exception: BaseException | None
    ) -> None:
        """Act after a run has failed."""

    @hookspec
    def apscheduler_run_missed(self, scheduler: "BaseScheduler", run: "Run") -> None:
        """Act after one or several fire times turned out to be later than the grace time."""

    @hookspec
    def apscheduler_run_skipped(self, scheduler: "BaseScheduler", run: "Run") -> None:
        """Act after fire times were given up: too many instances, or a later run stands for them."""

    @hookspec
    def apscheduler_run_lost(self, scheduler: "BaseScheduler", run: "Run") -> None:
        """Act after a run was taken from a scheduler that died while it ran."""

    @hookspec
    def apscheduler_wrap_call(self, run: "Run") -> AbstractContextManager[Any] | None:
        """Return a context manager in which the function of the job is called, in its thread, loop or process."""
        return None

    @hookspec
    def apscheduler_cli_commands(self) -> Sequence[Any]:
        """Return click commands that are added to the ``apscheduler`` command."""
        return ()

    @hookspec(firstresult=True)
    def apscheduler_find_component(self, kind: str, name: str) -> type | None:
        """Return the class to use for a configured name, or None to leave it to the entry points."""
        return None


class HookManager(pluggy.PluginManager):
    """The plugins of this process: those installed, and those registered by the program.

    :ivar broken: name → why an installed plugin was skipped
    """

    def __init__(self) -> None:
        super().__init__(PROJECT)
        self.broken: dict[str, Exception] = {}
        self.add_hookspecs(Specifications)
        self._loaded = False
        self._implemented: frozenset[str] = frozenset()

    def register(self, plugin: object, name: str | None = None) -> str | None:
        """Add a plugin; schedulers that run already may not notice."""
        registered = super().register(plugin, name)
        self._note_implemented()
        return registered

    def unregister(self, plugin: Any = None, name: str | None = None) -> Any:
        """Remove a plugin, and return it."""
        unregistered = super().unregister(plugin, name)
        self._note_implemented()
        return unregistered

    def _note_implemented(self) -> None:
        names = (name for name in dir(Specifications) if name.startswith(PROJECT))
        self._implemented = frozenset(
            name for name in names if getattr(self.hook, name).get_hookimpls()
        )

    def load_installed(self) -> None:
        """Register every plugin of the entry-point group, once; log a broken one by name and go on without it."""
        if self._loaded:
            return
        self._loaded = True
        for entry_point in entry_points_of(PROJECT):
            if self.has_plugin(entry_point.name) or self.is_blocked(entry_point.name):
                continue
            try:
                plugin = entry_point.load()
                self.register(plugin, name=entry_point.name)
                self.check_pending()
            except Exception as exc:
                self.broken[entry_point.name] = exc
                if self.has_plugin(entry_point.name):
                    self.unregister(name=entry_point.name)
                logger.exception(
                    "The hook plugin %r (%s) is broken and was skipped",
                    entry_point.name,
                    entry_point.value,
                )

    def has(self, name: str) -> bool:
        """Return whether any plugin implements this hook, so that unused hooks cost next to nothing."""
        return name in self._implemented

    def ask(self, name: str, /, **arguments: Any) -> Iterator[tuple[str, Any]]:
        """Call a hook, and return what each plugin answers, with its name; one that raises is logged and left out."""
        if name not in self._implemented:
            return
        caller: pluggy.HookCaller = getattr(self.hook, name)
        implementations = caller.get_hookimpls()
        if any(each.wrapper or each.hookwrapper for each in implementations):
            try:
                answer = caller(**arguments)
            except Exception:
                logger.exception("A hook plugin failed in %s", name)
                return
            for each in answer if isinstance(answer, list) else [answer]:
                yield name, each
            return
        for implementation in reversed(implementations):
            values = [arguments[argument] for argument in implementation.argnames]
            try:
                answer = implementation.function(*values)
            except Exception:
                logger.exception(
                    "The hook plugin %r failed in %s", implementation.plugin_name, name
                )
            else:
                yield implementation.plugin_name, answer

    def notify(self, name: str, /, **arguments: Any) -> None:
        """Call an observer hook; a plugin that raises is logged by name, and the others are still called."""
        for _ in self.ask(name, **arguments):
            pass

    def find_component(self, kind: str, name: str) -> Any:
        """Return what the first plugin says that a configured name means, None if none says anything."""
        answers = self.ask("apscheduler_find_component", kind=kind, name=name)
        return next((answer for _, answer in answers if answer is not None), None)


@cache
def get_hooks() -> HookManager:
    """Return the hook manager of this process."""
    return HookManager()


@contextmanager
def wrapped_call(run: "Run") -> Iterator[None]:
    """Enter the context managers that plugins put around the call of a job's function.

    Entering and leaving them is part of the call: what is raised there is its outcome.
    """
    with ExitStack() as stack:
        for plugin, manager in get_hooks().ask("apscheduler_wrap_call", run=run):
            if manager is None:
                continue
            if not isinstance(manager, AbstractContextManager):
                logger.error(
                    "The hook plugin %r must return a context manager from apscheduler_wrap_call, but returned %r",
                    *(plugin, manager),
                )
                continue
            stack.enter_context(manager)
        yield
