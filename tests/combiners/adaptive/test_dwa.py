"""Dynamic weight average, against TorchJD's."""

from typing import Any

import pytest
import torch
from helpers.combiner_cases import Case, close, here, losses_at
from torchjd.scalarization import DWA as TorchJDDWA

from lossweave.combiners import DWA, build_combiner
from lossweave.combiners.adaptive.dwa import dwa_weights
from lossweave.errors import LossweaveError
from lossweave.progress import Progress

#: An absent term counts in the normalisation.
CASES = {
    "DWA": Case(
        lambda terms: {"temperature": 1.5, "period": 2},
        absent_as_if_never_there=False, unknown=("newer", "older"), training={"period": 1},
    ),
    "DWA epoch": Case(
        lambda terms: {"temperature": 0.5},
        absent_as_if_never_there=False, unknown=("newer", "older"),
    ),
}  # fmt: skip


def _bound(terms: tuple[str, ...] = ("a", "b", "c"), **arguments: Any) -> DWA:
    combiner = DWA(**arguments)
    combiner.bind(terms)
    return combiner


def test_worked_example() -> None:
    weights = dwa_weights(torch.tensor([1.0, 4.0]), torch.ones(2), temperature=2.0)
    close(weights, [0.3649, 1.6351], atol=5e-5)


@pytest.mark.parametrize(("period", "length"), [("epoch", 5), (3, 3)])
def test_equals_torchjd_over_periods(period: Any, length: int) -> None:
    own, reference = _bound(temperature=0.7, period=period), TorchJDDWA(0.7)
    for t in range(5 * length):
        losses = losses_at(t)
        own.begin(Progress(t, iterations_per_epoch=5))
        value, weights = own.combine(losses, here())
        own.update(losses, here())
        variable = losses.clone().requires_grad_()
        expected = reference(variable)
        expected.backward()
        close(value, expected.detach())
        assert variable.grad is not None
        close(weights, variable.grad)
        if (t + 1) % length == 0:
            reference.step()
    assert (weights - 1).abs().max() > 0.01


def test_epochs_end_by_updates_under_accumulation() -> None:
    own, uniform = _bound(temperature=0.5), []
    for t in range(24):
        progress = Progress(t, accumulation=2, iterations_per_epoch=4)
        own.begin(progress)
        uniform.append(bool((own.combine(losses_at(t), here()).weights == 1).all()))
        if progress.last_of_update:
            own.update(losses_at(t), here())
    assert uniform == [True] * 8 + [False] * 16


def test_the_average_is_over_the_updates_that_had_the_term() -> None:
    own = _bound(("a", "b"), period=2)
    for t, (losses, present) in enumerate(
        [([2.0, 1.0], [1, 1]), ([0.0, 1.0], [0, 1]), ([6.0, 1.0], [1, 1]), ([2.0, 1.0], [1, 1])]
    ):
        own.begin(Progress(t))
        own.update(torch.tensor(losses), torch.tensor(present) > 0)
    assert own.older.tolist() == [2, 1] and own.newer.tolist() == [4, 1]


@pytest.mark.parametrize("newer", [0.0, -1.0, torch.nan, torch.inf])
@pytest.mark.parametrize("older", [0.0, 2.0, torch.nan, torch.inf])
def test_a_rate_that_is_not_defined_counts_as_one(newer: float, older: float) -> None:
    weights = dwa_weights(torch.tensor([newer, 1.0]), torch.tensor([older, 1.0]), 2.0)
    close(weights, [1.0, 1.0])


def test_epochs_of_unknown_length_are_refused() -> None:
    with pytest.raises(LossweaveError, match="DWA: period='epoch' needs the number of iterations"):
        _bound().begin(Progress(0))
    assert DWA().needs_hook and not DWA(period=3).needs_hook


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "temperature=0.0 should be positive"),
        ({"temperature": float("inf")}, "temperature=inf should be a finite number"),
        ({"temperature": 1e-300}, "temperature=1e-300 should be at least 1e-30"),
        ({"temperature": "2"}, "temperature='2' should be a number"),
        ({"period": 0}, "period=0 should be 'epoch' or at least 1"),
        ({"period": "epochs"}, "period='epochs' should be one of 'epoch' or a whole number"),
        ({"period": 2.5}, "period=2.5 should be"),
        ({"temprature": 2.0}, r"DWA has no argument 'temprature'; .*did you mean 'temperature'\?"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        build_combiner({"type": "DWA", **arguments})
