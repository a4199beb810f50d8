"""The smallest and the largest term."""

import pytest
import torch
from helpers.combiner_cases import Case, here

from lossweave.combiners import Max, Min, build_combiner
from lossweave.errors import LossweaveError

CASES = {name: Case(one_wins=True) for name in ("Max", "Min")}


@pytest.mark.parametrize(
    ("losses", "smallest", "largest"),
    [
        ([2.0, 3.0, 5.0], 0, 2),
        ([3.0, 3.0, 1.0], 2, 0),
        ([4.0, 4.0, 4.0], 0, 0),
        ([0.0, 3.0, 5.0], 1, 2),
        ([0.0, -3.0, -5.0], 2, 0),
        ([0.0, 0.0, 2.0], 2, 2),
        ([0.0, 0.0, 0.0], 0, 0),
        ([1e38, 3e38, 2e38], 0, 1),
    ],
)
def test_which_term_wins(losses: list[float], smallest: int, largest: int) -> None:
    for combiner, winner in ((Min(), smallest), (Max(), largest)):
        value, weights = combiner.combine(torch.tensor(losses), here())
        assert value == torch.tensor(losses[winner])
        assert weights.tolist() == [float(k == winner) for k in range(3)]


def test_absent_terms_never_win() -> None:
    for absent, combiner in (([0.0, 3.0, 5.0], Min()), ([0.0, -3.0, -5.0], Max())):
        present = torch.tensor([False, True, True])
        value, weights = combiner.combine(torch.tensor(absent), present)
        assert value == absent[1] and weights.tolist() == [0, 1, 0]


def test_min_takes_a_zero_before_an_absent_term() -> None:
    present = torch.tensor([False, True])
    assert Min().combine(torch.tensor([0.0, 0.0]), present).weights.tolist() == [0, 1]


def test_nothing_present() -> None:
    for combiner in (Min(), Max()):
        value, weights = combiner.combine(torch.zeros(2), torch.tensor([False, False]))
        assert value == 0 and weights.tolist() == [0, 0]


@pytest.mark.parametrize("name", ["Min", "Max"])
def test_they_take_no_arguments(name: str) -> None:
    with pytest.raises(LossweaveError, match=f"{name} has no argument 'p'; it takes none"):
        build_combiner({"type": name, "p": 1})
