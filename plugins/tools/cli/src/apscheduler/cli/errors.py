"""What is said when a command fails: one line on standard error, or one JSON object with ``--json``; and exit codes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from apscheduler.config import ConfigurationError
from apscheduler.environment import censor

# Exit codes. A signal that aborts gives 128 + its number, as shells have it.
FAILURE = 1
USAGE = 2


class CommandError(click.ClickException):
    """A command that cannot do what it was asked to, said without a traceback."""

    exit_code = FAILURE


class ConfigurationFailure(click.ClickException):
    """A configuration that cannot be used, said without a traceback."""

    exit_code = USAGE

    def __init__(self, error: ConfigurationError):
        self.problems = [str(problem) for problem in error.problems]
        super().__init__("\n       ".join(self.problems))


class JsonError(click.ClickException):
    """Says what another exception says, for machines."""

    def __init__(self, error: click.ClickException):
        super().__init__(error.format_message())
        self.exit_code = error.exit_code  # type: ignore[misc]  # whatever click thinks: every error has its own
        self.kind = "usage" if isinstance(error, click.UsageError) else "failure"
        if isinstance(error, ConfigurationFailure):
            self.kind = "configuration"

    def show(self, file: Any = None) -> None:
        """Write one line to standard error."""
        error = {
            "kind": self.kind,
            "message": self.message,
            "exit_code": self.exit_code,
        }
        click.echo(json.dumps({"error": error}), err=True)


@contextmanager
def explained(what: str, config: object = None, usage: bool = False) -> Iterator[None]:
    """Turn whatever is raised into a failure of the command.

    :param what: what cannot be done, such as "The job cannot be added"
    :param config: values that it has from the environment are not shown
    :param usage: whether it is the command line that is wrong
    """
    try:
        yield
    except (click.ClickException, click.Abort, click.exceptions.Exit):
        raise
    except ConfigurationError as exc:
        raise ConfigurationFailure(exc) from exc
    except Exception as exc:
        message = censor(f"{what}: {describe_error(exc)}", config)
        raise (click.UsageError if usage else CommandError)(message) from exc


def describe_error(exc: BaseException) -> str:
    """Return what an exception says in one line; its type where that is needed to understand it."""
    # The text of a KeyError is its argument in quotes.
    text = str(exc.args[0]) if isinstance(exc, KeyError) and exc.args else str(exc)
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    text = " ".join(lines)
    notes = [str(note) for note in getattr(exc, "__notes__", ())]
    text = ". ".join([*notes, text]) if text else text
    if not text:
        return type(exc).__name__
    is_plain = isinstance(exc, (LookupError, ValueError, TypeError, RuntimeError))
    return text if is_plain else f"{type(exc).__name__}: {text}"
