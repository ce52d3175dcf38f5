"""The long form of the kill test: every store for minutes, nodes killed, frozen, cut off and wrong about the time."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from apscheduler.runs import Run, RunState
from apscheduler.testing.cluster.books import Books
from apscheduler.testing.cluster.chaos import Chaos
from apscheduler.testing.cluster.cluster import Cluster
from apscheduler.testing.cluster.ledger import Entry
from apscheduler.testing.cluster.nurseries import Nurseries, find_libfaketime
from apscheduler.testing.cluster.proxy import Proxy, through
from apscheduler.testing.servers import SERVERS, Server

#: How long a node is frozen: beyond its lease of 20 seconds.
FROZEN_SECONDS = 23.0


def at_etcd(url: str) -> dict[str, Any]:
    where = urlsplit(url)
    return {"type": "etcd", "host": where.hostname, "port": where.port}


@dataclass(frozen=True)
class Place:
    """A store, and the server that it is on.

    :ivar configure: from the address of the server, or of a folder, to the configuration of the store
    :ivar tells_time: the clocks of machines may be wrong
    """

    server: str | None
    configure: Callable[[str], dict[str, Any]]
    tells_time: bool = False


def at_database(url: str) -> dict[str, Any]:
    return {"type": "sqlalchemy", "url": url}


PLACES: Mapping[str, Place] = {
    "postgresql": Place("postgresql", at_database, True),
    "mariadb": Place("mysql", at_database, True),
    "sqlite": Place(None, lambda path: at_database(f"sqlite:///{path}/jobs.db")),
    "redis": Place("redis", lambda url: {"type": "redis", "url": url}, True),
    "mongodb": Place("mongodb", lambda url: {"type": "mongodb", "host": url}, True),
    "etcd": Place("etcd", at_etcd),
    "zookeeper": Place("zookeeper", lambda url: {"type": "zookeeper", "hosts": url}),
}


@dataclass(frozen=True)
class Effort:
    """How much is done to a store.

    :ivar restarts: whether its server is killed and started again, twice
    :ivar cuts: of so many requests of nodes one is cut, or its answer is; 0: none
    """

    seconds: float
    seed: int
    nodes: int = 4
    scale: int = 1
    restarts: bool = False
    cuts: int = 0


@dataclass
class Result:
    """What came of it.

    :ivar takeovers: seconds from the death of a node until somebody had taken a run of its
    :ivar lateness: seconds from the time of a fire to the start of its function
    """

    store: str
    kills: int
    pauses: int
    restarts: int
    cuts: int
    outcomes: Counter[str]
    fires: int
    starts: int
    takeovers: list[float]
    lateness: list[float]


def soak(name: str, directory: Path, effort: Effort) -> Result:
    """Let a cluster work on a store while nodes die, and balance its books.

    :raises AssertionError: if a fire was lost, or anything else was found
    """
    place = PLACES[name]
    if place.server is None:
        return torment(name, place.configure(str(directory)), directory, effort)
    with SERVERS[place.server]() as server:
        config = place.configure(server.url)
        return torment(name, config, directory, effort, server)


def torment(
    name: str,
    config: dict[str, Any],
    directory: Path,
    effort: Effort,
    server: Server | None = None,
) -> Result:
    is_wrong = PLACES[name].tells_time and find_libfaketime() is not None
    minutes = (-5, 0, 5) if is_wrong else (0,)
    restarts = cuts = 0
    with (
        Nurseries() as nurseries,
        Cluster(
            *(config, directory, effort.seed, nurseries), scale=effort.scale
        ) as cluster,
    ):
        cluster.add_jobs()
        with cutting(server, effort) as proxy:
            way = through(config, proxy.port) if proxy else config
            chaos = Chaos(cluster, effort.nodes, minutes, way)
            begun = time.monotonic()
            while (passed := time.monotonic() - begun) < effort.seconds:
                chaos.freeze_or_thaw(FROZEN_SECONDS, until=begun + effort.seconds)
                chaos.kill(pause=0.5)
                is_time = passed > effort.seconds * (restarts + 1) / 3
                if server and effort.restarts and is_time:
                    restarts += 1
                    server.kill()
                    server.start()
            chaos.thaw_all()
            if proxy:
                cuts, proxy.failures = proxy.cuts, 0
            cluster.finish_jobs()
            cluster.settle()
        books = Books(
            *(list(cluster.ledger.read()), cluster.runs()),
            *(cluster.expected, cluster.limits),
            is_calm=not (restarts or cuts),
        )
        books.balance()
        counts = cluster.kills, cluster.pauses, restarts, cuts
        return Result(name, *counts, *figures(books.entries, books.runs))


@contextmanager
def cutting(server: Server | None, effort: Effort) -> Iterator[Proxy | None]:
    """Give what cuts the connections of nodes to a server, if that is to be done."""
    if server is None or not effort.cuts:
        yield None
        return
    proxy = Proxy(server.port, effort.seed)
    proxy.failures = effort.cuts
    try:
        yield proxy
    finally:
        proxy.close()


def figures(entries: Any, runs: Any) -> tuple[Any, ...]:
    """Return outcomes, fires, starts, how long take-overs took, and how late functions started."""
    outcomes: Counter[str] = Counter()
    for run in runs:
        outcomes[run.state] += run.count or 1
    starts = [entry for entry in entries if entry["what"] == "start"]
    late = [lateness(run) for run in runs if run.state is RunState.SUCCEEDED]
    return (
        outcomes,
        sum(outcomes.values()),
        len(starts),
        sorted(takeovers(entries)),
        sorted(each for each in late if each is not None),
    )


def lateness(run: Run) -> float | None:
    """Return how late a run started; nothing of one that was started again, or together with others of a backlog."""
    if run.attempt > 1 or run.started_at is None:
        return None
    return max(0.0, (run.started_at - run.scheduled_time).total_seconds())


def takeovers(entries: list[Entry]) -> list[float]:
    """Return how long after the death of its owner a run was found to be lost."""
    owners = {e["run"]: e["pid"] for e in entries if e["what"] == "start"}
    deaths = {e["victim"]: e["at"] for e in entries if e["what"] == "killed"}
    found = []
    for entry in entries:
        owner = owners.get(entry.get("run"))
        if entry["what"] == "lost" and owner in deaths:
            found.append(max(0.0, entry["at"] - deaths[owner]))
    return found
