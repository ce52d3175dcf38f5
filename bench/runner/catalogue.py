"""What is measured, and what the project aims at."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

DIRECTORY = Path(__file__).parent.parent / "workloads"


@dataclass(frozen=True)
class Faster:
    """So many times faster than APScheduler 3.11.3."""

    times: float

    def is_met(self, value: float, ratio: float | None) -> bool:
        return ratio is not None and ratio >= self.times

    def __str__(self) -> str:
        return f"≥ {self.times:g}x"


@dataclass(frozen=True)
class Below:
    """Less than so much, whatever APScheduler 3.11.3 takes."""

    limit: float
    unit: str

    def is_met(self, value: float, ratio: float | None) -> bool:
        return value < self.limit

    def __str__(self) -> str:
        return f"< {self.limit:g} {self.unit}"


Aim = Faster | Below


@dataclass(frozen=True)
class Workload:
    """A program in the directory of workloads."""

    name: str
    title: str
    rounds: int = 5
    aims: Mapping[str, Aim] = field(default_factory=dict)
    # The kinds of servers that it needs.
    servers: tuple[str, ...] = ()

    @property
    def program(self) -> Path:
        return DIRECTORY / f"{self.name}.py"


ON_A_SERVER: Mapping[str, Aim] = {
    "run a due job": Faster(12),
    "list a job": Faster(1),
    "look up a job": Faster(1),
    "in bulk compared with singly": Below(0.05, "x"),
}

WORKLOADS = (
    Workload(
        "triggers",
        "Next fire time",
        aims={"cron, geometric mean": Faster(15)},
    ),
    Workload(
        "backlog",
        "Coalesced backlog of a one-second job, one pass",
        aims={
            "interval, 30 days": Below(5, "ms"),
            "interval, 30 days: peak memory": Below(100, "kB"),
            "cron, 30 days": Below(5, "ms"),
            "cron, 30 days: peak memory": Below(100, "kB"),
        },
    ),
    Workload(
        "dispatch",
        "One-shot jobs due at once, memory store, thread pool",
        aims={"run a due job": Faster(2)},
    ),
    Workload(
        "adding",
        "Adding to a memory store",
        rounds=3,
        aims={"100,000 compared with 1,000": Below(1.1, "x")},
    ),
    Workload(
        "sqlite",
        "Recurring jobs due at once, SQLite file",
        rounds=3,
        aims={"run a due job": Faster(25)},
    ),
    Workload(
        "postgresql",
        "Recurring jobs due at once, PostgreSQL",
        rounds=3,
        servers=("postgresql",),
        aims=ON_A_SERVER,
    ),
    Workload(
        "mariadb",
        "Recurring jobs due at once, MariaDB",
        rounds=3,
        servers=("mysql",),
        aims=ON_A_SERVER,
    ),
    Workload(
        "redis_store",
        "Recurring jobs due at once, Redis",
        rounds=3,
        servers=("redis",),
        aims={**ON_A_SERVER, "run a due job": Faster(8)},
    ),
    Workload(
        "mongodb",
        "Recurring jobs due at once, MongoDB",
        rounds=3,
        servers=("mongodb",),
        aims={**ON_A_SERVER, "run a due job": Faster(5)},
    ),
    Workload(
        "etcd",
        "Recurring jobs due at once, etcd",
        rounds=3,
        servers=("etcd",),
        aims={**ON_A_SERVER, "run a due job": Faster(5)},
    ),
    Workload(
        "zookeeper",
        "Recurring jobs due at once, ZooKeeper",
        rounds=3,
        servers=("zookeeper",),
        aims={
            **ON_A_SERVER,
            "run a due job": Faster(4),
            "in bulk compared with singly": Below(0.1, "x"),
        },
    ),
    Workload(
        "listing",
        "Listing 10,000 jobs, and looking some of them up",
        rounds=3,
        servers=("redis",),
        aims={
            f"{store}: {what} a job": Faster(2)
            for store in ("SQLite", "Redis")
            for what in ("list", "look up")
        },
    ),
    Workload(
        "startup",
        "Start of a program, every plugin installed",
        aims={"until the first run": Faster(1)},
    ),
    Workload("idle", "Lateness and steady load", rounds=3),
    Workload(
        "idle_stored",
        "An idle scheduler, 300,000 jobs in its store",
        rounds=1,
        servers=("postgresql", "redis"),
        aims={
            f"{store}: part of a core": Below(1, "%")
            for store in ("SQLite", "PostgreSQL", "Redis")
        },
    ),
    Workload(
        "cluster",
        "4,000 jobs due at once in PostgreSQL, one and four schedulers",
        rounds=3,
        servers=("postgresql",),
        aims={
            "run a due job, one scheduler": Faster(10),
            "four compared with one": Below(1, "x"),
            "burst compared with the ideal": Below(1.6, "x"),
        },
    ),
    Workload(
        "lateness",
        "Jobs in PostgreSQL that fire every second, half of the possible load",
        rounds=3,
        servers=("postgresql",),
        aims={
            "lateness at half of the load, median": Below(10, "ms"),
            "lateness at half of the load, 99 %": Below(50, "ms"),
        },
    ),
)
