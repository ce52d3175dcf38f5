"""Schedulers that tests make."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC
from typing import Any

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.base import BaseScheduler


class PassScheduler(BaseScheduler):
    """A scheduler whose passes the test makes."""

    def start(self, paused: bool = False) -> None:
        super().start(paused)

    def shutdown(self, wait: bool | float = True) -> None:
        super().shutdown(wait)

    def wakeup(self) -> None: ...


@contextmanager
def scheduler_maker(
    default: type[BaseScheduler] = BackgroundScheduler, wait: bool = True
) -> Iterator[Callable[..., Any]]:
    """Give a function that makes schedulers, which are shut down in the end.

    :param default: of which class they are unless one is named
    :param wait: whether that waits for runs
    """
    made: list[BaseScheduler] = []

    def make(cls: type[BaseScheduler] = default, **options: Any) -> BaseScheduler:
        scheduler = cls(**{"timezone": UTC, **options})
        made.append(scheduler)
        return scheduler

    yield make
    for scheduler in made:
        if scheduler.running:
            scheduler.shutdown(wait)
