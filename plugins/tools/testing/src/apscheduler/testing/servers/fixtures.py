"""A pytest plugin: the servers as fixtures. A server is found or started when a test first asks for it.

Load it with ``-p apscheduler.testing.servers.fixtures``. ``<kind>_url`` is the server that all tests share, and
``own_<kind>`` a private one for one test; the other fixtures are a place of one's own on the shared server.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest

from apscheduler.testing.servers import (
    SERVERS,
    Server,
    etcd,
    mongodb,
    mysql,
    postgresql,
    redis,
    zookeeper,
)
from apscheduler.testing.servers.supply import (
    RemoteSupply,
    SharedSupply,
    Supplier,
    Supply,
    Unavailable,
    WrongServer,
    allowed_ways,
    is_required,
    start_private,
    supply_from_environment,
)

SUPPLIER = pytest.StashKey[Supplier]()
SHARED = pytest.StashKey[SharedSupply]()
ADDRESS = "apscheduler_servers"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "mongod_only: needs a real MongoDB, which the double that stands in is not",
    )
    worker_input: dict[str, Any] | None = getattr(config, "workerinput", None)
    supplier = (
        supply_from_environment()
        if worker_input is None
        else RemoteSupply(worker_input[ADDRESS])
    )
    config.stash[SUPPLIER] = supplier
    config.add_cleanup(lambda: stop(config))


def stop(config: pytest.Config) -> None:
    """Stop the servers, in the thread that has started them."""
    (config.stash.get(SHARED, None) or config.stash[SUPPLIER]).close()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Let the workers of pytest-xdist share the servers of the process that starts them."""
    stash = node.config.stash
    if SHARED not in stash:
        stash[SHARED] = SharedSupply(stash[SUPPLIER])
    node.workerinput[ADDRESS] = stash[SHARED].address


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    supplier = config.stash[SUPPLIER]
    if isinstance(supplier, Supply) and supplier.used:
        used = [f"{kind} {what}" for kind, what in sorted(supplier.used.items())]
        terminalreporter.write_line(f"servers: {'; '.join(used)}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("mongod_only") and mongodb.is_double(
        shared_url(item.config, "mongodb")
    ):
        pytest.skip("needs a real MongoDB: set APSCHEDULER_TEST_MONGODB_URL")


def give_up(kind: str, reason: Unavailable) -> NoReturn:
    """Skip the test, or fail it where the server is required."""
    text = f"No {kind} server: {reason}"
    if is_required(kind, os.environ):
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


def shared_url(config: pytest.Config, kind: str) -> str:
    """Return the address of the server of a kind that all tests share, or skip or fail the test."""
    try:
        return config.stash[SUPPLIER].url(kind)
    except Unavailable as reason:
        give_up(kind, reason)
    except WrongServer as error:  # a traceback would show the address with the password
        pytest.fail(str(error), pytrace=False)


def url_fixture(kind: str) -> Callable[..., str]:
    @pytest.fixture(scope="session", name=f"{kind}_url")
    def fixture(pytestconfig: pytest.Config) -> str:
        """The address of a server that all tests share."""
        return shared_url(pytestconfig, kind)

    return fixture


def own_fixture(kind: str) -> Callable[..., Iterator[Server]]:
    @pytest.fixture(name=f"own_{kind}")
    def fixture() -> Iterator[Server]:
        """A private server that the test may kill, freeze, stop and start again."""
        variable = f"APSCHEDULER_TEST_{kind.upper()}_URL"
        try:
            server = start_private(SERVERS[kind], allowed_ways(os.environ), variable)
        except Unavailable as reason:
            give_up(kind, reason)
        with server:
            yield server

    return fixture


postgresql_url = url_fixture("postgresql")
mysql_url = url_fixture("mysql")
redis_url = url_fixture("redis")
mongodb_url = url_fixture("mongodb")
etcd_url = url_fixture("etcd")
zookeeper_url = url_fixture("zookeeper")

own_postgresql = own_fixture("postgresql")
own_mysql = own_fixture("mysql")
own_redis = own_fixture("redis")
own_mongodb = own_fixture("mongodb")
own_etcd = own_fixture("etcd")
own_zookeeper = own_fixture("zookeeper")


@pytest.fixture
def postgresql_database_url(postgresql_url: str) -> Iterator[str]:
    """The address of an empty schema."""
    with postgresql.temporary_schema(postgresql_url) as url:
        yield url


@pytest.fixture
def mysql_database_url(mysql_url: str) -> Iterator[str]:
    """The address of an empty database."""
    with mysql.temporary_database(mysql_url) as url:
        yield url


@pytest.fixture
def redis_prefix(redis_url: str) -> Iterator[str]:
    """A prefix of keys at ``redis_url``."""
    with redis.temporary_prefix(redis_url) as prefix:
        yield prefix


@pytest.fixture
def mongodb_database_name(mongodb_url: str) -> Iterator[str]:
    """The name of a database at ``mongodb_url``."""
    with mongodb.temporary_database(mongodb_url) as name:
        yield name


@pytest.fixture
def etcd_path(etcd_url: str) -> Iterator[str]:
    """A path at ``etcd_url``."""
    with etcd.temporary_path(etcd_url) as path:
        yield path


@pytest.fixture
def zookeeper_path(zookeeper_url: str) -> Iterator[str]:
    """A path at ``zookeeper_url``."""
    with zookeeper.temporary_path(zookeeper_url) as path:
        yield path
