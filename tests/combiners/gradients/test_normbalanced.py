"""NormBalanced against EnCodec's balancer, written out; what it keeps and when it rests."""

from typing import Any

import pytest
import torch
from helpers.gradient_cases import GradientCase
from helpers.gradient_reference import Reference
from helpers.gradient_rows import rows_at, step
from torch import Tensor

from lossweave.combination import build_combination
from lossweave.combiners import NormBalanced, build_combiner
from lossweave.errors import LossweaveError
from lossweave.progress import Progress


class BalanceReference(Reference):
    """Averages as plain Python keeps them: sums and counts that decay."""

    weighted = True

    def start(self, options: dict[str, Any]) -> None:
        self.decay = options["decay"]
        self.total, self.fix = torch.zeros(self.terms).double(), torch.zeros(self.terms).double()
        self.last = torch.ones(self.terms).double()
        self.window: list[Tensor] = []

    def combine(self, rows: Tensor, update: int, draws: Tensor, last: bool) -> Tensor:
        norms = rows.norm(dim=1)
        self.window.append(norms)
        mean = torch.stack(self.window).mean(0)
        alive = norms > 0
        total = torch.where(alive, self.decay * self.total + mean, self.total)
        fix = torch.where(alive, self.decay * self.fix + 1, self.fix)
        averages = (total / fix)[alive]
        self.now = self.last.clone()
        self.now[alive] = averages.sum() / alive.sum() / averages
        if last:
            self.total, self.fix, self.last, self.window = total, fix, self.now, []
        return self.now @ rows

    def private_weights(self, rows: Tensor, combined: Tensor) -> Tensor:
        return self.now


CASES = {
    "NormBalanced": GradientCase({"decay": 0.9}, reference=BalanceReference, weighting=False)
}


def _step(combiner: NormBalanced, t: int, *norms: float) -> list[float]:
    combiner.begin(Progress(t))
    gramian = torch.tensor(norms, dtype=torch.float64).square().diag()
    return step(combiner, gramian).tolist()


def _bound(**options: Any) -> NormBalanced:
    combiner = NormBalanced(**options)
    combiner.bind(("a", "b"))
    return combiner


def test_weights_as_encodec_has_them() -> None:
    shares = torch.tensor([1.0, 4.0, 2.0], dtype=torch.float64)
    combiner = NormBalanced(weights=shares.tolist(), decay=0.8, total_norm=1.0)
    combiner.bind(("a", "b", "c"))
    total = fix = torch.zeros(3, dtype=torch.float64)
    for t in range(20):
        rows = rows_at(t)
        total, fix = total * 0.8 + rows.norm(dim=1), fix * 0.8 + 1
        expected = shares / shares.sum() * 1.0 / (1e-12 + total / fix)
        combiner.begin(Progress(t))
        found = step(combiner, rows @ rows.T)
        torch.testing.assert_close(found, expected)


def test_gradients_are_in_the_ratios_asked_for_at_the_scale_of_the_plain_sum() -> None:
    weights = _step(_bound(weights={"a": 3.0, "b": 1.0}, decay=0.0), 0, 2.0, 10.0)
    pulls = [weights[0] * 2.0, weights[1] * 10.0]
    assert pulls[0] / pulls[1] == pytest.approx(3) and sum(pulls) == pytest.approx(12)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_the_common_scale_does_not_matter(scale: float) -> None:
    combiner = _bound()
    for t in range(5):
        weights = _step(combiner, t, scale * (1 + t), scale * 7.0)
    plain = _bound()
    for t in range(5):
        expected = _step(plain, t, 1.0 + t, 7.0)
    assert weights == pytest.approx(expected)


def test_a_term_without_a_row_keeps_its_weight() -> None:
    combiner = _bound(decay=0.5)
    first = _step(combiner, 0, 1.0, 3.0)
    state = combiner.averages.clone()
    assert _step(combiner, 1, 5.0, 0.0)[1] == first[1]
    assert combiner.averages[1] == state[1] and combiner.averages[0] != state[0]


def test_frozen_weights_are_kept_and_nothing_is_computed() -> None:
    combiner = _bound(freeze_after=3, decay=0.5)
    for t in range(3):
        combiner.begin(Progress(t))
        assert combiner.computes
        found = _step(combiner, t, 1.0 + t, 4.0)
    for t in (3, 4, 100):
        combiner.begin(Progress(t))
        assert not combiner.computes
        assert combiner.kept_weights(torch.ones(2).double()).tolist() == found


def test_after_freezing_a_step_is_an_ordinary_weighted_sum() -> None:
    combination = build_combination({"type": "NormBalanced", "freeze_after": 2})
    directions = torch.tensor([[-4.0, 1, 1], [60.0, 10, 10]])
    for t in range(4):
        combination.set_progress(Progress(t))
        w = torch.ones(3, requires_grad=True)
        losses = {"loss_cls": w @ directions[0] + 5, "loss_bbox": w @ directions[1]}
        combination(losses).backward()
        combination.end_iteration()
        weights = combination.combiner.get_buffer("weights_now").float()
        torch.testing.assert_close(w.grad, weights @ directions)
    assert weights[0] > 5 * weights[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": [1.0, 0.0]}, "weights=.* should be positive"),
        ({"decay": 1.0}, r"decay=1\.0 should be 0 or more, and below 1"),
        ({"total_norm": 0.0}, "total_norm=0.0 should be positive"),
        ({"freeze_after": 0}, "freeze_after=0 should be at least 1"),
        ({"freeze_after": 5, "private": "plain"}, "private='plain' should be 'weighted' with"),
        ({"normalize": True}, "no argument 'normalize'"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        build_combiner({"type": "NormBalanced", **arguments}).bind(("a", "b"))
