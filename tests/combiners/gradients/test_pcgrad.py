"""PCGrad: the oracle; the options that all combiners of gradients share."""

from typing import Any

import pytest
from helpers.gradient_cases import GradientCase
from helpers.gradient_rows import JACOBIAN, combined, make, near

from lossweave.combiners import build_combiner
from lossweave.errors import LossweaveError

CASES = {
    "PCGrad": GradientCase({"seed": 3}, order_tolerance=None),
    "PCGrad weighted": GradientCase({"private": "weighted"}, order_tolerance=None),
}


def test_oracle() -> None:
    near(combined(make("PCGrad"), JACOBIAN), [0.5848, 3.8012, 3.8012])
    near(make("PCGrad").weights_of(JACOBIAN @ JACOBIAN.T), [1 + 22 / 18, 1 + 22 / 38])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"boundary": []}, "boundary=.* a word or a list"),
        ({"boundary": ["features"]}, "boundary=.* one of the words"),
        ({"boundary": 3}, "boundary=3 should be"),
        ({"interval": 0}, "interval=0 should be at least 1"),
        ({"interval": 2, "private": "plain"}, "implies private='weighted'"),
        ({"private": "all"}, "private='all' should be one of"),
        ({"normalise": True}, "did you mean 'normalize'"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        build_combiner({"type": "PCGrad", **arguments})
