"""An executor that gives every job a thread of its own."""

import threading
from datetime import datetime

from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.job import Job


class ThreadPerJobExecutor(BaseExecutor):
    """Runs every job in a thread of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._threads: set[threading.Thread] = set()

    def _do_submit_job(self, job: Job, run_times: list[datetime]) -> None:
        thread = threading.Thread(target=self._run, args=[job, run_times])
        self._threads.add(thread)
        thread.start()

    def _run(self, job: Job, run_times: list[datetime]) -> None:
        try:
            alias = job._jobstore_alias or ""
            events = run_job(job, alias, run_times, self._logger.name)
        except BaseException as exc:
            self._run_job_error(job.id, exc, exc.__traceback__, job, run_times)
        else:
            self._run_job_success(job.id, events)
        finally:
            self._threads.discard(threading.current_thread())

    def shutdown(self, wait: bool = True) -> None:
        for thread in list(self._threads) if wait else []:
            if thread is not threading.current_thread():
                thread.join()
