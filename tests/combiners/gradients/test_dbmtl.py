"""DB-MTL: its rows written out, and what the losses decide."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from helpers.gradient_cases import GradientCase
from helpers.gradient_reference import Reference
from helpers.gradient_rows import rows_at
from torch import Tensor

from lossweave.combination import build_combination
from lossweave.combiners import DBMTL, build_combiner
from lossweave.errors import LossweaveError


class LogReference(Reference):
    """Every row over its loss, brought to the length of the longest, and added."""

    def start(self, options: dict[str, Any]) -> None:
        """Nothing is kept."""

    def combine_alive(
        self, rows: Tensor, alive: list[int], update: int, draws: Tensor, last: bool
    ) -> Tensor:
        return _combined(rows, self.values[alive])


def _combined(rows: Tensor, losses: Tensor) -> Tensor:
    logs = rows / (losses[:, None] + 1e-8)
    lengths = logs.norm(dim=1, keepdim=True)
    return (lengths.max() / lengths * logs).sum(0)


CASES = {"DBMTL": GradientCase(reference=LogReference)}


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


def test_wrong_arguments() -> None:
    arguments: Mapping[str, Any] = {"type": "DBMTL", "eps": -1.0}
    with pytest.raises(LossweaveError, match=r"DBMTL: eps=-1\.0 should be at least 0"):
        build_combiner(arguments)


def test_each_root_has_the_losses_of_its_own_forward() -> None:
    """Two forwards before one backward, as detectors with two branches have them."""
    combination = build_combination("DBMTL")
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
