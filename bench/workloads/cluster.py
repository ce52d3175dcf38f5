"""Jobs in PostgreSQL that are due at once: run by one scheduler, and by four that share them."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

from sqlalchemy import func, select, table, text

import postgresql
import stored
from apscheduler.schedulers.background import BackgroundScheduler
from harness import KEEPS_RUNS, WAIT_SECONDS, Report, options, utc_now

NODE = Path(__file__).parent / "cluster_node.py"
NODES = 4
# A burst of jobs that take some time, and how long it would take if nothing else did.
BURST, BURST_SECONDS, WORKERS = 400, 0.1, 10
IDEAL_SECONDS = BURST * BURST_SECONDS / (NODES * WORKERS)


class Cluster:
    """Some schedulers on one database, in processes of their own."""

    def __init__(self, stage: stored.DatabaseStage):
        self._stage = stage
        scheduler = BackgroundScheduler(
            timezone="UTC", jobstores={"default": stage.make_store()}
        )
        scheduler.start(paused=True)
        scheduler.shutdown()
        jobs = stage.make_store().jobs_t
        self._is_due = select(text("1")).select_from(jobs).limit(1)
        self._run_time = jobs.c.next_run_time
        runs = table(f"{stored.TABLE}_runs")
        self._open = (
            select(func.count()).select_from(runs).where(text("finished_at IS NULL"))
        )

    def add(self, number: int, function: str, *args: object) -> None:
        """Add jobs that are due."""
        scheduler = BackgroundScheduler(
            timezone="UTC", jobstores={"default": self._stage.make_store()}
        )
        scheduler.start(paused=True)
        due = utc_now() - timedelta(seconds=10)
        for _ in range(number):
            scheduler.add_job(
                function,
                "interval",
                args=args,
                hours=1,
                next_run_time=due,
                misfire_grace_time=None,
            )
        # Without them, since APScheduler 3 makes a last pass.
        scheduler.remove_jobstore("default")
        scheduler.shutdown()

    def run(self, nodes: int) -> float:
        """Return the seconds from the moment when the schedulers begin until every job has run."""
        with ExitStack() as stack:
            processes = [stack.enter_context(_node(self._stage)) for _ in range(nodes)]
            started = time.perf_counter()
            for process in processes:
                _tell(process)
            self._wait()
            taken = time.perf_counter() - started
            for process in processes:
                _tell(process)
        return taken

    def _wait(self) -> None:
        now = time.time()
        deadline = time.monotonic() + WAIT_SECONDS
        due = self._is_due.where(self._run_time <= now)
        with self._stage.engine.connect() as connection:
            while connection.execute(due).first() or (
                KEEPS_RUNS and connection.execute(self._open).scalar_one()
            ):
                connection.rollback()
                if time.monotonic() > deadline:
                    raise TimeoutError("The jobs have not all run")
                time.sleep(0.01)


@contextmanager
def _node(stage: stored.DatabaseStage) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(NODE), stage.url, str(WORKERS)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process


def _tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def main() -> None:
    url = os.environ.get("APSCHEDULER_BENCH_POSTGRESQL_URL", postgresql.URL)
    number = 1000 if options().quick else 4000
    report = Report()
    stage = stored.DatabaseStage(url)
    try:
        each: dict[int, float] = {}
        for nodes in (1, NODES) if KEEPS_RUNS else (1,):
            stage.clean_up()
            cluster = Cluster(stage)
            cluster.add(number, "counting:tick")
            each[nodes] = cluster.run(nodes) / number
        report.add("run a due job, one scheduler", each[1] * 1e6, "µs")
        if KEEPS_RUNS:
            report.add("run a due job, four schedulers", each[NODES] * 1e6, "µs")
            report.add("four compared with one", each[NODES] / each[1], "x")
            stage.clean_up()
            cluster = Cluster(stage)
            cluster.add(BURST, "time:sleep", BURST_SECONDS)
            taken = cluster.run(NODES)
            report.add("burst compared with the ideal", taken / IDEAL_SECONDS, "x")
    finally:
        stage.clean_up()
        stage.close()
    report.print()


if __name__ == "__main__":
    main()
