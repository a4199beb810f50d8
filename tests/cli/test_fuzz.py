"""A seeded part of the mutations of configs and command lines; ``make fuzz`` runs the whole."""

from collections.abc import Iterator

import pytest
from helpers.fuzz.cases import Case, cases
from helpers.fuzz.run import ready, run

CASES = list(cases(60, seed=20))


@pytest.fixture(scope="module", autouse=True)
def _ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    pytest.importorskip("mmdet")
    pytest.importorskip("detectron2")
    with ready(tmp_path_factory.mktemp("fuzz")):
        yield


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.number}-{case.target.name}")
def test_it_trains_or_ends_in_one_line(case: Case) -> None:
    outcome = run(case)
    assert not outcome.fault, f"{case.what}: {outcome.line}"


def test_the_mutations_are_of_all_kinds_and_the_same_for_a_seed() -> None:
    again = list(cases(60, seed=20))
    assert again == CASES and list(cases(60, seed=21)) != CASES
    for kind in ("words", "file", "combiner", "terms"):
        assert any(case.what.startswith(kind) for case in CASES), kind
    assert {case.target.name for case in CASES} >= {"mmdet", "yaml", "lazy"}
    assert {case.right for case in CASES} == {True, False, None}
