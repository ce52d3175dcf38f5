"""The command with its subcommands: those of this package, and those that plugins bring."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

import apscheduler
from apscheduler.cli.errors import JsonError
from apscheduler.hooks import get_hooks

HOOK = "apscheduler_cli_commands"
WANTS_JSON = "apscheduler.cli.wants_json"

#: Where the commands are; each is imported when it is used.
COMMANDS: Mapping[str, str] = {
    "check": "apscheduler.cli.check:check",
    "completion": "apscheduler.cli.completion:completion",
    "doctor": "apscheduler.cli.doctor:doctor",
    "export": "apscheduler.cli.transferring:export_jobs",
    "import": "apscheduler.cli.transferring:import_jobs",
    "jobs": "apscheduler.cli.jobs:jobs",
    "next": "apscheduler.cli.next:next_times",
    "plugins": "apscheduler.cli.plugins:plugins",
    "resign": "apscheduler.cli.resign:resign_command",
    "rewrite": "apscheduler.cli.rewrite:rewrite",
    "run": "apscheduler.cli.run:run",
    "runs": "apscheduler.cli.runs:runs",
}


class CommandGroup(click.Group):
    """A group that also has the commands of hook plugins; its own win over those of the same name."""

    _is_complete = False

    def _add_commands_of_plugins(self) -> None:
        if self._is_complete:
            return
        self._is_complete = True
        hooks = get_hooks()
        hooks.load_installed()
        for implementation in getattr(hooks.hook, HOOK).get_hookimpls():
            try:
                for command in implementation.function():
                    if command.name not in COMMANDS:
                        self.commands.setdefault(command.name, command)
            except Exception as exc:  # one broken plugin must not take the command away
                click.echo(
                    f"The commands of the plugin {implementation.plugin_name!r} are missing: {exc}",
                    err=True,
                )

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        self._add_commands_of_plugins()
        return sorted({*COMMANDS, *self.commands})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; plugins are looked at only if it is none of ours."""
        if cmd_name in COMMANDS:
            module, _, name = COMMANDS[cmd_name].partition(":")
            command: click.Command = getattr(import_module(module), name)
            return command
        self._add_commands_of_plugins()
        return super().get_command(ctx, cmd_name)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take note of whether machines read the answer: the command itself may not come so far as to know."""
        ctx.meta[WANTS_JSON] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named; with ``--json`` errors are JSON, too."""
        try:
            return super().invoke(ctx)
        except click.ClickException as exc:
            if ctx.meta[WANTS_JSON]:
                raise JsonError(exc) from exc
            raise


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(apscheduler.__version__, prog_name="apscheduler")
def cli() -> None:
    """Run scheduled jobs, look at them and change them.

    \b
    apscheduler run jobs.ini                          run what a configuration says
    apscheduler jobs list --store sqlite:///jobs.db   look into a job store
    apscheduler runs list --config jobs.ini           see what has run
    apscheduler next "0 9 * * mon-fri"                try a schedule
    apscheduler doctor --config jobs.ini              find out what is wrong

    Most commands take --config FILE or --store URL, and answer in JSON with --json.
    """


def main() -> None:
    """Run the command of the process's arguments, and exit with its code."""
    cli(prog_name="apscheduler")
