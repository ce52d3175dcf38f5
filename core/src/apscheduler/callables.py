"""What is needed to know of a callable: its name, a reference to it, and whether arguments fit."""

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import lru_cache, partial
from importlib import import_module
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    CodeType,
    CoroutineType,
    FunctionType,
    GeneratorType,
    MethodDescriptorType,
    MethodType,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Any, TypeGuard

# The module inspect takes long to load, and is only needed for unusual functions: it is imported where it is used.
if TYPE_CHECKING:
    from inspect import Parameter

METHODS_OF_BUILT_IN_CLASSES = (
    ClassMethodDescriptorType,
    MethodDescriptorType,
    WrapperDescriptorType,
)

# The flags of async functions, and of generator functions that types.coroutine() has made awaitable.
CO_COROUTINE = 0x80
CO_ITERABLE_COROUTINE = 0x100


def get_callable_name(func: object) -> str:
    """Return the name to show for a callable: its qualified name, methods with their class.

    :raises TypeError: if the object is not callable
    """
    if not callable(func):
        raise TypeError(f"{func!r} is not callable: give a function, method or class")
    owner = getattr(func, "__self__", None)
    if isinstance(owner, type) or isinstance(func, MethodType):
        owner_class = owner if isinstance(owner, type) else type(owner)
        method_name: str = getattr(func, "__name__", type(func).__qualname__)
        return f"{owner_class.__qualname__}.{method_name}"
    name = getattr(func, "__qualname__", None)
    return name if isinstance(name, str) else type(func).__qualname__


def obj_to_ref(obj: object) -> str:
    """Return the reference ``module:qualified.name`` of a callable, without looking whether it leads back.

    :raises TypeError: if the object is not callable
    :raises ValueError: if no reference can be made: partials, lambdas and functions inside functions
    """
    if isinstance(obj, partial):
        raise ValueError(f"Cannot create a reference to a partial(): {obj!r}")
    name = get_callable_name(obj)
    if "<lambda>" in name:
        raise ValueError(f"Cannot create a reference to a lambda: {obj!r}")
    if "<locals>" in name:
        raise ValueError(f"Cannot create a reference to a nested function: {obj!r}")
    return f"{_get_module_name(obj)}:{name}"


def _get_module_name(obj: object) -> str | None:
    owner = getattr(obj, "__self__", None)
    if isinstance(owner, type):
        return owner.__module__
    if isinstance(obj, MethodType):
        return type(owner).__module__
    if isinstance(obj, METHODS_OF_BUILT_IN_CLASSES):  # such as str.upper
        return obj.__objclass__.__module__
    module: str | None = getattr(obj, "__module__", None)
    return module


def ref_to_obj(ref: str) -> Any:
    """Return what the reference ``module:qualified.name`` leads to.

    :raises TypeError: if the reference is not a string
    :raises ValueError: if it does not have this form
    :raises LookupError: if the module cannot be imported or has nothing of that name
    """
    if not isinstance(ref, str):
        raise TypeError(f"A reference must be a string, not {ref!r}")
    module_name, names = _take_apart(ref)
    found: Any = sys.modules.get(module_name)
    # Importing what is there only takes time, unless another thread is at it: then it waits.
    spec = getattr(found, "__spec__", None)
    if getattr(spec, "_initializing", True):
        try:
            found = import_module(module_name)
        except ImportError as exc:
            raise LookupError(
                f"Cannot resolve reference {ref!r}: could not import {module_name!r}: {exc}"
            ) from exc
    try:
        for name in names:
            found = getattr(found, name)
    except Exception as exc:  # properties and lazy modules may raise anything
        raise LookupError(
            f"Cannot resolve reference {ref!r}: {module_name!r} has no {'.'.join(names)!r}"
        ) from exc
    return found


@lru_cache(maxsize=500)  # of many jobs, few functions
def _take_apart(ref: str) -> tuple[str, tuple[str, ...]]:
    """Return the name of the module in a reference, and those that lead from there to what is meant."""
    module_name, colon, path = ref.partition(":")
    if not colon or not module_name or module_name.startswith("."):
        raise ValueError(
            f"{ref!r} is not a reference: it must look like 'package.module:name'"
        )
    return module_name, tuple(path.split("."))


def resolves_back(func: object, ref: str) -> bool:
    """Say whether the reference leads to this callable again.

    For a method bound to an instance it must lead to the plain function (the instance is then stored with the
    arguments) or to an equal bound method.
    """
    try:
        found = ref_to_obj(ref)
    except (LookupError, ValueError):
        return False
    if found is func:
        return True
    if isinstance(func, MethodType):
        if found is func.__func__:
            return not isinstance(func.__self__, type)
        return isinstance(found, MethodType) and found == func
    # Methods of built-in objects and classes are made anew each time they are looked up.
    return isinstance(func, BuiltinFunctionType) and found == func


# How references inside a stored state are resolved while that is read; who reads only what is allowed replaces it.
state_resolver: ContextVar[Callable[[str], Any]] = ContextVar(
    "state_resolver", default=ref_to_obj
)


def maybe_ref(ref: Any) -> Any:
    """Return what a reference leads to; anything but a string unchanged."""
    return ref_to_obj(ref) if isinstance(ref, str) else ref


def iscoroutinefunction_partial(f: object) -> bool:
    """Say whether a call gives a coroutine: async functions, instances with an async call, and partials of them."""
    while isinstance(f, partial):
        f = f.func
    code = getattr(f, "__code__", None)
    # What nearly all of them are, told without a chain of questions.
    if isinstance(code, CodeType) and code.co_flags & CO_COROUTINE:
        return True
    import inspect

    if inspect.iscoroutinefunction(f):
        return True
    if not callable(f) or inspect.isroutine(f) or inspect.isclass(f):
        return False
    return inspect.iscoroutinefunction(type(f).__call__)


def is_awaitable(value: object) -> TypeGuard[Awaitable[Any]]:
    """Say whether the value can be awaited."""
    if isinstance(value, (CoroutineType, Awaitable)):
        return True
    if not isinstance(value, GeneratorType):
        return False
    return bool(value.gi_code.co_flags & CO_ITERABLE_COROUTINE)


def check_callable_args(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    """Check that the callable can be called with these arguments, as far as its signature tells.

    :raises ValueError: saying which arguments do not fit
    """
    if not kwargs and _takes_positional(func, len(args)):
        return
    import inspect

    try:
        signature = inspect.signature(func, follow_wrapped=False)
    except ValueError:  # some built-in callables have none
        return
    problem = _find_argument_problem(
        list(signature.parameters.values()), len(args), kwargs
    )
    if problem:
        raise ValueError(
            f"{get_callable_name(func)} cannot be called this way: {problem}"
        )


def _takes_positional(func: Callable[..., Any], given: int) -> bool:
    """Return whether a plain function can surely be called with so many arguments: most can, and this is soon said."""
    if type(func) is MethodType:
        func, given = func.__func__, given + 1
    if type(func) is not FunctionType or func.__dict__:  # perhaps with a __signature__
        return False
    code = func.__code__
    required = code.co_argcount - len(func.__defaults__ or ())
    return required <= given <= code.co_argcount and not code.co_kwonlyargcount


def _find_argument_problem(
    parameters: "list[Parameter]", given: int, kwargs: Mapping[str, Any]
) -> str | None:
    from inspect import Parameter

    kinds = {parameter.kind for parameter in parameters}
    takes_any_keyword = Parameter.VAR_KEYWORD in kinds
    positional = [
        p
        for p in parameters
        if p.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    ]
    keyword_only = [p for p in parameters if p.kind is Parameter.KEYWORD_ONLY]
    supplied, open_ = positional[:given], positional[given:]

    def names(wanted: list[Parameter]) -> str:
        return ", ".join(parameter.name for parameter in wanted)

    def by_keyword(wanted: list[Parameter], kind: int) -> list[Parameter]:
        return [p for p in wanted if p.kind is kind and p.name in kwargs]

    def missing(wanted: list[Parameter]) -> list[Parameter]:
        return [p for p in wanted if p.default is p.empty and p.name not in kwargs]

    if wrong := by_keyword(supplied, Parameter.POSITIONAL_OR_KEYWORD):
        return f"supplied in both args and kwargs: {names(wrong)}"
    # With **kwargs, the name of a parameter that is filled by position is free.
    candidates = open_ if takes_any_keyword else positional
    if wrong := by_keyword(candidates, Parameter.POSITIONAL_ONLY):
        return f"positional-only arguments given in kwargs: {names(wrong)}"
    if wrong := missing(open_):
        return f"required arguments have not been supplied: {names(wrong)}"
    if wrong := missing(keyword_only):
        return f"required keyword-only arguments have not been supplied in kwargs: {names(wrong)}"
    if given > len(positional) and Parameter.VAR_POSITIONAL not in kinds:
        return f"it takes {len(positional)} positional arguments, but args has {given}"
    known = {p.name for p in positional + keyword_only}
    if not takes_any_keyword and (unknown := [k for k in kwargs if k not in known]):
        return f"it does not accept these keyword arguments: {', '.join(map(str, unknown))}"
    return None
