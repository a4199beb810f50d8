"""FAMO, against TorchJD's."""

from typing import Any

import pytest
import torch
from helpers.combiner_cases import Case, close, here, losses_at
from torch import Tensor
from torchjd.scalarization import FAMO as TorchJDFAMO

from lossweave.combiners import FAMO, Combiner, build_combiner
from lossweave.errors import LossweaveError


def _formula(combiner: Combiner, losses: Tensor) -> Tensor:
    z = torch.softmax(combiner.get_buffer("logits").double(), dim=0)
    c = 1 / (z / losses).sum()
    return (c.detach() * z * losses.log()).sum()


CASES = {
    "FAMO": Case(
        lambda terms: {"lr": 0.1, "min_losses": dict.fromkeys(terms, 0.0)},
        formula=_formula,
        training={"lr": 0.1},
        value_alone=False,
        drops_negative=True,
        unknown=("previous",),
        forgets=("previous",),  # what the last update's losses were
    )
}


def _bound(terms: tuple[str, ...] = ("a", "b", "c"), **arguments: Any) -> FAMO:
    combiner = FAMO(**arguments)
    combiner.bind(terms)
    return combiner


def test_worked_example() -> None:
    weights = _bound(("a", "b")).combine(torch.tensor([1.0, 2.0]), here(2)).weights
    close(weights, [2 / 3, 1 / 3])


@pytest.mark.parametrize("bounds", [None, [0.0, 1.0, -0.5]])
def test_equals_torchjd_over_many_updates_of_the_next_batch(bounds: list[float] | None) -> None:
    own = _bound(lr=0.1, weight_decay=0.01, min_losses=bounds)
    floor = None if bounds is None else torch.tensor(bounds)
    reference = TorchJDFAMO(3, floor, lr=0.1, weight_decay=0.01)
    for t in range(60):
        losses = losses_at(t)
        variable = losses.clone().requires_grad_()
        expected = reference(variable)
        expected.backward()
        value, weights = own.combine(losses, here())
        close(value, expected.detach(), rtol=1e-4, atol=1e-5)
        assert variable.grad is not None
        close(weights, variable.grad, rtol=1e-4, atol=1e-6)
        own.update(losses, here())
        reference.update(losses_at(t + 1))
        own.relearn(losses_at(t + 1), here())
        own.previous.fill_(torch.nan)  # or the next update() would learn from this pair again
    close(own.logits, reference._w.detach(), rtol=1e-3, atol=1e-5)
    assert own.logits.abs().max() > 0.1


def test_recompute_learns_from_the_same_batch_only_where_it_is_told() -> None:
    own, reference = _bound(recompute=True), TorchJDFAMO(3)
    for t in range(40):
        losses = losses_at(t)
        after = losses * torch.tensor([0.9, 0.99, 1.05])
        own.combine(losses, here())
        own.update(losses, here())
        own.relearn(after, here())
        reference(losses)
        reference.update(after)
    close(own.logits, reference._w.detach(), rtol=1e-3, atol=1e-5)
    assert own.needs_hook and not FAMO().needs_hook


def test_by_default_the_next_batch_is_what_it_learns_from() -> None:
    own, other = _bound(), _bound()
    for t in range(10):
        own.update(losses_at(t), here())
    other.update(losses_at(0), here())
    for t in range(1, 10):
        other.relearn(losses_at(t), here())
        other.previous.copy_((losses_at(t) + 1e-8).log())
    assert torch.equal(own.logits, other.logits) and own.logits.abs().max() > 0


def test_an_unmeasured_term_neither_learns_nor_teaches() -> None:
    own = _bound(("a", "b"))
    present = torch.tensor([True, False])
    for t in range(10):
        own.update(torch.tensor([1.0 / (t + 1), 0.0]), present)
    assert own.logits.tolist() == [0, 0]  # a single measured term has nothing to be balanced with


def test_a_term_at_its_bound_takes_no_part() -> None:
    own = _bound(min_losses=[1.0, 0.0, 0.0])
    value, weights = own.combine(torch.tensor([1.0, 1.0, 2.0]), here())
    close(weights, [0.0, 2 / 3, 1 / 3])
    assert value.isfinite()


def test_a_gap_in_a_term_is_not_taken_for_progress() -> None:
    own = _bound(("a", "b"), weight_decay=0.0)
    for losses, there in (([1.0, 1.0], [1, 1]), ([1.0, 0.0], [1, 0]), ([1.0, 9.0], [1, 1])):
        own.update(torch.tensor(losses), torch.tensor(there) > 0)
    assert own.logits.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -1.0}, "FAMO: lr=-1.0 should be finite and not negative"),
        ({"weight_decay": -1e-3}, "FAMO: weight_decay=-0.001 should be"),
        ({"lr": float("nan")}, "FAMO: lr=nan should be"),
        ({"lr": "fast"}, "FAMO: lr='fast' should be a number"),
        ({"recompute": 1}, "FAMO: recompute=1 should be True or False"),
        ({"min_loss": 0.0}, r"FAMO has no argument 'min_loss'.*did you mean 'min_losses'\?"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        build_combiner({"type": "FAMO", **arguments})


def test_bounds_that_do_not_fit() -> None:
    with pytest.raises(LossweaveError, match="FAMO: min_losses has 2 entries for the 3 terms"):
        _bound(min_losses=[0.0, 0.0])
