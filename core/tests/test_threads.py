"""What threads wait with."""

import sys
import threading
from types import FrameType
from typing import Any

from apscheduler.threads import Event

SOON = 20


def call_in_thread(func: Any) -> None:
    """Call the function, and fail if it does not return."""
    thread = threading.Thread(target=func, daemon=True)
    thread.start()
    thread.join(SOON)
    assert not thread.is_alive()


def test_event_behaves_like_that_of_threads() -> None:
    event = Event()
    assert not event.wait(0.001)
    for _ in "ab":
        event.set()
        event.set()
        assert event.is_set()
        assert event.wait()
        assert event.wait(0)
        event.clear()
        event.clear()
        assert not event.is_set()
        assert not event.wait(0)


def test_event_may_be_set_by_what_interrupts_any_line_of_its_own() -> None:
    event = Event()
    interrupted = []

    def interrupt(frame: FrameType, what: str, argument: Any) -> Any:
        if frame.f_code.co_filename != Event.set.__code__.co_filename:
            return None
        if what == "line":
            sys.settrace(None)
            event.set()
            interrupted.append(frame.f_lineno)
            sys.settrace(interrupt)
        return interrupt

    def use() -> None:
        sys.settrace(interrupt)
        try:
            event.set()
            event.clear()
            event.wait(0)
            event.wait()
        finally:
            sys.settrace(None)

    call_in_thread(use)

    assert len(interrupted) > 5
    assert event.is_set()
