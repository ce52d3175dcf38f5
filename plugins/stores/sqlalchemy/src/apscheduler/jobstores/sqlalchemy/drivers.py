"""Which driver a URL means, and what to install if it is missing."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from sqlalchemy import URL, Engine, create_engine

# For URLs that name no driver: the module of each driver, which may be tried in this order.
DRIVERS: Mapping[str, Sequence[tuple[str, str]]] = {
    "postgresql": (("psycopg", "psycopg"), ("psycopg2", "psycopg2")),
    "mysql": (("mysqldb", "MySQLdb"), ("pymysql", "pymysql")),
    "mariadb": (("mysqldb", "MySQLdb"), ("pymysql", "pymysql")),
}

# What to install for a module.
PACKAGES = {
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
    "mysql": "mysql-connector-python",
    "oracledb": "oracledb",
    "cx_Oracle": "cx_Oracle",
}
# The drivers that the store is tested with, for those who have none yet.
RECOMMENDED = {
    "postgresql": "psycopg[binary]",
    "mysql": "pymysql",
    "mariadb": "pymysql",
}


class MissingDriverError(ModuleNotFoundError):
    """The driver for a database is not installed."""

    def __init__(self, url: URL, package: str):
        shown = url.render_as_string(hide_password=True)
        super().__init__(
            f"The driver for {shown!r} is not installed: pip install {package!r}"
        )


def choose_driver(url: URL) -> URL:
    """Return the URL with a driver that is installed, if it names none and the usual one is not there."""
    drivers = dict(DRIVERS.get(url.drivername, ()))
    if not drivers or _is_installed(drivers.get(url.get_driver_name(), "")):
        return url
    for driver, module in drivers.items():
        if _is_installed(module):
            return url.set(drivername=f"{url.drivername}+{driver}")
    raise MissingDriverError(url, RECOMMENDED[url.drivername])


def make_engine(url: URL, options: Mapping[str, Any]) -> Engine:
    """Return a new engine.

    :raises MissingDriverError: if the driver that the URL names is not installed
    """
    try:
        return create_engine(url, **options)
    except ImportError as exc:
        module = (exc.name or url.get_driver_name()).partition(".")[0]
        raise MissingDriverError(url, PACKAGES.get(module, module)) from exc


def _is_installed(module: str) -> bool:
    return bool(module) and find_spec(module) is not None
