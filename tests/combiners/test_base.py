"""What every combiner inherits."""

from typing import Any

import pytest
import torch
from helpers.combiner_cases import close, here
from torch import Tensor

from lossweave.combiners import Combiner, Sum
from lossweave.errors import LossweaveError
from lossweave.progress import Progress


class Cubes(Combiner):
    def value(self, losses: Tensor, present: Tensor) -> Tensor:
        return (losses**3).sum() + 5 * losses.detach().sum()


class Counting(Combiner):
    seen: Tensor

    def init_state(self, count: int) -> None:
        self.register_buffer("seen", torch.zeros(count))


def test_weights_are_the_derivative_and_detached_parts_are_constants() -> None:
    value, weights = Cubes().combine(torch.tensor([1.0, 2.0]), here(2))
    assert value == 24 and weights.tolist() == [3, 12]
    assert not value.requires_grad and not weights.requires_grad


def test_an_absent_term_has_no_weight() -> None:
    weights = Cubes().combine(torch.tensor([1.0, 2.0]), torch.tensor([True, False])).weights
    assert weights.tolist() == [3, 0]


def test_it_works_where_gradients_are_off() -> None:
    with torch.no_grad():
        assert Cubes().combine(torch.tensor([2.0]), here(1)).weights.tolist() == [12]


def test_a_value_that_trains_nothing_is_refused() -> None:
    class Cut(Combiner):
        def value(self, losses: Tensor, present: Tensor) -> Tensor:
            return losses.detach().sum()

    with pytest.raises(LossweaveError, match=r"Cut: value\(\) is not differentiable"):
        Cut().combine(torch.ones(2), here(2))


def test_no_formula_is_said() -> None:
    with pytest.raises(NotImplementedError, match="Combiner defines no value"):
        Combiner().combine(torch.ones(2), here(2))


def test_reset_keeps_the_device() -> None:
    combiner = Counting()
    combiner.bind(("a", "b"))
    combiner.to("meta")
    combiner.reset()
    assert combiner.seen.device.type == "meta"


def test_reset_forgets() -> None:
    combiner = Counting()
    combiner.bind(("a", "b"))
    combiner.seen += 3
    combiner.reset()
    assert combiner.seen.tolist() == [0, 0]


def test_constants_are_not_in_the_checkpoint() -> None:
    combiner = Sum(weights=[1.0, 2.0])
    combiner.bind(("a", "b"))
    assert not combiner.state_dict() and len(list(combiner.buffers())) == 1


def test_begin_keeps_the_progress() -> None:
    combiner = Sum()
    combiner.begin(Progress(7))
    assert combiner.progress.iteration == 7


@pytest.mark.parametrize(
    ("values", "expected"),
    [(2, [2.0, 2.0]), ([1, 3], [1.0, 3.0]), ({"b": 1, "a": 2}, [2.0, 1.0])],
)
def test_per_term(values: Any, expected: list[float]) -> None:
    combiner = Sum()
    combiner.bind(("a", "b"))
    assert combiner.per_term(values, "weights") == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2, 3], "weights has 3 entries for the 2 terms"),
        ({"a": 1}, r"weights lacks the terms \['b'\]"),
        ({"a": 1, "b": 2, "z": 3}, r"weights='z' is not one of the terms \['a', 'b'\]"),
        ([1.0, torch.nan], "should be finite numbers"),
        (torch.inf, "weights=inf should be finite numbers"),
    ],
)
def test_per_term_refuses(values: Any, message: str) -> None:
    combiner = Sum()
    combiner.bind(("a", "b"))
    with pytest.raises(LossweaveError, match=message):
        combiner.per_term(values, "weights")


def test_float64_stays() -> None:
    value, weights = Cubes().combine(torch.tensor([0.1], dtype=torch.float64), here(1))
    assert value.dtype == weights.dtype == torch.float64
    close(weights, [0.03], rtol=1e-12, atol=0.0)
