"""FairGrad: the oracle."""

import pytest
from helpers.gradient_cases import GradientCase
from helpers.gradient_reference import Reference
from helpers.gradient_rows import JACOBIAN, combined, make, missing_solver_is_said, near
from torch import Tensor

from lossweave.combiners import build_combiner
from lossweave.errors import LossweaveError


class FairReference(Reference):
    """TorchJD's, on rows as they are: its result depends on their scale."""

    def combine_alive(
        self, rows: Tensor, alive: list[int], update: int, draws: Tensor, last: bool
    ) -> Tensor:
        return self.aggregator(rows)


CASES = {
    "FairGrad": GradientCase(
        {"alpha": 1.0}, reference=FairReference, scale_free=False, no_term_worse={}
    )
}


def test_oracle() -> None:
    near(combined(make("FairGrad"), JACOBIAN), [0.0766, 0.9985, 0.9985])


def test_a_missing_solver_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    missing_solver_is_said("FairGrad", "scipy", "fairgrad", monkeypatch)


def test_wrong_arguments() -> None:
    with pytest.raises(LossweaveError, match=r"alpha=-1\.0"):
        build_combiner({"type": "FairGrad", "alpha": -1.0})
