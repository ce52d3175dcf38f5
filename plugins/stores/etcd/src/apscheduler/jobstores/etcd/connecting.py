"""Clients: the one that is made or given, what is refused, what a failure means, and a new one after a fork."""

import copy
from collections import OrderedDict
from typing import Any
from urllib.parse import urlsplit

import requests
from etcd3gw.client import Etcd3Client
from etcd3gw.exceptions import (
    ConnectionFailedError,
    ConnectionTimeoutError,
    Etcd3Exception,
)

from apscheduler.util import maybe_ref

# A server that hangs is given up after so many seconds, unless the user says something else.
TIMEOUT_SECONDS = 10.0
# What the server says when it cannot do its work now, but will.
AWAY = ("no leader", "leader changed", "request timed out", "not capable", "stopped")


def make_client(client: Any, connect_args: dict[str, Any]) -> tuple[Etcd3Client, bool]:
    """Return the client to use, and whether it was made here.

    :raises TypeError: if it is something else
    :raises ValueError: if there are a client and arguments for one
    """
    client = maybe_ref(client)
    if client is None:
        return Etcd3Client(**{"timeout": TIMEOUT_SECONDS, **connect_args}), True
    if not isinstance(client, Etcd3Client):
        kind = type(client)
        advice = (
            ": clients of the library etcd3, which is no longer maintained, cannot be used; install etcd3gw, which "
            "talks to the same server on the same port, and pass etcd3gw.client(host=..., port=...)"
            if kind.__module__.partition(".")[0] == "etcd3"
            else ""
        )
        raise TypeError(
            f"'client' must be an etcd3gw.client.Etcd3Client or a reference to one, but is a "
            f"{kind.__module__}.{kind.__qualname__}{advice}"
        )
    if connect_args:
        names = ", ".join(map(repr, connect_args))
        raise ValueError(f"Give either 'client' or {names}, which it cannot be told")
    return client, False


def options_from_url(url: str) -> dict[str, Any]:
    """Return the arguments of a store for ``etcd://host:2379/path``; ``etcd+https`` is for a server that wants TLS.

    :raises ValueError: if it has other parts
    """
    parts = urlsplit(url)
    protocol = parts.scheme.partition("+")[2] or "http"
    if protocol not in ("http", "https"):
        raise ValueError(
            f"it must begin with etcd:// or etcd+https://, but begins with {parts.scheme}://"
        )
    if parts.username or parts.query:
        raise ValueError(
            "only host, port and path can be given; for anything else configure the store with a 'client'"
        )
    options: dict[str, Any] = {"host": parts.hostname or "localhost"}
    if parts.port is not None:
        options["port"] = parts.port
    if protocol != "http":
        options["protocol"] = protocol
    if parts.path.strip("/"):
        options["path"] = parts.path
    return options


def clone(client: Etcd3Client) -> Etcd3Client:
    """Return a client that is like this one, and shares no connection with it."""
    new = copy.copy(client)
    session = client.session
    # Whatever a session of the user's own class has, and the same headers: a token in them may be renewed.
    new.session = type(session).__new__(type(session))
    vars(new.session).update(vars(session))
    # Copies of adapters have pools of their own.
    new.session.adapters = OrderedDict(
        (prefix, copy.copy(adapter)) for prefix, adapter in session.adapters.items()
    )
    return new


def to_error(response: requests.Response) -> Etcd3Exception:
    """Return what an answer says that is not the expected one."""
    try:
        text = str(response.json()["message"])
    except (ValueError, LookupError, TypeError):
        text = response.text[:200] or response.reason
    kinds: dict[int, type[Etcd3Exception]] = {
        502: ConnectionFailedError,
        503: ConnectionFailedError,
        504: ConnectionTimeoutError,
    }
    kind = kinds.get(response.status_code, Etcd3Exception)
    return kind(text, f"{text} (HTTP status {response.status_code})")


def explain(exc: Etcd3Exception, what: str) -> Etcd3Exception:
    """Return an error of the same type that says what failed, why, and what to do."""
    reason = str(exc) or exc.detail_text or type(exc).__name__
    advice = _advise(exc, reason)
    return type(exc)(exc.detail_text, f"{what}: {reason}{advice}")


def _advise(exc: Etcd3Exception, reason: str) -> str:
    if "permission denied" in reason or "user name is empty" in reason:
        return (
            ": the user needs to read and write all keys that begin with the path, and those that begin with '~runs' "
            "and the path; pass a client whose session sends the token of such a user"
        )
    if "auth token" in reason:
        return ": pass a client whose session sends a valid token in the header 'Authorization'"
    if isinstance(exc, (ConnectionFailedError, ConnectionTimeoutError)):
        return (
            ": check that the server is running, its address, and whether it wants TLS"
        )
    return ""


def is_unreachable(exc: BaseException) -> bool:
    """Return whether an error says that there was no answer, or that the server cannot do its work now."""
    if isinstance(exc, (ConnectionFailedError, ConnectionTimeoutError)):
        return True
    if isinstance(exc, Etcd3Exception):
        return any(word in (exc.detail_text or "") for word in AWAY)
    return isinstance(exc, (requests.ConnectionError, requests.Timeout))
