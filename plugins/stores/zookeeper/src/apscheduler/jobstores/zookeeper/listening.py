"""Hearing of what others change, by a watch on the node of the log of changes."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from apscheduler.jobstores.zookeeper.changes import ChangeLog
from apscheduler.jobstores.zookeeper.connecting import Connection

# Changes that come together are looked at together.
PAUSE_SECONDS = 0.01


class Listener:
    """A thread that looks who has written there.

    :param callback: what to call when others have written something that may be due sooner
    """

    def __init__(
        self,
        connection: Connection,
        log: ChangeLog,
        callback: Callable[[], None],
        logger: logging.Logger,
    ):
        self._connection = connection
        self._log = log
        self._callback = callback
        self._logger = logger
        self._changed = threading.Event()
        self._is_stopped = False
        self._may_have_missed = False
        _, self._version = self._read()
        self._end_listening = connection.listen(self._hear_of_connection)
        self._thread = threading.Thread(
            target=self._listen, name="APScheduler ZooKeeper watch", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        if self._is_stopped:
            return
        self._is_stopped = True
        self._end_listening()
        self._changed.set()
        if self._thread is not threading.current_thread():
            self._thread.join(10)

    def _see(self, event: Any) -> None:
        self._changed.set()

    def _hear_of_connection(self, is_connected: bool) -> None:
        self._may_have_missed = True
        if is_connected:
            self._changed.set()

    def _listen(self) -> None:
        while True:
            self._changed.wait()
            time.sleep(PAUSE_SECONDS)
            self._changed.clear()
            if self._is_stopped:
                return
            try:
                self._look()
            except (
                Exception
            ) as exc:  # it is looked at again when the connection is back
                self._logger.debug("Changes cannot be read now: %s", exc)

    def _read(self) -> tuple[bytes, int]:
        data, stat = self._connection.read(
            lambda client: client.get(self._log.path, self._see)
        )
        return data, stat.version

    def _look(self) -> None:
        missed, self._may_have_missed = self._may_have_missed, False
        try:
            writer, version = self._read()
        except Exception:
            self._may_have_missed = True
            raise
        news, self._version = version - self._version, version
        is_own = news == 1 and writer == self._log.writer.encode()
        if (missed or (news and not is_own)) and not self._is_stopped:
            self._callback()
