"""The geometric mean, against TorchJD's."""

import pytest
import torch
from helpers.combiner_cases import Case, close, here
from torchjd.scalarization import GeometricMean as TorchJDGeometricMean

from lossweave.combiners import GeometricMean, build_combiner
from lossweave.errors import LossweaveError

CASES = {"GeometricMean": Case(drops_negative=True)}


@pytest.mark.parametrize("losses", [[1.0, 4.0], [0.3], [1e-20, 1e15, 2.0], [5.0, 5.0, 5.0, 5.0]])
def test_equals_torchjd(losses: list[float]) -> None:
    variable = torch.tensor(losses, requires_grad=True)
    expected = TorchJDGeometricMean()(variable)
    expected.backward()
    value, weights = GeometricMean().combine(torch.tensor(losses), here(len(losses)))
    close(value, expected.detach())
    assert variable.grad is not None
    close(weights, variable.grad, rtol=1e-4)


def test_worked_example() -> None:
    value, weights = GeometricMean().combine(torch.tensor([2.0, 4.0, 8.0]), here())
    close(value, 4.0)
    close(weights, [2 / 3, 1 / 3, 1 / 6])


@pytest.mark.parametrize("out", [0.0, -2.0, 1e-39])
def test_a_term_at_zero_or_below_is_left_out(out: float) -> None:
    value, weights = GeometricMean().combine(torch.tensor([out, 1.0, 4.0]), here())
    close(value, 2.0)
    close(weights, [0.0, 1.0, 0.25])


def test_it_does_not_overflow_where_the_product_does() -> None:
    value, weights = GeometricMean().combine(torch.full((3,), 1e38), here())
    close(value, 1e38, rtol=1e-4)
    close(weights, [1 / 3] * 3)


def test_all_left_out() -> None:
    value, weights = GeometricMean().combine(torch.zeros(2), here(2))
    assert value == 0 and weights.tolist() == [0, 0]


def test_it_takes_no_arguments() -> None:
    with pytest.raises(LossweaveError, match="GeometricMean has no argument 'eps'"):
        build_combiner({"type": "GeometricMean", "eps": 1e-6})
