"""From the address of a job store to its configuration: ``postgresql://…`` to ``{"type": "sqlalchemy", …}``."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from apscheduler.distributions import COMPONENTS
from apscheduler.environment import EnvironmentText
from apscheduler.jobstores.base import BaseJobStore
from apscheduler.plugins import installed_components, load_component

__all__ = (
    "HIDDEN",
    "SCHEMES",
    "SECRET",
    "StoreUrlError",
    "confidential",
    "hide_passwords",
    "store_settings",
)

#: Scheme → our store for it, known also where that is not installed. Held equal to the classes by the tests.
SCHEMES: Mapping[str, str] = {
    "etcd": "etcd",
    "mariadb": "sqlalchemy",
    "mongodb": "mongodb",
    "mssql": "sqlalchemy",
    "mysql": "sqlalchemy",
    "oracle": "sqlalchemy",
    "postgresql": "sqlalchemy",
    "redis": "redis",
    "rediss": "redis",
    "sqlite": "sqlalchemy",
    "unix": "redis",
    "zookeeper": "zookeeper",
}

SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9]*)(?:\+[A-Za-z0-9.+_-]*)?://")
# Up to the last @: passwords that should have been encoded are hidden, too.
PASSWORD = re.compile(r"(?P<before>://[^:/@]*:)(?P<password>.+)(?=@)")
# Names of options whose values are not shown.
SECRET = re.compile("pass|pwd|secret|token", re.IGNORECASE)
SECRET_OPTION = re.compile(
    rf"(?P<before>[?&][^=&#]*(?:{SECRET.pattern})[^=&#]*=)(?P<password>[^&#]+)",
    re.IGNORECASE,
)
HIDDEN = "***"


class StoreUrlError(ValueError):
    """Raised when an address does not lead to a job store."""


def hide_passwords(url: str) -> str:
    """Return the URL as it may be shown."""
    for pattern in (PASSWORD, SECRET_OPTION):
        url = pattern.sub(rf"\g<before>{HIDDEN}", url)
    return url


def store_settings(url: str) -> dict[str, Any]:
    """Return the configuration of the job store at a URL; messages about it do not show its passwords.

    :raises StoreUrlError: if it is no URL, or no installed store is for such URLs
    :raises PluginNotFoundError: if the store is known but not installed
    :raises ImportError: if something that the store needs is not installed
    """
    match = SCHEME.match(url)
    if match is None:
        raise StoreUrlError(
            f"{hide_passwords(url)!r} is not the URL of a job store, which looks like sqlite:///jobs.sqlite or "
            "postgresql://user:password@host/database"
        )
    scheme = match["scheme"].lower()
    name = SCHEMES.get(scheme)
    cls = _load(name) if name is not None else None
    if cls is None:
        name, cls = _find_foreign(scheme)
    try:
        options = cls.options_from_url(_confidential(url))
    except ValueError as exc:
        raise StoreUrlError(f"{hide_passwords(url)!r} cannot be used: {exc}") from None
    return {"type": name, **options}


def _load(name: str) -> type[BaseJobStore]:
    cls = load_component("jobstore", name)
    assert issubclass(cls, BaseJobStore)
    return cls


def _confidential(url: str) -> str:
    """Return the URL as a text that messages show without its passwords."""
    matches = [
        match for each in (PASSWORD, SECRET_OPTION) for match in each.finditer(url)
    ]
    if not matches:
        return url
    passwords = [match["password"] for match in matches]
    passwords += [unquote(password) for password in passwords]
    return confidential(url, hide_passwords(url), passwords)


def confidential(text: str, shown: str, secrets: Iterable[str]) -> EnvironmentText:
    """Return the text as one that is shown as another, and whose secrets messages do not contain."""
    result = EnvironmentText(text)
    result.written = shown
    result.values = dict.fromkeys(secrets, HIDDEN)
    return result


def _find_foreign(scheme: str) -> tuple[str, type[BaseJobStore]]:
    """Return the store of somebody else that is for such URLs, and its name."""
    known = dict(SCHEMES)
    for name, cls in _foreign_stores():
        if scheme in cls.url_schemes:
            return name, cls
        known |= dict.fromkeys(cls.url_schemes, name)
    schemes = ", ".join(f"{each}://" for each in sorted(known))
    raise StoreUrlError(
        f"No job store is known for URLs that begin with {scheme}://; known are {schemes}. A store without URLs is "
        "configured in a file"
    )


def _foreign_stores() -> Iterator[tuple[str, type[BaseJobStore]]]:
    for name, component in installed_components("jobstore").items():
        if name in COMPONENTS["jobstore"]:
            continue
        try:
            cls = component.load()
        except (ImportError, TypeError):  # a broken one is none that could help
            continue
        if issubclass(cls, BaseJobStore):
            yield name, cls
