"""The smallest term."""

import pytest
import torch
from helpers.combiner_cases import Case, here

from lossweave.combiners import Min, build_combiner
from lossweave.errors import LossweaveError

CASES = {"Min": Case(one_wins=True)}


@pytest.mark.parametrize(
    ("losses", "winner"),
    [
        ([2.0, 3.0, 5.0], 0),
        ([3.0, 3.0, 1.0], 2),
        ([4.0, 4.0, 4.0], 0),
        ([0.0, 3.0, 5.0], 1),
        ([0.0, -3.0, -5.0], 2),
        ([0.0, 0.0, 2.0], 2),
        ([0.0, 0.0, 0.0], 0),
        ([1e38, 3e38, 2e38], 0),
    ],
)
def test_which_term_wins(losses: list[float], winner: int) -> None:
    value, weights = Min().combine(torch.tensor(losses), here())
    assert value == torch.tensor(losses[winner])
    assert weights.tolist() == [float(k == winner) for k in range(3)]


def test_absent_terms_never_win() -> None:
    losses, present = torch.tensor([0.0, 3.0, 5.0]), torch.tensor([False, True, True])
    value, weights = Min().combine(losses, present)
    assert value == losses[1] and weights.tolist() == [0, 1, 0]


def test_it_takes_a_zero_before_an_absent_term() -> None:
    present = torch.tensor([False, True])
    assert Min().combine(torch.tensor([0.0, 0.0]), present).weights.tolist() == [0, 1]


def test_nothing_present() -> None:
    value, weights = Min().combine(torch.zeros(2), torch.tensor([False, False]))
    assert value == 0 and weights.tolist() == [0, 0]


def test_it_takes_no_arguments() -> None:
    with pytest.raises(LossweaveError, match="Min has no argument 'p'; it takes none"):
        build_combiner({"type": "Min", "p": 1})
