"""Requests to the JSON gateway of etcd, and the words in which they are put."""

import base64
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import requests
from etcd3gw.client import Etcd3Client
from etcd3gw.exceptions import (
    ConnectionFailedError,
    ConnectionTimeoutError,
)
from requests.structures import CaseInsensitiveDict

from apscheduler.jobstores.etcd.connecting import clone, to_error

# So many keys are read at a time.
PAGE_SIZE = 5000

# Parts of requests, and what comes back, as JSON has them.
Part = dict[str, Any]


class KeyValue(NamedTuple):
    """A key as it was read; without value where only keys were asked for."""

    key: str
    value: bytes
    revision: int


class Answer(NamedTuple):
    """What has become of a transaction.

    :ivar parts: the answers to its operations
    """

    succeeded: bool
    revision: int
    parts: list[Part]


def encode(data: str | bytes) -> str:
    """Return keys and values as they are in requests."""
    if isinstance(data, str):
        data = data.encode(errors="surrogateescape")
    return base64.b64encode(data).decode()


def decode(data: str) -> bytes:
    """Return keys and values from answers as they are."""
    return base64.b64decode(data)


def end_of(prefix: str) -> str:
    """Return the first key that follows all that begin with a prefix, which ends with an ASCII character."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def put(key: str, value: str | bytes) -> Part:
    return {"request_put": {"key": encode(key), "value": encode(value)}}


def delete(key: str) -> Part:
    return {"request_delete_range": {"key": encode(key)}}


def delete_prefix(prefix: str) -> Part:
    span = {"key": encode(prefix), "range_end": encode(end_of(prefix))}
    return {"request_delete_range": span}


def read(key: str, end: str | None = None, **options: Any) -> Part:
    """Return the operation that reads a key, or all from there to another one."""
    span = {"key": encode(key), **options}
    if end is not None:
        span["range_end"] = encode(end)
    return {"request_range": span}


def is_at(key: str, revision: int) -> Part:
    """Return the comparison that a key has been written last at a revision; 0: it is not there."""
    return {
        "key": encode(key),
        "target": "MOD",
        "result": "EQUAL",
        "mod_revision": revision,
    }


def is_there(key: str) -> Part:
    """Return the comparison that a key is there."""
    return {
        "key": encode(key),
        "target": "CREATE",
        "result": "GREATER",
        "create_revision": 0,
    }


def is_less(key: str, value: str) -> Part:
    """Return the comparison that the value of a key comes before another."""
    return {
        "key": encode(key),
        "target": "VALUE",
        "result": "LESS",
        "value": encode(value),
    }


def either(
    compare: Sequence[Part], success: Sequence[Part], failure: Sequence[Part] = ()
) -> Part:
    """Return a transaction."""
    return {"compare": compare, "success": success, "failure": failure}


def nested(
    compare: Sequence[Part], success: Sequence[Part], failure: Sequence[Part] = ()
) -> Part:
    """Return the operation that is a transaction of its own."""
    return {"request_txn": either(compare, success, failure)}


def key_values(part: Part) -> list[KeyValue]:
    """Return what was read by an operation, or with a request of its own."""
    found = part.get("response_range", part)
    return [to_key_value(each) for each in found.get("kvs", ())]


def to_key_value(raw: Part) -> KeyValue:
    key = decode(raw["key"]).decode(errors="surrogateescape")
    return KeyValue(key, decode(raw.get("value", "")), int(raw["mod_revision"]))


def revision_of(answer: Part) -> int:
    return int(answer["header"]["revision"])


class Gateway:
    """Sends requests through the session of a client, from any thread; after a fork, through a session of its own.

    :ivar client: the client of this process
    """

    def __init__(self, client: Etcd3Client, on_fork: Callable[[Etcd3Client], None]):
        self.client = client
        self._on_fork = on_fork
        self._pid = os.getpid()
        # What is the same in all requests: see _send().
        self._template: tuple[Any, Any, Any] | None = None

    def _leave_parent(self) -> None:
        """Leave the connections of the process from which this one was forked to that."""
        self.client, self._template = clone(self.client), None
        self._pid = os.getpid()
        self._on_fork(self.client)

    def close(self) -> None:
        """Close the connections; later requests open new ones."""
        self.client.session.close()

    def post(self, path: str, body: Part) -> Part:
        """Send a request and return the answer.

        :raises Etcd3Exception: if there is none, or the server refuses it
        """
        if self._pid != os.getpid():
            self._leave_parent()
        client = self.client
        url = client.get_url(path)
        data = json.dumps(body, separators=(",", ":")).encode()
        try:
            response = self._send(client, url, data)
        except requests.Timeout as exc:
            raise ConnectionTimeoutError(str(exc), str(exc)) from exc
        except requests.ConnectionError as exc:
            raise ConnectionFailedError(str(exc), str(exc)) from exc
        if response.status_code != 200:
            raise to_error(response)
        answer: Part = response.json()
        return answer

    def _send(self, client: Etcd3Client, url: str, data: bytes) -> requests.Response:
        session: Any = client.session
        has_own_ways = (
            type(session) is not requests.Session
            or session.auth is not None
            or any(session.hooks.values())
        )
        headers = {"Content-Type": "application/json"}
        if has_own_ways:
            answer: requests.Response = session.post(
                url, data=data, headers=headers, timeout=client.timeout
            )
            return answer
        # Half of the time that a request takes goes into what is the same for all of them.
        base = client.base_url
        marks = (base, session.verify, session.cert, *session.headers.items())
        template = self._template
        if template is None or template[0] != marks:
            prepared = session.prepare_request(
                requests.Request("POST", base, headers=headers)
            )
            settings = session.merge_environment_settings(base, {}, False, None, None)
            self._template = template = (marks, prepared, settings)
        _, prepared, settings = template
        request = requests.PreparedRequest()
        request.method, request.url, request.body = "POST", url, data
        request.hooks = prepared.hooks
        request.headers = CaseInsensitiveDict(prepared.headers)
        request.headers["Content-Length"] = str(len(data))
        response: requests.Response = session.get_adapter(url).send(
            request, timeout=client.timeout, **settings
        )
        response.content  # noqa: B018  # reads it, so that the connection is free again
        return response

    def transact(self, transaction: Part) -> Answer:
        """Carry out a transaction."""
        answer = self.post("/kv/txn", transaction)
        succeeded = bool(answer.get("succeeded"))
        return Answer(succeeded, revision_of(answer), answer.get("responses", []))

    def get(self, key: str) -> KeyValue | None:
        """Return what is kept under a key, None if there is nothing."""
        found = key_values(self.post("/kv/range", {"key": encode(key)}))
        return found[0] if found else None

    def read_prefix(
        self,
        prefix: str,
        revision: int = 0,
        page_size: int = PAGE_SIZE,
        **options: Any,
    ) -> Iterator[KeyValue]:
        """Return everything whose key begins with a prefix, in the order of keys, as it was at one revision.

        :param revision: as it was then; 0: now
        """
        start, end = prefix, end_of(prefix)
        while True:
            request = read(start, end, limit=page_size, revision=revision, **options)
            answer = self.post("/kv/range", request["request_range"])
            page = key_values(answer)
            yield from page
            if not answer.get("more"):
                return
            revision = revision or revision_of(answer)
            start = page[-1].key + "\0"
