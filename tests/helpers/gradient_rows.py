"""Rows of gradients for the tests of combiners that weigh them."""

import importlib.util
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.gather import gathered
from lossweave.combiners import GradientCombiner, build_combiner
from lossweave.errors import LossweaveError
from lossweave.progress import Progress
from lossweave.utils.torch_compat import torchjd_line

#: Two rows in conflict; the combinations that TorchJD's documentation gives for them are oracles.
JACOBIAN = torch.tensor([[-4.0, 1, 1], [6, 1, 1]], dtype=torch.float64)


def make(name: str, count: int = 2, **more: Any) -> GradientCombiner:
    """The combiner with the arguments of its case, if it has one, and ``more``."""
    case = gathered().get(name)
    combiner = build_combiner({"type": name, **(case.arguments if case else {}), **more})
    assert isinstance(combiner, GradientCombiner)
    combiner.bind(("a", "b", "c", "d")[:count])
    return combiner


def combined(combiner: GradientCombiner, rows: Tensor) -> Tensor:
    """The combined row."""
    rows = rows.double()
    return step(combiner, rows @ rows.T) @ rows


def step(combiner: GradientCombiner, gramian: Tensor) -> Tensor:
    """The weights of one update, which ends with them."""
    weights = combiner.weights_of(gramian)
    count = len(weights)
    combiner.update(torch.ones(count), torch.ones(count, dtype=torch.bool))
    return torch.tensor(weights, dtype=torch.float64)


def rows_at(t: int, count: int = 3, width: int = 7) -> Tensor:
    """Random rows of different lengths."""
    generator = torch.Generator().manual_seed(t)
    sizes = torch.tensor([0.5, 3.0, 1.0, 0.1], dtype=torch.float64)[:count, None]
    return sizes * torch.randn(count, width, generator=generator, dtype=torch.float64)


def near(found: Tensor | list[float], expected: list[float]) -> None:
    """Assert equality to the four digits that an oracle gives."""
    difference = torch.as_tensor(found, dtype=torch.float64) - torch.tensor(expected).double()
    assert difference.abs().max() < 1.01e-4, found


def memory_moves_once_per_update(combiner: GradientCombiner) -> None:
    """Assert it of a combiner of three terms."""
    before = {k: v.clone() for k, v in combiner.state_dict().items()}
    combiner.begin(Progress(0, accumulation=2))
    combiner.weights_of(rows_at(0) @ rows_at(0).T)
    assert all(torch.equal(v, before[k]) for k, v in combiner.state_dict().items())
    combiner.begin(Progress(1, accumulation=2))
    combiner.weights_of(rows_at(1) @ rows_at(1).T)
    assert all(torch.equal(v, before[k]) for k, v in combiner.state_dict().items())
    combiner.update(torch.ones(3), torch.ones(3, dtype=torch.bool))
    moved = {k: v.clone() for k, v in combiner.state_dict().items()}
    assert not all(torch.equal(v, before[k]) for k, v in moved.items())
    combiner.begin(Progress(2, accumulation=2))  # an update that is skipped moves nothing
    combiner.weights_of(rows_at(2) @ rows_at(2).T)
    combiner.begin(Progress(4, accumulation=2))
    combiner.update(torch.ones(3), torch.ones(3, dtype=torch.bool))
    assert all(torch.equal(v, moved[k]) for k, v in combiner.state_dict().items())


def missing_solver_is_said(
    name: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Assert that a package's absence is one line when the config is read."""
    there = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda n, *a: None if n == package else there(n, *a)
    )
    line = re.escape(torchjd_line(f"[{extra}]" if extra else ""))
    with pytest.raises(LossweaveError, match=rf"{package}; type: {line}"):
        build_combiner(name)


def preferences_go_by_name(name: str) -> None:
    """Assert it of a combiner with ``pref_vector``."""
    combiner = make(name, pref_vector={"b": 2.0, "a": 1.0})
    listed = make(name, pref_vector=[1.0, 2.0])
    gramian = JACOBIAN @ JACOBIAN.T
    assert combiner.weights_of(gramian) == listed.weights_of(gramian)
    with pytest.raises(LossweaveError, match="pref_vector"):
        make(name, pref_vector={"z": 1.0})
    for meaningless in ([0.0, 0.0], [1.0, -1.0]):
        with pytest.raises(LossweaveError, match=r"pref_vector=.* not negative, and not all 0"):
            make(name, pref_vector=meaningless)
