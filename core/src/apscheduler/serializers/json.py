"""States as JSON, which holds data and no code.

Values that JSON does not have are objects with one key that begins with a dollar sign, such as
``{"$datetime": "2030-01-01T12:00:00+01:00", "zone": "Europe/Berlin"}``; ``docs/reference/stores.md`` lists them.
"""

import json
from collections.abc import Sequence
from typing import Any

from apscheduler.serializers import Serializer, checked, make_allow_list
from apscheduler.serializers.allowing import AllowList, state_in
from apscheduler.serializers.plain import Decoder, Encoder, NotPlainError


class JsonSerializer(Serializer):
    """Writes states as JSON. Loading runs no code; triggers are those of installed plugins.

    Arguments may be texts, numbers, bytes, times, UUIDs, and lists, tuples, sets and dicts of those.

    :param allowed_callables: patterns of the functions that jobs may call, such as ``"myapp.tasks:*"``
    """

    def __init__(self, allowed_callables: Sequence[str] | None = None):
        self.allowed: AllowList | None = make_allow_list(allowed_callables)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} (allowed={self.allowed})>"

    def dumps(self, state: dict[str, Any]) -> bytes:
        job = state_in(state)
        try:
            if self.allowed is not None:
                self.allowed.check(*job["func"].split(":", 1))
            content = Encoder(self.allowed).encode(state, "")
        except ValueError as exc:
            raise type(exc)(f"Job {job['id']!r} cannot be stored: {exc}") from exc
        return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()

    def loads(self, data: bytes) -> dict[str, Any]:
        state = self.describe(data)
        if self.allowed is not None:
            self.allowed.check_state(state)
        return state

    def describe(self, data: bytes) -> dict[str, Any]:
        return checked(Decoder(self.allowed).decode(json.loads(data)))


__all__ = ("JsonSerializer", "NotPlainError")
