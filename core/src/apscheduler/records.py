"""Records: classes that are nothing but what they keep, declared like dataclasses.

Dataclasses need modules that look into functions and source code. Loading those, and then making the classes, was a
sixth of what a program does until its first job runs.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


class _Factory:
    """Stands for a default that is made anew for every record."""

    def __init__(self, make: Callable[[], Any]):
        self.make = make


def fresh(*, default_factory: Callable[[], Any]) -> Any:
    """Return the default of an attribute that each record has a value of its own of, such as a list."""
    return _Factory(default_factory)


@dataclass_transform(field_specifiers=(fresh,))
def record(cls: type[T]) -> type[T]:
    """Return the class with slots for its annotated attributes, and a constructor that takes them in their order.

    Records are equal if they are of one class and all of their attributes are equal.
    """
    body = dict(vars(cls))
    names = tuple(cls.__annotations__)
    defaults = {name: body.pop(name) for name in names if name in body}
    # What the class had as long as it had no slots.
    body.pop("__dict__")
    body.pop("__weakref__")
    body |= {"__slots__": names, "__qualname__": cls.__qualname__}
    body |= {"__eq__": _is_equal, "__repr__": _describe}
    body["__init__"] = _make_constructor(cls, names, defaults)
    return type(cls.__name__, cls.__bases__, body)


def copier(cls: type[T], without: Collection[str] = ()) -> Callable[[T], T]:
    """Return a function that makes another object of a class with slots, with the same values in them.

    :param without: slots to leave empty; all others must have a value
    """
    without = {"__weakref__", *without}
    names = [name for name in vars(cls)["__slots__"] if name not in without]
    lines = [f"    new.{name} = old.{name}" for name in names]
    source = "\n".join(
        ["def copy(old):", "    new = make(cls)", *lines, "    return new"]
    )
    copy: Callable[[T], T] = _define(source, make=cls.__new__, cls=cls)["copy"]
    return copy


def values_of(kept: Any) -> dict[str, Any]:
    """Return the attributes of a record by name, in their order."""
    return {name: getattr(kept, name) for name in type(kept).__slots__}


def replace(kept: T, **changes: Any) -> T:
    """Return a copy of a record with other values of some attributes."""
    return type(kept)(**{**values_of(kept), **changes})


def _make_constructor(
    cls: type, names: Iterable[str], defaults: Mapping[str, Any]
) -> Callable[..., None]:
    """Return a function that sets the attributes one by one."""
    parameters, lines = ["self"], []
    for name in names:
        default = defaults.get(name)
        is_made = isinstance(default, _Factory)
        value = f"defaults[{name!r}]"
        parameters.append(f"{name}={value}" if name in defaults else name)
        made = f"{name}.make() if {name} is {value} else {name}" if is_made else name
        lines.append(f"    self.{name} = {made}")
    source = "\n".join([f"def __init__({', '.join(parameters)}):", *lines])
    constructor: Callable[..., None] = _define(source, defaults=defaults)["__init__"]
    constructor.__qualname__ = f"{cls.__qualname__}.__init__"
    constructor.__module__ = cls.__module__
    return constructor


def _define(source: str, **names: Any) -> dict[str, Any]:
    """Return what a text defines that refers to these names. No loop is as quick, and records are made all the time."""
    exec(source, names)  # noqa: S102  # the source is made of names that stand in code
    return names


def _is_equal(self: object, other: object) -> bool:
    return type(other) is type(self) and values_of(self) == values_of(other)


def _describe(self: object) -> str:
    shown = [f"{name}={value!r}" for name, value in values_of(self).items()]
    return f"{type(self).__qualname__}({', '.join(shown)})"
