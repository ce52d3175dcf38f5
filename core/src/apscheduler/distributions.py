"""The project's own distributions: what each one brings, and the error when it is missing.

The hints come from this fixed table and never from what the user typed: a name made
from a misspelling would send people to whatever somebody registered under it.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import MappingProxyType, ModuleType

#: Kind of component → configured name → where its class lives, whether installed or not.
#: Held equal to the entry points of all distributions by ``tests/test_distributions.py``.
COMPONENTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "trigger": {
            "date": "apscheduler.triggers.date:DateTrigger",
            "interval": "apscheduler.triggers.interval:IntervalTrigger",
            "cron": "apscheduler.triggers.cron:CronTrigger",
            "calendarinterval": (
                "apscheduler.triggers.calendarinterval:CalendarIntervalTrigger"
            ),
            "and": "apscheduler.triggers.combining:AndTrigger",
            "or": "apscheduler.triggers.combining:OrTrigger",
        },
        "executor": {
            "asyncio": "apscheduler.executors.asyncio:AsyncIOExecutor",
            "debug": "apscheduler.executors.debug:DebugExecutor",
            "gevent": "apscheduler.executors.gevent:GeventExecutor",
            "threadpool": "apscheduler.executors.pool:ThreadPoolExecutor",
            "processpool": "apscheduler.executors.pool:ProcessPoolExecutor",
            "tornado": "apscheduler.executors.tornado:TornadoExecutor",
            "twisted": "apscheduler.executors.twisted:TwistedExecutor",
        },
        "jobstore": {
            "etcd": "apscheduler.jobstores.etcd:EtcdJobStore",
            "memory": "apscheduler.jobstores.memory:MemoryJobStore",
            "mongodb": "apscheduler.jobstores.mongodb:MongoDBJobStore",
            "redis": "apscheduler.jobstores.redis:RedisJobStore",
            "sqlalchemy": "apscheduler.jobstores.sqlalchemy:SQLAlchemyJobStore",
            "zookeeper": "apscheduler.jobstores.zookeeper:ZooKeeperJobStore",
        },
        "scheduler": {
            "asyncio": "apscheduler.schedulers.asyncio:AsyncIOScheduler",
            "background": "apscheduler.schedulers.background:BackgroundScheduler",
            "blocking": "apscheduler.schedulers.blocking:BlockingScheduler",
            "gevent": "apscheduler.schedulers.gevent:GeventScheduler",
            "qt": "apscheduler.schedulers.qt:QtScheduler",
            "tornado": "apscheduler.schedulers.tornado:TornadoScheduler",
            "twisted": "apscheduler.schedulers.twisted:TwistedScheduler",
        },
        "serializer": {
            "json": "apscheduler.serializers.json:JsonSerializer",
            "pickle": "apscheduler.serializers:PickleSerializer",
            "signed": "apscheduler.serializers.signed:SignedSerializer",
        },
    }
)

#: The word for a kind in the names of distributions.
DISTRIBUTION_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "trigger": "trigger",
        "executor": "executor",
        "jobstore": "store",
        "scheduler": "scheduler",
    }
)


def _distributions_by_module() -> dict[str, str]:
    """Return every module that comes in a distribution other than core."""
    found = {
        "apscheduler.cli": "apscheduler-cli",
        "apscheduler.testing": "apscheduler-testing",
    }
    for kind, word in DISTRIBUTION_WORDS.items():
        for reference in COMPONENTS[kind].values():
            module = reference.partition(":")[0]
            found[module] = f"apscheduler-{word}-{module.rpartition('.')[2]}"
    return found


#: Module → the distribution that brings it.
DISTRIBUTIONS: Mapping[str, str] = MappingProxyType(_distributions_by_module())


def distribution_of(kind: str, name: str) -> str | None:
    """Return the distribution with our component of this name, None if it is not ours."""
    reference = COMPONENTS.get(kind, {}).get(name)
    if reference is None:
        return None
    return DISTRIBUTIONS.get(reference.partition(":")[0], "apscheduler-core")


class MissingDistributionError(ModuleNotFoundError):
    """Raised on import of a module whose distribution is not installed."""

    def __init__(self, module: str, distribution: str) -> None:
        # No name=: with the name of the submodule set, ``from package import
        # submodule`` swallows this error for a bare "cannot import name".
        super().__init__(module, distribution)
        self.module = module
        self.distribution = distribution
        self.msg = f"{module} comes with {distribution}: pip install {distribution}"


class MissingDistributionFinder:
    """Says where a module of ours comes from once every real finder has failed."""

    @staticmethod
    def find_spec(
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return None for a module that is none of ours.

        :raises MissingDistributionError: if it comes with one of our distributions
        """
        distribution = DISTRIBUTIONS.get(fullname)
        if distribution is not None:
            raise MissingDistributionError(fullname, distribution)
        return None


def install_finder() -> None:
    """Let imports of missing modules of ours fail with the name of the distribution."""
    if MissingDistributionFinder not in sys.meta_path:
        sys.meta_path.append(MissingDistributionFinder)
