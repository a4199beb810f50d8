"""GradDrop's own: the formula, its expectation, its draws."""

from unittest.mock import patch

import pytest
import torch
from helpers.gradient_cases import GradientCase
from helpers.gradient_reference import Reference
from torch import Tensor
from torchjd import aggregation

from lossweave.combiners import GradDrop, build_combiner
from lossweave.combiners.gradients.graddrop import sign_dropout
from lossweave.errors import LossweaveError
from lossweave.progress import Progress


class DropReference(Reference):
    """TorchJD's, with the draws that are made here for the same elements."""

    def combine_alive(
        self, rows: Tensor, alive: list[int], update: int, draws: Tensor, last: bool
    ) -> Tensor:
        with patch("torch.rand", return_value=draws):
            return self.aggregator(rows)


CASES = {
    "GradDrop": GradientCase({"seed": 5}, reference=DropReference, weighting=False, keeps=False)
}

ROWS = torch.tensor([[1.0, 3.0, 0.0, -2.0], [2.0, -1.0, 0.0, -1.0]])


def _combiner(**options: object) -> GradDrop:
    combiner = GradDrop(**options)  # type: ignore[arg-type]
    combiner.bind(("a", "b"))
    combiner.begin(Progress(3))
    combiner.weights_of((ROWS @ ROWS.T).double())
    return combiner


def test_it_is_torchjds_for_the_same_draw(monkeypatch) -> None:
    for leak in ([0.0, 0.0], [0.3, 1.0]):
        for _ in range(20):
            drawn = torch.rand(4)
            with monkeypatch.context() as patch:
                patch.setattr(torch, "rand", lambda *a, drawn=drawn, **k: drawn)
                expected = aggregation.GradDrop(leak=torch.tensor(leak))(ROWS)
            torch.testing.assert_close(sign_dropout(ROWS, drawn, torch.tensor(leak)), expected)


def test_agreeing_elements_are_added() -> None:
    found = _combiner().mix(list(ROWS), key=0)
    assert found[0] == 3 and found[2] == 0 and found[3] == -3 and found[1] in (3, -1)


def test_the_sign_is_drawn_by_its_purity() -> None:
    many = torch.tensor([[3.0], [-1.0]]).expand(2, 20000)
    kept = (_combiner().mix(list(many), key=0) > 0).float().mean()
    assert abs(kept - 0.75) < 0.02


def test_draws_follow_from_seed_update_and_tensor() -> None:
    rows = [torch.randn(50) for _ in range(2)]
    one, same, other = _combiner(), _combiner(), _combiner(seed=1)
    found = one.mix(rows, key=0)
    assert torch.equal(found, same.mix(rows, key=0))
    assert not torch.equal(found, same.mix(rows, key=2))
    assert not torch.equal(found, other.mix(rows, key=0))
    same.begin(Progress(4))
    assert not torch.equal(found, same.mix(rows, key=0))


def test_leaks_by_name() -> None:
    combiner = _combiner(leak={"a": 1.0, "b": 1.0})
    torch.testing.assert_close(combiner.mix(list(ROWS), key=0), ROWS.sum(0))


def test_wrong_arguments() -> None:
    with pytest.raises(LossweaveError, match="interval=2 should be 1"):
        build_combiner({"type": "GradDrop", "interval": 2})
    with pytest.raises(LossweaveError, match=r"momentum=0\.5 should be 0: it has no weights"):
        build_combiner({"type": "GradDrop", "momentum": 0.5})
