"""Which server of a kind the tests use: one that was named, one that is running, or a private one."""

import os
import re
import secrets
import socket
import threading
from collections.abc import Mapping
from multiprocessing import ProcessError
from multiprocessing.connection import Client, Listener
from typing import Protocol

from apscheduler.testing.servers import SERVERS
from apscheduler.testing.servers.machine import NotInstalled
from apscheduler.testing.servers.processes import Server

#: The ways to get a server, in their order.
WAYS = ("env", "running", "private")

#: What an address may hold that is not shown: a password can have slashes and at signs, or be an option.
CREDENTIALS = re.compile(r"(?<=://).*@|^(?!\w[\w+]*://).*@|(?<=\?).*")


class Unavailable(Exception):
    """There is no server of a kind, or no client for it; the text says why."""


class WrongServer(Exception):
    """The environment names a server that does not answer, or a way that does not exist."""


class Supplier(Protocol):
    """Where a test gets the address of a server from."""

    def url(self, kind: str) -> str:
        """Return the address of the server of a kind that all tests share.

        :raises Unavailable: if there is none
        :raises WrongServer: if the environment is wrong
        """

    def close(self) -> None:
        """Stop what was started."""


class Supply:
    """Finds the server of a kind when it is first asked for, or starts one.

    :ivar used: kind → the version of its server and where it came from
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        servers: Mapping[str, type[Server]] = SERVERS,
    ) -> None:
        self.used: dict[str, str] = {}
        self._environment = environment
        self._servers = servers
        self._found: dict[str, str | Exception] = {}
        self._started: list[Server] = []

    def url(self, kind: str) -> str:
        if kind not in self._found:
            try:
                self._found[kind] = self._find(kind)
            except ModuleNotFoundError as error:
                self._found[kind] = Unavailable(
                    f"the client library {error.name!r} is not installed: "
                    "pip install apscheduler-testing[servers]"
                )
            except (
                Exception
            ) as error:  # asked for by many tests: it would not be found later either
                self._found[kind] = error
        found = self._found[kind]
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        while self._started:
            self._started.pop().close()

    def _find(self, kind: str) -> str:
        server = self._servers[kind]
        ways = allowed_ways(self._environment)
        variable = f"APSCHEDULER_TEST_{kind.upper()}_URL"
        url = self._environment.get(variable)
        if url and "env" in ways:
            return self._named(server, variable, url)
        if "running" in ways and is_listening(server.standard_port):
            for each in server.standard_urls:
                if version := version_at(server, each):
                    self.used[kind] = f"{version} (already running)"
                    return each
        return self._private(server, variable, ways)

    def _named(self, server: type[Server], variable: str, url: str) -> str:
        try:
            self.used[server.kind] = f"{server.probe(url)} ({variable})"
        except ModuleNotFoundError:
            raise
        except Exception as error:
            shown = hide_credentials(url)
            raise WrongServer(
                f"{variable} is {shown!r}, but no {server.kind} server answers there "
                f"({type(error).__name__}). Correct it, or unset it to use another server"
            ) from None  # what the client says may contain the password
        return url

    def _private(
        self, server: type[Server], variable: str, ways: tuple[str, ...]
    ) -> str:
        own = start_private(server, ways, variable)
        self._started.append(own)
        self.used[server.kind] = f"{own.probe(own.url)} (private)"
        return own.url


def hide_credentials(url: str) -> str:
    """Return an address as it may be shown."""
    return CREDENTIALS.sub(lambda found: "***@" if "@" in found[0] else "***", url)


def is_listening(port: int) -> bool:
    """Return whether there is a server at a port of this machine; clients would try longer."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def version_at(server: type[Server], url: str) -> str | None:
    """Return the version of a running server, None if it is not for us."""
    try:
        return server.probe(url)
    except ModuleNotFoundError:
        raise
    except Exception:
        return None


def allowed_ways(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the ways that ``APSCHEDULER_TEST_SERVERS`` allows, by default all.

    :raises WrongServer: if it names another
    """
    text = environment.get("APSCHEDULER_TEST_SERVERS") or ",".join(WAYS)
    ways = tuple(word.strip() for word in text.split(","))
    unknown = [way for way in ways if way not in WAYS]
    if unknown:
        raise WrongServer(
            f"APSCHEDULER_TEST_SERVERS is {text!r}, but {unknown[0]!r} is none of the ways to get a server: "
            f"{', '.join(WAYS)}. List some of them, separated by commas"
        )
    return ways


def start_private(server: type[Server], ways: tuple[str, ...], variable: str) -> Server:
    """Return a private server that was just started.

    :raises Unavailable: if it is not installed, or private servers are not allowed
    """
    if "private" not in ways:
        raise Unavailable(
            f"APSCHEDULER_TEST_SERVERS allows no private {server.kind} server, and none was found "
            f"by the ways that it allows: {', '.join(ways)}"
        )
    try:
        return server().start()
    except NotInstalled as error:
        raise Unavailable(f"{error}; install it, or set {variable}") from None


def is_required(kind: str, environment: Mapping[str, str]) -> bool:
    """Return whether tests that get no server of this kind fail instead of being skipped."""
    required = [
        word.strip()
        for word in environment.get("APSCHEDULER_TEST_REQUIRE", "").split(",")
    ]
    return environment.get("CI", "").lower() in ("1", "true") or kind in required


class SharedSupply:
    """Answers for a supply to the worker processes of a test run, so that all of them use one set of servers.

    :ivar address: what ``RemoteSupply`` takes: port and secret
    """

    def __init__(self, supply: Supplier) -> None:
        secret = secrets.token_bytes(16)
        self._supply = supply
        self._listener = Listener(("127.0.0.1", 0), backlog=64, authkey=secret)
        self.address: tuple[int, bytes] = (self._listener.address[1], secret)
        # Servers end with the thread that starts them: this one waits until it is told to end.
        self._thread = threading.Thread(
            target=self._serve, name="servers for tests", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Close the supply and end the thread."""
        with Client(
            ("127.0.0.1", self.address[0]), authkey=self.address[1]
        ) as connection:
            connection.send(None)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        try:
            while self._serve_one():
                pass
        finally:
            self._supply.close()

    def _serve_one(self) -> bool:
        """Answer one question, and return whether there may be another."""
        try:
            with self._listener.accept() as connection:
                kind = connection.recv()
                if kind is not None:
                    connection.send(self._answer(kind))
                return kind is not None
        except (
            OSError,
            EOFError,
            ProcessError,
        ):  # a worker that was killed, or a stranger
            return True

    def _answer(self, kind: str) -> tuple[str, str]:
        try:
            return "found", self._supply.url(kind)
        except Unavailable as error:
            return "unavailable", str(error)
        except WrongServer as error:
            return "wrong", str(error)
        except Exception as error:
            return "failed", f"{type(error).__name__}: {error}"


class RemoteSupply:
    """The supply of the process that has started this worker process."""

    def __init__(self, address: tuple[int, bytes]) -> None:
        self._port, self._secret = address

    def url(self, kind: str) -> str:
        with Client(("127.0.0.1", self._port), authkey=self._secret) as connection:
            connection.send(kind)
            outcome, text = connection.recv()
        if outcome == "found":
            return str(text)
        raise {"unavailable": Unavailable, "wrong": WrongServer}.get(
            outcome, RuntimeError
        )(text)

    def close(self) -> None:
        """Leave the servers to the other process."""


def supply_from_environment() -> Supply:
    """Return a supply that obeys the environment of this process."""
    return Supply(os.environ)
