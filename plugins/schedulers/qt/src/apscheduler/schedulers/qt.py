"""A scheduler that runs on a Qt event loop and never holds it up."""

import importlib
import logging
import math
import sys
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from apscheduler.schedulers.looping import EventLoop, LoopScheduler, Timer

# In the order of APScheduler 3.
BINDINGS = ("PySide6", "PyQt6", "PyQt5", "PySide2")

# Qt counts the milliseconds of a timer in a signed integer of 32 bits.
MAX_TIMER_MILLISECONDS = 2**31 - 1

logger = logging.getLogger("apscheduler.scheduler")


def import_qtcore() -> Any:
    """Return the module ``QtCore`` of the binding that the program has loaded, else of the first one that is installed.

    :raises ImportError: if none can be imported
    """
    # Two bindings in one process know nothing of each other's applications.
    loaded = [name for name in BINDINGS if f"{name}.QtCore" in sys.modules]
    failures = []
    for binding in dict.fromkeys([*loaded, *BINDINGS]):
        try:
            return importlib.import_module(f"{binding}.QtCore")
        except ModuleNotFoundError:
            pass
        except ImportError as exc:  # it is there, but a library of the system is not
            failures.append(f" ({exc})")
    raise ImportError(
        f"QtScheduler needs one of {', '.join(BINDINGS)}, and none of them can be imported{''.join(failures)}: "
        "pip install apscheduler-scheduler-qt[pyside6]"
    )


QtCore = import_qtcore()
QObject: Any = QtCore.QObject


class QtScheduler(LoopScheduler):
    """A scheduler for Qt programs: jobs run in threads, and the event loop of the program says when.

    Passes over stores that do I/O are made in a thread. Listeners are called on the event loop, except for events
    that come from an API call or a job in another thread.
    """

    def start(self, paused: bool = False) -> None:
        """Start the scheduler on the Qt event loop of this thread, which may begin to run later, and return.

        :param paused: process nothing before :meth:`resume` is called
        :raises SchedulerAlreadyRunningError: if the scheduler is running, or still being shut down
        :raises RuntimeError: if there is no Qt application, or this is not a thread of Qt
        """
        super().start(paused)

    def _open_loop(self) -> "QtLoop":
        if QtCore.QCoreApplication.instance() is None:
            raise RuntimeError(
                f"{type(self).__name__}.start() needs a Qt application: first make a QApplication, QGuiApplication "
                f"or QCoreApplication of {QtCore.__name__.partition('.')[0]}"
            )
        if QtCore.QAbstractEventDispatcher.instance() is None:
            raise RuntimeError(
                f"{type(self).__name__}.start() needs a thread with a Qt event loop, and "
                f"{threading.current_thread().name!r} has none: call it in the thread of the application or a QThread"
            )
        return QtLoop()


class QtLoop(EventLoop):
    """The Qt event loop of the thread that makes this, as a scheduler sees it."""

    def __init__(self) -> None:
        self._thread = QtCore.QThread.currentThread()
        self._ident = threading.get_ident()
        self._receiver = Receiver()
        self._is_closed = False
        # The thread of the application does not end before the program, and then nobody may be called any more.
        if self._thread != QtCore.QCoreApplication.instance().thread():
            # In the thread, before it ends: nobody else can stop its timers.
            directly = QtCore.Qt.ConnectionType.DirectConnection
            self._thread.finished.connect(self._receiver.dispose, directly)

    def call_soon(self, func: Callable[..., object], *args: Any) -> bool:
        if self._is_closed or QtCore.QCoreApplication.instance() is None:
            return False
        try:
            if self._thread.isFinished():
                return False
            self._receiver.post(partial(func, *args))
        except RuntimeError:  # the thread or the receiver has just been deleted
            return False
        return True

    def call_later(
        self, seconds: float, func: Callable[..., object], *args: Any
    ) -> Timer:
        return QtTimer(self._receiver, seconds, partial(func, *args))

    def is_current(self) -> bool:
        return threading.get_ident() == self._ident

    def is_running(self) -> bool:
        try:
            return bool(self._thread.loopLevel() > 0)
        except RuntimeError:  # the QThread was deleted
            return False

    def close(self) -> None:
        self.call_soon(self._receiver.dispose)
        self._is_closed = True


class QtTimer:
    """A call that a receiver is to make once."""

    def __init__(self, receiver: "Receiver", seconds: float, func: Callable[[], Any]):
        self._receiver = receiver
        milliseconds = min(math.ceil(max(seconds, 0) * 1000), MAX_TIMER_MILLISECONDS)
        # A coarse one is late, or early, by a twentieth.
        kind = QtCore.Qt.TimerType.PreciseTimer
        self._id = receiver.startTimer(milliseconds, kind)
        receiver.timed[self._id] = func

    def cancel(self) -> None:
        if self._receiver.timed.pop(self._id, None) is None:
            return
        try:
            self._receiver.killTimer(self._id)
        except (
            RuntimeError
        ):  # PyQt has deleted the receiver, together with the application
            pass


class Receiver(QObject):  # type: ignore[misc]  # which class it is depends on what is installed
    """Calls functions in the thread in which it was made."""

    def __init__(self) -> None:
        super().__init__()
        self._posted: deque[Callable[[], Any]] = deque()
        # Identifiers of timers that run → what to call.
        self.timed: dict[int, Callable[[], Any]] = {}
        _receivers.add(self)
        self.destroyed.connect(partial(_receivers.discard, self))

    def post(self, func: Callable[[], Any]) -> None:
        """Have a function called soon; callable from any thread."""
        self._posted.append(func)
        event = QtCore.QEvent(QtCore.QEvent.Type.User)
        QtCore.QCoreApplication.postEvent(self, event)

    def dispose(self) -> None:
        """Stop all timers, and have Qt delete this object; called in its thread."""
        while self.timed:
            self.killTimer(self.timed.popitem()[0])
        self.deleteLater()

    # Qt calls these. What they raise would end the program with some bindings.

    def customEvent(self, event: Any) -> None:
        _call(self._posted.popleft())

    def timerEvent(self, event: Any) -> None:
        timer_id = event.timerId()
        self.killTimer(timer_id)
        func = self.timed.pop(timer_id, None)
        if func is not None:
            _call(func)


def _call(func: Callable[[], Any]) -> None:
    try:
        func()
    except Exception:
        logger.exception("Error in a call on the Qt event loop")


# Python must not delete a receiver in the middle of a thread that is not its own.
_receivers: set[Receiver] = set()
