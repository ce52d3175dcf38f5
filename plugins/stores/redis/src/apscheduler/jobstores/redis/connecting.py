"""Clients: made or taken, checked, and errors that say what to do."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import redis.asyncio
from redis import Redis, RedisCluster
from redis.connection import ConnectionPool
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    ClusterCrossSlotError,
    ClusterDownError,
    ConnectionError,
    NoPermissionError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
    TimeoutError,
    TryAgainError,
)

from apscheduler.conversion import ArgumentReader
from apscheduler.util import maybe_ref

SCHEMES = ("redis", "rediss", "unix")

# What a server says that is not able to do its work now, also where an error in a script hides it.
AWAY = ("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN")


def make_client(
    url: str | None, client: Any, db: int, connect_args: Mapping[str, Any]
) -> tuple[Any, bool]:
    """Return a client that gives bytes, and whether it was made here.

    :raises ValueError: if a URL cannot be understood, or a client cannot be used
    :raises TypeError: if the client is none
    """
    if client is not None:
        given = [name for name in ("url",) if url is not None] + sorted(connect_args)
        if given:
            raise ValueError(
                f"Give either 'client' or {', '.join(map(repr, given))}: a client knows its server already"
            )
        return check_client(maybe_ref(client)), False
    options = {"db": db} | read_texts(connect_args)
    made = Redis(**options) if url is None else from_url(url, options)
    # States are bytes, whatever was asked for.
    made.connection_pool.connection_kwargs["decode_responses"] = False
    return made, True


def read_texts(connect_args: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments, with what INI files have as text made into what the client wants."""
    reader = ArgumentReader(Redis)
    options: dict[str, Any] = {}
    for name, value in connect_args.items():
        try:
            options[name] = reader.convert(name, value)
        except ValueError as exc:
            raise ValueError(f"{name!r} cannot be {value!r}: {exc}") from None
    return options


def from_url(url: str, options: Mapping[str, Any]) -> Redis:
    """Return the client of a URL; what it says goes before the options."""
    if not isinstance(url, str):
        raise ValueError(f"'url' must be text, but is a {type(url).__name__}")
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        wanted = "redis://, rediss:// or unix://"
        shown = repr(scheme) if "://" in url else "missing"
        raise ValueError(
            f"'url' must start with {wanted}, but its scheme is {shown}; write e.g. redis://localhost:6379/0"
        )
    try:
        if scheme != "unix":
            _ = urlsplit(url).port
        return Redis.from_url(url, **options)
    except ValueError as exc:
        raise ValueError(
            f"'url' cannot be understood ({type(exc).__name__}): it must look like "
            f"{scheme}://user:password@host:6379/0, with special characters in user and password percent-encoded"
        ) from None  # what it says may be a part of the password


def check_client(client: Any) -> Any:
    """Return the client if it can be used."""
    kind = f"{type(client).__module__}.{type(client).__qualname__}"
    if isinstance(client, (redis.asyncio.Redis, redis.asyncio.RedisCluster)):
        raise ValueError(
            f"'client' must not be asynchronous, but is a {kind}: use the class of the same name from redis, also "
            "with AsyncIOScheduler, which does not let its loop wait for it"
        )
    if not isinstance(client, (Redis, RedisCluster)):
        raise TypeError(
            f"'client' must be a redis.Redis or redis.RedisCluster, or a reference to one, but is a {kind}"
        )
    if client.get_encoder().decode_responses:
        raise ValueError(
            "'client' must give bytes, since jobs are no text: make it without decode_responses=True"
        )
    return client


def check_slots(client: Any, jobs_key: str, run_times_key: str) -> None:
    """Check that all keys are on one node of a cluster.

    :raises ValueError: if they are not
    """
    if not isinstance(client, RedisCluster):
        return
    tags = {hash_tag(jobs_key), hash_tag(run_times_key)}
    if len(tags) != 1 or None in tags:
        raise ValueError(
            "On a Redis Cluster all keys of the store must have one hash tag, but they are "
            f"{jobs_key!r} and {run_times_key!r}: give e.g. jobs_key='{{apscheduler}}.jobs' and "
            "run_times_key='{apscheduler}.run_times'"
        )


def hash_tag(key: str) -> str | None:
    """Return the part of a key that decides where it is, None if that is all of it."""
    start = key.find("{")
    end = key.find("}", start + 1)
    return key[start + 1 : end] if start >= 0 and end > start + 1 else None


def listening_pool(client: Any) -> ConnectionPool:
    """Return a pool for the one connection to hear of changes, so that it takes away none from others."""
    if isinstance(client, RedisCluster):
        # Every node passes on what is told to any of them.
        cluster: Any = client
        client = cluster.get_redis_connection(cluster.get_random_node())
    pool = client.connection_pool
    # Also in a pool of Sentinels, the connection is what asks them for the address.
    return ConnectionPool(
        connection_class=pool.connection_class, **pool.connection_kwargs
    )


def explain(exc: Exception, what: str) -> Exception:
    """Return an error of the same type that says what failed, why, and what to do."""
    message = f"{what}: {exc}"
    if advice := _advise(exc):
        message += f": {advice}"
    try:
        return type(exc)(message)
    except Exception:  # some are made of other things than a message
        exc.add_note(message)
        return exc


def _advise(exc: Exception) -> str | None:
    text = str(exc)
    if isinstance(exc, (AuthenticationError, AuthorizationError)) or "NOAUTH" in text:
        return "check user name and password"
    if isinstance(exc, NoPermissionError) or "NOPERM" in text:
        return (
            "the user needs the permission to run scripts, and to read and write all keys that begin with the "
            "keys of the store"
        )
    is_elsewhere = isinstance(exc, (ClusterCrossSlotError, AskError))  # or has moved
    if is_elsewhere or "CROSSSLOT" in text:
        return "this server is part of a cluster: give a redis.RedisCluster as 'client'"
    if isinstance(exc, (ConnectionError, TimeoutError)):
        return "check that the server is running, and its address"
    return None


def is_unreachable(exc: BaseException) -> bool:
    """Return whether an error says that there was no answer, or that the server cannot do its work now."""
    if isinstance(exc, (AuthenticationError, AuthorizationError)):
        return False
    if isinstance(exc, (ConnectionError, TimeoutError)):
        return True
    if isinstance(exc, (RedisClusterException, ClusterDownError, TryAgainError)):
        return True
    if isinstance(exc, ReadOnlyError):  # a replica, or what has become one
        return True
    return isinstance(exc, ResponseError) and any(word in str(exc) for word in AWAY)
