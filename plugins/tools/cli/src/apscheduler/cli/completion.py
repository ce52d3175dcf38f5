"""``apscheduler completion``: what makes a shell complete commands, options and the ids of jobs."""

import click
from click.shell_completion import get_completion_class

VARIABLE = "_APSCHEDULER_COMPLETE"


@click.command(
    help="""Print the lines that make a shell complete the words after 'apscheduler': commands, options, and the ids of
    jobs once the line, or an environment variable, says where they are.

    bash: eval "$(apscheduler completion bash)" in ~/.bashrc; zsh: the same in ~/.zshrc; fish: apscheduler completion
    fish > ~/.config/fish/completions/apscheduler.fish

    \b
    apscheduler completion bash
    apscheduler completion fish
    """
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell."""
    kind = get_completion_class(shell)
    assert kind is not None
    root = ctx.find_root().command
    click.echo(kind(root, {}, "apscheduler", VARIABLE).source())
