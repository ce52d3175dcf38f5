"""How persistent stores turn the state of a job into bytes and back."""

import pickle
from abc import ABCMeta, abstractmethod
from typing import Any


class Serializer(metaclass=ABCMeta):
    """Turns the state of a job into bytes and back."""

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


class PickleSerializer(Serializer):
    """The format of APScheduler 3. Loading runs code from the data: whoever writes to the store must be trusted.

    :param pickle_protocol: the protocol to write; every protocol is read
    """

    def __init__(self, pickle_protocol: int = pickle.HIGHEST_PROTOCOL):
        self.pickle_protocol = pickle_protocol

    def dumps(self, state: dict[str, Any]) -> bytes:
        return pickle.dumps(state, self.pickle_protocol)

    def loads(self, data: bytes) -> dict[str, Any]:
        state = pickle.loads(data)
        if not isinstance(state, dict):
            raise ValueError(
                f"The stored state of a job must be a dict, but is {state!r}"
            )
        return state
