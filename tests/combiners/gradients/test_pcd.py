"""PCD against TorchJD's, the progress that it guarantees, its primary term by name."""

from typing import Any

import pytest
import torch
from helpers.gradient_cases import GradientCase
from helpers.gradient_reference import Reference
from helpers.gradient_rows import (
    combined,
    make,
    memory_moves_once_per_update,
    missing_solver_is_said,
    rows_at,
)
from torch import Tensor
from torchjd import aggregation

from lossweave.combiners import PCD, build_combiner
from lossweave.errors import LossweaveError
from lossweave.progress import Progress


class PriorityReference(Reference):
    """TorchJD's, its means handed from update to update, a term's own where it has a row."""

    def start(self, options: dict[str, Any]) -> None:
        self.tau, self.beta = options["tau"], options["beta"]
        self.squares = torch.zeros(self.terms, dtype=torch.float64)
        self.steps = torch.zeros(self.terms, dtype=torch.float64)

    def combine_alive(
        self, rows: Tensor, alive: list[int], update: int, draws: Tensor, last: bool
    ) -> Tensor:
        squares, steps = self.squares.clone(), self.steps.clone()
        squares[alive] = self.beta * squares[alive] + (1 - self.beta) * rows.square().sum(1)
        steps[alive] += 1
        if last:
            self.squares, self.steps = squares, steps
        if 0 not in alive:
            return rows.sum(0)
        scales = (squares[alive] / (1 - self.beta ** steps[alive]) + 1e-8).rsqrt()
        # What TorchJD makes of scaled rows if its own normalisation leaves them as they are.
        weighting = aggregation.PCD(self.tau, beta=0.5, eps=0.0).gramian_weighting
        scaled = scales[:, None] * rows
        weighting._sq_norm_ema = 2 - scaled.square().sum(1)
        weighting._n_steps, weighting._state_key = torch.tensor(1000), len(alive)
        direction = weighting(scaled @ scaled.T) @ scaled
        return direction / direction.norm().clamp(min=1e-30) * rows[0].norm()


#: Term a has the priority, wherever it stands and whether it is there.
CASES = {
    "PCD": GradientCase(
        {"tau": 0.3, "beta": 0.9, "primary": "a"}, reference=PriorityReference, tolerance=1e-4,
        scale_free=False, order_tolerance=None, as_if_never_there=False,
    )
}  # fmt: skip


def test_it_is_torchjds() -> None:
    own, theirs = make("PCD", 4, beta=0.999), aggregation.PCD(tau=0.3)
    for t in range(8):
        rows = rows_at(t, 4)
        own.begin(Progress(t))
        torch.testing.assert_close(combined(own, rows), theirs(rows), rtol=1e-5, atol=1e-6)


def test_every_other_term_gets_its_fraction_of_progress() -> None:
    for t in range(10):
        rows = rows_at(t)
        found = combined(make("PCD", 3, tau=0.2), rows)
        units = rows / rows.norm(dim=1, keepdim=True)
        direction = found / found.norm()
        # At the first update rows are scaled to 1; the solution before it is brought to length.
        pulls = units @ direction
        assert (pulls[1:] > -1e-6).all()
        assert found.norm().item() == pytest.approx(rows[0].norm().item(), rel=1e-5)


def test_without_conflict_it_is_the_primary_gradient() -> None:
    rows = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    assert combined(make("PCD", 2, tau=0.02), rows).tolist() == pytest.approx([1.0, 0.0])


def test_the_primary_term_by_name_and_without_its_row() -> None:
    rows = rows_at(1, 2)
    swapped = make("PCD", 2, primary="b")
    torch.testing.assert_close(combined(swapped, rows.flip(0)), combined(make("PCD"), rows))
    three = make("PCD", 3, primary="a")
    rows = rows_at(2)
    rows[0] = 0
    assert three.weights_of(rows @ rows.T) == [1.0, 1.0, 1.0]


def test_fractions_by_name() -> None:
    one, other = make("PCD", 3, tau={"b": 0.3, "c": 0.3}), make("PCD", 3, tau=0.3)
    rows = rows_at(4)
    torch.testing.assert_close(combined(one, rows), combined(other, rows))


def test_memory_moves_once_per_update() -> None:
    memory_moves_once_per_update(make("PCD", 3))


def test_torchjd_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    missing_solver_is_said("PCD", "torchjd", "", monkeypatch)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tau": 1.5}, "tau=1.5 should be"),
        ({"tau": {"b": 1.5}}, "tau=.* should be between 0 and 1"),
        ({"beta": 1.0}, r"beta=1\.0 should be 0 or more, and below 1"),
        ({"primary": "z"}, "primary='z' is not one of the terms"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        combiner = build_combiner({"type": "PCD", **arguments})
        assert isinstance(combiner, PCD)
        combiner.bind(("a", "b"))
