"""GradNorm's own: its slope against automatic differentiation, what it learns, what it leaves."""

from typing import Any

import pytest
import torch
from helpers.gradient_cases import GradientCase
from helpers.gradient_reference import Reference
from torch import Tensor, nn

from lossweave.combiners import GradNorm, build_combiner
from lossweave.combiners.gradients.gradnorm import grad_norm_slope
from lossweave.errors import LossweaveError
from lossweave.progress import Progress


class NormReference(Reference):
    """The paper's step, by torch's own Adam and autograd, at the end of an update."""

    weighted = True

    def start(self, options: dict[str, Any]) -> None:
        self.weights = nn.Parameter(torch.ones(self.terms, dtype=torch.float64))
        self.adam = torch.optim.Adam([self.weights], lr=options["lr"])
        self.first: Tensor | None = None
        self.window: list[Tensor] = []

    def combine(self, rows: Tensor, update: int, draws: Tensor, last: bool) -> Tensor:
        norms = rows.norm(dim=1)
        self.window.append(norms)
        self.known = [k for k in range(len(rows)) if norms[k] > 0]
        return self.weights.detach()[self.known] @ rows[self.known]

    def private_weights(self, rows: Tensor, combined: Tensor) -> Tensor:
        return self.weights.detach().clone()

    def learn(self, values: Tensor) -> None:
        norms = torch.stack(self.window).mean(0)
        self.window = []
        if self.first is None:
            self.first = values
        ratios = values / self.first
        known = self.known
        lengths = self.weights[known] * norms[known]
        ratio = ratios[known] / ratios[known].mean()
        target = (lengths.mean() * ratio ** self.arguments["alpha"]).detach()
        self.adam.zero_grad()
        ((lengths - target).abs().sum() / norms[known].mean()).backward()
        before = self.weights.detach().clone()
        self.adam.step()
        with torch.no_grad():
            self.weights *= before[known].sum() / self.weights[known].sum()


CASES = {
    "GradNorm": GradientCase(
        {"alpha": 1.0, "lr": 0.1}, reference=NormReference, weighting=False, training={"lr": 0.1}
    )
}

HERE = torch.tensor([True, True])


def _diagonal(*norms: float) -> torch.Tensor:
    return torch.tensor(norms, dtype=torch.float64).square().diag()


def _step(combiner: GradNorm, t: int, losses: list[float], *norms: float) -> list[float]:
    combiner.begin(Progress(t))
    weights = combiner.weights_of(_diagonal(*norms))
    combiner.update(torch.tensor(losses), HERE)
    return weights


@pytest.mark.parametrize("alpha", [0.0, 1.5])
def test_slope_is_the_derivative(alpha: float) -> None:
    weights = torch.tensor([0.4, 1.9, 0.7], requires_grad=True)
    norms, ratios = torch.tensor([3.0, 0.2, 1.1]), torch.tensor([0.9, 0.4, 1.3])
    lengths = weights * norms
    target = (lengths.mean() * (ratios / ratios.mean()) ** alpha).detach()
    (lengths - target).abs().sum().backward()
    found = grad_norm_slope(norms, weights.detach(), ratios, alpha)
    torch.testing.assert_close(found, weights.grad)


def test_lengths_become_equal_and_weights_add_up() -> None:
    combiner = GradNorm(alpha=0.0, lr=0.02)
    combiner.bind(("a", "b"))
    for t in range(300):
        weights = _step(combiner, t, [1.0, 1.0], 1.0, 4.0)
        assert sum(weights) == pytest.approx(2)
    assert weights[0] * 1.0 == pytest.approx(weights[1] * 4.0, rel=0.1)


def test_the_slower_term_is_pulled_up() -> None:
    combiner = GradNorm(alpha=1.0, lr=0.02)
    combiner.bind(("a", "b"))
    for t in range(200):
        weights = _step(combiner, t, [1.0, 1.0 if t == 0 else 0.25], 1.0, 1.0)
    assert weights[0] / weights[1] == pytest.approx(4.0, rel=0.1)


@pytest.mark.parametrize(
    ("options", "starves"),
    [({}, False), ({"alpha": 1.5}, True), ({"alpha": 1.5, "initial_updates": 20}, False)],
)
def test_a_term_that_rises_first_starves_the_other_at_a_large_alpha_and_one_first_loss(
    options: dict[str, float], starves: bool
) -> None:
    """Losses and norms as on Faster R-CNN, whose box loss is near 0 until regions are found."""
    combiner = GradNorm(**options)
    combiner.bind(("cls", "loc"))
    _step(combiner, 0, [2.96, 0.14], 18.6, 0.6)
    for t in range(1, 100):
        cls, _ = _step(combiner, t, [1.1, 0.7], 3.5, 2.5)
    assert (cls < 0.1) == starves
    assert starves or cls > 0.6


def test_weights_apply_one_update_late_and_terms_without_a_row_keep_theirs() -> None:
    combiner = GradNorm(lr=0.1)
    combiner.bind(("a", "b"))
    assert _step(combiner, 0, [1.0, 1.0], 1.0, 3.0) == [1.0, 1.0]
    second = _step(combiner, 1, [1.0, 1.0], 1.0, 0.0)
    assert second[0] > 1 > second[1]
    assert _step(combiner, 2, [1.0, 0.0], 1.0, 3.0) == second  # nothing was learned from b's zero
    assert _step(combiner, 3, [1.0, 1.0], 1.0, 3.0) == second  # nor from its loss of 0


def test_a_window_teaches_its_mean() -> None:
    windowed, plain = (GradNorm(lr=0.1) for _ in range(2))
    for combiner in (windowed, plain):
        combiner.bind(("a", "b"))
    for k, norms in enumerate([(1.0, 2.0), (3.0, 6.0)]):
        windowed.begin(Progress(k, accumulation=2))
        assert windowed.weights_of(_diagonal(*norms)) == [1.0, 1.0]
        if k == 1:
            windowed.update(torch.ones(2), HERE)
    _step(plain, 0, [1.0, 1.0], 2.0, 4.0)
    torch.testing.assert_close(windowed.weights, plain.weights)


def test_first_losses_are_the_mean_of_the_first_positive_ones() -> None:
    combiner = GradNorm(initial_updates=3)
    combiner.bind(("a", "b"))
    for a, b in [(2.0, 0.0), (4.0, 1.0), (6.0, 3.0), (100.0, 5.0), (100.0, 100.0)]:
        combiner.update(torch.tensor([a, b]), HERE)
    assert combiner.first_losses.tolist() == pytest.approx([4.0, 3.0])


def test_the_balancing_never_touches_the_models_gradients() -> None:
    combiner = GradNorm(lr=0.1)
    combiner.bind(("a", "b"))
    parameter = torch.ones(2, requires_grad=True)
    _step(combiner, 0, [1.0, 1.0], 1.0, 3.0)
    assert parameter.grad is None
    assert not any(buffer.requires_grad for buffer in combiner.buffers())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"normalize": True}, "no argument 'normalize'"),
        ({"alpha": -1.0}, "alpha=-1.0"),
        ({"initial_updates": 0}, "initial_updates=0 should be at least 1"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        build_combiner({"type": "GradNorm", **arguments})
