"""DB-MTL: its rows written out, and what the losses decide."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from helpers.gradient_cases import GradientCase
from helpers.gradient_reference import Reference
from helpers.gradient_rows import rows_at
from torch import Tensor

from lossweave.combination import LossCombination, build_combination
from lossweave.combiners import DBMTL, build_combiner
from lossweave.errors import LossweaveError
from lossweave.progress import Progress


class LogReference(Reference):
    """Every row over its loss, smoothed at the parameters, brought to the length of the longest,
    and added."""

    def start(self, options: dict[str, Any]) -> None:
        beta = options.get("beta")
        self.beta, self.sigma = 0.9 if beta is None else beta, options.get("beta_sigma", 0.0)
        self.past: dict[int, Tensor] = {}
        self.steps = [0] * self.terms

    def combine(self, rows: Tensor, update: int, draws: Tensor, last: bool) -> Tensor:
        logs, past, steps = rows / (self.values[:, None] + 1e-8), dict(self.past), list(self.steps)
        alive = [k for k in range(len(rows)) if rows[k].norm() > 0]
        for k in alive if self.beside == 0 else []:
            steps[k] += 1
            share = self.beta / steps[k] ** self.sigma
            past[k] = share * past.get(k, torch.zeros_like(logs[k])) + (1 - share) * logs[k]
            logs[k] = past[k]
        if last:
            self.past, self.steps = past, steps
        return _balanced(logs[alive])


def _combined(rows: Tensor, losses: Tensor) -> Tensor:
    return _balanced(rows / (losses[:, None] + 1e-8))


def _balanced(logs: Tensor) -> Tensor:
    lengths = logs.norm(dim=1, keepdim=True)
    return (lengths.max() / lengths * logs).sum(0)


CASES = {"DBMTL": GradientCase(reference=LogReference, keeps=False)}


def _weights(rows: Tensor, losses: Tensor, **options: Any) -> Tensor:
    combiner = DBMTL(**options)
    combiner.bind(("a", "b", "c")[: len(rows)])
    combiner.combine(losses, torch.ones(len(rows), dtype=torch.bool))
    return torch.tensor(combiner.weights_of(rows @ rows.T), dtype=torch.float64)


def test_equals_its_rows_written_out() -> None:
    for t in range(10):
        rows = rows_at(t)
        losses = torch.rand(3, generator=torch.Generator().manual_seed(t)).double() + 0.1
        torch.testing.assert_close(_weights(rows, losses) @ rows, _combined(rows, losses))


def test_all_weighted_rows_are_as_long_as_the_longest_of_the_logarithms() -> None:
    rows, losses = rows_at(1), torch.tensor([0.5, 2.0, 8.0]).double()
    lengths = (_weights(rows, losses)[:, None] * rows).norm(dim=1)
    torch.testing.assert_close(lengths, (rows.norm(dim=1) / losses).max().expand(3))


def test_the_scale_of_a_term_does_not_matter() -> None:
    rows, losses = rows_at(2), torch.tensor([0.5, 2.0, 8.0]).double()
    scales = torch.tensor([1e-4, 1.0, 1e5]).double()
    plain = _weights(rows, losses, eps=0.0) @ rows
    scaled_rows = rows * scales[:, None]
    torch.testing.assert_close(_weights(scaled_rows, losses * scales, eps=0.0) @ scaled_rows, plain)


@pytest.mark.parametrize("out", [0.0, -1.0, float("nan")])
def test_a_term_without_a_logarithm_is_left_out(out: float) -> None:
    rows = rows_at(3)
    weights = _weights(rows, torch.tensor([out, 2.0, 8.0]).double())
    rest = _weights(rows[1:], torch.tensor([2.0, 8.0]).double())
    assert weights[0] == 0
    torch.testing.assert_close(weights[1:], rest)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eps": -1.0}, r"DBMTL: eps=-1\.0 should be at least 0"),
        ({"beta": 1.0}, r"beta=1\.0 should be 0 or more, and below 1"),
        ({"beta": 0.5, "boundary": "features"}, r"beta=0\.5 should be 0 \(or None\) unless"),
        ({"beta": 0.5, "interval": 2}, r"beta=0\.5 should be 0 \(or None\) unless"),
    ],
)
def test_wrong_arguments(arguments: Mapping[str, Any], message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        build_combiner({"type": "DBMTL", **arguments})


def _smoothing(**options: Any) -> tuple[LossCombination, Tensor]:
    return build_combination({"type": "DBMTL", **options}), torch.ones(3, requires_grad=True)


def _gradient(combination: LossCombination, w: Tensor, t: int) -> tuple[Tensor, Tensor]:
    """One update's gradient, and the rows of the logarithms that it was made of."""
    combination.set_progress(Progress(t))
    rows = rows_at(t, 2, width=3).float()
    losses = {"loss_cls": w @ rows[0] + 9, "loss_bbox": w @ rows[1] + 25}
    w.grad = None
    combination(losses).backward()
    assert w.grad is not None
    return w.grad, rows.double() / torch.stack(list(losses.values())).detach().double()[:, None]


@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_rows_are_smoothed_as_the_authors_smooth_them(sigma: float) -> None:
    combination, w = _smoothing(beta_sigma=sigma)
    past = torch.zeros(2, 3).double()
    for t in range(6):
        found, logs = _gradient(combination, w, t)
        past = logs + 0.9 / (t + 1) ** sigma * (past - logs)
        torch.testing.assert_close(found, _balanced(past).float())


def test_a_resumed_run_ends_bit_identical() -> None:
    through, w = _smoothing()
    stopped, v = _smoothing()
    for t in range(3):
        _gradient(through, w, t)
        _gradient(stopped, v, t)
    resumed, _ = _smoothing()
    resumed.load_state_dict(stopped.state_dict())
    for t in range(3, 6):
        assert torch.equal(_gradient(through, w, t)[0], _gradient(resumed, v, t)[0])
    for name, value in through.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_an_update_without_any_gradient_is_not_remembered() -> None:
    combination, w = _smoothing()
    _gradient(combination, w, 0)
    combination.end_iteration()
    before = {name: value.clone() for name, value in combination.state_dict().items()}
    combination.set_progress(Progress(1))
    w.grad = None
    combination({"loss_cls": (0 * w).sum() + 1, "loss_bbox": (0 * w).sum() + 2}).backward()
    combination.end_iteration()
    assert w.grad is not None and not w.grad.any()
    for name, value in combination.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_an_update_that_is_not_finite_is_not_remembered() -> None:
    combination, w = _smoothing()
    _gradient(combination, w, 0)
    combination.end_iteration()
    before = {name: value.clone() for name, value in combination.state_dict().items()}
    combination.set_progress(Progress(1))
    (1e30 * combination({"loss_cls": (w * 1e30).sum(), "loss_bbox": w.sum()})).backward()
    combination.end_iteration()
    for name, value in combination.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_each_root_has_the_losses_of_its_own_forward() -> None:
    """Two forwards before one backward, as detectors with two branches have them."""
    combination = build_combination({"type": "DBMTL", "beta": 0.0})
    w, v = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    rows = torch.tensor([[-4.0, 1, 1], [6, 1, 1]])
    roots = [
        combination({"loss_cls": x @ rows[0] + shift, "loss_bbox": x @ rows[1]})
        for x, shift in ((w, 5.0), (v, 3.0))
    ]
    sum(roots).backward()
    for grad, losses in ((w.grad, [3.0, 8.0]), (v.grad, [1.0, 8.0])):
        expected = _combined(rows.double(), torch.tensor(losses).double())
        torch.testing.assert_close(grad, expected.float())
