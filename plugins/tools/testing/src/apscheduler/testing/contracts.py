"""What all contract suites have in common: they leave out what a component declares not to promise."""

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T", bound=Callable[..., Any])

CONDITION = "_only_if"


def only_if(condition: Callable[[Any], object]) -> Callable[[T], T]:
    """Mark a test to be part only of suites for which the condition is true.

    :param condition: is given the suite, a class; what it looks at are the declarations there
    """

    def mark(test: T) -> T:
        setattr(test, CONDITION, condition)
        return test

    return mark


class Contract:
    """Base of the suites. A test whose condition is not met is not there, rather than skipped in every run."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in dir(cls):
            # Who states a condition does not have to meet it.
            if not name.startswith("test_") or name in vars(cls):
                continue
            # Not what a base class has left out: this one may declare something else.
            members = (vars(base).get(name) for base in cls.__mro__)
            test = next((member for member in members if member is not None), None)
            condition = getattr(test, CONDITION, None)
            if condition is not None:
                setattr(cls, name, test if condition(cls) else None)
