"""CoV weights against the definition: the whole history's mean and standard deviation."""

import torch
from helpers.combiner_cases import Case, at, close, here, losses_at
from torch import Tensor

from lossweave.combiners import CoV

CASES = {"CoV": Case(lambda terms: {})}


def _bound(terms: tuple[str, ...] = ("a", "b", "c")) -> CoV:
    combiner = CoV()
    combiner.bind(terms)
    return combiner


def _expected(history: list[Tensor]) -> Tensor:
    """From all losses so far, with nothing kept on the way."""
    losses = torch.stack(history).double()
    ratios = losses.clone()
    ratios[0] = 1
    for t in range(1, len(losses)):
        ratios[t] = losses[t] / losses[:t].mean(0)
    spread = (ratios.var(0, correction=0) + 1e-8).sqrt() / ratios.mean(0)
    return spread / spread.sum()


def test_equals_its_definition_over_the_whole_history() -> None:
    own, history = _bound(), []
    for t in range(60):
        losses = losses_at(t)
        own.begin(at(t))
        value, weights = own.combine(losses, here())
        expected = torch.full((3,), 1 / 3) if t < 2 else _expected(history)
        close(weights.double(), expected.double(), rtol=1e-4)
        close(value, (weights * losses).sum())
        own.update(losses, here())
        history.append(losses)


def test_the_scale_of_a_term_does_not_matter() -> None:
    plain, scaled, scales = _bound(), _bound(), torch.tensor([1e-4, 1.0, 1e6])
    for t in range(20):
        plain.update(losses_at(t), here())
        scaled.update(losses_at(t) * scales, here())
    close(plain.combine(losses_at(20), here()).weights,
          scaled.combine(losses_at(20), here()).weights, rtol=1e-3)  # fmt: skip


def test_constant_losses_weigh_alike_and_the_one_that_varies_prevails() -> None:
    own = _bound()
    for _ in range(10):
        own.update(torch.tensor([0.1, 5.0, 70.0]), here())
    close(own.combine(torch.ones(3), here()).weights, [1 / 3] * 3, rtol=1e-3)
    for t in range(10):
        own.update(torch.tensor([0.1, 5.0, 70.0 + 20 * (-1) ** t]), here())
    assert own.combine(torch.ones(3), here()).weights[2] > 0.99


def test_a_late_term_takes_an_equal_share_until_its_second_update() -> None:
    own, early = _bound(), torch.tensor([True, True, False])
    for t in range(10):
        own.update(losses_at(t), early)
    for t in range(2):
        close(own.combine(losses_at(t), here()).weights[2], 1 / 3)
        own.update(losses_at(t), here())
    assert (own.combine(losses_at(0), here()).weights[2] - 1 / 3).abs() > 1e-3
