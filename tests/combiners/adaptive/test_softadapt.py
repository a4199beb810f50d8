"""SoftAdapt's forms by worked arithmetic, its periods as DWA's."""

import math
from typing import Any

import pytest
import torch
from helpers.combiner_cases import Case, at, close, here, losses_at

from lossweave.combiners import SoftAdapt, build_combiner
from lossweave.combiners.adaptive.softadapt import softadapt_weights
from lossweave.errors import LossweaveError

CASES = {
    f"SoftAdapt {form}".removesuffix(" plain"): Case(
        lambda terms, form=form: {"beta": 0.3, "form": form, "period": 2},
        unknown=("newer", "older"),
        training={"period": 1},
    )
    for form in ("plain", "normalized", "loss_weighted", "normalized_weighted")
}

NEWER, OLDER = torch.tensor([2.0, 1.0, 6.0]), torch.tensor([1.0, 3.0, 6.0])  # slopes 1, -2, 0


@pytest.mark.parametrize(
    ("normalized", "weighted", "raw"),
    [
        (False, False, [math.exp(0.5), math.exp(-1.0), 1.0]),
        (True, False, [math.exp(0.5 / 3), math.exp(-1.0 / 3), 1.0]),
        (False, True, [2 * math.exp(0.5), math.exp(-1.0), 6.0]),
        (True, True, [2 * math.exp(0.5 / 3), math.exp(-1.0 / 3), 6.0]),
    ],
)
def test_worked_examples(normalized: bool, weighted: bool, raw: list[float]) -> None:
    found = softadapt_weights(NEWER, OLDER, here(), 0.5, normalized, weighted)
    close(found, [x / sum(raw) for x in raw])


def test_the_authors_example() -> None:
    """Three histories of five losses, with their first-order differences and beta 0.1."""
    newer, older = torch.tensor([5.0, 0.1, 1.0]), torch.tensor([4.0, 10.0, 100.0])
    raw = [math.exp(0.1 * s) for s in (1.0, -9.9, -99.0)]
    found = softadapt_weights(newer, older, here(), 0.1, normalized=False, weighted=False)
    close(found, [x / sum(raw) for x in raw], rtol=1e-5)


def test_slopes_are_those_of_the_last_two_periods() -> None:
    own = SoftAdapt(beta=1.0, period=3)
    own.bind(("a", "b", "c"))
    history = [losses_at(t) for t in range(9)]
    for t, losses in enumerate(history):
        own.begin(at(t))
        weights = own.combine(losses, here()).weights
        if t < 6:
            close(weights, [1 / 3] * 3)
        own.update(losses, here())
    means = [torch.stack(history[k : k + 3]).mean(0) for k in (3, 6)]
    own.begin(at(9))
    close(own.combine(losses_at(9), here()).weights, torch.softmax(means[1] - means[0], dim=0))


@pytest.mark.parametrize("beta", [1e38, -1e38])
def test_slopes_beyond_the_number_format_pick_one_term(beta: float) -> None:
    found = softadapt_weights(1e30 * NEWER, 1e30 * OLDER, here(), beta, False, False)
    assert found.tolist() == ([1, 0, 0] if beta > 0 else [0, 1, 0])


def test_loss_weights_of_terms_at_zero_or_unknown() -> None:
    nan = torch.nan
    found = softadapt_weights(
        torch.tensor([0.0, 2.0, nan]), torch.tensor([0.0, 2.0, nan]), here(), 1.0, False, True
    )
    close(found, [0.0, 2 / 3, 1 / 3])  # the unknown one counts as the mean of 0 and 2
    nothing = torch.zeros(3)
    close(softadapt_weights(nothing, nothing, here(), 1.0, False, True), [1 / 3] * 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": float("inf")}, "SoftAdapt: beta=inf should be a finite number"),
        ({"form": "soft"}, "form='soft' should be one of"),
        ({"period": 0}, "period=0 should be 'epoch' or at least 1"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        build_combiner({"type": "SoftAdapt", **arguments})
