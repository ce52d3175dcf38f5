"""What records have in common."""

import pickle
import subprocess
import sys
from typing import Any

import pytest

from apscheduler.records import copier, fresh, record, replace, values_of


@record
class Leaf:
    """Part of a tree."""

    colour: str
    size: float = 1.5
    veins: list[str] = fresh(default_factory=list)

    @property
    def is_green(self) -> bool:
        """Whether it is not autumn."""
        return self.colour == "green"


@record
class Petal:
    """Has what a leaf has."""

    colour: str
    size: float = 1.5
    veins: list[str] = fresh(default_factory=list)


def test_attributes_are_given_in_their_order_or_by_name() -> None:
    assert values_of(Leaf("green", veins=["a"])) == {
        "colour": "green",
        "size": 1.5,
        "veins": ["a"],
    }
    assert Leaf("red", 2).size == 2
    assert Leaf("green").is_green


def test_defaults_that_can_change_are_not_shared() -> None:
    one, other = Leaf("green"), Leaf("green")

    one.veins.append("a")

    assert other.veins == []


def test_what_is_given_in_place_of_such_a_default_is_taken_as_it_is() -> None:
    given: list[str] = []

    assert Leaf("green", veins=given).veins is given


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), (("green", 1, [], "more"), {}), (("green",), {"length": 2})],
    ids=["too few", "too many", "unknown"],
)
def test_a_constructor_takes_the_attributes_and_nothing_else(
    args: Any, kwargs: Any
) -> None:
    with pytest.raises(TypeError, match=r"Leaf\.__init__\(\)"):
        Leaf(*args, **kwargs)


def test_records_are_equal_if_class_and_attributes_are() -> None:
    assert Leaf("green") == Leaf("green")
    assert Leaf("green") != Leaf("red")
    others: list[object] = [Petal("green"), "green"]
    assert Leaf("green") not in others


def test_records_can_be_changed_and_are_no_keys() -> None:
    leaf = Leaf("green")

    leaf.colour = "red"

    assert leaf == Leaf("red")
    with pytest.raises(TypeError, match="unhashable"):
        hash(leaf)
    with pytest.raises(AttributeError):
        leaf.length = 2  # type: ignore[attr-defined]  # that is the point


def test_a_copy_has_other_values_of_some_attributes() -> None:
    leaf = Leaf("green", 2)

    assert replace(leaf, colour="red") == Leaf("red", 2)
    assert leaf.colour == "green"
    with pytest.raises(TypeError, match="length"):
        replace(leaf, length=2)


def test_records_show_what_they_keep() -> None:
    assert repr(Leaf("green")) == "Leaf(colour='green', size=1.5, veins=[])"


def test_records_can_be_pickled() -> None:
    leaf = Leaf("green", veins=["a"])

    assert pickle.loads(pickle.dumps(leaf)) == leaf


def test_a_class_stays_what_it_was_declared_as() -> None:
    assert Leaf.__doc__ == "Part of a tree."
    assert (Leaf.__name__, Leaf.__module__) == ("Leaf", __name__)
    assert not hasattr(Leaf("green"), "__dict__")


@pytest.mark.parametrize(
    "schedule", ['"interval", seconds=0.001', '"cron", second="*"', '"date"']
)
def test_schedulers_start_without_the_modules_that_look_into_code(
    schedule: str,
) -> None:
    program = """
import sys, threading
from apscheduler.schedulers.background import BackgroundScheduler

ran = threading.Event()
def tick():
    ran.set()
scheduler = BackgroundScheduler(timezone="UTC")
scheduler.add_job(tick, SCHEDULE, id="x")
scheduler.start()
assert ran.wait(30)
scheduler.shutdown()
print(sorted({"ast", "dataclasses", "difflib", "inspect"} & set(sys.modules)))
""".replace("SCHEDULE", schedule)
    output = subprocess.run(
        [sys.executable, "-I", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout

    assert output.splitlines()[-1] == "[]"


def test_copies_have_the_same_values() -> None:
    leaf = Leaf("green", veins=["a"])

    copied = copier(Leaf)(leaf)

    assert copied == leaf
    assert copied is not leaf
    assert copied.veins is leaf.veins
