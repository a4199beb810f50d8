"""The largest term."""

import pytest
import torch
from helpers.combiner_cases import Case, here

from lossweave.combiners import Max, build_combiner
from lossweave.errors import LossweaveError

CASES = {"Max": Case(one_wins=True)}


@pytest.mark.parametrize(
    ("losses", "winner"),
    [
        ([2.0, 3.0, 5.0], 2),
        ([3.0, 3.0, 1.0], 0),
        ([4.0, 4.0, 4.0], 0),
        ([0.0, 3.0, 5.0], 2),
        ([0.0, -3.0, -5.0], 0),
        ([0.0, 0.0, 2.0], 2),
        ([0.0, 0.0, 0.0], 0),
        ([1e38, 3e38, 2e38], 1),
    ],
)
def test_which_term_wins(losses: list[float], winner: int) -> None:
    value, weights = Max().combine(torch.tensor(losses), here())
    assert value == torch.tensor(losses[winner])
    assert weights.tolist() == [float(k == winner) for k in range(3)]


def test_absent_terms_never_win() -> None:
    losses, present = torch.tensor([0.0, -3.0, -5.0]), torch.tensor([False, True, True])
    value, weights = Max().combine(losses, present)
    assert value == losses[1] and weights.tolist() == [0, 1, 0]


def test_nothing_present() -> None:
    value, weights = Max().combine(torch.zeros(2), torch.tensor([False, False]))
    assert value == 0 and weights.tolist() == [0, 0]


def test_it_takes_no_arguments() -> None:
    with pytest.raises(LossweaveError, match="Max has no argument 'p'; it takes prefer"):
        build_combiner({"type": "Max", "p": 1})
