"""Where a command finds its job stores: ``--config FILE`` or ``--store URL``, the same for every command.

A command is written like this::

    @click.command()
    @source_options
    @output_options
    def count(source: Source, output: Output) -> None:
        with source.open() as client:  # a scheduler that runs nothing
            output.result({"jobs": len(client.get_jobs())}, ...)
"""

import functools
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from apscheduler.cli.client import (
    Client,
    create_client,
    leave_out_missing,
    refuse_memory,
)
from apscheduler.cli.errors import ConfigurationFailure, explained
from apscheduler.cli.schedules import speak_of_options
from apscheduler.config import ConfigurationError, load_config
from apscheduler.settings import PREFIX, nest
from apscheduler.store_urls import (
    HIDDEN,
    SECRET,
    confidential,
    hide_passwords,
    store_settings,
)

F = TypeVar("F", bound=Callable[..., Any])

CONFIG_VARIABLE, STORE_VARIABLE = "APSCHEDULER_CONFIG", "APSCHEDULER_STORE"


class Source:
    """A configuration file, or the URL of a job store.

    :param config: path of an INI or TOML file
    :param url: where a job store is
    :param options: more arguments of the store, where a URL is given
    """

    def __init__(
        self,
        config: str | None = None,
        url: str | None = None,
        options: Mapping[str, str] | None = None,
    ):
        self.path = config
        self.url = url
        self._options = dict(options or {})

    def __str__(self) -> str:
        return self.path or hide_passwords(self.url or "")

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The configuration, nested and without prefix.

        :raises click.ClickException: if there is none that can be used
        """
        if self.path is not None:
            try:
                return nest(load_config(self.path), PREFIX)
            except ConfigurationError as exc:
                raise ConfigurationFailure(exc) from exc
        assert self.url is not None
        try:
            settings = store_settings(self.url)
        except Exception as exc:  # importing a store may raise anything
            raise click.UsageError(str(exc)) from exc
        options = {key: _hidden(key, value) for key, value in self._options.items()}
        return {"jobstores": {"default": {**settings, **options}}}

    def make_importable(self) -> None:
        """Let functions beside the configuration file, and in the current directory, be imported."""
        directories = [os.getcwd()]
        if self.path is not None:
            directories.append(str(Path(self.path).resolve().parent))
        for directory in directories:
            if directory not in sys.path:
                sys.path.insert(0, directory)

    @contextmanager
    def open(
        self, jobstore: str | None = None, quiet: bool = False, creates: bool = False
    ) -> Iterator[Client]:
        """Open the job stores by a scheduler that runs nothing, and close them afterwards.

        :param jobstore: alias of the only one to open
        :param quiet: do not show what the stores warn of
        :param creates: whether stores are created of which there is nothing yet
        :raises click.ClickException: if there is none, that fails, or a store fails later on
        """
        with self.prepare(jobstore, quiet) as client, self.opened(client, creates):
            yield client

    @contextmanager
    def prepare(
        self, jobstore: str | None = None, quiet: bool = False
    ) -> Iterator[Client]:
        """Make a scheduler that runs nothing, whose stores are neither opened nor created before :meth:`opened`.

        :raises click.ClickException: if the job stores cannot be used
        """
        config = self.config
        self.make_importable()
        show = functools.partial(click.echo, err=True)
        with scheduler_warnings(_ignore if quiet else show):
            with explained(f"The job store of {self} cannot be opened", config):
                client = create_client(config, jobstore)
                refuse_memory(client, str(self))
            yield client

    @contextmanager
    def opened(self, client: Client, creates: bool = False) -> Iterator[None]:
        """Open the job stores of a scheduler that was prepared, and close them afterwards.

        :raises click.ClickException: if there is none, that fails, or a store fails later on
        """
        with explained(f"The job store of {self} cannot be opened", self.config):
            if not creates:
                leave_out_missing(client, self.config, str(self))
            client.start(paused=True)
        try:
            yield
        except Exception as exc:
            if not _is_of_store(client, exc):
                raise
            with explained(f"A job store of {self} fails", self.config):
                raise
        finally:
            client.shutdown()


def source_options(command: F, is_required: bool = True) -> F:
    """Give a command ``--config``, ``--store`` and ``--store-option``; it gets them as ``source``.

    :param is_required: False: it gets None if nothing says where the jobs are
    """

    @functools.wraps(command)
    def with_source(
        *args: Any,
        config: str | None,
        store: str | None,
        store_option: tuple[tuple[str, str], ...],
        **kwargs: Any,
    ) -> Any:
        file = kwargs.get("config_file")
        if file is not None and config is not None:
            raise click.UsageError(
                f"Two configurations are given, {file!r} and {config!r}: leave out one"
            )
        source = None
        if is_required or config or file or store or store_option or _is_in_variables():
            source = choose_source(config or file, store, dict(store_option))
        return command(*args, source=source, **kwargs)

    for option in reversed(OPTIONS):
        with_source = option(with_source)
    return with_source  # type: ignore[return-value]  # click needs no signature


def file_or_source_options(command: F, is_required: bool = True) -> F:
    """Give a command the options of ``source_options``, and take a configuration as its argument as well."""

    @click.argument(
        "config_file", metavar="[CONFIG]", required=False, type=click.Path()
    )
    @functools.wraps(command)
    def with_file(*args: Any, config_file: str | None, **kwargs: Any) -> Any:
        return command(*args, **kwargs)

    return source_options(with_file, is_required)  # type: ignore[return-value]  # click needs no signature


def _is_in_variables() -> bool:
    return any(os.environ.get(name) for name in (CONFIG_VARIABLE, STORE_VARIABLE))


def choose_source(
    config: str | None, store: str | None, options: Mapping[str, str]
) -> Source:
    """Return what the options, or else the environment variables, name.

    :raises click.UsageError: if that is nothing, or two things
    """
    if config is None and store is None:
        config = os.environ.get(CONFIG_VARIABLE) or None
        store = os.environ.get(STORE_VARIABLE) or None if config is None else None
    if config is None and store is None:
        raise click.UsageError(
            "Say where the jobs are: --config FILE for a configuration (INI or TOML), or --store URL for a job store, "
            f"such as sqlite:///jobs.sqlite; or set {CONFIG_VARIABLE} or {STORE_VARIABLE}"
        )
    if config is not None and store is not None:
        raise click.UsageError("Give either --config or --store, not both")
    if config is not None and "://" in config:
        raise click.UsageError(
            f"--config takes a file; write --store {hide_passwords(config)}"
        )
    if store is not None and "://" not in store:
        raise click.UsageError(
            f"--store takes the URL of a job store, such as sqlite:///jobs.sqlite, but got {store!r}; write --config "
            "for a configuration, --jobstore for the alias of a store in it"
        )
    if options and store is None:
        raise click.UsageError(
            "--store-option goes with --store; a configuration has the options of its stores itself"
        )
    return Source(config, store, options)


class _KeyValue(click.ParamType):  # type: ignore[type-arg]  # not generic in click 8.1
    name = "key=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        key, equals, text = value.partition("=")
        if not equals or not key:
            self.fail(f"{value!r} must look like tablename=other_jobs", param, ctx)
        return key, text


OPTIONS = (
    click.option(
        "-c",
        "--config",
        metavar="FILE",
        type=click.Path(),
        help=f"A configuration, INI or TOML. [env: {CONFIG_VARIABLE}]",
    ),
    click.option(
        "-s",
        "--store",
        metavar="URL",
        help="A job store instead: sqlite:///FILE, postgresql://…, mysql://…, redis://…, mongodb://…, etcd://…, "
        f"zookeeper://… [env: {STORE_VARIABLE}]",
    ),
    click.option(
        "--store-option",
        metavar="KEY=VALUE",
        type=_KeyValue(),
        multiple=True,
        help="One more argument of the store at URL, such as tablename=other_jobs. May be repeated.",
    ),
)

jobstore_option = click.option(
    "--jobstore",
    metavar="ALIAS",
    help="Only this job store of the configuration.",
)


def complete_ids(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[str]:
    """Return the ids of jobs that begin with what was typed, if the line says by now where the jobs are."""
    options = dict(ctx.params.get("store_option") or ())
    try:
        source = choose_source(
            ctx.params.get("config"), ctx.params.get("store"), options
        )
        with source.open(quiet=True) as client:
            records = [
                record
                for alias in client._matching_stores(None)
                for record in client._native_store(alias).get_job_records()
            ]
    except Exception:  # who completes a line is not told of errors
        return []
    return [record.id for record in records if record.id.startswith(incomplete)]


def _hidden(key: str, value: str) -> str:
    """Return the value of an option of a store so that messages do not show it if it is a password."""
    is_secret = SECRET.search(key) is not None
    return confidential(value, HIDDEN, [value]) if is_secret else value


def _is_of_store(client: Client, exc: Exception) -> bool:
    drivers = client._engine.drivers.values()
    return any(driver.store.is_unreachable(exc) for driver in drivers)


def _ignore(text: str) -> None:
    """Show nothing."""


class _Notes(logging.Handler):
    """Takes what the scheduler warns of."""

    def __init__(self, take: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        """Take one warning."""
        self._take(
            f"{record.levelname.lower()}: {speak_of_options(record.getMessage())}"
        )


@contextmanager
def scheduler_warnings(take: Callable[[str], None]) -> Iterator[None]:
    """Have a function called with what schedulers and stores warn of."""
    logger, notes = logging.getLogger("apscheduler"), _Notes(take)
    logger.addHandler(notes)
    try:
        yield
    finally:
        logger.removeHandler(notes)
