"""Unpickling that runs nothing but what it knows: for stores with an allow-list."""

import copyreg
import io
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import EnumMeta
from functools import lru_cache
from importlib import import_module
from inspect import isbuiltin, isclass, isfunction, ismethod
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from apscheduler.callables import state_resolver
from apscheduler.plugins import installed_components
from apscheduler.serializers.allowing import (
    AllowList,
    NotAllowedError,
    state_in,
)

PATHS = frozenset(("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"))
# Classes that hold data and do nothing else, whatever they are made with.
DATA: dict[str, frozenset[str]] = {
    "builtins": frozenset(
        (
            *("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset"),
            *("int", "list", "object", "range", "set", "slice", "str", "tuple"),
        )
    ),
    "collections": frozenset(("Counter", "OrderedDict", "defaultdict", "deque")),
    "datetime": frozenset(
        ("date", "datetime", "time", "timedelta", "timezone", "tzinfo")
    ),
    "dateutil.tz._tzfile": frozenset(("tzfile",)),
    "dateutil.tz.tz": frozenset(
        ("_ttinfo", "tzfile", "tzlocal", "tzoffset", "tzrange", "tzutc")
    ),
    "decimal": frozenset(("Decimal",)),
    "fractions": frozenset(("Fraction",)),
    "pathlib": PATHS,
    "pathlib._local": PATHS,
    "uuid": frozenset(("SafeUUID", "UUID")),
    "zoneinfo": frozenset(("ZoneInfo",)),
}
# Functions by which the zones of libraries are unpickled.
FACTORIES = frozenset(
    (
        *(("pytz", "_UTC"), ("pytz", "_p"), ("pytz", "FixedOffset")),
        ("dateutil.tz._tzfile", "_unpickle"),
    )
)
# What protocols before 3 call other names.
OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
OLD_NAMES = {"long": "int", "unicode": "str", "xrange": "range"}
TRIGGERS = "apscheduler.triggers."


def modern(module: str, name: str) -> tuple[str, str]:
    """Return module and name as they are today."""
    if module == "__builtin__":
        name = OLD_NAMES.get(name, name)
    return OLD_MODULES.get(module, module), name


def get_constructor(owner: object, name: str) -> Any:
    """Stand in for ``getattr``: by it zones, and in some versions the members of enumerations, are unpickled."""
    if owner is ZoneInfo and name == "_unpickle":
        return ZoneInfo._unpickle  # type: ignore[attr-defined]  # private, and part of every pickled zone
    if isinstance(owner, EnumMeta) and name in owner.__members__:
        return owner.__members__[name]
    raise NotAllowedError(
        f"The attribute {name!r} of {owner!r} is not allowed in a job"
    )


def _encode(text: str, encoding: str) -> bytes:
    """Stand in for ``_codecs.encode``, by which old protocols write bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise NotAllowedError(f"Bytes of a job must not be encoded in {encoding!r}")
    return text.encode("latin1")


def _reconstruct(cls: type, base: type, state: object) -> object:
    """Stand in for what old protocols make objects with."""
    if not isclass(cls) or not isclass(base):
        raise NotAllowedError(f"{cls!r} and {base!r} must be classes")
    return copyreg._reconstructor(cls, base, state)  # type: ignore[attr-defined]  # named in pickles


HELPERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("_codecs", "encode"): _encode,
    ("builtins", "getattr"): get_constructor,
    ("copyreg", "_reconstructor"): _reconstruct,
}


def is_known(module: str, name: str) -> bool:
    """Return whether a state may refer to this whatever is on the allow-list: plain data, triggers, zones."""
    if name in DATA.get(module, ()) or (module, name) in HELPERS:
        return True
    return (module, name) in FACTORIES or is_trigger(module, name)


def is_trigger(module: str, name: str) -> bool:
    """Return whether this is a trigger that is installed, or part of one of ours; nothing is imported."""
    if module.startswith(TRIGGERS) and name.isidentifier():
        return True
    triggers = installed_components("trigger").values()
    return any(each.value == f"{module}:{name}" for each in triggers)


@lru_cache(512)
def find_known(module: str, name: str) -> Any:
    """Return what is known by this name: a class, or a function that is harmless to call.

    :raises NotAllowedError: if it is something else
    :raises ImportError: if its module is not installed
    """
    helper = HELPERS.get((module, name))
    if helper is not None:
        return helper
    found = getattr(import_module(module), name)
    if (module, name) in FACTORIES:
        return found
    # Not what a module of triggers has imported.
    is_foreign = module.startswith(TRIGGERS) and not str(
        getattr(found, "__module__", "")
    ).startswith(TRIGGERS)
    if not isclass(found) or is_foreign:
        raise NotAllowedError(f"'{module}:{name}' is no class of a trigger")
    return found


@contextmanager
def resolving(resolve: Callable[[str], Any]) -> Iterator[None]:
    """Have references inside of states, such as those of combined triggers, resolved in a way of one's own."""
    token = state_resolver.set(resolve)
    try:
        yield
    finally:
        state_resolver.reset(token)


# The implementation in C cannot be told what may be called and changed, this one can; it is as old as the other.
_Unpickler: Any = pickle._Unpickler


class RestrictedUnpickler(_Unpickler):  # type: ignore[misc]  # half of it is unknown to type checkers
    """Makes objects of known and of allowed classes, calls nothing else, and changes nothing that was there before."""

    dispatch: ClassVar[dict[int, Any]] = dict(_Unpickler.dispatch)

    def __init__(self, data: bytes, allowed: AllowList):
        super().__init__(io.BytesIO(data))
        self._allowed = allowed
        # Identity → what was there before: it is kept, so that no other object gets that identity.
        self._fixed: dict[int, object] = {}

    def load(self) -> Any:
        with resolving(self._resolve):
            return super().load()

    def find_class(self, module: str, name: str) -> Any:
        found = self._resolve(":".join(modern(module, name)))
        self._fixed[id(found)] = found
        return found

    def _resolve(self, reference: str) -> Any:
        module, _, name = reference.partition(":")
        if is_known(module, name):
            return find_known(module, name)
        return self._allowed.resolve(reference)

    def get_extension(self, code: int) -> Any:
        raise NotAllowedError(f"The extension code {code} is not allowed in a job")

    def _check_call(self, func: Any) -> None:
        if isclass(func) or any(func is helper for helper in HELPERS.values()):
            return
        is_zone = isbuiltin(func) and getattr(func, "__self__", None) is ZoneInfo
        if is_zone or _is_factory(func):
            return
        raise NotAllowedError(
            f"{func!r} is not called: a job may refer to it, but while jobs are loaded only classes are called"
        )

    def _check_class(self, cls: object) -> None:
        if not isclass(cls):
            raise NotAllowedError(f"{cls!r} is no class")

    def _check_change(self, target: object) -> None:
        if id(target) in self._fixed or isinstance(type(target), EnumMeta):
            raise NotAllowedError(f"{target!r} must not be changed by a job")

    def _instantiate(self, klass: Any, args: Any) -> None:
        self._check_call(klass)
        super()._instantiate(klass, args)

    def _reduce(self) -> None:
        func = self.stack[-2]
        self._check_call(func)
        self.load_reduce()
        if not isclass(func) and func is not _reconstruct:
            made = self.stack[-1]  # which may have been there before
            self._fixed[id(made)] = made

    dispatch[pickle.REDUCE[0]] = _reduce


def _guard(opcode: bytes, check: Callable[[RestrictedUnpickler], None]) -> None:
    """Have something checked before an instruction is carried out."""
    carry_out = _Unpickler.dispatch[opcode[0]]

    def check_and_carry_out(unpickler: RestrictedUnpickler) -> None:
        check(unpickler)
        carry_out(unpickler)

    RestrictedUnpickler.dispatch[opcode[0]] = check_and_carry_out


_guard(pickle.NEWOBJ, lambda self: self._check_class(self.stack[-2]))
_guard(pickle.NEWOBJ_EX, lambda self: self._check_class(self.stack[-3]))
for _opcode, _place in ((pickle.BUILD, -2), (pickle.APPEND, -2), (pickle.SETITEM, -3)):
    _guard(_opcode, lambda self, place=_place: self._check_change(self.stack[place]))  # type: ignore[misc]
for _opcode in (pickle.APPENDS, pickle.SETITEMS, pickle.ADDITEMS):
    _guard(_opcode, lambda self: self._check_change(self.metastack[-1][-1]))


def make_restricted(reference: str, state: Any, allowed: AllowList) -> Any:
    """Return an object of a known or an allowed class, with this state.

    :raises NotAllowedError: if it is no such class
    """
    unpickler = RestrictedUnpickler(b"", allowed)
    cls = unpickler.find_class(*reference.split(":", 1))
    if not isclass(cls):
        raise NotAllowedError(f"{reference!r} is no class")
    with resolving(unpickler._resolve):
        instance: Any = cls.__new__(cls)
        instance.__setstate__(state)
    return instance


class RestrictedPickler(pickle.Pickler):
    """Refuses what :class:`RestrictedUnpickler` would refuse, so that nobody stores what cannot be restored."""

    def __init__(self, file: io.BytesIO, protocol: int, allowed: AllowList):
        super().__init__(file, protocol)
        self._allowed = allowed

    def reducer_override(self, obj: Any) -> Any:
        """Look at every class and function that is to be written by its name."""
        if isclass(obj) or isfunction(obj) or isbuiltin(obj) or ismethod(obj):
            module, name = str(obj.__module__), obj.__qualname__
            if isbuiltin(obj) or ismethod(obj):
                owner = getattr(obj, "__self__", None)
                if owner is ZoneInfo:
                    return NotImplemented
                if ismethod(obj):
                    raise NotAllowedError(
                        f"The method {name!r} is not allowed in the arguments of a job: give the object, or a function"
                    )
            if not is_known(module, name):
                self._allowed.check(module, name)
        return NotImplemented


def _is_factory(func: Any) -> bool:
    return isfunction(func) and (func.__module__, func.__name__) in FACTORIES


def dump_restricted(state: Any, protocol: int, allowed: AllowList) -> bytes:
    """Return a state pickled, if it could be restored with this allow-list.

    :raises NotAllowedError: if not; the message names the job
    """
    file = io.BytesIO()
    job = state_in(state)
    try:
        allowed.check(*job["func"].split(":", 1))
        RestrictedPickler(file, protocol, allowed).dump(state)
    except NotAllowedError as exc:
        raise NotAllowedError(f"Job {job['id']!r} cannot be stored: {exc}") from None
    return file.getvalue()
