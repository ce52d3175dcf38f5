"""Job functions for tests, importable in worker processes, and a gate that holds them up."""

import asyncio
import os
import socket
import sys
import threading
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self

from apscheduler.job import Job
from apscheduler.runs import current_run
from apscheduler.triggers.base import BaseTrigger

PATIENCE = (
    20  # seconds until something that should have happened counts as not happening
)


class Gate:
    """Lets a test know when a job has begun, in whatever thread or process, and decide when it goes on.

    Jobs are given :attr:`port` and call :func:`pass_gate`; the gate is open once this context manager has ended.
    """

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self._listener.settimeout(PATIENCE)
        self.port: int = self._listener.getsockname()[1]
        self._waiting: list[socket.socket] = []
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.open()
        self._listener.close()

    def wait_for_arrival(self) -> int:
        """Wait until a job stands before the gate, and return the identifier of its process."""
        connection, _ = self._listener.accept()
        connection.settimeout(PATIENCE)
        self._waiting.append(connection)
        return int.from_bytes(connection.recv(8))

    def open(self) -> None:
        """Let everybody go on who has arrived."""
        while self._waiting:
            self._waiting.pop().close()


def pass_gate(port: int) -> str:
    """Announce this process at the gate and go on when it is opened."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(os.getpid().to_bytes(8))
        connection.recv(1)
    return "passed"


async def pass_gate_async(port: int) -> str:
    """Be as patient as :func:`pass_gate` without holding up an event loop."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(os.getpid().to_bytes(8))
        await reader.read(1)
    finally:
        writer.close()
    return "passed"


class NeverTrigger(BaseTrigger):
    """Never fires: for jobs that are submitted by hand."""

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        return None


def make_job(
    func: Callable[..., Any] | str,
    *args: Any,
    id: str = "job",
    max_instances: int = 1,
    misfire_grace_time: int | None = None,
    **kwargs: Any,
) -> Job:
    """Return a job as a store would give it to an executor; ``kwargs`` are those of the function."""
    job = Job(
        None,
        id=id,
        func=func,
        args=args,
        kwargs=kwargs,
        trigger=NeverTrigger(),
        executor="default",
        misfire_grace_time=misfire_grace_time,
        coalesce=False,
        max_instances=max_instances,
        next_run_time=None,
    )
    job._jobstore_alias = "default"
    return job


class NeedsTwoArguments(Exception):
    """Can be pickled, but not unpickled."""

    def __init__(self, first: str, second: str):
        super().__init__(f"{first} and {second}")


class BreaksOnArrival:
    """Can be pickled, but what comes out of that cannot be unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("not a number",)


def add(first: int, second: int) -> int:
    return first + second


async def add_async(first: int, second: int) -> int:
    await asyncio.sleep(0)
    return first + second


def start_adding(first: int, second: int) -> Coroutine[Any, Any, int]:
    """Return a coroutine without being a coroutine function."""
    return add_async(first, second)


class AsyncAdder:
    """Has an asynchronous ``__call__``."""

    async def __call__(self, first: int, second: int) -> int:
        return await add_async(first, second)


async_adder = AsyncAdder()


def fail(message: str) -> None:
    raise RuntimeError(message)


def fail_with_two_arguments() -> None:
    raise NeedsTwoArguments("this", "that")


def fail_with_lock() -> None:
    raise RuntimeError("holds a lock", threading.Lock())


def exit_program() -> None:
    sys.exit(3)


def kill_process() -> None:
    """End the process at once, as if it had crashed."""
    os._exit(1)


def return_lock() -> Any:
    return threading.Lock()


def return_breaking() -> BreaksOnArrival:
    return BreaksOnArrival()


def tell_run() -> tuple[str, str, datetime, int] | None:
    """Return what :func:`~apscheduler.runs.current_run` says: id, job, time and attempt."""
    run = current_run()
    if run is None:
        return None
    return run.id, run.job_id, run.scheduled_time, run.attempt


async def tell_run_async() -> tuple[str, str, datetime, int] | None:
    await asyncio.sleep(0)
    return tell_run()


class EverySecond(BaseTrigger):
    """Fires every so many seconds, from the time it is first asked on."""

    def __init__(self, seconds: float = 1):
        self.seconds = seconds

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        if previous_fire_time is None:
            return now
        return previous_fire_time + timedelta(seconds=self.seconds)

    def __str__(self) -> str:
        return f"every {self.seconds} seconds"


def make_stored_job(
    id: str = "job", next_run_time: datetime | None = None, **options: Any
) -> Job:
    """Return a job as a scheduler would give it to a store; paused if it has no run time."""
    defaults: dict[str, Any] = {
        "func": add,
        "args": (1, 2),
        "kwargs": {},
        "trigger": EverySecond(),
        "executor": "default",
        "misfire_grace_time": None,
        "coalesce": True,
        "max_instances": 1,
    }
    return Job(None, id=id, next_run_time=next_run_time, **{**defaults, **options})


class Greeter:
    """Has methods of every kind, to be made jobs of."""

    def __init__(self, greeting: str):
        self.greeting = greeting

    def greet(self, name: str) -> str:
        return f"{self.greeting} {name}"

    @classmethod
    def greet_by_class(cls, name: str) -> str:
        return f"{cls.__name__} greets {name}"

    @staticmethod
    def greet_plainly(name: str) -> str:
        return f"plainly, {name}"


greeter = Greeter("Hello")
