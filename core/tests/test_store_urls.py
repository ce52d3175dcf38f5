"""From the URL of a job store to its configuration."""

from typing import Any

import pytest

from apscheduler import plugins, store_urls
from apscheduler.jobstores.base import BaseJobStore
from apscheduler.plugins import Component, PluginNotFoundError
from apscheduler.store_urls import StoreUrlError, hide_passwords, store_settings


class ForeignStore(BaseJobStore):
    """A store of somebody else, for URLs of its own."""

    url_schemes = ("punch",)

    @classmethod
    def options_from_url(cls, url: str) -> dict[str, Any]:
        if url.endswith("/"):
            raise ValueError("the cabinet is missing")
        return {"cabinet": url.rpartition("/")[2]}


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the store of somebody else, and one that is broken."""
    found = {
        "broken": Component("jobstore", "broken", "no.such.module:Store"),
        "cards": Component("jobstore", "cards", f"{__name__}:ForeignStore"),
    }
    monkeypatch.setattr(Component, "load", lambda self: _load(self))
    monkeypatch.setattr(store_urls, "installed_components", lambda kind: found)


def _load(component: Component) -> type:
    if component.name == "broken":
        raise ImportError(component.value)
    return ForeignStore


SHOWN = [
    ("redis://:secret@host/0", "redis://:***@host/0"),
    ("postgresql://me:pa/s@s@host/db", "postgresql://me:***@host/db"),
    ("mysql://me@host/db?password=x&a=b", "mysql://me@host/db?password=***&a=b"),
    ("sqlite:///home/me@work/jobs.db", "sqlite:///home/me@work/jobs.db"),
    ("etcd://host:2379/jobs", "etcd://host:2379/jobs"),
]


@pytest.mark.parametrize("url, shown", SHOWN)
def test_passwords_of_urls_are_hidden(url: str, shown: str) -> None:
    assert hide_passwords(url) == shown


@pytest.mark.parametrize("url", ["jobs.db", "://x", "sqlite:/jobs.db", ""])
def test_what_is_no_url_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(StoreUrlError, match=r"looks like sqlite:///jobs\.sqlite"):
        store_settings(url)


def test_an_unknown_scheme_is_refused_with_those_that_are_known(foreign: None) -> None:
    with pytest.raises(
        StoreUrlError, match=r"begin with pigeon://; known are etcd://.* punch://"
    ):
        store_settings("pigeon://loft")


def test_a_known_store_that_is_not_installed_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plugins, "_components", lambda kind: {})

    with pytest.raises(PluginNotFoundError, match="pip install apscheduler-store-etcd"):
        store_settings("etcd://localhost")


def test_stores_of_others_join_by_their_schemes(foreign: None) -> None:
    assert store_settings("punch://hall/7") == {"type": "cards", "cabinet": "7"}


def test_what_a_store_says_against_its_url_is_told_with_the_url(foreign: None) -> None:
    with pytest.raises(StoreUrlError, match="'punch://hall/' cannot be used: the cab"):
        store_settings("punch://hall/")
