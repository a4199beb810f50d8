"""Every registered combiner is in the tests' table."""

from helpers import gradient_cases
from helpers.combiner_cases import TERMS, cases, make, registered, registered_gradient
from helpers.gather import name_of


def test_every_registered_combiner_is_covered() -> None:
    assert registered() and {name_of(case) for case in cases()} == set(registered())
    assert {name_of(case) for case in gradient_cases.cases()} == set(registered_gradient())


def test_every_case_can_be_made_for_one_term_and_in_any_order() -> None:
    for case in cases():
        for terms in (TERMS, ("c", "a", "b"), ("b", "c"), ("a",)):
            assert make(case, terms).terms == terms
