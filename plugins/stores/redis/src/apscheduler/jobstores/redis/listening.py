"""Hearing of changes at once, by publish and subscribe."""

import random
import selectors
import socket
import threading
from collections.abc import Callable
from logging import Logger
from typing import Any

from redis.backoff import NoBackoff
from redis.client import PubSub
from redis.connection import ConnectionPool
from redis.exceptions import NoPermissionError
from redis.retry import Retry

# A connection that has been silent for so long is asked whether it is still there, and given up as much later.
PING_SECONDS = 30.0
# The pause before a connection that was lost is tried again; it doubles each time.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 10.0
# Whoever ends a subscription waits so long for its thread, which may be connecting.
END_SECONDS = 1.0
# A new subscription is confirmed within this time.
CONFIRM_SECONDS = 5.0


class Listener:
    """Calls somebody when another store has told of a change, on a thread and a connection of its own.

    :param get_pool: returns a new pool for its connection
    :param channel: where it is told
    :param get_writer: returns what this store tells itself
    """

    def __init__(
        self,
        get_pool: Callable[[], ConnectionPool],
        channel: bytes,
        get_writer: Callable[[], str],
        callback: Callable[[], None],
        logger: Logger,
    ):
        self._get_pool = get_pool
        self._channel = channel
        self._get_writer = get_writer
        self._callback = callback
        self._logger = logger
        self._stopping = threading.Event()
        #: What this store tells itself, as long as it hears that.
        self.heard_as: str | None = None
        # What wakes the thread while it waits for the server.
        self._wakeup, self._woken = socket.socketpair()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen from here on: what is told after this is heard.

        :raises redis.exceptions.NoPermissionError: if that is not allowed
        """
        try:
            subscription = self._subscribe()
        except NoPermissionError:
            self._wakeup.close()
            self._woken.close()
            raise
        except Exception as exc:
            self._say_lost(exc)
            subscription = None
        self._thread = threading.Thread(
            target=self._listen,
            args=(subscription,),
            name="APScheduler listener",
            daemon=True,
        )
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it has not been stopped."""
        return not self._stopping.is_set()

    def stop(self) -> None:
        """Listen no more; the callback is not called after this, unless it is being called."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._wakeup.close()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(END_SECONDS)

    def _subscribe(self) -> "_Subscription":
        subscription = _Subscription(self._get_pool(), self._channel, self._woken)
        self.heard_as = self._get_writer()
        return subscription

    def _listen(self, subscription: "_Subscription | None") -> None:
        pause = FIRST_PAUSE_SECONDS
        try:
            while not self._stopping.is_set():
                if subscription is not None:
                    pause = FIRST_PAUSE_SECONDS
                    self._hear(subscription)
                    subscription = None
                if self._stopping.wait(pause * random.uniform(0.5, 1.0)):
                    return
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                try:
                    subscription = self._subscribe()
                except Exception as exc:
                    self._say_lost(exc)
                else:
                    self._call()  # nobody knows what was told meanwhile
        finally:
            self.heard_as = None
            if subscription is not None:
                subscription.close()
            self._woken.close()

    def _hear(self, subscription: "_Subscription") -> None:
        """Pass on what is heard until the connection is lost or nobody wants to know."""
        try:
            while not self._stopping.is_set():
                told = subscription.read()
                if any(writer != self._get_writer().encode() for writer in told):
                    self._call()
                subscription.wait()
        except Exception as exc:
            if not self._stopping.is_set():
                self._say_lost(exc)
        finally:
            self.heard_as = None
            subscription.close()

    def _say_lost(self, exc: Exception) -> None:
        self._logger.debug("No connection to hear of changes: %s", exc)

    def _call(self) -> None:
        if self._stopping.is_set():
            return
        try:
            self._callback()
        except Exception:
            self._logger.exception("Error telling the scheduler of a change")


class _Subscription:
    """One connection on which one channel is heard. That it is lost is left to its owner, who has missed something.

    :param woken: what ends the waiting when there is something to be read from it
    """

    def __init__(self, pool: ConnectionPool, channel: bytes, woken: socket.socket):
        pool.connection_kwargs.update(
            retry=Retry(NoBackoff(), 0), retry_on_error=[], health_check_interval=0
        )
        self._pool = pool
        self._pubsub: Any = PubSub(pool)
        self._has_asked = False
        # There is no other way to wait for two things at once.
        self._selector = selectors.DefaultSelector()
        try:
            self._selector.register(woken, selectors.EVENT_READ)
            self._pubsub.subscribe(channel)
            connection: Any = self._pubsub.connection
            self._selector.register(connection._sock, selectors.EVENT_READ)
            answer = self._pubsub.get_message(timeout=CONFIRM_SECONDS)
            if answer is None or answer["type"] != "subscribe":
                raise TimeoutError("The subscription was not confirmed")
        except BaseException:
            self.close()
            raise

    def read(self) -> list[bytes]:
        """Return what has been told."""
        told: list[bytes] = []
        while (message := self._pubsub.get_message(timeout=0)) is not None:
            self._has_asked = False
            if message["type"] == "message":
                told.append(message["data"])
        return told

    def wait(self) -> None:
        """Wait until something comes from the server, or from whoever stops.

        :raises TimeoutError: if the server does not answer any more
        """
        if self._selector.select(PING_SECONDS):
            return
        if self._has_asked:
            raise TimeoutError("The server has not answered")
        self._pubsub.ping()
        self._has_asked = True

    def close(self) -> None:
        """Close the connection."""
        self._selector.close()
        self._pubsub.close()
        self._pool.disconnect()
