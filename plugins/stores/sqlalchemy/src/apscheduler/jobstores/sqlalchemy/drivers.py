"""What a URL means: which database and driver, what to install if that is missing, and how to show it to people."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

EXPECTED = "expected something like postgresql://user:password@host:5432/database, mysql://… or sqlite:///file"

# For URLs that name no driver: the module of each driver, which may be tried in this order.
DRIVERS: Mapping[str, Sequence[tuple[str, str]]] = {
    "postgresql": (("psycopg", "psycopg"), ("psycopg2", "psycopg2")),
    "mysql": (("mysqldb", "MySQLdb"), ("pymysql", "pymysql")),
    "mariadb": (("mysqldb", "MySQLdb"), ("pymysql", "pymysql")),
}

# The drivers that the store is tested with: its extras bring them.
POSTGRESQL, MYSQL = (
    f"apscheduler-store-sqlalchemy[{extra}]" for extra in ("postgresql", "mysql")
)
# What to install for a database without a driver, and for a module.
RECOMMENDED = {"postgresql": POSTGRESQL, "mysql": MYSQL, "mariadb": MYSQL}
PACKAGES = {
    "psycopg": POSTGRESQL,
    "pymysql": MYSQL,
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
    "mysql": "mysql-connector-python",
}


class MissingDriverError(ModuleNotFoundError):
    """The driver for a database is not installed."""

    def __init__(self, url: URL, package: str):
        super().__init__(
            f"The driver for {show_url(url)!r} is not installed: pip install {package!r}"
        )


def read_url(text: str | URL) -> URL:
    """Return the parts of a URL.

    :raises ArgumentError: if it is none; without its text, of which any part may be the password
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ArgumentError(f"'url' cannot be read: {EXPECTED}") from None
    if "@" in (url.host or ""):
        raise ArgumentError(
            "'url' has an '@' too many: inside user and password write %40 instead"
        )
    return url


def show_url(url: URL) -> str:
    """Return the URL as text, without passwords."""
    secret = [key for key in url.query if "pass" in key.lower()]
    return url.difference_update_query(secret).render_as_string(hide_password=True)


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
    :raises NoSuchModuleError: if SQLAlchemy does not know the database
    """
    try:
        return create_engine(url, **options)
    except NoSuchModuleError as exc:
        raise NoSuchModuleError(
            f"SQLAlchemy knows no database {url.drivername!r}: {EXPECTED}, or install the package that brings it"
        ) from exc
    except ImportError as exc:
        module = (exc.name or url.get_driver_name()).partition(".")[0]
        raise MissingDriverError(url, PACKAGES.get(module, module)) from exc


def _is_installed(module: str) -> bool:
    return bool(module) and find_spec(module) is not None
