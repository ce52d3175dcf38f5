"""How persistent stores turn the state of a job into bytes and back."""

import pickle
from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apscheduler.serializers.allowing import AllowList


class SignatureError(ValueError):
    """Raised when a stored state carries no signature that was made with a known key.

    :ivar claimed: what it says of itself, for listings; None if that cannot be read
    """

    claimed: "dict[str, Any] | None" = None


class Serializer(metaclass=ABCMeta):
    """Turns the state of a job into bytes and back.

    :ivar allowed: what states may refer to; None: anything
    """

    allowed: "AllowList | None" = None

    @abstractmethod
    def dumps(self, state: dict[str, Any]) -> bytes:
        """Return the state as bytes.

        :raises Exception: if it contains something that cannot be serialised
        """

    @abstractmethod
    def loads(self, data: bytes) -> dict[str, Any]:
        """Return the state that these bytes were made from.

        :raises Exception: if they are damaged, or refer to something that is not there
        """

    def describe(self, data: bytes) -> dict[str, Any]:
        """Return the state for a listing, which imports neither the function nor the classes of arguments.

        :raises Exception: if the bytes are damaged
        """
        return self.loads(data)

    def is_current(self, data: bytes) -> bool:
        """Return whether these bytes are what this serializer would write, and need not be written anew."""
        try:
            self.describe(data)
        except Exception:  # damaged bytes may raise anything
            return False
        return True


class PickleSerializer(Serializer):
    """The format of APScheduler 3.

    Loading runs code from the data, unless there is an allow-list: whoever writes to the store must be trusted.

    :param pickle_protocol: the protocol to write; every protocol is read
    :param allowed_callables: patterns of the functions and classes that jobs may refer to, such as ``"myapp.tasks:*"``
    """

    def __init__(
        self,
        pickle_protocol: int = pickle.HIGHEST_PROTOCOL,
        allowed_callables: Sequence[str] | None = None,
    ):
        self.pickle_protocol = pickle_protocol
        self.allowed = make_allow_list(allowed_callables)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} (allowed={self.allowed})>"

    def dumps(self, state: dict[str, Any]) -> bytes:
        if self.allowed is None:
            return pickle.dumps(state, self.pickle_protocol)
        from apscheduler.serializers.unpickling import dump_restricted

        return dump_restricted(state, self.pickle_protocol, self.allowed)

    def loads(self, data: bytes) -> dict[str, Any]:
        if self.allowed is None:
            return checked(pickle.loads(data))
        from apscheduler.serializers.unpickling import RestrictedUnpickler

        state = checked(RestrictedUnpickler(data, self.allowed).load())
        self.allowed.check_state(state)
        return state

    def describe(self, data: bytes) -> dict[str, Any]:
        if type(self).loads is not PickleSerializer.loads:  # another format
            return self.loads(data)
        from apscheduler.serializers.lenient import LenientUnpickler

        return checked(LenientUnpickler(data).load())


def make_allow_list(patterns: Sequence[str] | None) -> "AllowList | None":
    """Return an allow-list, or None where everything is allowed."""
    if patterns is None:
        return None
    from apscheduler.serializers.allowing import AllowList  # few need it

    return AllowList(patterns)


def checked(state: Any) -> dict[str, Any]:
    """Return what was read if it can be the state of a job.

    :raises ValueError: if it cannot
    """
    if not isinstance(state, dict):
        raise ValueError(
            f"The stored state of a job must be a dict, but is a {type(state).__name__}"
        )
    return state
