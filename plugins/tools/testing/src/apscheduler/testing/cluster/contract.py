"""Several schedulers in processes of their own on one store; nodes that die, freeze, or are cut off."""

import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from apscheduler.runs import RunState
from apscheduler.testing.cluster.books import Books
from apscheduler.testing.cluster.chaos import Chaos
from apscheduler.testing.cluster.cluster import Cluster, wait_until
from apscheduler.testing.cluster.nurseries import Nurseries, find_libfaketime
from apscheduler.testing.cluster.proxy import Proxy, through
from apscheduler.testing.cluster.work import HOLD, WORK
from apscheduler.testing.contracts import Contract, only_if
from apscheduler.testing.servers import Server

#: A node of these tests is dead after so many seconds.
LEASE = 3.0

NURSERIES = pytest.StashKey[Nurseries]()


class ClusterContract(Contract):
    """What many schedulers on one store keep to: real processes, which are killed, frozen and cut off.

    The fixture ``store_config`` gives the configuration of an empty store that other processes can use, for example
    ``{"type": "redis", "url": …}``. The tests run only where processes can be forked.

    :cvar tells_time: the store has a clock, so that those of the machines may be wrong
    :cvar server_kind: what ``own_<kind>`` of the fixtures for servers starts; None: the store is on none. Where there
        is one, ``config_at`` gives the configuration of an empty store there
    :cvar kills: how many nodes are killed
    """

    tells_time = True
    server_kind: str | None = None
    kills = 20

    @pytest.fixture
    def store_config(self) -> dict[str, Any]:
        raise NotImplementedError("Give the configuration of an empty store")

    def config_at(self, url: str) -> dict[str, Any]:
        raise NotImplementedError("Give the configuration of a store on a server")

    @pytest.fixture
    def seed(self) -> int:
        if not hasattr(os, "fork"):
            pytest.skip("this system cannot fork")
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        return seed

    @pytest.fixture
    def nurseries(self, pytestconfig: pytest.Config) -> Nurseries:
        """Where nodes of all tests are born: to import everything anew would take longer than the tests."""
        if NURSERIES not in pytestconfig.stash:
            pytestconfig.stash[NURSERIES] = Nurseries(lease=LEASE)
            pytestconfig.add_cleanup(pytestconfig.stash[NURSERIES].close)
        return pytestconfig.stash[NURSERIES]

    @pytest.fixture
    def cluster(
        self,
        store_config: dict[str, Any],
        seed: int,
        tmp_path: Path,
        nurseries: Nurseries,
    ) -> Iterator[Cluster]:
        place = store_config, tmp_path, seed, nurseries
        with Cluster(*place, workers=5) as cluster:
            yield cluster

    def test_no_fire_is_lost_or_started_twice_when_nodes_are_killed(
        self, cluster: Cluster
    ) -> None:
        cluster.add_jobs()
        chaos = Chaos(cluster, 3, wrong_clocks() if self.tells_time else (0,))

        for _ in range(self.kills):
            chaos.kill()
        settle(cluster)

        books_of(cluster).balance()

    @only_if(lambda suite: suite.server_kind)
    def test_no_fire_is_lost_or_started_twice_when_the_server_and_connections_fail(
        self,
        seed: int,
        tmp_path: Path,
        nurseries: Nurseries,
        request: pytest.FixtureRequest,
    ) -> None:
        server: Server = request.getfixturevalue(f"own_{self.server_kind}")
        config = self.config_at(server.url)
        proxy = Proxy(server.port, seed)
        with Cluster(config, tmp_path, seed, nurseries) as cluster:
            cluster.add_jobs()
            chaos = Chaos(cluster, 2, store=through(config, proxy.port))
            wait_until(lambda: count(cluster, "born") == 2, "a node is not born")
            proxy.failures = 30

            wait_until(lambda: proxy.cuts >= 10, "nobody asks the server")
            chaos.kill()
            server.kill()
            server.start()
            wait_until(lambda: proxy.cuts >= 20, "nobody asks the server")
            proxy.failures = 0
            settle(cluster)

            books_of(cluster, is_calm=False).balance()
        proxy.close()

    def test_late_outcomes_of_a_frozen_node_are_refused_and_it_goes_on_as_a_node(
        self, cluster: Cluster, tmp_path: Path
    ) -> None:
        release, client = tmp_path / "release", cluster.client
        sleeper = cluster.start_node(mischief=0)
        for on_lost in ("mark", "retry"):
            client.add_job(HOLD, args=[str(release)], id=on_lost, on_lost=on_lost)
        wait_for_starts(cluster, 2)
        cluster.freeze(sleeper)
        other = cluster.start_node(mischief=0)
        for job_id in ("mark", "retry"):
            wait_until(lambda: state_of(cluster, job_id).is_final, "nobody takes over")  # noqa: B023  # called at once
        taken = client.get_runs()

        cluster.end(other)
        release.touch()
        cluster.thaw(sleeper)
        client.add_job(WORK, id="next")
        wait_until(
            lambda: state_of(cluster, "next") is RunState.SUCCEEDED,
            "who was frozen does not go on",
        )
        cluster.end(sleeper)

        assert {run.job_id: run.state for run in taken} == {
            "mark": RunState.LOST,
            "retry": RunState.SUCCEEDED,
        }
        assert [run for run in client.get_runs() if run.job_id != "next"] == taken
        starts = Counter(
            entry["job"] for entry in cluster.ledger.read() if entry["what"] == "start"
        )
        assert starts == {"mark": 1, "retry": 2, "next": 1}

    def test_a_run_is_retried_no_more_often_than_it_may_be(
        self, cluster: Cluster, tmp_path: Path
    ) -> None:
        args = [str(tmp_path / "never"), 9]
        rules: dict[str, Any] = {"on_lost": "retry", "max_attempts": 2}
        cluster.client.add_job(HOLD, args=args, id="held", **rules)

        for attempt in (1, 2):
            node = cluster.start_node(mischief=0)
            wait_for_starts(cluster, attempt)
            cluster.kill(node)
        last = cluster.start_node(mischief=0)
        wait_until(lambda: state_of(cluster, "held").is_final, "it is not settled")
        cluster.end(last)

        (run,) = cluster.client.get_runs("held")
        assert (run.state, run.attempt) == (RunState.LOST, 2)
        assert count(cluster, "start") == 2

    def test_nobody_takes_more_of_a_burst_than_there_are_threads_for(
        self, cluster: Cluster, tmp_path: Path
    ) -> None:
        release = tmp_path / "release"
        nodes = [cluster.start_node(mischief=0) for _ in range(3)]
        wait_until(lambda: count(cluster, "born") == 3, "a node is not born")

        for number in range(20):
            cluster.client.add_job(HOLD, args=[str(release)], id=f"held-{number}")
        wait_for_starts(cluster, 15)
        release.touch()
        wait_for_starts(cluster, 20)
        for node in nodes:
            cluster.end(node)

        first = [e["pid"] for e in cluster.ledger.read() if e["what"] == "start"][:15]
        assert Counter(first) == {node.pid: 5 for node in nodes}


def wrong_clocks() -> Sequence[int]:
    """Return by how many minutes the clocks of machines are wrong."""
    if find_libfaketime() is not None:
        return (-5, 0, 5)
    reason = "libfaketime is not installed (on Debian: apt-get install libfaketime)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def settle(cluster: Cluster) -> None:
    cluster.finish_jobs()
    cluster.settle()


def books_of(cluster: Cluster, is_calm: bool = True) -> Books:
    entries = list(cluster.ledger.read())
    return Books(
        *(entries, cluster.runs(), cluster.expected, cluster.limits), is_calm=is_calm
    )


def count(cluster: Cluster, what: str) -> int:
    return sum(entry["what"] == what for entry in cluster.ledger.read())


def wait_for_starts(cluster: Cluster, number: int) -> None:
    wait_until(lambda: count(cluster, "start") == number, f"not {number} starts")


def state_of(cluster: Cluster, job_id: str) -> RunState:
    """Return the state of the one run of a job."""
    runs = cluster.client.get_runs(job_id)
    return runs[0].state if runs else RunState.READY
