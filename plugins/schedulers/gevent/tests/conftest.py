"""What the tests of this scheduler have in common. Those not named here run as greenlets of one hub."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.event
import pytest
from gevent import monkey
from gevent.threadpool import ThreadPool

from apscheduler.schedulers.gevent import GeventScheduler
from apscheduler.testing.jobs import PATIENCE
from apscheduler.testing.schedulers import EventLog, EventLoopHarness
from apscheduler.testing.schedulers.harness import LOOK_SECONDS

start_new_thread = monkey.get_original("_thread", "start_new_thread")
allocate_lock = monkey.get_original("_thread", "allocate_lock")


class GreenThread(gevent.Greenlet):  # type: ignore[type-arg]  # is not generic when it runs
    """A greenlet with the face of a thread."""

    def is_alive(self) -> bool:
        return not self.dead


class SharedEvent:
    """An event for which greenlets and real threads wait."""

    def __init__(self) -> None:
        self._flag = False

    def set(self) -> None:
        self._flag = True

    def is_set(self) -> bool:
        return self._flag

    def wait(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while not self._flag and time.monotonic() < deadline:
            gevent.sleep(LOOK_SECONDS)
        return self._flag


class GeventHarness(EventLoopHarness):
    """Runs schedulers on the hub of the test."""

    def __init__(self) -> None:
        super().__init__(GeventScheduler)

    def make_event(self) -> SharedEvent:
        return SharedEvent()

    def spawn(self, func: Callable[..., Any], *args: Any) -> GreenThread:
        return GreenThread.spawn(func, *args)

    def start(self, scheduler: Any, paused: bool = False) -> None:
        super().start(scheduler, paused)
        gevent.idle()  # the loop makes its first pass

    def call_later(self, seconds: float, func: Callable[[], Any]) -> None:
        gevent.spawn_later(seconds, func)

    def pump(self) -> None:
        gevent.sleep(LOOK_SECONDS)


class Work:
    """A job that begins, and goes on when the test says so."""

    def __init__(self) -> None:
        self.greenlets: list[Any] = []
        self.may_end = gevent.event.Event()

    def __call__(self) -> str:
        self.greenlets.append(gevent.getcurrent())
        assert self.may_end.wait(PATIENCE)
        return "worked"


class Call:
    """A call in a real thread, which may end with an exception."""

    def __init__(self, func: Callable[..., Any], *args: Any):
        self._call: Callable[[], Any] = lambda: func(*args)
        self.result: Any = None
        self.has_ended = False

    def __call__(self) -> None:
        try:
            self.result = self._call()
        except BaseException as exc:
            self.result = exc
        self.has_ended = True


def in_thread(call: Call) -> None:
    threading.Thread(target=call).start()


def in_pool(call: Call) -> None:
    pool = ThreadPool(1)
    pool.spawn(call).rawlink(lambda result: pool.kill())


def in_real_thread(call: Call) -> None:
    start_new_thread(call, ())


class Caller:
    """Makes calls in threads of one kind."""

    def __init__(self, start: Callable[[Call], None], until: Callable[..., None]):
        self._start = start
        self._until = until

    def begin(self, func: Callable[..., Any], *args: Any) -> Call:
        call = Call(func, *args)
        self._start(call)
        return call

    def __call__(self, func: Callable[..., Any], *args: Any) -> Any:
        """Return the result; raise the exception."""
        call = self.begin(func, *args)
        self._until(lambda: call.has_ended)
        if isinstance(call.result, BaseException):
            raise call.result
        return call.result


@pytest.fixture
def harness() -> Iterator[GeventHarness]:
    harness = GeventHarness()
    yield harness
    harness.close()


@pytest.fixture
def scheduler(harness: GeventHarness) -> Any:
    return harness.make()


@pytest.fixture
def log(scheduler: Any) -> EventLog:
    log = EventLog()
    scheduler.add_listener(log)
    return log


@pytest.fixture
def until(harness: GeventHarness) -> Callable[..., None]:
    """Wait as a greenlet until a condition holds."""
    return lambda condition, what="it happens": harness.wait_until(condition, what)


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture(params=[in_thread, in_pool, in_real_thread])
def in_each_thread(request: pytest.FixtureRequest, until: Any) -> Caller:
    """Call a function in a thread: one of Python, of the pool of gevent, and one that knows of neither."""
    return Caller(request.param, until)


@pytest.fixture
def beside(until: Any) -> Caller:
    """Call a function in a real thread, where it can have a hub of its own."""
    return Caller(in_real_thread, until)


@pytest.fixture
def blocking_store(scheduler: Any) -> Iterator[Any]:
    """A store in memory that is said to be slow; claims take until its ``gate`` is opened, and hold up their thread."""
    store = scheduler._create_plugin_instance("jobstore", "memory", {})
    store.performs_io = True
    gate = allocate_lock()
    store.is_claiming = False
    real_claim = store.claim

    def claim(request: Any) -> Any:
        store.is_claiming = True
        with gate:
            return real_claim(request)

    store.claim, store.gate = claim, gate
    scheduler.add_jobstore(store)
    yield store
    if gate.locked():
        gate.release()
