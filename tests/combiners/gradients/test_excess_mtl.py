"""ExcessMTL against TorchJD's, the authors' rule written out, and what it keeps of a batch."""

from typing import Any

import pytest
import torch
from helpers.gradient_cases import GradientCase
from helpers.gradient_reference import Reference
from helpers.gradient_rows import rows_at
from torch import Tensor
from torchjd import aggregation

from lossweave.combiners import ExcessMTL, build_combiner
from lossweave.errors import LossweaveError
from lossweave.progress import Progress
from lossweave.utils.shown_rows import Piece, Shown


class ExcessReference(Reference):
    """The authors' rule, in plain steps; the columns of a batch as one number a term."""

    def start(self, options: dict[str, Any]) -> None:
        self.step, self.warmup = options["robust_step_size"], options.get("n_warmup_steps", 1)
        self.weights, self.first, self.steps = (torch.ones(self.terms).double() for _ in range(3))
        self.steps *= 0
        self.first *= 0
        self.squares: Tensor | None = None

    def combine_alive(
        self, rows: Tensor, alive: list[int], update: int, draws: Tensor, last: bool
    ) -> Tensor:
        batch = rows[:, : self.beside].square().sum(1, keepdim=True)
        own = rows[:, self.beside :].square()
        squares = torch.cat([batch, own], dim=1)
        if self.squares is None:
            self.squares = torch.zeros(self.terms, squares.shape[1]).double()
        sums, weights = self.squares.clone(), self.weights.clone()
        first, steps = self.first.clone(), self.steps.clone()
        sums[alive] += squares
        for k, row in zip(alive, squares, strict=True):
            excess = (row / (sums[k] + 1e-7).sqrt()).sum()
            if steps[k] < self.warmup:
                first[k] += (excess - first[k]) / (steps[k] + 1)
            else:
                weights[k] *= (self.step * excess / (first[k] + 1e-7)).exp()
            steps[k] += 1
        if (steps[alive] > self.warmup).any():
            weights[alive] *= self.weights[alive].sum() / weights[alive].sum()
        if last:
            self.squares, self.weights, self.first, self.steps = sums, weights, first, steps
        return weights[alive] @ rows


CASES = {
    "ExcessMTL": GradientCase(
        {"robust_step_size": 0.5}, reference=ExcessReference, scale_free=False,
        as_if_never_there=False,
    )
}  # fmt: skip


def _bound(count: int = 3, **options: Any) -> ExcessMTL:
    combiner = ExcessMTL(**options)
    combiner.bind(("a", "b", "c")[:count])
    return combiner


def _shown(rows: Tensor, scale: float = 1.0) -> Shown:
    """Rows of two parameters, as a backward shows them."""
    parameters = [torch.zeros(3, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)]
    pieces = [
        Piece(n, dict(enumerate(scale * part))) for n, part in enumerate(rows.split([3, 4], dim=1))
    ]
    scaled = torch.tensor(scale, dtype=torch.float64)
    return Shown(parameters, pieces, scaled, rows.square().sum(1), torch.zeros(len(rows)).double())


def _step(combiner: ExcessMTL, t: int, rows: Tensor, scale: float = 1.0) -> list[float]:
    combiner.begin(Progress(t))
    combiner.remember(_shown(rows, scale))
    weights = combiner.weights_of(rows @ rows.T)
    combiner.update(torch.ones(len(rows)), torch.ones(len(rows), dtype=torch.bool))
    return weights


@pytest.mark.parametrize("warmup", [1, 4])
def test_ratios_are_torchjds(warmup: int) -> None:
    own = _bound(robust_step_size=0.3, n_warmup_steps=warmup)
    theirs = aggregation.ExcessMTL(0.3, warmup).weighting
    for t in range(10):
        rows = rows_at(t)
        weights = torch.tensor(_step(own, t, rows), dtype=torch.float64)
        torch.testing.assert_close(weights, 3 * theirs(rows))
        assert (t < warmup) == (weights.tolist() == [1.0, 1.0, 1.0])


def test_a_loss_scaler_is_out_of_it() -> None:
    plain, scaled = _bound(), _bound()
    for t in range(4):
        one, other = _step(plain, t, rows_at(t)), _step(scaled, t, rows_at(t), 2.0**16)
        assert one == pytest.approx(other, rel=1e-12)
    torch.testing.assert_close(plain.memory.rows, scaled.memory.rows)


def test_differences_that_grow_beyond_all_bounds_leave_one_term() -> None:
    combiner = _bound(2, robust_step_size=1e4)
    for t in range(5):
        weights = _step(combiner, t, rows_at(t, 2) * (1 if t == 0 else torch.tensor([[9.0], [1]])))
    assert weights == pytest.approx([2.0, 0.0], abs=1e-12)


def test_without_parameters_one_sum_a_term_stands_for_a_batch() -> None:
    combiner = _bound(2, robust_step_size=1.0)
    for t, length in enumerate((1.0, 0.5)):
        combiner.begin(Progress(t))
        weights = combiner.weights_of(torch.diag(torch.tensor([length**2, 1.0]).double()))
        combiner.update(torch.ones(2), torch.ones(2, dtype=torch.bool))
    # Excess over the first: 0.25 / sqrt(1.25) and 1 / sqrt(2), which are 0.2236 and 0.7071.
    ratio = torch.tensor(0.25 / 1.25**0.5 - 1 / 2**0.5).exp().item()
    assert weights[0] / weights[1] == pytest.approx(ratio, rel=1e-5)


def test_one_term_alone_teaches_nothing() -> None:
    combiner = _bound(2)
    _step(combiner, 0, rows_at(0, 2))
    before = {k: v.clone() for k, v in combiner.state_dict().items()}
    assert _step(combiner, 1, rows_at(1, 2) * torch.tensor([[1.0], [0.0]])) == [1.0, 1.0]
    for name, value in combiner.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_what_it_remembers_is_of_one_size_and_comes_with_the_checkpoint() -> None:
    through, fresh = _bound(), _bound()
    for t in range(3):
        _step(through, t, rows_at(t))
    fresh.load_state_dict(through.state_dict())
    assert through.memory.rows.shape == (3, 7)
    for t in range(3, 6):
        assert _step(through, t, rows_at(t)) == _step(fresh, t, rows_at(t))
    assert torch.equal(through.memory.rows, fresh.memory.rows)
    fresh.load_state_dict(_bound().state_dict())  # of before the first backward
    assert _step(fresh, 0, rows_at(0)) == _step(_bound(), 0, rows_at(0))


def test_other_parameters_are_refused() -> None:
    combiner = _bound()
    _step(combiner, 0, rows_at(0))
    with pytest.raises(LossweaveError, match="has 7 elements a term, but the trained parameters"):
        combiner.remember(_shown(rows_at(0))._replace(parameters=[torch.zeros(3)]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"robust_step_size": 0.0}, r"robust_step_size=0\.0 should be positive"),
        ({"n_warmup_steps": 0}, "n_warmup_steps=0 should be at least 1"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        build_combiner({"type": "ExcessMTL", **arguments})
