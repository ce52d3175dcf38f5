"""Hearing of changes: one connection on which the server tells everything that is written below the keys of a store."""

import json
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from logging import Logger
from typing import Any

import requests
from etcd3gw.client import Etcd3Client
from etcd3gw.exceptions import Etcd3Exception

from apscheduler.jobstores.etcd.connecting import clone, to_error
from apscheduler.jobstores.etcd.gateway import Part, encode, end_of

# A connection that has been silent for so long is replaced, since it may be dead.
SILENCE_SECONDS = 60.0
# The pause before a connection that was lost is tried again; it doubles each time.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 5.0
CONNECT_SECONDS = 5.0
# Whoever ends a watch waits so long for its thread, which may be connecting.
END_SECONDS = 1.0


class Compacted(Exception):
    """The server has forgotten changes that were not told yet."""


class Watcher:
    """A thread that passes on changes.

    :param client: a client, of which this makes one of its own
    :param prefixes: what the keys begin with
    :param next_revisions: returns for each prefix from which revision on changes are not known
    :param tell: is called with the number of the prefix and the events
    :param reload: is called when changes are not known any more, and has to find out
    """

    def __init__(
        self,
        client: Etcd3Client,
        prefixes: tuple[str, ...],
        next_revisions: Callable[[], tuple[int, ...]],
        tell: Callable[[int, list[Part]], None],
        reload: Callable[[], None],
        logger: Logger,
    ):
        self._client = clone(client)
        self._prefixes = prefixes
        self._next_revisions = next_revisions
        self._tell = tell
        self._reload = reload
        self._logger = logger
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._lock = threading.Lock()
        self._response: requests.Response | None = None
        self._pause = FIRST_PAUSE_SECONDS
        self._thread = threading.Thread(
            target=self._run, name="APScheduler etcd watch", daemon=True
        )
        self._thread.start()

    def hurry(self) -> None:
        """Try again at once if the connection is lost: the server is there again."""
        self._hurry.set()

    def stop(self) -> None:
        """End the thread and close the connection."""
        self._stopping.set()
        self._hurry.set()
        with self._lock:
            self._cut()
        if self._thread is not threading.current_thread():
            self._thread.join(END_SECONDS)

    def _cut(self) -> None:
        """Have the thread, which waits for the server, see the end of the connection."""
        if self._response is None:
            return
        with suppress(Exception):  # it may be closed by now
            raw: Any = self._response.raw
            with socket.socket(fileno=socket.dup(raw.fileno())) as copy:
                copy.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        is_compacted = False
        while not self._stopping.is_set():
            try:
                if is_compacted:
                    self._reload()
                    is_compacted = False
                for events in self._hear():
                    self._tell(*events)
            except Compacted:
                is_compacted = True
                continue
            except Exception as exc:  # whatever comes from a connection that was cut
                if self._stopping.is_set():
                    break
                self._logger.debug("No connection to hear of changes: %s", exc)
            self._hurry.wait(self._pause * random.uniform(0.5, 1.0))
            self._hurry.clear()
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        self._client.session.close()

    def _hear(self) -> Iterator[tuple[int, list[Part]]]:
        """Pass on what the server tells, until the connection ends."""
        creations = [
            {
                "key": encode(prefix),
                "range_end": encode(end_of(prefix)),
                "start_revision": revision,
                "watch_id": number + 1,
            }
            for number, (prefix, revision) in enumerate(
                zip(self._prefixes, self._next_revisions(), strict=True)
            )
        ]
        body = "\n".join(json.dumps({"create_request": each}) for each in creations)
        response = self._client.session.post(
            self._client.get_url("/watch"),
            data=body,
            headers={"Content-Type": "application/json"},
            stream=True,
            timeout=(CONNECT_SECONDS, SILENCE_SECONDS),
        )
        try:
            with self._lock:
                self._response = response
                if self._stopping.is_set():
                    return
            if response.status_code != 200:
                raise to_error(response)
            self._pause = FIRST_PAUSE_SECONDS
            for line in _lines(response):
                yield from self._parse(json.loads(line))
        finally:
            with self._lock:
                self._response = None
            response.close()

    def _parse(self, message: Part) -> Iterator[tuple[int, list[Part]]]:
        if "result" not in message:
            raise Etcd3Exception(str(message.get("error")), str(message.get("error")))
        result = message["result"]
        if result.get("compact_revision"):
            raise Compacted
        if result.get("canceled"):
            reason = str(result.get("cancel_reason"))
            raise Etcd3Exception(reason, reason)
        if events := result.get("events"):
            yield int(result["watch_id"]) - 1, events


def _lines(response: requests.Response) -> Iterator[bytes]:
    """Return the messages as they come, each of which is a line."""
    rest = b""
    for data in response.iter_content(None):
        *lines, rest = (rest + data).split(b"\n")
        yield from filter(None, lines)
