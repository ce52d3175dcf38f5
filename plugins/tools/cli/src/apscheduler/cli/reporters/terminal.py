"""A terminal that is shared: a view at its bottom, and above that what jobs and their processes print."""

import codecs
import fcntl
import os
import select
import sys
import termios
import threading
from collections.abc import Callable

SHOW_CURSOR = b"\x1b[?25h\n"
OUTPUT, ERRORS = 1, 2
OPOST = 1  # which of the flags of a terminal are about output

READ_BYTES = 65536


class Terminal:
    """The terminal behind standard output.

    :ivar file: writes to the terminal, also while what everybody else writes is taken
    """

    def __init__(self) -> None:
        self.file = os.fdopen(os.dup(OUTPUT), "w", encoding="utf-8")
        self._kept: dict[int, int] = {}
        self._thread: threading.Thread | None = None
        self._stop: tuple[int, int] | None = None

    def take(self, show: Callable[[str], None]) -> None:
        """Have a function called, in another thread, with the lines that anybody writes to the terminal.

        That is whoever writes to standard output or errors, in this process or one that it starts. The function must
        not raise.
        """
        ours, theirs = os.openpty()
        _make_alike(theirs, OUTPUT)
        _flush()
        for descriptor in (OUTPUT, ERRORS):
            if os.isatty(descriptor):
                self._kept[descriptor] = os.dup(descriptor)
                os.dup2(theirs, descriptor)
        os.close(theirs)
        self._stop = os.pipe()
        self._thread = threading.Thread(
            target=self._read,
            args=(ours, self._stop[0], show),
            name="apscheduler terminal",
            daemon=True,
        )
        self._thread.start()

    def give_back(self) -> None:
        """Have everybody write to the terminal again, and show what was written before."""
        if self._thread is None or self._stop is None:
            return
        _flush()
        for descriptor, kept in self._kept.items():
            os.dup2(kept, descriptor)
            os.close(kept)
        self._kept.clear()
        os.close(self._stop[1])
        self._thread.join()
        os.close(self._stop[0])
        self._thread = self._stop = None

    def leave(self) -> None:
        """Leave the terminal as it must be when the process ends now."""
        os.write(self.file.fileno(), SHOW_CURSOR)

    def _read(self, source: int, stop: int, show: Callable[[str], None]) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        line, is_ending = "", False
        try:
            while True:
                ready, _, _ = select.select(
                    [source, stop], [], [], 0 if is_ending else None
                )
                data = _read(source) if source in ready else b""
                if not data and (is_ending or source in ready):
                    break
                *lines, line = (line + decoder.decode(data)).split("\n")
                if lines:
                    show("\n".join(lines))
                is_ending = is_ending or stop in ready
            if line:
                show(line)
        finally:
            os.close(source)


def _read(source: int) -> bytes:
    try:
        return os.read(source, READ_BYTES)
    except OSError:  # on Linux: nobody has it open who could write
        return b""


def _make_alike(terminal: int, model: int) -> None:
    """Give a terminal the size of another one, and have it pass on what is written as it is."""
    attributes = termios.tcgetattr(terminal)
    attributes[OPOST] &= ~termios.OPOST
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)
    size = fcntl.ioctl(model, termios.TIOCGWINSZ, bytes(8))
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
