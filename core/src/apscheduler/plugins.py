"""Components by name: from ``type = "redis"`` to the class, loading only that one."""

import importlib
import importlib.util
import logging
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from functools import cache, reduce
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from apscheduler import installed
from apscheduler.distributions import (
    COMPONENTS,
    MissingDistributionError,
    distribution_of,
)
from apscheduler.hooked import get_hooks
from apscheduler.records import record

if TYPE_CHECKING:
    from importlib.metadata import Distribution

__all__ = [
    "KINDS",
    "Component",
    "ComponentMap",
    "Kind",
    "Loadable",
    "MissingDistributionError",
    "PluginNotFoundError",
    "forget_components",
    "installed_components",
    "load_component",
    "resolve_reference",
]

Kind = Literal["trigger", "executor", "jobstore", "scheduler", "serializer"]

#: Kind → its words in messages. The entry-point group is ``apscheduler.<kind>s``.
KINDS: Mapping[Kind, str] = MappingProxyType(
    {
        "trigger": "trigger",
        "executor": "executor",
        "jobstore": "job store",
        "scheduler": "scheduler",
        "serializer": "serializer",
    }
)

logger = logging.getLogger("apscheduler.plugins")


class PluginNotFoundError(LookupError):
    """Raised when no installed component of the kind has the name."""

    def __init__(self, kind: Kind, name: str, installed: Iterable[str] = ()) -> None:
        names = sorted(installed)
        super().__init__(kind, name, names)
        self.kind = kind
        self.name = name
        self.distribution = distribution_of(kind, name)
        answer = f"No {KINDS[kind]} named {name!r} is installed."
        if self.distribution:
            pip = f"pip install {self.distribution}"
            self._message = f"{answer} It comes with {self.distribution}: {pip}"
        else:
            self._message = f"{answer} Installed: {', '.join(names) or 'none'}"

    def __str__(self) -> str:
        return self._message


class Loadable(Protocol):
    """What a map of components holds: an entry point, or anything that loads alike."""

    def load(self) -> Any:
        """Return the class."""


@record
class Component:
    """A class that can be configured by name, not imported before :meth:`load`."""

    kind: Kind
    #: The name to configure.
    name: str
    #: Where the class lives, as ``module:Class``.
    value: str
    _dist: "Distribution | None" = None

    @property
    def distribution(self) -> str | None:
        """The distribution that brings it, None if that cannot be told."""
        if self._dist is not None:
            return self._dist.name
        return distribution_of(self.kind, self.name)

    @property
    def version(self) -> str | None:
        """The version of the distribution, None where it left no metadata."""
        return self._dist.version if self._dist else None

    def load(self) -> type:
        """Import and return the class.

        :raises ImportError: if the module, the class or a library it needs is missing
        :raises TypeError: if the entry point does not lead to a class
        """
        what = f"The {KINDS[self.kind]} {self.name!r} ({self.value})"
        # What may follow in brackets are extras, which say nothing about the class.
        path, _, attribute = self.value.partition("[")[0].strip().partition(":")
        try:
            module = importlib.import_module(path)
        except ImportError as exc:
            # ModuleNotFoundError stays one: callers tell "not there" from "broken".
            error = type(exc) if type(exc) is ModuleNotFoundError else ImportError
            message = f"{what} cannot be imported: {exc}"
            raise error(message, name=exc.name, path=exc.path) from exc
        attributes = [part for part in attribute.split(".") if part]
        try:
            target = reduce(getattr, attributes, module)
        except AttributeError as exc:
            raise ImportError(f"{what} cannot be imported: {exc}") from exc
        if not isinstance(target, type):
            raise TypeError(f"{what} must be a class, but is {target!r}")
        return target


def load_component(kind: Kind, name: str) -> type:
    """Import and return the class that is configured by this name.

    :raises PluginNotFoundError: if no installed distribution brings it
    :raises ImportError: if it is installed, but something that it imports is not
    :raises TypeError: if the name is not a string, or does not lead to a class
    """
    if not isinstance(name, str):
        raise TypeError(f"The type of a {_words(kind)} must be a name, but is {name!r}")
    found = get_hooks().find_component(kind, name)
    if isinstance(found, type):
        return found
    components = installed_components(kind)
    if name not in components:
        raise PluginNotFoundError(kind, name, components)
    return components[name].load()


def resolve_reference(reference: str | type) -> type:
    """Return the class that ``class = "module:Class"`` names; a class is itself.

    :raises ValueError: if the reference is not of the form ``module:Class``
    :raises LookupError: if there is no such module, or nothing of that name in it
    :raises TypeError: if what it names is not a class
    """
    if isinstance(reference, type):
        return reference
    from apscheduler.util import ref_to_obj

    target = ref_to_obj(reference)
    if not isinstance(target, type):
        raise TypeError(f"{reference!r} must name a class, but names {target!r}")
    return target


def installed_components(kind: Kind) -> dict[str, Component]:
    """Return the installed components of the kind by name, in alphabetical order.

    Nothing is imported; what is installed is looked up once per kind.
    """
    return dict(_components(kind))


def forget_components() -> None:
    """Look again at what is installed, for programs that install while they run."""
    installed.forget()
    _components.cache_clear()


class ComponentMap(MutableMapping[str, Loadable]):
    """The installed components of a kind, looked up when first asked for.

    Changes stay in this map; they are how a component is added without packaging.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._read: dict[str, Loadable] | None = None

    @property
    def _items(self) -> dict[str, Loadable]:
        if self._read is None:
            self._read = {**installed_components(self.kind)}
        return self._read

    def __getitem__(self, name: str) -> Loadable:
        if self._read is None:
            # Ours win over others of the same name anyway, so nothing needs to be looked through.
            ours = _find_ours(self.kind, name)
            if ours is not None:
                return ours
        return self._items[name]

    def __setitem__(self, name: str, component: Loadable) -> None:
        self._items[name] = component

    def __delitem__(self, name: str) -> None:
        del self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        names = "not read yet" if self._read is None else sorted(self._read)
        return f"<{type(self).__name__} {self.kind}: {names}>"


def _words(kind: Kind) -> str:
    if kind not in KINDS:
        raise ValueError(
            f"{kind!r} is no kind of component; expected one of {[*KINDS]}"
        )
    return KINDS[kind]


def _find_ours(kind: Kind, name: str) -> Component | None:
    """Return a component of this project if its module is there, also where there is no metadata."""
    value = COMPONENTS[kind].get(name)
    if value is None or not _is_importable(value.partition(":")[0]):
        return None
    return Component(kind, name, value)


@cache
def _components(kind: Kind) -> dict[str, Component]:
    words = _words(kind)
    ours = COMPONENTS[kind]
    found: dict[str, Component] = {}
    for entry_point in installed.entry_points_of(f"apscheduler.{kind}s"):
        name, value = entry_point.name, entry_point.value
        component = Component(kind, name, value, entry_point.dist)
        rival = found.setdefault(name, component)
        if rival.value == value:
            continue
        if value == ours.get(name):
            found[name] = component
        logger.warning(
            "Two distributions bring a %s named %r: %s and %s; using %s",
            words,
            name,
            rival.value,
            value,
            found[name].value,
        )
    for name in ours:
        # Frozen applications have the modules, but no metadata.
        if name not in found and (component_of_ours := _find_ours(kind, name)):
            found[name] = component_of_ours
    return dict(sorted(found.items()))


def _is_importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
