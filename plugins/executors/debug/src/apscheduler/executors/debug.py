"""An executor for looking at jobs with a debugger: no threads, no processes."""

from datetime import datetime
from typing import TYPE_CHECKING

from apscheduler.executors.base import BaseExecutor, run_job

if TYPE_CHECKING:
    from apscheduler.job import Job


class DebugExecutor(BaseExecutor):
    """Runs jobs where the scheduler submits them; whatever the scheduler does next waits for them."""

    runs_coroutines = False
    slots = 1

    def _do_submit_job(self, job: "Job", run_times: list[datetime]) -> None:
        try:
            events = run_job(job, job._jobstore_alias, run_times, self._logger.name)  # type: ignore[arg-type]  # submitted jobs are in a store
        except (
            BaseException
        ) as exc:  # from a hook or a formatter: run_job reports what the job raises
            self._run_job_error(job.id, exc, exc.__traceback__, job, run_times)
        else:
            self._run_job_success(job.id, events)
