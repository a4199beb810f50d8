"""What ``prefer`` does to a method, against values worked out by hand."""

import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from lossweave.cli.options import parse_options
from lossweave.combination import build_combination
from lossweave.combiners import build_combiner
from lossweave.combiners.gradients.gradnorm import grad_norm_slope

PREFER = {"a": 3.0, "b": 1.0}  # 1.5 and 0.5


def _combined(config: Any, *losses: float) -> tuple[float, list[float]]:
    combination = build_combination(config, {"a": "loss_a", "b": "loss_b"})
    variable = torch.tensor(losses, dtype=torch.float64, requires_grad=True)
    root = combination({"loss_a": variable[0], "loss_b": variable[1]})
    root.backward()
    assert variable.grad is not None
    return root.item(), variable.grad.tolist()


@pytest.mark.parametrize(
    ("config", "losses", "value", "weights"),
    [
        ({"type": "Sum"}, (2.0, 4.0), 5.0, [1.5, 0.5]),
        ({"type": "Convex"}, (2.0, 4.0), 2.5, [0.75, 0.25]),
        ({"type": "Max"}, (2.0, 4.0), 3.0, [1.5, 0.0]),
        ({"type": "LpNorm"}, (2.0, 8.0), 5.0, [1.5 * 0.6, 0.5 * 0.8]),
        ({"type": "SquaredSum"}, (2.0, 4.0), 25.0, [15.0, 5.0]),
        ({"type": "Product"}, (2.0, 4.0), 8.0, [6.0, 1.0]),
        ({"type": "GeometricMean"}, (1.0, 16.0), 2.0, [1.5, 0.25 * 2 / 16]),
        ({"type": "LogSum", "eps": 1e-30}, (1.0, 2.0), 0.5 * 0.693147, [1.5, 0.25]),
        ({"type": "SelfNormalized"}, (2.0, 4.0), 2.0, [0.75, 0.125]),
        ({"type": "STCH", "weights": 1.0}, (2.0, 6.0), 3.6931, [0.75, 0.25]),
        ({"type": "UncertaintyWeighting"}, (2.0, 4.0), 2.5, [0.75, 0.25]),
        ({"type": "RatioAligned"}, (2.0, 4.0), 4.0, [1.5, 0.25]),
    ],
    ids=lambda x: x["type"] if isinstance(x, dict) else None,
)
def test_values(
    config: dict[str, Any], losses: tuple[float, float], value: float, weights: list[float]
) -> None:
    found, own = _combined({**config, "prefer": PREFER}, *losses)
    assert found == pytest.approx(value, rel=1e-4)
    assert own == pytest.approx(weights, rel=1e-4)


def _weights(name: str, gramian: Tensor, **options: Any) -> list[float]:
    combiner = build_combiner({"type": name, "prefer": PREFER, **options})
    combiner.bind(("a", "b"))
    return combiner.weights_of(gramian.double())


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("MGDA", [0.75, 0.25]),  # of g / p: 1.5 and 0.5 long, when p = 1/1.5 and 1/0.5
        ("PCGrad", [1.5, 0.5]),
        ("UPGrad", [0.75, 0.25]),
        ("NashMTL", [(1.5 / 2) ** 0.5, (0.5 / 2) ** 0.5]),
        ("FairGrad", [1.5**0.5, 0.5**0.5]),
        ("IMTLG", [0.75, 0.25]),
        ("NormBalanced", [1.5, 0.5]),
        ("AlignedMTL", [0.75, 0.25]),
        ("DBMTL", [1.5, 0.5]),
    ],
)
def test_gradients_of_one_length_at_right_angles(name: str, weights: list[float]) -> None:
    more = {"max_norm": 1.0} if name == "NashMTL" else {}
    found = _weights(name, torch.eye(2), **more)
    assert found == pytest.approx(weights, rel=1e-3)


def test_gradnorm_aims_at_lengths_in_that_ratio() -> None:
    one, shares = torch.ones(2), torch.tensor([1.5, 0.5])
    assert grad_norm_slope(one, one, one, 0.0, shares).tolist() == [-1.0, 1.0]
    assert grad_norm_slope(torch.tensor([3.0, 1.0]), one, one, 0.0, shares).tolist() == [0.0, 0.0]


def test_a_copy_keeps_it_and_a_checkpoint_does_not() -> None:
    combiner = build_combiner({"type": "Sum", "prefer": PREFER})
    combiner.bind(("a", "b"))
    other = pickle.loads(pickle.dumps(combiner))
    assert other.prefer == PREFER and other.importances == [1.5, 0.5]
    assert not combiner.state_dict()


def test_by_the_command_line() -> None:
    options = parse_options("--combiner-options", ["boundary=features", "prefer={a:3,b:1}"])
    combiner = build_combiner({"type": "MGDA", **options})
    combiner.bind(("a", "b"))
    assert combiner.importances == [1.5, 0.5]
