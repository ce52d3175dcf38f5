"""Suites leave out the tests that their component declares not to promise."""

from apscheduler.testing.contracts import Contract, only_if


class Fragile(Contract):
    """A suite with a condition, which is not collected itself: its name does not begin with Test."""

    breaks = False

    @only_if(lambda suite: not suite.breaks)
    def test_holds(self) -> None:
        """Hold."""

    def test_exists(self) -> None:
        """Exist."""


class Breaking(Fragile):
    breaks = True


class Repaired(Breaking):
    breaks = False


class WithItsOwn(Breaking):
    def test_holds(self) -> None:
        """Hold in another way."""


def test_a_test_whose_condition_is_not_met_is_left_out() -> None:
    assert Breaking.test_holds is None
    assert Breaking.test_exists is Fragile.test_exists


def test_other_suites_are_not_affected() -> None:
    assert Fragile.test_holds is not None


def test_a_suite_that_declares_something_else_has_the_test_again() -> None:
    assert Repaired.test_holds is Fragile.test_holds


def test_a_suite_can_have_a_test_of_its_own_instead() -> None:
    assert WithItsOwn.test_holds is not None
    assert WithItsOwn.test_holds is not Fragile.test_holds
