"""What every job store promises, as APScheduler 3 has it; what it may promise beyond that is in ``contract``."""

import logging
from abc import ABCMeta, abstractmethod
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from apscheduler.job import Job
    from apscheduler.schedulers.base import BaseScheduler


class JobLookupError(KeyError):
    """There is no job with this identifier."""

    def __init__(self, job_id: str):
        super().__init__(f"No job by the id of {job_id!r} was found")


class ConflictingIdError(KeyError):
    """There is a job with this identifier already."""

    def __init__(self, job_id: str):
        super().__init__(
            f"Job identifier ({job_id!r}) conflicts with an existing job; choose another id, or pass "
            "replace_existing=True"
        )


class TransientJobError(ValueError):
    """The job cannot be serialised. Kept for those who import it."""

    def __init__(self, job_id: str):
        super().__init__(
            f"Job ({job_id!r}) cannot be added to this job store because a reference to the callable could not be "
            "determined."
        )


class BaseJobStore(metaclass=ABCMeta):
    """Keeps jobs. The scheduler calls with the lock of this store held, from any thread."""

    # What the URLs begin with that such a store can be opened by, before "://" or a "+": see options_from_url.
    url_schemes: ClassVar[tuple[str, ...]] = ()

    _scheduler: "BaseScheduler | None" = None
    _alias: str | None = None
    _logger = logging.getLogger("apscheduler.jobstores")

    @classmethod
    def options_from_url(cls, url: str) -> dict[str, Any]:
        """Return the constructor arguments that a URL with one of ``url_schemes`` stands for.

        :raises ValueError: if it cannot be understood
        """
        return {"url": url}

    def start(self, scheduler: "BaseScheduler | None", alias: str) -> None:
        """Get ready for use by this scheduler: connect, create tables; called at its start, or when added to it."""
        self._scheduler = scheduler
        self._alias = alias
        self._logger = logging.getLogger(f"apscheduler.jobstores.{alias}")

    def shutdown(self) -> None:  # noqa: B027  # nothing to do is a valid answer
        """Release the resources that this store has taken."""

    @abstractmethod
    def lookup_job(self, job_id: str) -> "Job | None":
        """Return the job with this identifier, or None if this store has none."""

    @abstractmethod
    def get_due_jobs(self, now: datetime) -> "list[Job]":
        """Return the jobs whose next run time is not later than ``now``, earliest first."""

    @abstractmethod
    def get_next_run_time(self) -> datetime | None:
        """Return the earliest next run time, or None if no job has one."""

    @abstractmethod
    def get_all_jobs(self) -> "list[Job]":
        """Return all jobs, earliest first, paused ones last."""

    @abstractmethod
    def add_job(self, job: "Job") -> None:
        """Keep the job.

        :raises ConflictingIdError: if a job with the same identifier is already here
        """

    @abstractmethod
    def update_job(self, job: "Job") -> None:
        """Replace the record of the job.

        :raises JobLookupError: if there is none
        """

    @abstractmethod
    def remove_job(self, job_id: str) -> None:
        """Forget the job.

        :raises JobLookupError: if there is none
        """

    @abstractmethod
    def remove_all_jobs(self) -> None:
        """Forget all jobs."""

    def _fix_paused_jobs_sorting(self, jobs: "list[Job]") -> None:
        """Move the paused jobs at the front of a sorted list to its end."""
        for index, job in enumerate(jobs):
            if job.next_run_time is not None:
                jobs[:] = jobs[index:] + jobs[:index]
                return

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"
