"""The command ``apscheduler`` as tests give it, in their own process."""

import json
from typing import Any

from click.testing import CliRunner, Result

from apscheduler.cli.main import cli


class Command:
    """The command, or one of its subcommands.

    :param words: what every line begins with
    :param env: variables of the environment, each of which a line may change
    """

    def __init__(self, *words: str, **env: str):
        self._words, self._env = words, env

    def invoke(self, *arguments: str, **env: str) -> Result:
        """Give a line, and return what came of it."""
        line = [*self._words, *arguments]
        return CliRunner().invoke(cli, line, env={**self._env, **env})

    def ask(self, *arguments: str) -> Any:
        """Give a line that must succeed, and return the answer, which is asked for as JSON."""
        result = self.invoke(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)
