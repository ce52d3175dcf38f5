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
        return f"≥ {self.times:.3g}x"


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
    rounds: int = 3
    aims: Mapping[str, Aim] = field(default_factory=dict)
    # The kinds of servers that it needs.
    servers: tuple[str, ...] = ()

    @property
    def program(self) -> Path:
        return DIRECTORY / f"{self.name}.py"


# What a store is asked for besides running jobs.
ASKING: Mapping[str, Aim] = {
    "add a job": Faster(1),
    "list a job": Faster(2),
    "look up a job": Faster(2),
    "in bulk compared with singly": Below(0.02, "x"),
}


def in_a_store(name: str, title: str, times: float, *servers: str) -> Workload:
    """Return the workload of recurring jobs in a store."""
    aims = {**ASKING, "run a due job": Faster(times)}
    title = f"Recurring jobs due at once, {title}"
    return Workload(name, title, aims=aims, servers=servers)


WORKLOADS = (
    Workload(
        "triggers",
        "Next fire time",
        aims={
            "cron, geometric mean": Faster(25),
            "crontabs compared with cronsim": Below(0.2, "x"),
            "interval": Faster(2),
            "calendarinterval": Faster(2),
            "and": Faster(2),
            "or": Faster(2),
        },
    ),
    Workload(
        "backlog",
        "Backlog of a one-second job, one pass",
        aims={
            "interval, 30 days": Below(1, "ms"),
            "interval, 30 days: peak memory": Below(100, "kB"),
            "cron, 30 days": Below(1, "ms"),
            "cron, 30 days: peak memory": Below(100, "kB"),
        },
    ),
    Workload(
        "dispatch",
        "One-shot jobs due at once, memory store, thread pool",
        aims={"compared with a pool alone": Below(1.5, "x")},
    ),
    Workload(
        "dispatch_asyncio",
        "Coroutine jobs due at once, memory store, asyncio scheduler",
        aims={"compared with a task alone": Below(2, "x")},
    ),
    Workload(
        "together",
        "5,000 jobs due in the same second",
        rounds=2,
        aims={"the last job starts after": Faster(4)},
    ),
    Workload(
        "memory_store",
        "The memory store, with ever more jobs",
        rounds=1,
        aims={
            "memory of a job": Faster(1),
            **{
                f"{what} one of 10,000": Faster(3)
                for what in ("add", "look up", "reschedule", "remove")
            },
            **{
                f"{what}: 1,000,000 compared with 1,000": Below(2, "x")
                for what in ("add", "look up", "reschedule", "remove")
            },
        },
    ),
    in_a_store("sqlite", "SQLite file", 40),
    in_a_store("postgresql", "PostgreSQL", 15, "postgresql"),
    in_a_store("mariadb", "MariaDB", 15, "mysql"),
    in_a_store("redis_store", "Redis", 10, "redis"),
    in_a_store("mongodb", "MongoDB", 5, "mongodb"),
    in_a_store("etcd", "etcd", 5, "etcd"),
    in_a_store("zookeeper", "ZooKeeper", 4, "zookeeper"),
    Workload(
        "listing",
        "Listing 10,000 jobs, and looking some of them up",
        rounds=2,
        servers=("redis",),
        aims={
            f"{jobs}: {what} a job": Faster(2)
            for jobs in ("SQLite, interval", "SQLite, cron", "Redis, interval")
            for what in ("list", "look up")
        },
    ),
    Workload(
        "startup",
        "Start of a program, every plugin installed",
        aims={"until the first run": Faster(1 / 0.7)},
    ),
    Workload(
        "idle",
        "Lateness and steady load",
        rounds=2,
        aims={
            "lateness, median": Below(0.3, "ms"),
            "lateness, 99 %": Below(1, "ms"),
            "CPU of a run, 2,000 jobs spread over a second": Faster(5),
        },
    ),
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
        rounds=2,
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
        rounds=2,
        servers=("postgresql",),
        aims={
            "lateness at half of the load, median": Below(10, "ms"),
            "lateness at half of the load, 99 %": Below(50, "ms"),
        },
    ),
)
