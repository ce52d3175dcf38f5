"""A server as a child process of the tests: its own port and folder, loopback only, gone when the tests are."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Self

from apscheduler.testing.servers.machine import (
    DidNotStart,
    children_of,
    free_port,
    has_ended,
    has_stopped,
    is_free,
)

STOP_SECONDS = 15.0

#: Waits until the tests close its input or end in whatever way, then removes the folder. Processes that are about
#: to end may still write to it.
CLEANER = """
cat >/dev/null
for attempt in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$1" 2>/dev/null && break; sleep 0.2; done
"""


class Server(ABC):
    """A private server: a free port, a folder of its own, and a process that ends with the tests.

    ``close()`` removes everything; a ``with`` block does so too. Until then ``stop()`` or ``kill()`` and ``start()``
    give the same port and data. Start it from a thread that lives as long as the server should: on Linux the process
    ends with that thread, also when the tests are killed.

    :cvar kind: the word for it in fixtures and in the environment
    :cvar standard_port: where a server of this kind listens, if one is running on this machine already
    :cvar standard_urls: the addresses that may be right for it
    :ivar directory: data and log
    """

    kind: ClassVar[str]
    standard_port: ClassVar[int]
    standard_urls: ClassVar[Sequence[str]]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    start_seconds: ClassVar[float] = 30.0

    def __init__(self) -> None:
        self.port = 0
        self.directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._cleaner: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        state = f"on port {self.port}" if self.is_running else "not running"
        return f"<{type(self).__name__} {state}>"

    def __enter__(self) -> Self:
        return self if self.is_running else self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    @abstractmethod
    def url(self) -> str:
        """The address, in the form that the job store of this kind takes."""

    @classmethod
    @abstractmethod
    def probe(cls, url: str) -> str:
        """Return the version of the server at an address, which it is asked for with its usual client.

        :raises ModuleNotFoundError: if the client is not installed
        """

    @abstractmethod
    def command(self, directory: Path) -> list[str]:
        """Return the command that runs the server in the foreground."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Return whether the server that was just started answers; ``OSError`` means no."""

    def prepare(self, directory: Path) -> None:
        """Make what the first start needs."""
        return

    def process_options(self) -> dict[str, Any]:
        """Return further arguments of ``Popen`` for the server and what prepares it."""
        return {}

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The server's process.

        :raises RuntimeError: if it does not run
        """
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"{self!r} has no process; start() it first")
        return self._process.pid

    def start(self) -> Self:
        """Start the server and wait until it answers; again: on the same port, with the same data.

        :raises NotInstalled: if a program is missing
        :raises DidNotStart: with the end of the server's log
        :raises RuntimeError: if it is running
        """
        if self.is_running:
            raise RuntimeError(f"{self!r} is running; stop() it first")
        if self.directory is not None:
            self._launch(self.directory)
            return self
        for attempts_left in (2, 1, 0):  # somebody else may take the free port first
            try:
                self._launch(self._first_directory())
            except BaseException as error:
                self.close()
                if not attempts_left or not isinstance(error, DidNotStart):
                    raise
            else:
                break
        return self

    def stop(self) -> None:
        """Ask the server to end, wait until it has, and keep port and data; nothing if it does not run."""
        if self._process is None or self._process.poll() is not None:
            return
        self.thaw()
        self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End all processes of the server as a crash would, and keep port and data."""
        main = self.pid
        os.kill(main, signal.SIGSTOP)  # it starts no others while they are listed
        family = [main, *children_of(main)]
        for pid in family:
            os.kill(pid, signal.SIGKILL)
        assert self._process is not None
        self._process.wait()
        deadline = time.monotonic() + STOP_SECONDS
        while not all(map(has_ended, family)) and time.monotonic() < deadline:
            time.sleep(0.005)

    def freeze(self) -> None:
        """Let the server hang: connections stay, nothing is answered."""
        family = [self.pid, *children_of(self.pid)]
        for pid in family:
            os.kill(pid, signal.SIGSTOP)
        # The signal takes a while to reach each thread.
        deadline = time.monotonic() + STOP_SECONDS
        while not all(map(has_stopped, family)) and time.monotonic() < deadline:
            time.sleep(0.005)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        for pid in [*children_of(self.pid), self.pid]:
            with suppress(ProcessLookupError):  # a child may end at any time
                os.kill(pid, signal.SIGCONT)

    def restart(self) -> Self:
        """Stop and start; the same port, the same data."""
        self.stop()
        return self.start()

    def close(self) -> None:
        """Stop the server and remove its data."""
        self.stop()
        if self._cleaner is not None:
            self._cleaner.communicate()
        self.directory = self._cleaner = self._process = None

    def log(self) -> str:
        """Return what the server has written to its output."""
        return (
            ""
            if self.directory is None
            else (self.directory / "server.log").read_text(errors="replace")
        )

    def connect(self) -> socket.socket:
        """Return a connection to the server's port that waits for at most a second."""
        return socket.create_connection(("127.0.0.1", self.port), 1)

    def run(self, *command: str) -> None:
        """Run a program that prepares the start.

        :raises RuntimeError: with what it said, if it fails
        """
        done = subprocess.run(
            command,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            **self.process_options(),
        )
        if done.returncode:
            said = done.stdout.decode(errors="replace")[-2000:]
            raise RuntimeError(f"{command[0]} failed with {done.returncode}:\n{said}")

    def _first_directory(self) -> Path:
        # Not below pytest's folders: paths of sockets must be short, and another user must get there.
        directory = Path(
            tempfile.mkdtemp(prefix=f"apscheduler-{self.kind}-", dir="/tmp")
        )
        self.directory = directory
        self._cleaner = subprocess.Popen(
            ["/bin/sh", "-c", CLEANER, "sh", str(directory)],
            stdin=subprocess.PIPE,
            env={"PATH": os.defpath},  # whatever the tests have made of theirs
            start_new_session=True,
        )
        options = self.process_options()
        if "user" in options:
            os.chown(directory, options["user"], options["group"])
        self.port = free_port()
        self.prepare(directory)
        return directory

    def _launch(self, directory: Path) -> None:
        if not is_free(self.port):  # who has it would answer in place of this server
            raise DidNotStart(
                f"{type(self).__name__} cannot start: somebody else listens on its port {self.port}"
            )
        command = self.command(directory)
        if setpriv := shutil.which("setpriv"):
            command = [setpriv, "--pdeathsig", "KILL", "--", *command]
        with (directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # an interrupt of the tests is not meant for it
                **self.process_options(),
            )
        deadline = time.monotonic() + self.start_seconds
        while self.is_running and time.monotonic() < deadline:
            try:
                if self.is_ready():
                    return
            except OSError:
                pass
            time.sleep(0.01)
        how = (
            f"did not answer within {self.start_seconds} s"
            if self.is_running
            else "ended"
        )
        if self.is_running:
            self.kill()
        raise DidNotStart(
            f"{type(self).__name__} {how} while it was started. Its log ends with:\n{self.log()[-2000:]}"
        )
