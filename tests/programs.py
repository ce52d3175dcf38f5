"""Processes that tests talk with."""

import os
import subprocess
import sys
from contextlib import ExitStack

SOON = 30


class Program:
    """A process that says where it is, and waits to be told to go on; it is killed with the stack.

    :param env: further variables of its environment
    """

    def __init__(self, stack: ExitStack, source: str, *arguments: str, **env: str):
        self.process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-W", "error", "-c", source, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, **env},
            )
        )
        stack.callback(self.process.kill)

    def expect(self, line: str) -> None:
        """Wait for a line."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"{line}\n"

    def tell(self) -> None:
        """Let it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> str:
        """Let it go on to its end, and return what it has logged."""
        _, errors = self.process.communicate("\n", SOON)
        assert self.process.returncode == 0, errors
        return errors
