"""The command with its subcommands: those of this package, and those that plugins bring."""

import click

import apscheduler
from apscheduler.cli.check import check
from apscheduler.cli.run import run
from apscheduler.hooks import get_hooks

HOOK = "apscheduler_cli_commands"


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
                    self.commands.setdefault(command.name, command)
            except Exception as exc:  # one broken plugin must not take the command away
                click.echo(
                    f"The commands of the plugin {implementation.plugin_name!r} are missing: {exc}",
                    err=True,
                )

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        self._add_commands_of_plugins()
        return super().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; plugins are looked at only if it is none of ours."""
        command = super().get_command(ctx, cmd_name)
        if command is None:
            self._add_commands_of_plugins()
            command = super().get_command(ctx, cmd_name)
        return command


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(apscheduler.__version__, prog_name="apscheduler")
def cli() -> None:
    """Run jobs at given times, as a configuration file (INI or TOML) says."""


cli.add_command(run)
cli.add_command(check)


def main() -> None:
    """Run the command of the process's arguments, and exit with its code."""
    cli(prog_name="apscheduler")
