"""Reading jobs without their code, and writing them again as they were.

Whoever changes a job need not have its function, nor the classes of its arguments: here something stands in for them
that is written by the same name. Functions are never imported; classes are where that is possible.
"""

import copyreg
import io
import pickle
from functools import cache
from typing import Any, NoReturn, Self

from apscheduler.serializers import PickleSerializer, Serializer, SignatureError
from apscheduler.serializers.allowing import state_in
from apscheduler.serializers.signed import MAGIC


class StandInFunction(str):
    """The reference to a function that was not imported; nobody here calls it."""

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        raise RuntimeError(f"The function {str(self)!r} was not imported")


class StandIn:
    """Stands for an object of a class that is not there, and remembers how it was made."""

    # Old protocols make objects without calling anything here.
    _arguments: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
    _is_called = False
    _state: Any = None
    _items: list[Any] | None = None
    _pairs: list[tuple[Any, Any]] | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        instance = super().__new__(cls)
        instance._arguments = (args, kwargs)
        return instance

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._is_called = True

    def __setstate__(self, state: Any) -> None:
        self._state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self._pairs = [*(self._pairs or ()), (key, value)]

    def append(self, item: Any) -> None:
        """Take what unpickling puts into lists."""
        self._items = [*(self._items or ()), item]

    def extend(self, items: Any) -> None:
        """Take what unpickling puts into lists."""
        self._items = [*(self._items or ()), *items]

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        args, kwargs = self._arguments
        how: tuple[Any, tuple[Any, ...]]
        if self._is_called:
            how = type(self), args
        elif kwargs:
            how = copyreg.__newobj_ex__, (type(self), args, kwargs)  # type: ignore[attr-defined]  # what pickle uses
        else:
            how = copyreg.__newobj__, (type(self), *args)  # type: ignore[attr-defined]  # what pickle uses
        items = None if self._items is None else iter(self._items)
        pairs = None if self._pairs is None else iter(self._pairs)
        return (*how, self._state, items, pairs)

    def __getstate__(self) -> NoReturn:
        raise ValueError(f"{self!r} cannot be taken apart: its class is not there")

    def get_next_fire_time(self, previous_fire_time: Any, now: Any) -> NoReturn:
        """Say that the class of a trigger is missing."""
        raise LookupError(f"The class of the trigger is not there: {self!r}")

    def starts_in_the_past(self) -> bool:
        """Return False: nobody knows."""
        return False

    def __repr__(self) -> str:
        return f"<{type(self).__module__}:{type(self).__qualname__}>"


@cache
def _stand_in(module: str, name: str) -> type[StandIn]:
    qualified = {"__module__": module, "__qualname__": name}
    return type(name.rpartition(".")[2], (StandIn,), qualified)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return super().find_class(module, name)
        except (Exception, SystemExit):  # modules may do anything when they are loaded
            return _stand_in(module, name)


# The implementation in C looks up what it writes the name of; this one is as old, and asks here.
_PythonPickler: Any = pickle._Pickler


class _Pickler(_PythonPickler):  # type: ignore[misc]  # half of it is unknown to type checkers
    def save_global(self, obj: Any, name: str | None = None) -> None:
        if not (isinstance(obj, type) and issubclass(obj, StandIn)):
            super().save_global(obj, name)
            return
        module, qualname = obj.__module__, obj.__qualname__
        if self.proto >= 4:
            self.save(module)
            self.save(qualname)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(pickle.GLOBAL + f"{module}\n{qualname}\n".encode())
        self.memoize(obj)


class DetachedPickle(PickleSerializer):
    """Pickle that needs none of the code of jobs. What an allow-list is for is read as ever."""

    def loads(self, data: bytes) -> dict[str, Any]:
        _refuse_signed(data)
        if self.allowed is not None:
            return _detach(super().loads(data))
        state = _Unpickler(io.BytesIO(data)).load()
        if not isinstance(state, dict):
            raise ValueError("The stored state of a job must be a dict")
        return _detach(state)

    def dumps(self, state: dict[str, Any]) -> bytes:
        state = _attach(state)
        if self.allowed is not None:
            return super().dumps(state)
        try:  # much faster, and possible as long as nothing is missing
            return pickle.dumps(state, self.pickle_protocol)
        except (pickle.PicklingError, ImportError):
            file = io.BytesIO()
            _Pickler(file, self.pickle_protocol).dump(state)
            return file.getvalue()

    def describe(self, data: bytes) -> dict[str, Any]:
        _refuse_signed(data)
        return PickleSerializer.describe(PickleSerializer(), data)


class DetachedFormat(Serializer):
    """Another format, read without importing functions."""

    def __init__(self, format: Serializer):
        self._format = format
        self.allowed = format.allowed

    def loads(self, data: bytes) -> dict[str, Any]:
        _refuse_signed(data)
        return _detach(self._format.loads(data))

    def dumps(self, state: dict[str, Any]) -> bytes:
        return self._format.dumps(_attach(state))

    def describe(self, data: bytes) -> dict[str, Any]:
        _refuse_signed(data)
        return self._format.describe(data)


def detached(serializer: Serializer) -> Serializer:
    """Return a serializer that writes the same, and reads jobs whose code is not there."""
    inner = getattr(serializer, "format", None)
    if isinstance(inner, Serializer):  # a signed one: whose signature fits is as good
        serializer.format = detached(inner)  # type: ignore[attr-defined]  # which was just looked at
        return serializer
    if type(serializer) is PickleSerializer:
        pickling = DetachedPickle(serializer.pickle_protocol)
        pickling.allowed = serializer.allowed
        return pickling
    return DetachedFormat(serializer)


def _refuse_signed(data: bytes) -> None:
    """Say what is missing if a state is signed, and the serializer knows nothing of signatures.

    :raises SignatureError: if that is so
    """
    if data.startswith(MAGIC):
        raise SignatureError("The state is signed: give --config with its serializer")


def _detach(document: dict[str, Any]) -> dict[str, Any]:
    state: Any = state_in(document)
    state["func"] = StandInFunction(state["func"])
    return document


def _attach(document: dict[str, Any]) -> dict[str, Any]:
    state = state_in(document)
    whole = {**state, "func": str(state["func"])}
    return whole if state is document else {**document, "job_state": whole}
