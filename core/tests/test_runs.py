"""Run times that carry the identity of runs, and the run that is calling."""

import pickle
import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from apscheduler.executors.base import run_coroutine_job, run_job
from apscheduler.runs import Run, RunState, RunTimes, current_run

NOW = datetime.now(UTC)


def make_job(func: Any) -> Any:
    return SimpleNamespace(
        id="j", name="n", func=func, args=(), kwargs={}, misfire_grace_time=None
    )


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_run_times_keep_their_identity_when_pickled(protocol: int) -> None:
    times = RunTimes([NOW], ("r",), "c", 2, timedelta(seconds=3))

    copy = pickle.loads(pickle.dumps(times, protocol))

    assert copy == [NOW]
    assert type(copy) is RunTimes
    assert (copy.run_ids, copy.claim_id, copy.attempt) == (("r",), "c", 2)
    assert copy.clock_offset == timedelta(seconds=3)


def test_run_times_are_a_list() -> None:
    assert RunTimes([NOW]) == [NOW]
    assert isinstance(RunTimes(), list)
    assert RunTimes([NOW, NOW])[-1:] == [NOW]


def test_there_is_no_run_outside_of_one() -> None:
    assert current_run() is None


def test_a_job_can_ask_which_run_it_is() -> None:
    seen: list[Run | None] = []
    earlier = NOW - timedelta(seconds=1)

    run_job(
        make_job(lambda: seen.append(current_run())),
        "store",
        RunTimes([earlier, NOW], ("a", "b"), "a", 2),
        "test",
    )

    assert [(r.id, r.scheduled_time, r.attempt) for r in seen if r] == [
        ("a", earlier, 2),
        ("b", NOW, 2),
    ]
    assert all(r and r.jobstore == "store" and r.job_id == "j" for r in seen)
    assert all(r and r.state is RunState.RUNNING for r in seen)
    assert current_run() is None


def test_without_identity_a_run_still_knows_job_and_time() -> None:
    seen: list[Run | None] = []

    run_job(make_job(lambda: seen.append(current_run())), "store", [NOW], "test")

    assert seen[0] is not None
    assert (seen[0].id, seen[0].job_id, seen[0].scheduled_time) == ("", "j", NOW)


def test_the_run_is_over_also_after_a_failure() -> None:
    def fail() -> None:
        raise ValueError("bad")

    run_job(make_job(fail), "store", [NOW], "test")

    assert current_run() is None


def test_threads_do_not_see_each_others_runs() -> None:
    seen: list[Run | None] = []

    def work() -> None:
        thread = threading.Thread(target=lambda: seen.append(current_run()))
        thread.start()
        thread.join()

    run_job(make_job(work), "store", [NOW], "test")

    assert seen == [None]


def test_a_coroutine_can_ask_which_run_it_is() -> None:
    import asyncio

    seen: list[str] = []

    async def work(name: str) -> None:
        await asyncio.sleep(0)
        run = current_run()
        assert run is not None
        seen.append(f"{name}{run.id}")

    async def main() -> None:
        jobs = []
        for name in "xy":
            job = make_job(work)
            job.args = (name,)
            times = RunTimes([NOW], (name,), name)
            jobs.append(run_coroutine_job(job, "store", times, "test"))
        await asyncio.gather(*jobs)

    asyncio.run(main())

    assert sorted(seen) == ["xx", "yy"]


@pytest.mark.parametrize(
    ("state", "is_final"),
    [(state, state not in ("ready", "running")) for state in RunState],
)
def test_final_states(state: RunState, is_final: bool) -> None:
    assert state.is_final is is_final
