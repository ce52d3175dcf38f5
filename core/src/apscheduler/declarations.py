"""Jobs that a configuration declares, kept in step with the store at every start."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apscheduler.schedulers.base import BaseScheduler


class Declarations:
    """The jobs that a configuration declares."""

    def __init__(self, jobs: Mapping[str, Any]):
        self._jobs = jobs

    def synchronise(self, scheduler: "BaseScheduler") -> None:
        """Add, update and remove jobs so that the store holds what is declared."""
